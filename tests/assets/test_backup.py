"""Backups: complete, cheap when little changed, never half, and they serve the same answers."""

import json
import os
import shutil
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from shopkeeper.assets import backup as backups
from shopkeeper.assets.objects import Folder, open_store
from shopkeeper.errors import Conflict, InputError, NotFound
from shopkeeper.shop import Shop
from shopkeeper.words import VISIT


def answers(folder: Path) -> dict[str, Any]:
    """What a shop answers to people, strangers and searches; without what tells answers apart."""
    with Shop.open(folder) as shop:
        told = {
            user: shop.service.recommend(user_id=user, k=10).as_dict()
            for user in ("u01", "u02", "u30", "nobody")
        }
        told |= {q: shop.service.search(q, k=10).as_dict() for q in ("lamp", "帐篷")}
        events = shop.service.counters()
    assert events is not None
    return {key: [value["release"], value["items"]] for key, value in told.items()}


def keep(folder: Path, to: Path) -> dict[str, Any]:
    with Shop.open(folder) as shop:
        return shop.backup(str(to))


def test_a_restored_shop_serves_the_same_answers(folder: Path, tmp_path: Path) -> None:
    made = keep(folder, tmp_path / "kept")
    assert made["new_bytes"] > 0
    told = backups.restore(open_store(str(tmp_path / "kept")), tmp_path / "again")
    assert told["id"] == made["id"]
    assert told["bytes"] == made["bytes"]
    assert answers(tmp_path / "again") == answers(folder)
    with Shop.open(tmp_path / "again") as shop:
        assert {row["state"] for row in shop.status()["steps"]} <= {
            "fresh",
            "idle",
            "looks each time",
        }


def test_a_second_backup_stores_only_what_changed(folder: Path, tmp_path: Path) -> None:
    keep(folder, tmp_path / "kept")
    with (folder / "raw" / "events.csv").open("a", encoding="utf-8") as file:
        file.write("\n")
    second = keep(folder, tmp_path / "kept")
    changed = {"catalog.db", "events.csv"}
    bound = sum(p.stat().st_size for p in folder.rglob("*") if p.name in changed)
    assert 0 < second["new_bytes"] <= bound + 100_000
    assert second["new_bytes"] < second["bytes"] / 2
    assert len(backups.listed(open_store(str(tmp_path / "kept")))) == 2


def test_a_backup_made_while_events_pour_in_holds_all_that_was_acknowledged_before(
    folder: Path, tmp_path: Path, serving: Callable[..., AbstractContextManager[Any]]
) -> None:
    acknowledged: list[str] = []
    stop = threading.Event()

    def pour(url: str) -> None:
        n = 0
        while not stop.is_set():
            batch = [
                {"event_id": f"e{n + i}", "user_id": f"u{i:02d}", "item_id": "i01", "kind": "view"}
                for i in range(5)
            ]
            body = json.dumps({"events": batch}).encode()
            request = urllib.request.Request(
                f"{url}/v1/events", body, {"content-type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=20) as told:
                assert told.status == 202
            acknowledged.extend(event["event_id"] for event in batch)
            n += 5

    with serving(folder) as running:
        sender = threading.Thread(target=pour, args=(running.url,))
        sender.start()
        while len(acknowledged) < 50:
            stop.wait(0.01)
        before = list(acknowledged)
        keep(folder, tmp_path / "kept")
        stop.set()
        sender.join(timeout=30)
    backups.restore(open_store(str(tmp_path / "kept")), tmp_path / "again")
    with Shop.open(tmp_path / "again") as shop:
        shop.run(["collect"])
        frame = shop.sql("SELECT event_id, user_id FROM raw.feedback").frame
    assert set(before) <= set(frame["event_id"].to_list())
    assert not any(user.startswith(VISIT) for user in frame["user_id"].to_list())


def test_a_damaged_part_is_told_and_never_restored(folder: Path, tmp_path: Path) -> None:
    keep(folder, tmp_path / "kept")
    store = open_store(str(tmp_path / "kept"))
    assert backups.check(store)["damaged"] == []
    part = max((tmp_path / "kept" / "parts").rglob("*"), key=lambda p: p.stat().st_size)
    part.write_bytes(b"x" + part.read_bytes()[1:])
    assert len(backups.check(store)["damaged"]) >= 1
    with pytest.raises(InputError, match="is damaged"):
        backups.restore(store, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_an_interrupted_backup_is_none_and_the_next_goes_on_from_its_parts(
    folder: Path, tmp_path: Path
) -> None:
    class Failing(Folder):
        def put(self, key: str, content: bytes) -> None:
            if len(list(self.list("parts"))) >= 10:
                raise OSError("unplugged")
            super().put(key, content)

    with Shop.open(folder) as shop:
        with pytest.raises(OSError, match="unplugged"):
            backups.backup(shop.assets, folder, Failing(tmp_path / "kept"), about={})
        assert not (shop.assets.root / ".backup").exists()
    store = Folder(tmp_path / "kept")
    assert backups.listed(store) == []
    with pytest.raises(NotFound, match="no backup"):
        backups.restore(store, tmp_path / "again")
    done = {entry.key for entry in store.list("parts")}
    made = keep(folder, tmp_path / "kept")
    every = {entry.key for entry in store.list("parts")}
    assert done <= every
    assert made["new_parts"] == len(every - done)


def test_an_interrupted_restore_goes_on_and_nothing_is_there_before_all_is(
    folder: Path, tmp_path: Path
) -> None:
    keep(folder, tmp_path / "kept")

    class Failing(Folder):
        left = 12

        def stream(self, key: str) -> Iterator[bytes]:
            Failing.left -= 1
            if Failing.left < 0:
                raise OSError("unplugged")
            return super().stream(key)

    with pytest.raises(OSError, match="unplugged"):
        backups.restore(Failing(tmp_path / "kept"), tmp_path / "again")
    assert not (tmp_path / "again").exists()
    backups.restore(Folder(tmp_path / "kept"), tmp_path / "again")
    assert answers(tmp_path / "again") == answers(folder)


def test_a_restore_never_writes_over_anything(folder: Path, tmp_path: Path) -> None:
    keep(folder, tmp_path / "kept")
    with pytest.raises(InputError, match="not empty"):
        backups.restore(open_store(str(tmp_path / "kept")), folder)


def test_two_backups_at_once_and_one_inside_the_workspace_are_refused(
    folder: Path, tmp_path: Path
) -> None:
    from shopkeeper.assets import durable

    with Shop.open(folder) as shop:
        with (
            durable.lock(shop.assets.root / "backup.lock", wait=False),
            pytest.raises(Conflict, match="another backup"),
        ):
            shop.backup(str(tmp_path / "kept"))
        with pytest.raises(InputError, match="inside what it keeps"):
            shop.backup(str(folder / "kept"))


def test_pruning_keeps_what_the_newest_need(folder: Path, tmp_path: Path) -> None:
    first = keep(folder, tmp_path / "kept")
    (folder / "raw" / "more.csv").write_text("item_id\n", encoding="utf-8")
    shutil.rmtree(folder / "raw" / "images")
    second = keep(folder, tmp_path / "kept")
    store = Folder(tmp_path / "kept")
    assert backups.prune(store, 1)["deleted_parts"] == 0, "younger than a day"
    for path in (tmp_path / "kept" / "parts").rglob("*"):
        os.utime(path, (0, 0))
    keep(folder, tmp_path / "kept")
    told = backups.prune(store, 1)
    assert second["id"] in told["removed"]
    assert first["id"] not in {one["id"] for one in backups.listed(store)}
    assert told["deleted_parts"] > 0
    assert backups.check(store)["damaged"] == []


def test_a_part_from_outside_its_folder_is_not_written(folder: Path, tmp_path: Path) -> None:
    keep(folder, tmp_path / "kept")
    listing = next((tmp_path / "kept" / "backups").glob("*.json"))
    told = json.loads(listing.read_text(encoding="utf-8"))
    told["files"][0]["path"] = "../outside"
    listing.write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(InputError, match="leads out"):
        backups.restore(open_store(str(tmp_path / "kept")), tmp_path / "again")
    assert not (tmp_path / "outside").exists()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of moto's server, which speaks S3; it says nothing about a real one's durability."""
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    pytest.importorskip("obstore", reason="obstore is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    url = f"http://127.0.0.1:{port}"
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    made = urllib.request.Request(f"{url}/kept", method="PUT")
    urllib.request.urlopen(made, timeout=20).close()
    yield "s3://kept/corner"
    server.stop()


def test_a_bucket_keeps_a_backup_as_a_folder_does(
    folder: Path, tmp_path: Path, bucket: str
) -> None:
    with Shop.open(folder) as shop:
        shop.backup(bucket)
        again = shop.backup(bucket)
    assert again["new_bytes"] < again["bytes"] / 2
    store = open_store(bucket)
    assert backups.check(store)["damaged"] == []
    backups.restore(store, tmp_path / "again")
    assert answers(tmp_path / "again") == answers(folder)
    with pytest.raises(NotFound, match="no object"):
        store.read("nothing")
    assert backups.prune(store, 1)["removed"] != []


def test_an_address_nobody_can_speak_to_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot store at"):
        open_store("ftp://host/path")
