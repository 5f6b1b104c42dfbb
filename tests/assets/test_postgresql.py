"""The catalogue on a real PostgreSQL: the same calls, the same digests, one writer at a time."""

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import psycopg
import pytest
import sqlalchemy as sa

from older_catalogue import OLD
from shopkeeper.assets import about, backup, lineage, search, usage
from shopkeeper.assets.catalog import Catalog
from shopkeeper.assets.objects import open_store
from shopkeeper.assets.schema import METADATA, SCHEMA_VERSION
from shopkeeper.assets.store import Assets
from shopkeeper.errors import InputError, NotReady, SourceError
from shopkeeper.governance.access import OWNER
from shopkeeper.shop import Shop
from shopkeeper.words import Grade, Purpose
from small_tables import read, rows, write


@pytest.fixture
def url(postgresql: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of its own for each test."""
    name = f"catalogue_{abs(hash(request.node.name)) % 10**9}"
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield postgresql.rpartition("/")[0] + f"/{name}"
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_runs_read_write_and_leave_the_same_digests_as_on_sqlite(url: str, tmp_path: Path) -> None:
    digests = []
    for folder, address in ((tmp_path / "a", None), (tmp_path / "b", url)):
        assets = Assets(folder, buckets=4, catalog=address)
        write(assets, "raw.events", rows(*"abcd"))
        with assets.run("clean", reads=["raw.events"]) as run:
            run.table("clean.events", grades={"*": Grade.INTERNAL}).put(run.read("raw.events"))
        write(assets, "raw.events", rows(*"abcdef"))
        with pytest.raises(ZeroDivisionError), assets.run("clean", reads=["raw.events"]):
            _ = 1 / 0
        digests.append([v.digest for v in assets.catalog.every_version()])
        assert assets.catalog.made_from("clean.events@1") == ["raw.events@1"]
        assert [run["outcome"] for run in assets.catalog.runs()].count("failed") == 1
        assert assets.restore("raw.events", 1).number == 3
        assert read(assets, "raw.events") == list("abcd")
        nodes = lineage.walk(assets.catalog, ["clean.events@1"])["nodes"]
        assert [node["version"] for node in nodes] == ["clean.events@1", "raw.events@1"]
        assert lineage.column_lineage(assets.catalog, "clean.events")["edges"]
        told = assets.profile("clean.events", by=OWNER, purpose=Purpose.ANALYSE)
        assert told["rows"] == 4
        assets.close()
    assert digests[0] == digests[1]


def test_branches_search_words_of_people_and_usage_work_alike(url: str, tmp_path: Path) -> None:
    assets = Assets(tmp_path, buckets=4, catalog=url)
    write(assets, "clean.items", rows("a"))
    with assets.branch("try") as view:
        write(view, "clean.items", rows("a", "b"))
        assert read(view, "clean.items") == ["a", "b"]
    assert read(assets, "clean.items") == ["a"]
    assert [v.number for v in assets.promote("try")] == [2]
    assert search.find(assets.catalog, "itmes")[0]["name"] == "clean.items"
    assert search.find(assets.catalog, "商品", layer="clean")[0]["name"] == "clean.items"
    about.define(assets.catalog, "GMV", "paid", ["成交总额"])
    about.describe(
        assets.catalog, "clean.items", terms=["gmv"], tags=["gold"], fresh_hours=1, owner="me"
    )
    assert search.find(assets.catalog, "成交总额", tag="gold")[0]["name"] == "clean.items"
    assert not about.freshness(assets.catalog)["clean.items"]["overdue"]
    assets.reads.flush()
    assert usage.used(assets.catalog, "clean.items")["reads_30d"] == 2
    assert usage.cost(assets.catalog, "clean.items")["runs"] == 2
    assets.close()
    again = Assets(tmp_path, buckets=4, catalog=url)
    assert again.catalog.asset_names() == ["clean.items"]
    again.close()


def test_writers_at_one_time_lose_nothing(url: str, tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog.db", url=url)

    def work(n: int) -> None:
        for m in range(10):
            catalog.fix(f"{n}-{m}", m)
            catalog.fix("one", n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(catalog.fix(f"{n}-{m}", -1) == m for n in range(4) for m in range(10))
    catalog.close()


def test_a_server_that_is_not_there_and_a_database_that_is_no_postgresql_are_told(
    tmp_path: Path,
) -> None:
    with pytest.raises(SourceError, match="cannot be reached") as told:
        Catalog(tmp_path / "catalog.db", url="postgresql://me:s3cret@127.0.0.1:1/shop")
    assert "s3cret" not in str(told.value)
    with pytest.raises(InputError, match="cannot stand on mysql"):
        Catalog(tmp_path / "catalog.db", url="mysql://me@127.0.0.1/shop")


def test_a_catalogue_of_a_newer_schema_is_refused(url: str, tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog.db", url=url)
    with catalog.write() as connection:
        connection.exec_driver_sql("UPDATE fixed SET value = '99' WHERE name = 'schema'")
    catalog.close()
    with pytest.raises(InputError, match="schema 99, written by a newer"):
        Catalog(tmp_path / "catalog.db", url=url)


def test_text_of_any_script_and_large_numbers_are_kept(url: str, tmp_path: Path) -> None:
    assets = Assets(tmp_path, buckets=4, catalog=url)
    with assets.run("写") as run:
        table = run.table("clean.items", description="店里的东西 🛒", notes={"bytes": 2**40})
        table.put(pl.DataFrame({"标题": ["灯"]}))
    found = assets.current("clean.items")
    assert found.schema == {"标题": "String"}
    assert found.notes["bytes"] == 2**40
    assets.close()


def test_a_catalogue_in_a_file_moves_into_the_database_that_is_named_later(
    url: str, tmp_path: Path
) -> None:
    before = Assets(tmp_path, buckets=4)
    write(before, "clean.items", rows("a"))
    about.describe(before.catalog, "clean.items", tags=["gold"])
    before.close()
    moved = Assets(tmp_path, buckets=4, catalog=url)
    assert read(moved, "clean.items") == ["a"]
    assert search.find(moved.catalog, "items", tag="gold")
    write(moved, "clean.items", rows("a", "b"))
    assert not (tmp_path / "store" / "catalog.db").exists()
    assert (tmp_path / "store" / "catalog.moved").exists()
    moved.close()
    (tmp_path / "store" / "catalog.moved").rename(tmp_path / "store" / "catalog.db")
    again = Assets(tmp_path, buckets=4, catalog=url)  # as after a kill before the renaming
    assert read(again, "clean.items") == ["a", "b"]
    again.close()
    Catalog(tmp_path / "store" / "catalog.db").close()
    with pytest.raises(InputError, match="both hold a catalogue"):
        Assets(tmp_path, buckets=4, catalog=url)


def test_an_older_catalogue_on_a_server_is_brought_up_to_date_and_kept_as_it_was(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CATALOG", url)
    shop, old = tmp_path / "shop", tmp_path / "old"
    shop.mkdir()
    (shop / "shop.toml").write_text('catalog = "${CATALOG}"\nbuckets = 4\n')
    with pytest.raises(NotReady, match="nothing has run here yet"):
        Shop.upgrade(shop)
    assets = Assets(shop, buckets=4, catalog=url)
    write(assets, "clean.items", rows("a"))
    write(assets, "clean.items", rows("a", "b"))
    about.describe(assets.catalog, "clean.items", tags=["gold"], description="灯")
    digests = [v.digest for v in assets.catalog.every_version()]
    with assets.catalog.write() as connection:
        for statement in OLD:
            if not statement.startswith("PRAGMA"):
                connection.exec_driver_sql(statement)
        connection.exec_driver_sql("UPDATE fixed SET value = '1' WHERE name = 'schema'")
    assets.close()
    shutil.copytree(shop, old)  # what the old program has
    told = Shop.upgrade(shop, whole=True)
    assert (told["from"], told["to"], told["damaged"]) == (1, SCHEMA_VERSION, [])
    assert Shop.upgrade(shop)["copy"] is None
    with Shop.open(shop) as opened:
        assert read(opened.assets, "clean.items", 1) == ["a"]
        assert [one["name"] for one in opened.find("灯", tag="gold")] == ["clean.items"]
        with opened.assets.catalog.reader.connect() as connection:
            known = sa.inspect(connection)
            for table in METADATA.sorted_tables:
                there = {one["name"] for one in known.get_indexes(table.name)}
                assert there >= {one.name for one in table.indexes}
    shutil.copy(told["copy"], old / "store" / "catalog.db")
    (old / "shop.toml").write_text("buckets = 4\n")
    with sqlite3.connect(old / "store" / "catalog.db") as file:
        assert file.execute("PRAGMA user_version").fetchone() == (1,)
        assert "branch" not in {row[1] for row in file.execute("PRAGMA table_info(versions)")}
        assert file.execute("SELECT typeof(quality), schema FROM versions").fetchall()[0] == (
            "text", '{"user_id": "String", "n": "Int64"}',
        )  # fmt: skip
    file.close()
    again = Shop.upgrade(old, whole=True)
    assert (again["from"], again["to"], again["damaged"]) == (1, SCHEMA_VERSION, [])
    with Shop.open(old) as opened:
        assert read(opened.assets, "clean.items", 1) == ["a"]
        assert read(opened.assets, "clean.items") == ["a", "b"]
        assert [v.digest for v in opened.assets.catalog.every_version()] == digests
        assert [one["name"] for one in opened.find("灯", tag="gold")] == ["clean.items"]


def test_a_backup_holds_the_rows_and_is_restored_to_a_file_or_another_database(
    url: str, tmp_path: Path
) -> None:
    shop, store = tmp_path / "shop", open_store(str(tmp_path / "kept"))
    assets = Assets(shop, buckets=4, catalog=url)
    write(assets, "clean.items", rows("a", "b"))
    backup.backup(assets, shop, store, about={})
    write(assets, "clean.items", rows("c"))
    backup.restore(store, tmp_path / "again")
    restored = Assets(tmp_path / "again", buckets=4)
    assert read(restored, "clean.items") == ["a", "b"]
    assert [v.digest for v in restored.catalog.history("clean.items")] == [
        v.digest for v in assets.catalog.history("clean.items")[1:]
    ]
    restored.close()
    assets.close()
    backup.restore(store, tmp_path / "third")
    with pytest.raises(InputError, match="both hold a catalogue"):
        Assets(tmp_path / "third", buckets=4, catalog=url)
