"""What is kept and what goes: no version that anything needs, and no row under a reader's hands."""

import os
import random
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shopkeeper.assets.lake import TableStore
from shopkeeper.assets.store import Assets
from shopkeeper.errors import Conflict, InputError, NotFound
from shopkeeper.governance.access import OWNER
from shopkeeper.words import Purpose
from small_tables import rows, write

NOW = timedelta(0)


def read(assets: Assets, name: str, version: int | None = None) -> list[str]:
    frame = assets.read(name, by=OWNER, purpose=Purpose.ANALYSE, version=version)
    return frame["user_id"].to_list()


def data_files(assets: Assets) -> set[str]:
    return {path.name for path in assets.root.glob("lake/*/*/bucket=*/*.parquet")}


def ids(told: dict[str, Any]) -> list[str]:
    return sorted(row["version"] for row in told["removed"])


# retain


def test_the_last_ones_and_the_young_are_kept(assets: Assets) -> None:
    for name in "abcd":
        write(assets, "raw.events", rows(name))
    assert ids(assets.retain(keep_last=1, days=1)) == []
    told = assets.retain(keep_last=2, days=0, dry_run=True)
    assert (ids(told), told["kept"]) == (
        ["raw.events@1", "raw.events@2"],
        {"current": 1, "last": 1},
    )
    assert read(assets, "raw.events", 1) == ["a"]  # it was only asked
    assert ids(assets.retain(keep_last=2, days=0)) == ["raw.events@1", "raw.events@2"]
    with pytest.raises(
        NotFound, match=r"version 1 of raw\.events was given up on 20.*; it has \[4, 3\]"
    ):
        read(assets, "raw.events", 1)
    with pytest.raises(NotFound, match="was given up"):
        assets.restore("raw.events", 1)
    assert [v.number for v in assets.catalog.history("raw.events")] == [4, 3, 2, 1]
    assert ids(assets.retain(keep_last=2, days=0)) == []


def test_what_something_stands_on_is_never_given_up(assets: Assets) -> None:
    write(assets, "features.x", rows("a"))
    with assets.run("train", reads=["features.x"]) as run:
        run.read("features.x")
        run.files("models.m", lambda folder: (folder / "w").write_text("1") and None, kind="model")
    write(assets, "features.x", rows("pinned"))
    write(assets, "features.x", rows("branched"))
    with assets.branch("trial") as branch:
        write(branch, "features.x", rows("in the branch"))
    for name in "bcd":
        write(assets, "features.x", rows(name))
    assets.restore("models.m", 1)
    told = assets.retain(keep_last=1, days=0, pinned={"features.x@2"})
    assert ids(told) == ["features.x@5", "features.x@6"]  # 4 is the branch's own
    assert told["kept"] == {"current": 2, "release": 1, "branch": 1, "model": 1}
    assets.vacuum(grace=NOW)
    assert [read(assets, "features.x", n) for n in (1, 2, 3)] == [["a"], ["pinned"], ["branched"]]
    with assets.branch("trial") as branch:
        assert read(branch, "features.x") == ["in the branch"]
    assets.drop("trial")
    assert ids(assets.retain(keep_last=1, days=0)) == ["features.x@2", "features.x@3"]


def test_only_the_assets_named_are_looked_at(assets: Assets) -> None:
    for name in ("raw.a", "raw.b"):
        write(assets, name, rows("a"))
        write(assets, name, rows("b"))
    assert ids(assets.retain(keep_last=1, days=0, names=["raw.b"])) == ["raw.b@1"]
    with pytest.raises(InputError, match="wanted at least 1 and 0"):
        assets.retain(keep_last=0)


# compact


def test_merged_files_hold_the_same_version_in_the_same_order(assets: Assets) -> None:
    for name in "abcde":
        write(assets, "raw.events", rows(name, name.upper()), "append")
    write(assets, "raw.events", rows("f").with_columns(kind=pl.lit("view")), "append")
    before, order = assets.current("raw.events"), read(assets, "raw.events")
    told = assets.compact("raw.events")
    assert (told["version"], told["files"]) == ("raw.events@6", {"before": 6, "after": 1})
    after = assets.current("raw.events")
    assert (after.id, after.digest, after.rows) == (before.id, before.digest, before.rows)
    assert read(assets, "raw.events") == order
    assert read(assets, "raw.events", 2) == [n for n in order if n in "aAbB"]
    assert assets.compact("raw.events")["files"] == {"before": 1, "after": 1}


def test_neighbours_are_merged_and_a_big_file_between_them_stays_where_it_is(
    assets: Assets,
) -> None:
    wide = {"big": pl.lit("x" * 100)}
    for name in "abcdefgh":
        many = rows(*[f"{name}{n}" for n in range(2000)]) if name in "ce" else rows(name)
        write(assets, "raw.events", many.with_columns(**wide), "append")
    order = read(assets, "raw.events")
    told = assets.compact("raw.events", small_bytes=4000)
    assert 2 < told["files"]["after"] < told["files"]["before"]
    assert read(assets, "raw.events") == order


def test_digests_do_not_depend_on_compactions(tmp_path: Path) -> None:
    compacted, plain = Assets(tmp_path / "a", buckets=4), Assets(tmp_path / "b", buckets=4)
    for assets in (compacted, plain):
        write(assets, "raw.events", rows("a"))
        write(assets, "raw.events", rows("b"), "append")
        if assets is compacted:
            assets.compact("raw.events")
        write(assets, "raw.events", rows("c").clear(), "append")
        assert assets.current("raw.events").number == 2  # nothing came: no new version
        write(assets, "raw.events", rows("c"), "append")
        if assets is compacted:
            assets.compact("raw.events")  # a merged file merged again
        write(assets, "raw.events", rows("d"), "append")
    assert compacted.current("raw.events").digest == plain.current("raw.events").digest
    assert (
        sorted(read(compacted, "raw.events")) == sorted(read(plain, "raw.events")) == list("abcd")
    )
    assert len(compacted._data_files(compacted.current("raw.events"))) == 2


def test_a_version_that_once_was_one_file_keeps_it(assets: Assets) -> None:
    """The merged file has the same rows and bytes, but not the same name."""
    write(assets, "raw.events", rows("a").vstack(rows("b")).rechunk())
    write(assets, "raw.events", rows("a"))
    write(assets, "raw.events", rows("b"), "append")
    assets.compact("raw.events")
    assets.retain(keep_last=2, days=0)
    assets.vacuum(grace=NOW)
    assert sorted(read(assets, "raw.events")) == ["a", "b"]
    assert assets.current("raw.events").digest != assets.catalog.history("raw.events")[2].digest


def test_a_run_that_ends_during_a_compaction_loses_nothing(
    assets: Assets, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(assets, "raw.events", rows("a"))
    write(assets, "raw.events", rows("b"), "append")
    merge = TableStore.merge

    def slow(self: TableStore, *arguments: Any) -> Any:
        monkeypatch.setattr(TableStore, "merge", merge)
        write(assets, "raw.events", rows("c"), "append")
        return merge(self, *arguments)

    monkeypatch.setattr(TableStore, "merge", slow)
    assert assets.compact("raw.events")["version"] == "raw.events@3"
    assert sorted(read(assets, "raw.events")) == ["a", "b", "c"]


# vacuum


def test_only_what_no_kept_version_needs_is_deleted(assets: Assets) -> None:
    write(assets, "raw.events", rows("a"))
    write(assets, "raw.events", rows("b"), "append")
    write(assets, "raw.events", rows("c"))
    for text in ("1", "2"):
        with assets.run("train") as run:
            run.files("models.m", lambda folder, t=text: (folder / "w").write_text(t) and None)
    assert assets.vacuum(grace=NOW)["files"] == []
    old = assets._files_folder("models.m", assets.version("models.m", 1).digest)
    assets.retain(keep_last=1, days=0)
    assert assets.vacuum()["files"] == []  # unneeded for less than an hour
    told = assets.vacuum(grace=NOW, dry_run=True)
    assert (len(told["files"]), told["bytes"] > 0) == (3, True)
    assert old.exists()
    assert assets.vacuum(grace=NOW)["files"] == told["files"]
    assert not old.exists()
    assert len(data_files(assets)) == 1
    assert read(assets, "raw.events") == ["c"]
    assert assets.vacuum(grace=NOW)["files"] == []


def test_files_of_runs_that_died_are_orphans_after_an_hour(assets: Assets) -> None:
    write(assets, "raw.events", rows("a"))
    orphan = assets._store("raw.events").write_file(rows("ghost"), 0)
    left = assets.root / "files" / ".dead-models.m"
    left.mkdir(parents=True)
    assert assets.vacuum()["files"] == []
    for path in (assets._store("raw.events").root / orphan.path, left):
        os.utime(path, (time.time() - 3700,) * 2)
    assert assets.vacuum()["files"] == ["files/.dead-models.m", f"lake/raw/events/{orphan.path}"]
    assert read(assets, "raw.events") == ["a"]


def test_rows_staged_by_a_killed_run_are_no_waste(assets: Assets) -> None:
    schema = rows("a").schema

    def killed() -> None:
        with assets.run("collect") as run:
            writer = run.table("raw.events", "append")
            run.resume(writer, "mapping", schema)
            writer.put(rows("a"))
            run.checkpoint()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    assert assets.vacuum(grace=NOW)["files"] == []
    with assets.run("collect") as run:
        run.resume(run.table("raw.events", "append"), "mapping", schema)
    assert read(assets, "raw.events") == ["a"]


def test_nothing_is_deleted_while_a_run_is_at_work(assets: Assets) -> None:
    write(assets, "raw.events", rows("a"))
    with assets.run("long") as run:
        run.table("raw.events").put(rows("b"))
        with pytest.raises(Conflict, match="a run is at work here"):
            assets.vacuum(grace=NOW)
    assert read(assets, "raw.events") == ["b"]


def test_a_head_that_a_crash_left_aside_is_put_right_before_its_files_go(assets: Assets) -> None:
    write(assets, "raw.events", rows("a"))
    store, base = assets._store("raw.events"), assets.current("raw.events")
    files = [*assets._data_files(base), store.write_file(rows("ghost"), 0)]
    store.commit(files, rows("a").schema, 2, {})
    assert len(assets.vacuum(grace=NOW)["files"]) == 1
    assert pl.scan_delta(str(store.root)).collect()["user_id"].to_list() == ["a"]


# readers at the same time


def test_a_reader_that_opened_a_version_before_finishes_within_the_grace(assets: Assets) -> None:
    for name in "abc":
        write(assets, "raw.events", rows(name), "append")
    opened = assets.scan("raw.events", by=OWNER, purpose=Purpose.ANALYSE)
    old = assets.scan("raw.events", by=OWNER, purpose=Purpose.ANALYSE, version=1)
    assets.compact("raw.events")
    assets.retain(keep_last=1, days=0)
    assert assets.vacuum()["files"] == []
    assert sorted(opened.collect()["user_id"]) == ["a", "b", "c"]
    assert old.collect()["user_id"].to_list() == ["a"]
    assert len(assets.vacuum(grace=NOW)["files"]) == 3
    with pytest.raises(FileNotFoundError):  # and never other rows
        opened.collect()
    assert sorted(read(assets, "raw.events")) == ["a", "b", "c"]


def test_readers_see_right_rows_or_a_clear_error_while_files_are_merged_and_deleted(
    assets: Assets,
) -> None:
    dice = random.Random(4)
    wanted = {f"raw.events@{n}": n for n in range(1, 13)}  # version n has n rows, 0 to n - 1
    seen: list[str] = []
    wrong: list[str] = []
    over = threading.Event()

    def reader() -> None:
        own = Assets(assets.root.parent, buckets=4)
        while not over.is_set():
            known = own.catalog.history("raw.events")
            if not known:
                continue
            version = dice.choice(known)
            try:
                frame = own.read(
                    "raw.events", by=OWNER, purpose=Purpose.ANALYSE, version=version.number
                )
            except NotFound as error:
                seen.append("given up" if "was given up" in str(error) else f"?{error}")
                continue
            except Exception as error:  # anything else is what must not happen
                wrong.append(repr(error))
                continue
            seen.append("read")
            if sorted(frame["n"].to_list()) != list(range(wanted[version.id])):
                wrong.append(f"{version.id}: {frame['n'].to_list()}")
        own.close()

    threads = [threading.Thread(target=reader) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(12):
        write(assets, "raw.events", pl.DataFrame({"n": [n]}), "append")
        if n % 2:
            assets.compact("raw.events")
        if n % 3 == 2:
            assets.retain(keep_last=2, days=0)
            assets.vacuum(grace=NOW)
    over.set()
    for thread in threads:
        thread.join(timeout=60)
    assert wrong == []
    assert set(seen) == {"read", "given up"}
