"""Who read what, what it cost, and the profile that stands beside each version."""

import json
from pathlib import Path

import polars as pl
import pytest

from shopkeeper.assets import about, profile, usage
from shopkeeper.assets.store import Assets
from shopkeeper.errors import InputError
from shopkeeper.governance.access import OWNER
from shopkeeper.words import Grade, Purpose

ROWS = pl.DataFrame({"item_id": ["a", "b", "c"], "price_minor": [1, 2, 3], "who": ["x", "y", "z"]})
GRADES = {"*": Grade.PERSONAL, "item_id": Grade.INTERNAL, "price_minor": Grade.INTERNAL}


@pytest.fixture
def shop(tmp_path: Path) -> Assets:
    assets = Assets(tmp_path, buckets=2)
    with assets.run("clean.items") as run:
        writer = run.table("clean.items", grades=GRADES, grade=Grade.INTERNAL)
        writer.put(ROWS[:2], bucket=0)
        writer.put(ROWS[2:], bucket=1)
    return assets


def test_reads_are_counted_by_who_and_why_and_written_when_the_shop_closes(
    shop: Assets, tmp_path: Path
) -> None:
    for _ in range(3):
        shop.read("clean.items", by=OWNER, purpose=Purpose.ANALYSE)
    with shop.run("features.items", reads=["clean.items"]) as run:
        for bucket in (0, 1):
            run.read("clean.items", buckets=[bucket])
        run.table("features.items").put(ROWS)
    assert usage.used(shop.catalog, "clean.items")["reads_30d"] == 0  # nothing is written per read
    shop.close()
    again = Assets(tmp_path, buckets=2)
    told = usage.used(again.catalog, "clean.items")
    assert told["reads_30d"] == 4
    assert [(r["who"], r["purpose"], r["reads"]) for r in told["readers"]] == [
        ("local-owner", "analyse", 3),
        ("step features.items", "operate", 1),
    ]
    assert told["popularity"] == 1.0
    assert usage.used(again.catalog, "features.items")["popularity"] == 0
    again.close()


def test_reads_that_cannot_be_written_are_kept_for_later(shop: Assets) -> None:
    shop.read("clean.items", by=OWNER, purpose=Purpose.ANALYSE)
    with shop.catalog.write() as connection:
        connection.exec_driver_sql("ALTER TABLE usage RENAME TO elsewhere")
    shop.reads.flush()
    with shop.catalog.write() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO usage")
    shop.reads.flush()
    shop.reads.flush()
    assert usage.used(shop.catalog, "clean.items")["reads_30d"] == 1
    shop.close()


def test_the_cost_of_an_asset_is_its_share_of_the_runs_that_made_it(shop: Assets) -> None:
    with shop.run("two") as run:
        run.table("clean.items").put(ROWS)
        run.table("quality.items").put(ROWS)
    told = usage.cost(shop.catalog, "clean.items")
    assert [one["assets"] for one in told["history"]] == [2, 1]
    both, alone = (one["cpu_seconds"] for one in told["history"])
    assert told["cpu_seconds"] == pytest.approx(both / 2 + alone, abs=2e-3)
    versions = shop.catalog.history("clean.items")
    assert told["bytes"] == sum(version.bytes for version in versions)
    assert told["runs"] == 2
    shop.close()


def test_a_version_carries_the_profile_made_while_it_was_written(shop: Assets) -> None:
    told = profile.kept(shop.catalog, "clean.items@1")
    assert told is not None
    assert told["rows"] == 3
    found = {column["column"]: column for column in told["columns"]}
    assert found["price_minor"]["mean"] == 2
    assert found["who"]["distinct"] == 3
    assert "x" not in json.dumps(found["who"]["top"] + found["who"]["examples"])
    shop.close()


def test_a_table_written_without_a_profile_gets_it_when_it_is_asked_for(shop: Assets) -> None:
    with shop.run("features.items") as run:
        run.table("features.items", grade=Grade.INTERNAL).put(ROWS)
    assert profile.kept(shop.catalog, "features.items@1") is None
    told = shop.profile("features.items", by=OWNER, purpose=Purpose.ANALYSE)
    assert told["version"] == "features.items@1"
    assert told["rows"] == 3
    assert profile.kept(shop.catalog, "features.items@1") is not None
    with shop.run("empty") as run:
        run.table("features.none", grade=Grade.INTERNAL).put(ROWS.clear())
    assert shop.profile("features.none", by=OWNER, purpose=Purpose.ANALYSE)["rows"] == 0
    shop.close()


def test_rows_added_to_those_of_before_are_profiled_together_with_them(shop: Assets) -> None:
    with shop.run("more") as run:
        run.table("clean.items", mode="append", grades=GRADES, grade=Grade.INTERNAL).put(ROWS)
    told = shop.profile("clean.items", by=OWNER, purpose=Purpose.ANALYSE)
    assert (told["version"], told["rows"]) == ("clean.items@2", 6)
    shop.close()


def test_values_hidden_later_are_hidden_in_older_profiles_as_well(shop: Assets) -> None:
    about.describe(shop.catalog, "clean.items", "item_id", grade="sensitive")
    told = shop.profile("clean.items", by=OWNER, purpose=Purpose.ANALYSE)
    found = {column["column"]: column for column in told["columns"]}
    assert found["item_id"]["grade"] == "sensitive"
    assert found["item_id"]["examples"] == found["item_id"]["top"] == []
    assert found["item_id"]["min"] is None
    assert found["price_minor"]["min"] == 1
    about.describe(shop.catalog, "clean.items", grade="personal")
    hidden = shop.profile("clean.items", by=OWNER, purpose=Purpose.ANALYSE)["columns"]
    assert all(column["min"] is None for column in hidden)
    shop.close()


def test_an_asset_of_files_has_no_profile(shop: Assets) -> None:
    with shop.run("train") as run:
        run.files("models.m", lambda folder: None)
    with pytest.raises(InputError, match=r"models\.m is no table"):
        shop.profile("models.m", by=OWNER, purpose=Purpose.ANALYSE)
    shop.close()
