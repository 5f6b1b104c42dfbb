"""Branches: visible inside only, promoted whole or not at all, dropped without a trace."""

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from shopkeeper.assets import schema as tables
from shopkeeper.assets.catalog import Catalog
from shopkeeper.assets.store import Assets
from shopkeeper.errors import Conflict, InputError, NotFound, NotReady
from shopkeeper.governance.access import OWNER
from shopkeeper.words import Purpose
from small_tables import read, rows, write


def clean(assets: Assets) -> None:
    with assets.run("clean", reads=["raw.events"], code="c") as run:
        run.table("clean.events").put(run.read("raw.events"))


def test_what_a_branch_writes_is_current_in_it_and_invisible_elsewhere(assets: Assets) -> None:
    write(assets, "raw.events", rows("a"))
    with assets.branch("trial") as branch:
        write(branch, "raw.events", rows("b"), "append")
        clean(branch)
        write(branch, "clean.events", rows("c"), "append")
        assert read(branch, "raw.events") == ["a", "b"]
        assert read(branch, "clean.events") == ["a", "b", "c"]
        assert read(branch, "raw.events", 1) == ["a"]
        assert [r["name"] for r in branch.catalog.assets()] == ["clean.events", "raw.events"]
        assert branch.catalog.made_from("clean.events@1") == ["raw.events@2"]
    assert read(assets, "raw.events") == ["a"]
    assert [r["name"] for r in assets.catalog.assets()] == ["raw.events"]
    assert len(assets.catalog.history("raw.events")) == 1
    assert assets.catalog.runs(step="clean") == []
    with pytest.raises(NotFound, match=r"raw\.events has no version 2; it has \[1\]"):
        read(assets, "raw.events", 2)
    with pytest.raises(NotReady):
        read(assets, "clean.events")
    plain = pl.scan_delta(str(assets._store("raw.events").root)).collect()
    assert plain["user_id"].to_list() == ["a"]
    write(assets, "raw.events", rows("m"), "append")
    assert assets.current("raw.events").number == 3  # a number is never used twice


def test_branches_are_listed_and_compared(assets: Assets) -> None:
    write(assets, "raw.events", rows("a"))
    with assets.branch("trial") as branch:
        write(branch, "raw.events", rows("b"), "append")
        clean(branch)
    (told,) = assets.branches()
    assert (told["branch"], told["assets"]) == (
        "trial",
        [
            {"asset": "clean.events", "version": "clean.events@1", "base": None, "moved": False},
            {"asset": "raw.events", "version": "raw.events@2", "base": "raw.events@1", "moved": False},
        ],
    )  # fmt: skip
    new, changed = assets.branch_diff("trial", by=OWNER, purpose=Purpose.ANALYSE)
    assert new == {"asset": "clean.events", "a": None, "b": "clean.events@1", "kind": "table", "rows": 2}  # fmt: skip
    assert changed["rows"] == {"a": 1, "b": 2, "added": 1, "removed": 0}


def test_a_promoted_branch_is_main_with_its_lineage_and_freshness(assets: Assets) -> None:
    write(assets, "raw.events", rows("a"))
    with assets.branch("trial") as branch:
        write(branch, "raw.events", rows("x"), "append")
        write(branch, "raw.events", rows("b"))
        clean(branch)
        with branch.run("train", reads=["clean.events"]) as run:
            run.read("clean.events")
            run.files("models.m", lambda folder: (folder / "w").write_text("1") and None)
    made = assets.promote("trial")
    assert [v.id for v in made] == ["clean.events@1", "models.m@1", "raw.events@3"]
    assert read(assets, "raw.events") == read(assets, "clean.events") == ["b"]
    assert read(assets, "raw.events", 2) == ["a", "x"]
    assert (assets.folder("models.m", by=OWNER, purpose=Purpose.SERVE) / "w").read_text() == "1"
    assert assets.catalog.made_from("clean.events@1") == ["raw.events@3"]
    assert assets.fresh(assets.run_key("clean", ["raw.events"], {}, "c")) is not None
    assert len(assets.catalog.runs(step="clean")) == 1
    for name in ("raw.events", "clean.events"):
        plain = pl.scan_delta(str(assets._store(name).root)).collect()
        assert plain["user_id"].to_list() == ["b"]
    assert assets.branches() == []
    write(assets, "raw.events", rows("c"), "append")
    assert read(assets, "raw.events") == ["b", "c"]


def test_a_branch_whose_ground_moved_is_not_promoted(assets: Assets) -> None:
    write(assets, "raw.events", rows("a"))
    with assets.branch("trial") as branch:
        write(branch, "raw.events", rows("b"))
        write(branch, "raw.items", rows("i"))
    write(assets, "raw.events", rows("c"))
    with pytest.raises(
        Conflict, match=r"trial stands on raw\.events@1, main has raw\.events@3 by now; drop"
    ):
        assets.promote("trial")
    assert read(assets, "raw.events") == ["c"]
    assert not assets.exists("raw.items")
    assert assets.branches()[0]["assets"][0]["moved"]


def test_a_dropped_branch_is_gone_and_its_name_free(assets: Assets) -> None:
    write(assets, "raw.events", rows("a"))
    with assets.branch("trial") as branch:
        write(branch, "raw.events", rows("b"))
        with branch.run("late") as run:
            run.table("raw.events").put(rows("late"))
            assert assets.drop("trial") == ["raw.events@2"]
            with pytest.raises(Conflict, match="this branch was promoted or dropped meanwhile"):
                run.finish()
            run.finish = lambda: None  # type: ignore[method-assign]
    assert assets.branches() == []
    with pytest.raises(NotFound, match="no branch 'trial'; open branches: none"):
        assets.promote("trial")
    with assets.branch("trial") as branch:
        assert read(branch, "raw.events") == ["a"]
        assert len(branch.catalog.history("raw.events")) == 1
    assert len(assets.vacuum(grace=timedelta(0))["files"]) == 2  # "b" and "late"


def test_a_branch_reads_nothing_from_outside(assets: Assets) -> None:
    with assets.branch("trial") as branch, branch.run("collect") as run:
        writer = run.table("raw.events", "append")
        with pytest.raises(
            InputError, match=r"a branch does not do that.*collect on the main line"
        ):
            run.resume(writer, "mapping", rows("a").schema)
        with pytest.raises(InputError, match="a branch does not do that"):
            run.position(writer, "source", "file", {"offset": 1})
        writer.put(rows("a"))


def test_all_that_concerns_every_branch_is_done_on_main(assets: Assets) -> None:
    with pytest.raises(InputError, match="'Trial' is no name for a branch"):
        assets.branch("Trial").__enter__()
    with assets.branch("trial") as branch:
        for work in (
            branch.vacuum,
            branch.retain,
            lambda: branch.compact("raw.events"),
            lambda: branch.promote("trial"),
            lambda: branch.drop("trial"),
        ):
            with pytest.raises(InputError, match="done on the main line, not in a branch"):
                work()


def test_a_version_is_restored_within_a_branch(assets: Assets) -> None:
    write(assets, "raw.events", rows("a"))
    write(assets, "raw.events", rows("b"))
    with assets.branch("trial") as branch:
        branch.restore("raw.events", 1)
        assert read(branch, "raw.events") == ["a"]
    assert read(assets, "raw.events") == ["b"]
    assets.promote("trial")
    assert read(assets, "raw.events") == ["a"]


def test_a_catalogue_of_the_first_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    assets = Assets(tmp_path, buckets=4)
    write(assets, "raw.events", rows("a"))
    with assets.catalog.write() as connection:
        for change in (
            "DROP INDEX versions_visible",
            "ALTER TABLE versions DROP COLUMN branch",
            "ALTER TABLE versions DROP COLUMN files",
            "ALTER TABLE versions DROP COLUMN removed_at",
            "ALTER TABLE runs DROP COLUMN branch",
            *(f"DROP TABLE {name}" for name in ("branches", "branch_heads", "merged_files")),
            "PRAGMA user_version=1",
        ):
            connection.exec_driver_sql(change)
    assets.close()
    again = Assets(tmp_path, buckets=4)
    assert read(again, "raw.events") == ["a"]
    with again.branch("trial") as branch:
        write(branch, "raw.events", rows("b"))
    again.promote("trial")
    assert read(again, "raw.events") == ["b"]


CHILD = """
import sys
from pathlib import Path
import polars as pl
from shopkeeper.assets.store import Assets
assets = Assets(Path(sys.argv[1]), buckets=4)
print("ready", flush=True)
while True:
    n = (assets.catalog.current("raw.a") or assets.catalog.next_number("raw.a"))
    n = getattr(n, "number", 0) + 1
    with assets.branch(f"trial-{n}") as branch, branch.run("write") as run:
        for name in ("raw.a", "raw.b", "raw.c"):
            run.table(name).put(pl.DataFrame({"n": [n]}))
    assets.promote(f"trial-{n}")
"""


@pytest.mark.slow
def test_killed_while_promoting_all_assets_are_promoted_or_none(
    tmp_path: Path, killed_at: Any
) -> None:
    dice = random.Random(8)
    folder = tmp_path
    for _ in range(8):
        killed_at(CHILD, folder, dice.uniform(0.05, 0.6))
        assets = Assets(folder, buckets=4)
        found = [
            assets.read(name, by=OWNER, purpose=Purpose.ANALYSE)["n"].to_list()
            if assets.exists(name)
            else []
            for name in ("raw.a", "raw.b", "raw.c")
        ]
        assert found[0] == found[1] == found[2]
        for branch in assets.branches():
            assets.drop(branch["branch"])
        with assets.catalog.reader.connect() as connection:
            left = connection.execute(
                sa.select(sa.func.count()).select_from(tables.branch_heads)
            ).scalar()
        assert left == 0
        assets.close()
    assert Catalog(folder / "store" / "catalog.db").current("raw.a") is not None
