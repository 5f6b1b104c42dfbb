"""Tables in a bucket of moto's S3 server: all that tables do, kills, two writers, moves and backups."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import psycopg
import pytest
from deltalake import DeltaTable

from servers import s3, s3_server
from shopkeeper.assets import backup, mirror, upgrade
from shopkeeper.assets.lake import TableStore
from shopkeeper.assets.mirror import OPTIONS
from shopkeeper.assets.objects import open_store
from shopkeeper.assets.store import Assets
from shopkeeper.errors import Conflict, InputError, NotReady, SourceError
from shopkeeper.governance.access import OWNER
from shopkeeper.shop import Shop
from shopkeeper.words import Purpose
from small_tables import read, rows, write

__all__ = ["s3", "s3_server"]  # fixtures
NOW = timedelta(0)


@pytest.fixture
def lake(s3: str, tmp_path: Path) -> str:
    return f"{s3}/{tmp_path.name}"  # of its own: a log never changes, so it is asked once a process


@pytest.fixture
def away(lake: str, tmp_path: Path) -> Iterator[Assets]:
    assets = Assets(tmp_path / "away", buckets=4, lake=lake)
    yield assets
    assets.close()


def forget(assets: Assets) -> None:
    """As on a machine that never read anything."""
    shutil.rmtree(assets.root / "lake")


def objects(lake: str) -> set[str]:
    return {entry.key for entry in open_store(lake).list() if mirror.is_data(entry.key)}


def lived(assets: Assets) -> list[Any]:
    """What a table goes through, and what it was at each turn."""
    write(assets, "raw.events", rows(*"abcd"))
    write(assets, "raw.events", rows(*"ef"), "append", bucket=1)
    write(assets, "raw.events", rows("e"), "append", bucket=1)
    write(assets, "raw.events", rows("e"), "append", bucket=1)  # the same bytes: there twice
    write(assets, "raw.events", rows("b").with_columns(shop=pl.lit("s")), "buckets", bucket=0)
    assets.restore("raw.events", 2)
    write(assets, "raw.events", rows("g"), "append", bucket=1)
    assets.compact("raw.events")
    with assets.branch("try") as branch:
        write(branch, "raw.events", rows("h"), "append", bucket=2)
        assert read(branch, "raw.events") == list("abcdefgh")
    assets.promote("try")
    told = assets.diff("raw.events", 1, by=OWNER, purpose=Purpose.ANALYSE, keys=["user_id"])
    found = [(v.digest, v.rows) for v in assets.catalog.history("raw.events")]
    return [*found, *(read(assets, "raw.events", n) for n in range(1, 9)), told["rows"]]


def test_a_table_in_a_bucket_lives_as_one_on_disk_with_the_same_digests(
    away: Assets, lake: str, tmp_path: Path
) -> None:
    here = Assets(tmp_path / "here", buckets=4)
    assert lived(away) == lived(here)
    forget(away)
    again = Assets(tmp_path / "away", buckets=4, lake=lake)
    assert read(again, "raw.events") == list("abcdefgh")
    profile = again.profile("raw.events", by=OWNER, purpose=Purpose.ANALYSE)
    assert profile["rows"] == 8
    scan = again.scan("raw.events", by=OWNER, purpose=Purpose.ANALYSE, buckets=[1])
    assert duckdb.from_arrow(scan.collect().to_arrow()).count("*").fetchall() == [(3,)]
    assert not list((tmp_path / "away" / "store" / "lake").rglob("_delta_log"))
    plain = pl.DataFrame(
        DeltaTable(f"{lake}/raw/events", storage_options=OPTIONS).get_add_actions()
    )
    assert plain["num_records"].sum() == 8  # a plain Delta reader finds what is current
    again.close()
    here.close()


def test_vacuum_deletes_in_the_bucket_what_no_kept_version_needs(away: Assets, lake: str) -> None:
    for name in "abc":
        write(away, "raw.events", rows(name))
    orphan = next(iter(objects(lake))).rpartition("/")[0] + f"/{'0' * 40}.parquet"
    open_store(lake).put(orphan, b"of a killed run")
    assert not away.vacuum()["files"]  # within the grace
    away.retain(keep_last=1, days=0)
    before = objects(lake)
    told = away.vacuum(grace=NOW)
    assert len(told["files"]) == 3
    assert f"lake/{orphan}" in told["files"]
    assert len(before) == 4
    assert len(objects(lake)) == 1
    assert told["bytes"] > 0
    forget(away)
    assert read(away, "raw.events") == ["c"]


def test_copies_beyond_the_limit_go_and_are_fetched_again(
    away: Assets, monkeypatch: pytest.MonkeyPatch
) -> None:
    away.copies = 1
    write(away, "raw.events", rows("a"))
    home = away.root / "lake"
    assert len(list(mirror.copies(home))) == 1  # it may be being read
    monkeypatch.setattr(mirror, "_IN_USE", 0.0)
    write(away, "raw.events", rows("b"), "append")
    assert not list(mirror.copies(home))
    assert read(away, "raw.events") == ["a", "b"]
    assert len(list(mirror.copies(home))) == 2


def test_a_lost_a_cut_and_a_changed_object_are_told(away: Assets, lake: str) -> None:
    write(away, "raw.events", rows("a"))
    key = objects(lake).pop()
    store = open_store(lake)
    content = store.read(key)
    for spoiled, what in (
        (None, "it is missing"),
        (content[:-1], f"it has {len(content) - 1} bytes"),
        (b"x" + content[1:], "its content is not what was written"),
    ):
        if spoiled is None:
            store.delete(key)
        else:
            store.put(key, spoiled)
        forget(away)
        with pytest.raises(NotReady, match=what):
            read(away, "raw.events")
        damaged = upgrade.verify(away, whole=True)["damaged"]
        assert [one["file"] for one in damaged] == [f"lake/{key}"]
    store.put(key, content)
    assert upgrade.verify(away, whole=True)["damaged"] == []
    assert read(away, "raw.events") == ["a"]


def test_a_bucket_that_does_not_answer_is_told(
    lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    with pytest.raises(SourceError, match="did not answer") as told:
        Assets(tmp_path, buckets=4, lake="s3://no-such-bucket/lake")
    assert "s3cret" not in str(told.value)


# who may be there


def test_a_prefix_is_one_workspaces(away: Assets, lake: str, tmp_path: Path) -> None:
    write(away, "raw.events", rows("a"))
    with pytest.raises(Conflict, match="another workspace lie there"):
        Assets(tmp_path / "other", buckets=4, lake=lake)
    with pytest.raises(InputError, match=r"lie in s3://shop/.*nothing of `lake`"):
        Assets(tmp_path / "away", buckets=4)
    with pytest.raises(InputError, match="lake --move"):
        Assets(tmp_path / "away", buckets=4, lake="s3://shop/elsewhere")


WRITER = """
import sys
from pathlib import Path
import polars as pl
from shopkeeper.assets.lake import TableStore
own, address = sys.argv[1], sys.argv[2]
store = TableStore(Path(own), "raw.events", address)
frame = pl.DataFrame({"user_id": [Path(own).name]})
made = store.write_file(frame, 0)
print("ready", flush=True)
sys.stdin.readline()
for number in range(12):
    version = store.commit([made] if number % 2 == 0 else [], frame.schema, number, {"by": own})
    print(version, len(store.files(version)), flush=True)
"""


def test_two_writers_without_a_lock_never_overwrite_each_others_commits(
    lake: str, tmp_path: Path
) -> None:
    address = f"{lake}/raw/events"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / name), address],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for name in "ab"
    ]  # fmt: skip
    for one in both:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in both:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    ended = [one.communicate(timeout=120) for one in both]
    assert [one.returncode for one in both] == [0, 0], ended
    told = [[line.split() for line in out.splitlines()] for out, _ in ended]
    for mine in told:  # what each was told its version is, it is
        assert [int(files) for _, files in mine] == [1, 0] * 6
        assert [int(v) for v, _ in mine] == sorted(int(v) for v, _ in mine)
    log = {e.key for e in open_store(address).list("_delta_log") if e.key.endswith(".json")}
    last = DeltaTable(address, storage_options=OPTIONS).version()
    assert len(log) == last + 1
    history = DeltaTable(address, storage_options=OPTIONS).history()
    assert {one.get("by", "") for one in history} >= {str(tmp_path / "a"), str(tmp_path / "b")}


KILLED = """
import sys
from pathlib import Path
import polars as pl
from shopkeeper.assets.store import Assets
assets = Assets(Path(sys.argv[1]), buckets=4, lake=sys.argv[2])
while True:
    n = assets.catalog.next_number("raw.events")
    with assets.run("write") as run:
        run.table("raw.events", "append").put(pl.DataFrame({"user_id": [f"u{n}"]}), bucket=n % 4)
    print(n, flush=True)
"""


@pytest.mark.slow
def test_killed_in_a_commit_every_version_is_whole_or_not_there(lake: str, tmp_path: Path) -> None:
    dice, acknowledged = random.Random(7), 0
    for _ in range(10):
        child = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", KILLED, str(tmp_path), lake],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        with child.stdout:
            told = int(child.stdout.readline())
            time.sleep(dice.uniform(0.0, 0.3))  # somewhere in the next one or the one after
            assert child.poll() is None, "the child ended by itself"
            os.kill(child.pid, signal.SIGKILL)
            told = max(told, *map(int, child.stdout.read().split()), 0)
        child.wait(timeout=60)
        assets = Assets(tmp_path, buckets=4, lake=lake)
        versions = assets.catalog.history("raw.events")
        assert len(versions) >= told > acknowledged
        acknowledged = len(versions)
        assets.close()
    assets = Assets(tmp_path, buckets=4, lake=lake)
    forget(assets)
    for version in assets.catalog.history("raw.events")[::5]:
        found = read(assets, "raw.events", version.number)
        assert found == sorted(f"u{n}" for n in range(1, version.number + 1))
    assets.vacuum(grace=NOW)  # what the killed left; the head is what is current
    store = TableStore(assets.root / "lake" / "raw" / "events", "raw.events", f"{lake}/raw/events")
    assert objects(lake) == {f"raw/events/{file.path}" for file in store.head()}
    assets.close()


def test_two_machines_with_one_catalogue_wait_for_each_other(
    lake: str, tmp_path: Path, postgresql: str
) -> None:
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute("CREATE DATABASE machines")
    url = postgresql.rpartition("/")[0] + "/machines"
    one, two = (Assets(tmp_path / n, buckets=4, catalog=url, lake=lake) for n in ("one", "two"))
    write(one, "raw.events", rows("a"))
    assert read(two, "raw.events") == ["a"]
    write(two, "raw.events", rows("b"), "append", bucket=1)
    assert read(one, "raw.events") == ["a", "b"]
    with two.run("write") as run:
        run.table("raw.events", "append").put(rows("c"), bucket=2)
        with pytest.raises(Conflict, match="a run is at work"):
            one.vacuum(grace=NOW)
    one.vacuum(grace=NOW)
    assert read(one, "raw.events") == ["a", "b", "c"]
    one.close()
    two.close()
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute("DROP DATABASE machines WITH (FORCE)")


# a whole shop


def settings(folder: Path, lake: str) -> None:
    text = (folder / "shop.toml").read_text(encoding="utf-8")
    kept = [line for line in text.splitlines() if not line.startswith("lake")]
    (folder / "shop.toml").write_text(
        "\n".join([f'lake = "{lake}"'] * bool(lake) + kept), encoding="utf-8"
    )


def digests(folder: Path) -> dict[str, str]:
    with Shop.open(folder) as shop:
        found = {one.asset: one.digest for one in shop.assets.catalog.every_version()}
        tables = [v for v in shop.assets.catalog.every_version() if v.is_table]
        for version in tables:
            shop.assets.read(version.asset, by=OWNER, purpose=Purpose.ANALYSE)
    return found


def test_a_shop_moves_to_a_bucket_runs_there_and_comes_back(folder: Path, lake: str) -> None:
    before = digests(folder)
    settings(folder, lake)
    with pytest.raises(InputError, match="shopkeeper lake --move"):
        Shop.open(folder)
    moved = Shop.move_lake(folder)
    assert moved["copied_bytes"] > 0
    shutil.rmtree(folder / "store" / "lake")
    assert digests(folder) == before
    with Shop.open(folder) as shop:
        assert {row["state"] for row in shop.status()["steps"]} <= {"fresh", "idle", "looks each time"}  # fmt: skip
        with (folder / "raw" / "events.csv").open("a", encoding="utf-8") as file:
            file.write("e900,u01,i01,view,2026-03-20T08:00:00+00:00,5000,1999\n")
        assert shop.run(["collect", "clean"])["assets"]["raw.events"]["version"] == "raw.events@2"
        found = shop.sql("SELECT count(*) AS n FROM clean.events")
        assert found.frame["n"].item() == shop.assets.current("clean.events").rows
        assert shop.lake()["place"] == lake
        shop.tidy()
    settings(folder, "")
    with pytest.raises(InputError, match="nothing of `lake`"):
        Shop.open(folder)
    back = Shop.move_lake(folder)
    assert back["from"] == lake
    for entry in list(open_store(lake).list()):
        open_store(lake).delete(entry.key)
    after = digests(folder)
    assert after["raw.events"] != before["raw.events"]
    assert {**after, "raw.events": ""}.keys() == {**before, "raw.events": ""}.keys()
    with Shop.open(folder) as shop:
        assert upgrade.verify(shop.assets, whole=True)["damaged"] == []


def test_an_interrupted_move_goes_on_and_another_log_is_not_overwritten(
    folder: Path, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digests(folder)
    settings(folder, lake)
    copied: list[str] = []

    def fail_later(source: Any, target: Any, entry: Any, here: Path) -> None:
        if len(copied) == 10:
            raise SourceError("gone")
        copied.append(entry.key)
        copy(source, target, entry, here)

    copy = mirror._copy
    with monkeypatch.context() as patch:
        patch.setattr(mirror, "_copy", fail_later)
        with pytest.raises(SourceError, match="gone"):
            Shop.move_lake(folder)
    with pytest.raises(InputError, match="lake --move"):  # it is where it was
        Shop.open(folder)
    entry = "raw/events/_delta_log/00000000000000000000.json"
    open_store(lake).put(entry, b"{}")
    with pytest.raises(Conflict, match="another log lies there"):
        Shop.move_lake(folder)
    assert open_store(lake).read(entry) == b"{}"
    open_store(lake).delete(entry)
    with monkeypatch.context() as patch:
        patch.setattr(mirror, "_copy", lambda *args: copied.append(args[2].key) or copy(*args))
        Shop.move_lake(folder)
    assert len(set(copied)) == len(copied)
    assert digests(folder) == before


def test_a_backup_of_a_shop_in_a_bucket_comes_back_without_the_bucket(
    folder: Path, lake: str, tmp_path: Path
) -> None:
    settings(folder, lake)
    Shop.move_lake(folder)
    shutil.rmtree(folder / "store" / "lake")
    before, store = digests(folder), open_store(str(tmp_path / "kept"))
    with Shop.open(folder) as shop:
        made = shop.backup(str(tmp_path / "kept"))
        again = shop.backup(str(tmp_path / "kept"))
    assert again["new_bytes"] < made["new_bytes"] / 2
    for entry in list(open_store(lake).list()):
        open_store(lake).delete(entry.key)
    backup.restore(store, tmp_path / "again")
    with pytest.raises(InputError, match="shopkeeper lake --move"):
        Shop.open(tmp_path / "again")
    settings(tmp_path / "again", "s3://shop/new")
    Shop.move_lake(tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "store" / "lake")
    assert digests(tmp_path / "again") == before
