"""A workspace of an older version is brought up to date whole, or told why not and left alone."""

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from older_catalogue import OLD
from shopkeeper.assets.schema import METADATA
from shopkeeper.assets.upgrade import found_schema
from shopkeeper.errors import InputError, NotReady
from shopkeeper.governance.access import OWNER
from shopkeeper.shop import Shop
from shopkeeper.words import Purpose


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.toml").write_text('models = ["popularity"]\nbuckets = 2\n')
    rows = [f"u{n % 9},i{n * 7 % 11}" for n in range(99)]
    (tmp_path / "user_behavior.csv").write_text("\n".join(["user_id,item_id", *rows]) + "\n")
    (tmp_path / "item_data.csv").write_text(
        "\n".join(["item_id,title", *(f"i{n},lamp {n}" for n in range(11))]) + "\n"
    )
    with Shop.open(tmp_path) as shop:
        shop.run()
    return tmp_path


def change(folder: Path, *statements: str) -> None:
    with sqlite3.connect(folder / "store" / "catalog.db") as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_an_older_catalogue_is_brought_up_to_date_and_kept_as_it_was(folder: Path) -> None:
    change(folder, *OLD)
    told = Shop.upgrade(folder, whole=True)
    assert (told["from"], told["to"]) == (1, found_schema(folder / "store" / "catalog.db"))
    assert told["to"] > 1
    assert found_schema(Path(told["copy"])) == 1
    assert told["damaged"] == told["stale"] == []
    assert told["files"] > told["versions"] > 5
    with Shop.open(folder) as shop:
        assert shop.assets.read("clean.events", by=OWNER, purpose=Purpose.ANALYSE).height == 99
        with shop.assets.catalog.reader.connect() as connection:
            known = sa.inspect(connection)
            for table in METADATA.sorted_tables:
                there = {index["name"] for index in known.get_indexes(table.name)}
                assert there == {index.name for index in table.indexes}
    again = Shop.upgrade(folder)
    assert (again["from"], again["copy"]) == (told["to"], None)


def test_every_damaged_file_is_told(folder: Path) -> None:
    lake = folder / "store" / "lake" / "clean" / "events"
    first, second = sorted(lake.glob("bucket=*/*.parquet"))[:2]
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 1
    first.write_bytes(content)  # of the right size
    second.unlink()
    model = next((folder / "store" / "files" / "models").rglob("*.json"))
    model.write_text(model.read_text() + " ")
    by_size = {one["what"].partition(",")[0] for one in Shop.upgrade(folder)["damaged"]}
    assert "it is missing" in by_size
    assert len(by_size) == 2
    whole = [one["what"] for one in Shop.upgrade(folder, whole=True)["damaged"]]
    assert len(whole) == 3
    assert "its content is not what was written" in whole


def test_a_workspace_of_a_newer_version_is_refused_and_untouched(folder: Path) -> None:
    change(folder, "PRAGMA user_version=999")
    for work in (Shop.upgrade, Shop.open):
        with pytest.raises(InputError, match="schema 999, written by a newer Shopkeeper"):
            work(folder)
    assert found_schema(folder / "store" / "catalog.db") == 999


def test_settings_that_are_known_no_more_are_told_before_anything_changes(folder: Path) -> None:
    change(folder, *OLD)
    (folder / "shop.toml").write_text("bukets = 2\n")
    with pytest.raises(InputError, match="bukets"):
        Shop.upgrade(folder)
    assert found_schema(folder / "store" / "catalog.db") == 1


def test_where_nothing_has_run_there_is_nothing_to_upgrade(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="nothing has run here yet"):
        Shop.upgrade(tmp_path)
