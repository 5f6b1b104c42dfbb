"""One read path, one write path: what a run writes is visible whole or not at all."""

import os
import re
import time
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from shopkeeper.assets import durable
from shopkeeper.assets.buckets import bucket_column, bucket_of
from shopkeeper.assets.lake import CHECKPOINT_EVERY
from shopkeeper.assets.store import Assets
from shopkeeper.errors import Denied, InputError, NotFound, NotReady
from shopkeeper.governance.access import OWNER, Principal
from shopkeeper.words import Purpose
from small_tables import read, rows, write

SOURCES = Path(__file__).parents[2] / "src" / "shopkeeper"


def test_a_version_once_written_never_changes(assets: Assets) -> None:
    write(assets, "raw.events", rows("a"))
    write(assets, "raw.events", rows("b", "c"), "append")
    write(assets, "raw.events", rows("d"))
    assert read(assets, "raw.events", 1) == ["a"]
    assert read(assets, "raw.events", 2) == ["a", "b", "c"]
    assert read(assets, "raw.events") == ["d"]
    assert [v.number for v in assets.catalog.history("raw.events")] == [3, 2, 1]


def test_only_the_buckets_that_were_put_are_replaced(assets: Assets) -> None:
    with assets.run("write") as run:
        for bucket, name in enumerate("abcd"):
            run.table("clean.events").put(rows(name), bucket=bucket)
    write(assets, "clean.events", rows("B"), "buckets", bucket=1)
    assert read(assets, "clean.events") == ["B", "a", "c", "d"]
    write(assets, "clean.events", rows().cast({"user_id": pl.String, "n": pl.Int64}), "buckets", 2)
    assert read(assets, "clean.events") == ["B", "a", "d"]


def test_the_same_rows_put_twice_are_there_twice(assets: Assets) -> None:
    write(assets, "raw.events", rows("a"))
    with assets.run("write") as run:
        table = run.table("raw.events", "append")
        for _ in range(3):
            table.put(rows("a"))
    assert read(assets, "raw.events") == ["a"] * 4
    write(assets, "raw.events", rows("a"), "append")
    assert assets.current("raw.events").rows == 5
    assert read(assets, "raw.events") == ["a"] * 5
    assert assets.compact("raw.events")["files"] == {"before": 5, "after": 1}
    assert read(assets, "raw.events") == ["a"] * 5


def test_a_killed_run_that_goes_on_puts_the_same_rows_where_it_was(assets: Assets) -> None:
    def put(times: int) -> None:
        with assets.run("collect") as run:
            table = run.table("raw.events", "append")
            run.resume(table, "mapping", rows("a").schema)
            for _ in range(times):
                table.put(rows("a"))
                run.checkpoint()
            if times == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        put(2)
    assert not assets.exists("raw.events")
    put(1)
    assert read(assets, "raw.events") == ["a"] * 3


def test_a_run_that_fails_changes_nothing_and_is_recorded(assets: Assets) -> None:
    write(assets, "raw.events", rows("a"))

    def broken() -> None:
        with assets.run("broken") as run:
            run.table("raw.events").put(rows("b"))
            run.files("models.x", lambda folder: (folder / "w").write_text("1") and None)
            raise RuntimeError("no luck")

    with pytest.raises(RuntimeError):
        broken()
    assert read(assets, "raw.events") == ["a"]
    assert not assets.exists("models.x")
    record = assets.catalog.runs(step="broken")[0]
    assert (record["outcome"], record["error"]) == ("failed", "RuntimeError: no luck")


def test_the_same_rows_again_are_no_new_version(assets: Assets) -> None:
    write(assets, "raw.events", rows("a", "b"))
    write(assets, "raw.events", rows("a", "b"))
    assert len(assets.catalog.history("raw.events")) == 1


def test_a_commit_the_catalogue_never_heard_of_is_undone_by_the_next(assets: Assets) -> None:
    write(assets, "raw.events", rows("a"))
    orphan = assets._store("raw.events")
    base = assets.current("raw.events")
    assert base.delta_version is not None
    files = [*orphan.files(base.delta_version), orphan.write_file(rows("ghost"), 0)]
    orphan.commit(files, rows("a").schema, 2, {})
    assert read(assets, "raw.events") == ["a"]
    write(assets, "raw.events", rows("b"), "append")
    assert read(assets, "raw.events") == ["a", "b"]
    table = DeltaTable(str(orphan.root))
    assert pl.scan_delta(table).collect()["user_id"].sort().to_list() == ["a", "b"]


def test_the_table_opens_in_plain_delta_readers_with_its_transaction(assets: Assets) -> None:
    write(assets, "raw.events", rows("a"), bucket=3)
    table = DeltaTable(str(assets._store("raw.events").root))
    assert table.transaction_version("raw.events") == 1
    frame = pl.scan_delta(table).collect()
    assert frame.select("user_id", "bucket").rows() == [("a", 3)]
    log = (assets._store("raw.events").root / "_delta_log").glob("*.json")
    assert not any("minValues" in entry.read_text() for entry in log)  # no values of users


@pytest.mark.parametrize("old", list("abcdefgh"))  # the digests decide which file is read first
def test_new_columns_are_added_and_old_rows_have_none(assets: Assets, old: str) -> None:
    write(assets, "raw.events", rows(old))
    write(assets, "raw.events", rows("z").with_columns(kind=pl.lit("view")), "append")
    frame = assets.read("raw.events", by=OWNER, purpose=Purpose.ANALYSE).sort("user_id")
    assert frame["kind"].to_list() == [None, "view"]


def test_every_version_of_a_long_history_is_read_however_old_its_log(assets: Assets) -> None:
    for n in range(CHECKPOINT_EVERY + 2):
        write(assets, "raw.events", rows(f"u{n:03}"))
    log = assets._store("raw.events").root / "_delta_log"
    assert list(log.glob("*.checkpoint.parquet"))
    long_ago = time.time() - 40 * 86_400
    for entry in log.glob("*.json"):
        os.utime(entry, (long_ago, long_ago))
    for n in range(CHECKPOINT_EVERY):
        write(assets, "raw.events", rows(f"v{n:03}"))
    assert read(assets, "raw.events", 5) == ["u004"]
    assert read(assets, "raw.events", 1) == ["u000"]


@pytest.mark.parametrize("left", [b"", b"PAR1 half a checkpoint"])
def test_a_checkpoint_that_a_power_cut_spoiled_is_thrown_away(assets: Assets, left: bytes) -> None:
    for n in range(CHECKPOINT_EVERY + 2):
        write(assets, "raw.events", rows(f"u{n:03}"))
    log = assets._store("raw.events").root / "_delta_log"
    for checkpoint in log.glob("*.checkpoint.parquet"):
        checkpoint.write_bytes(left)
    assert read(assets, "raw.events") == [f"u{CHECKPOINT_EVERY + 1:03}"]
    write(assets, "raw.events", rows("after"), "append")
    assert read(assets, "raw.events") == ["after", f"u{CHECKPOINT_EVERY + 1:03}"]


def test_what_a_dead_process_left_unsynced_is_synced_by_the_next_commit(
    assets: Assets, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(assets, "raw.events", rows("a"))
    store = assets._store("raw.events")
    base = assets.current("raw.events")
    assert base.delta_version is not None
    ghost = [*store.files(base.delta_version), store.write_file(rows("ghost"), 0)]
    with monkeypatch.context() as dead:
        dead.setattr(durable, "sync_file", lambda path: None)
        orphan = store.commit(ghost, rows("a").schema, 2, {})
    synced: list[Path] = []
    really = durable.sync_file
    monkeypatch.setattr(durable, "sync_file", lambda path: (synced.append(path), really(path)))
    write(assets, "raw.events", rows("b").with_columns(kind=pl.lit("view")), "append")
    head = assets.current("raw.events").delta_version
    assert head is not None
    assert head > orphan
    names = {path.name for path in synced}
    assert {f"{n:020}.json" for n in range(orphan, head + 1)} <= names


def test_lineage_is_what_was_read(assets: Assets) -> None:
    write(assets, "raw.events", rows("a"))
    write(assets, "raw.items", rows("i"))
    with assets.run("clean", reads=["raw.events", "raw.items"]) as run:
        run.table("clean.events").put(run.read("raw.events"))
    assert assets.catalog.made_from("clean.events@1") == ["raw.events@1"]
    assert assets.catalog.used_by("raw.events@1") == ["clean.events@1"]


def test_what_came_out_the_same_from_newer_inputs_was_made_from_those(assets: Assets) -> None:
    for item in ("i", "j"):
        write(assets, "raw.items", rows(item))
        with assets.run("count", reads=["raw.items"]) as run:
            run.table("clean.count").put(pl.DataFrame({"user_id": ["n"], "n": [run.read("raw.items").height]}))  # fmt: skip
    assert assets.current("clean.count").id == "clean.count@1"
    assert assets.catalog.made_from("clean.count@1") == ["raw.items@2"]
    assert assets.catalog.used_by("raw.items@2") == ["clean.count@1"]
    assert assets.catalog.used_by("raw.items@1") == ["clean.count@1"]


def test_reading_what_was_not_declared_is_refused(assets: Assets) -> None:
    write(assets, "raw.events", rows("a"))
    with (
        pytest.raises(ValueError, match=r"reads raw\.events but does not declare it"),
        assets.run("x") as run,
    ):
        run.read("raw.events")


def test_every_read_names_who_and_why_and_strangers_are_refused(assets: Assets) -> None:
    write(assets, "raw.events", rows("a"))
    stranger = Principal("stranger")
    with pytest.raises(Denied, match=r"stranger may not read raw\.events for train.*ask the owner"):
        assets.read("raw.events", by=stranger, purpose=Purpose.TRAIN)


def test_what_is_not_there_is_said_with_the_next_step(assets: Assets) -> None:
    with pytest.raises(
        NotReady, match=r"there is no clean\.events yet; make it with: shopkeeper run"
    ):
        assets.read("clean.events", by=OWNER, purpose=Purpose.TRAIN)
    write(assets, "raw.events", rows("a"))
    with pytest.raises(NotFound, match=r"raw\.events has no version 7; it has \[1\]"):
        assets.read("raw.events", by=OWNER, purpose=Purpose.TRAIN, version=7)
    with pytest.raises(InputError, match="is a table"):
        assets.folder("raw.events", by=OWNER, purpose=Purpose.TRAIN)


def test_a_step_is_fresh_only_with_the_same_inputs_code_and_parameters(assets: Assets) -> None:
    write(assets, "raw.events", rows("a"))

    def step() -> None:
        with assets.run("clean", reads=["raw.events"], parameters={"p": 1}, code="c") as run:
            run.table("clean.events").put(run.read("raw.events"))

    def fresh(parameters: dict[str, int], code: str) -> bool:
        return assets.fresh(assets.run_key("clean", ["raw.events"], parameters, code)) is not None

    assert not fresh({"p": 1}, "c")
    step()
    assert fresh({"p": 1}, "c")
    assert not fresh({"p": 2}, "c")
    assert not fresh({"p": 1}, "d")
    write(assets, "raw.events", rows("b"), "append")
    assert not fresh({"p": 1}, "c")


def test_staged_rows_are_invisible_and_taken_up_by_the_next_run(assets: Assets) -> None:
    schema = rows("a").schema

    def killed() -> None:
        with assets.run("collect") as run:
            writer = run.table("raw.events", "append")
            run.resume(writer, "mapping", schema)
            writer.put(rows("a"))
            run.position(writer, "source", "file", {"offset": 10})
            run.checkpoint()
            writer.put(rows("lost, and read again"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    assert not assets.exists("raw.events")
    assert assets.catalog.positions("raw.events", "mapping")[0] == {
        "source": {"file": {"offset": 10}}
    }
    with assets.run("collect") as run:
        writer = run.table("raw.events", "append")
        run.resume(writer, "mapping", schema)
        writer.put(rows("b"))
        run.position(writer, "source", "file", {"offset": 20})
    assert read(assets, "raw.events") == ["a", "b"]
    assert assets.catalog.staged("raw.events", "mapping") == []


def test_another_mapping_asks_for_everything_anew(assets: Assets) -> None:
    with assets.run("collect") as run:
        writer = run.table("raw.events", "append")
        run.resume(writer, "old", rows("a").schema)
        writer.put(rows("a"))
        run.position(writer, "source", "file", {"offset": 10})
    assert assets.catalog.positions("raw.events", "old") == (
        {"source": {"file": {"offset": 10}}},
        False,
    )
    assert assets.catalog.positions("raw.events", "new") == ({}, True)


def test_a_user_stays_in_one_bucket_and_no_user_is_bucket_0() -> None:
    users = pl.Series(["a", "b", None, "a", "中文"], dtype=pl.String)
    found = bucket_column(users, 16).to_list()
    assert found == [bucket_of(user, 16) for user in users]
    assert found[2] == 0
    assert bucket_of("a", 16) == 3  # crc32 of "a" is 0xe8b7be43; it must never change


def test_lake_files_are_opened_in_assets_only() -> None:
    """The one read path: nobody else names the lake's folders or opens Delta tables."""
    forbidden = re.compile(
        r"\bimport deltalake|from deltalake|scan_delta|read_delta|[\"']lake[\"']"
    )
    guilty = [
        str(path.relative_to(SOURCES))
        for path in SOURCES.rglob("*.py")
        if path.parent.name != "assets" and forbidden.search(path.read_text(encoding="utf-8"))
    ]
    assert guilty == []


@pytest.mark.parametrize("buckets", [1, 2, 16, 1000])
def test_a_column_of_users_is_parted_as_each_user_alone(buckets: int) -> None:
    users = ["u1", None, "", "用户 7", "é" * 40, "x" * 64, "y" * 65, "u1", "z" * 300, "a\0b"]
    users += [f"user-{n}" for n in range(500)]
    parted = bucket_column(pl.Series(users, dtype=pl.String), buckets).to_list()
    assert parted == [bucket_of(user, buckets) if buckets > 1 else 0 for user in users]
    assert bucket_column(pl.Series([], dtype=pl.String), buckets).to_list() == []
