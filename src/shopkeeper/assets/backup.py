"""Backup and restore of a whole workspace, to a folder or a bucket.

A backup is a list of files, each a list of parts named by their SHA-256; a part that is there already is
not stored again, so a backup costs what changed. It is made while the shop is served and runs:
what is consistent is taken in one short moment (the catalogue copied by SQLite itself, immutable
files held by hard links), then read at leisure. Tables that lie in object storage are kept as well, and come
back as files of the workspace; `shopkeeper lake --move` brings them to a bucket again. The list is written last: a backup that was
interrupted is none, and the next one goes on from the parts it stored.

    <address>/parts/ab/abcdef…      content, at most 16 MiB each
    <address>/backups/<id>.json     the list

A backup holds everything, personal data included, unencrypted: keep it as safe as the workspace.
"""

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from shopkeeper.assets import durable, transfer
from shopkeeper.assets.objects import Entry, ObjectStore, opened
from shopkeeper.assets.schema import SCHEMA_VERSION
from shopkeeper.assets.store import Assets
from shopkeeper.errors import InputError, NotFound

PART = 16 << 20  # bytes of a part: what is held in memory at a time
FORMAT = 1
YOUNG = timedelta(hours=24)  # a part younger than this may belong to a backup still being made
_HERE = ".backup"  # below store/: the moment held by hard links
_UNFINISHED = ".restoring"
# what needs no backup: locks, what a killed writer left, and training that was not finished
_LEFT = (".lock", ".part", "-wal", "-shm")
_LEFT_FOLDERS = (_HERE, "checkpoints")  # directly below store/

Progress = Callable[[float, float, str], None]


def silent(done: float, total: float, text: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class _Source:
    """One file to be kept, as `path` in the workspace."""

    path: str
    size: int
    mtime_ns: int
    mode: int
    read: Callable[[], Iterator[bytes]]  # its content, in parts of PART bytes


def _file(path: str, at: Path) -> _Source:
    """The file at `at`."""

    def read() -> Iterator[bytes]:
        with at.open("rb") as file:
            while content := file.read(PART):
                yield content

    told = at.stat()
    return _Source(path, told.st_size, told.st_mtime_ns, told.st_mode & 0o777, read)


def _object(path: str, store: ObjectStore, entry: Entry) -> _Source:
    """An object of a lake in object storage."""

    def read() -> Iterator[bytes]:
        content = b""
        for part in store.stream(entry.key):
            content += part
            while len(content) >= PART:
                yield content[:PART]
                content = content[PART:]
        if content:
            yield content

    mtime_ns = int(entry.modified.timestamp()) * 10**9
    return _Source(path, entry.size, mtime_ns, 0o644, read)


def backup(
    assets: Assets,
    folder: Path,
    store: ObjectStore,
    *,
    about: dict[str, Any],
    verify: bool = True,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Keep the workspace in `folder` at `store`; safe beside a server and a run.

    Args:
        about: goes into the list: shop, version of the product.
        verify: read every part that was stored back and compare.
        progress: called with bytes done, bytes in all, and the file.
    Returns:
        {"id", "address", "files", "bytes", "new_parts", "new_bytes"}
    Raises:
        Conflict: another backup of this workspace is under way.
        SourceError: the storage failed, or gave back other bytes than it was given.
    """
    with (
        durable.lock(assets.root / "backup.lock", wait=False, holder="another backup"),
        # objects have no second name to hold them by: nothing is deleted until they are read
        assets.writing() if assets.lake else nullcontext(),
    ):
        held = assets.root / _HERE
        shutil.rmtree(held, ignore_errors=True)
        try:
            sources = [*_store_files(assets, held), *_own_files(folder, assets.root, store)]
            return _keep(sources, store, about, verify, progress)
        finally:
            shutil.rmtree(held, ignore_errors=True)


def _store_files(assets: Assets, held: Path) -> list[_Source]:
    """What is in store/, as of one moment.

    No commit happens meanwhile and nothing is deleted, so every file that the catalogue names is
    there; the logs of a running server are copied after it, so they hold whatever it has read.
    """
    root = assets.root
    with assets.writing(), assets.committing():
        left = {root / name for name in _LEFT_FOLDERS} | ({root / "lake"} if assets.lake else set())
        files = list(_walk(root, left))
        held.mkdir(parents=True, exist_ok=True)
        databases = sorted(
            (path for path in files if path.suffix == ".db"),
            key=lambda path: (path.name != "catalog.db", path),
        )
        for path in [*databases, *(path for path in files if path.suffix != ".db")]:
            target = held / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".db":
                copy_database(path, target)
            elif path.suffix == ".jsonl":  # grows where it stands
                shutil.copy2(path, target)
            else:
                _hold(path, target)
        if (
            assets.catalog.url is not None
        ):  # PostgreSQL: its rows, as the file that SQLite would have
            transfer.into_file(assets.catalog.reader, held / "catalog.db")
        there = [
            _object(f"store/lake/{entry.key}", opened(assets.lake), entry)
            for entry in (opened(assets.lake).list() if assets.lake else ())
            if "/" in entry.key
        ]
    here = [
        _file((Path("store") / path.relative_to(held)).as_posix(), path)
        for path in sorted(held.rglob("*"))
        if path.is_file()
    ]
    return [*here, *sorted(there, key=lambda one: one.path)]


def _hold(path: Path, target: Path) -> None:
    """A second name for the same bytes; a copy where the file system has no hard links."""
    try:
        os.link(path, target)
    except FileNotFoundError:
        return  # a temporary file that got its final name meanwhile
    except OSError:
        shutil.copy2(path, target)


def copy_database(source: Path, target: Path) -> None:
    """Copy a SQLite file that others may be writing, as of one of its transactions."""
    with (
        closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=60)) as old,
        closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new)


def _own_files(folder: Path, store: Path, target: ObjectStore) -> list[_Source]:
    """What people keep in the workspace beside store/: settings, contracts, raw files."""
    if target.address and Path(target.address).resolve().is_relative_to(folder.resolve()):
        raise InputError(
            "the backup would lie inside what it keeps",
            where=target.address,
            next="name a folder outside the workspace, best on another disk",
        )
    return [_file(path.relative_to(folder).as_posix(), path) for path in _walk(folder, {store})]


def _walk(folder: Path, but: set[Path]) -> Iterator[Path]:
    """Every file below `folder`, also behind links, but not below the folders `but`."""
    seen: set[tuple[int, int]] = set()
    to_do = [folder]
    while to_do:
        at = to_do.pop()
        place = at.stat()
        if (place.st_dev, place.st_ino) in seen:  # a link that leads back
            continue
        seen.add((place.st_dev, place.st_ino))
        for path in sorted(at.iterdir()):
            if path.is_dir():
                if path not in but:
                    to_do.append(path)
            elif path.is_file() and not path.name.endswith(_LEFT):
                yield path


def _keep(
    sources: list[_Source],
    store: ObjectStore,
    about: dict[str, Any],
    verify: bool,
    progress: Progress,
) -> dict[str, Any]:
    before = listed(store)
    last = _list(store, before[-1]["id"])["files"] if before else []
    known = {(file["path"], file["size"], file["mtime_ns"]): file["parts"] for file in last}
    there = {entry.key: entry.size for entry in store.list("parts")}
    total = sum(source.size for source in sources)
    done = new_parts = new_bytes = 0
    files = []
    for source in sources:
        progress(done, total, source.path)
        parts = known.get((source.path, source.size, source.mtime_ns))
        if parts is None or any(_key(part) not in there for part in parts):
            parts = []
            for content in source.read():
                part = hashlib.sha256(content).hexdigest()
                if there.get(_key(part)) != len(content):
                    store.put(_key(part), content)
                    if verify:
                        _same(store, part)
                    there[_key(part)] = len(content)
                    new_parts += 1
                    new_bytes += len(content)
                parts.append(part)
        about_file = {"path": source.path, "size": source.size, "mtime_ns": source.mtime_ns}
        files.append(about_file | {"mode": source.mode, "parts": parts})
        done += source.size
    made = datetime.now(UTC)
    told_all = {
        "format": FORMAT,
        "id": f"{made:%Y%m%dT%H%M%S-%f}",
        "created_at": made.isoformat(timespec="seconds"),
        "schema": SCHEMA_VERSION,
        **about,
        "bytes": total,
        "files": files,
    }
    text = json.dumps(told_all, ensure_ascii=False)
    store.put(f"backups/{told_all['id']}.json", text.encode())
    progress(total, total, "done")
    return {
        "id": told_all["id"],
        "address": store.address,
        "files": len(files),
        "bytes": total,
        "new_parts": new_parts,
        "new_bytes": new_bytes,
    }


def _key(part: str) -> str:
    return f"parts/{part[:2]}/{part}"


def _same(store: ObjectStore, part: str) -> bytes:
    """The content of a part, which is what its name says. InputError otherwise."""
    content = store.read(_key(part))
    if hashlib.sha256(content).hexdigest() != part:
        raise InputError(
            f"part {part[:12]} of the backup is damaged",
            where=store.address,
            next="make a new backup elsewhere and look after this storage",
        )
    return content


def listed(store: ObjectStore) -> list[dict[str, Any]]:
    """Backups at `store`, oldest first: {"id", "bytes_of_list", "created_at"}."""
    found = [
        {
            "id": Path(entry.key).stem,
            "list_bytes": entry.size,
            "created_at": entry.modified.isoformat(timespec="seconds"),
        }
        for entry in store.list("backups")
        if entry.key.endswith(".json")
    ]
    return sorted(found, key=lambda one: str(one["id"]))


def _list(store: ObjectStore, id: str | None) -> dict[str, Any]:
    """The list of backup `id`, or of the newest. NotFound, InputError: none, or of another format."""
    known = [one["id"] for one in listed(store)]
    if not known or (id is not None and id not in known):
        raise NotFound(
            f"no backup {id or ''}".rstrip(),
            where=store.address,
            next=f"there are: {', '.join(known[-5:])}" if known else "make one: shopkeeper backup",
        )
    told: dict[str, Any] = json.loads(store.read(f"backups/{id or known[-1]}.json"))
    if told.get("format") != FORMAT or told.get("schema", 0) > SCHEMA_VERSION:
        raise InputError(
            f"backup {told.get('id')} was made by a newer version of Shopkeeper",
            where=store.address,
            next="restore it with that version",
        )
    return told


def check(store: ObjectStore, id: str | None = None, progress: Progress = silent) -> dict[str, Any]:
    """Read every part of a backup and compare it with its name.

    Returns:
        {"id", "parts", "bytes", "damaged": [paths of files that could not be restored]}
    """
    told = _list(store, id)
    sound: dict[str, bool] = {}
    damaged = []
    for number, file in enumerate(told["files"]):
        progress(number, len(told["files"]), file["path"])
        for part in file["parts"]:
            if part not in sound:
                try:
                    _same(store, part)
                    sound[part] = True
                except InputError:
                    sound[part] = False
        if not all(sound[part] for part in file["parts"]):
            damaged.append(file["path"])
    return {"id": told["id"], "parts": len(sound), "bytes": told["bytes"], "damaged": damaged}


def restore(
    store: ObjectStore, folder: Path, id: str | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Write a backup into `folder`, which is empty or not there yet; whole or not at all.

    Every byte is compared with its SHA-256 on the way. Interrupted, the same call goes on from the
    files that are done.

    Returns:
        {"id", "folder", "files", "bytes"}
    """
    if folder.exists() and any(folder.iterdir()):
        raise InputError(
            "this folder is not empty", where=str(folder), next="name a new one to restore into"
        )
    told = _list(store, id)
    folder = folder.resolve()
    half = folder.with_name(f"{folder.name}{_UNFINISHED}")
    done = 0
    for file in told["files"]:
        progress(done, told["bytes"], file["path"])
        path = _inside(half, file["path"])
        if not _is_there(path, file):
            durable.make_folder(path.parent)
            temporary = path.with_name(f".{path.name}.part")
            with temporary.open("wb") as out:
                for part in file["parts"]:
                    out.write(_same(store, part))
                out.flush()
                os.fsync(out.fileno())
            temporary.chmod(file["mode"])
            os.utime(temporary, ns=(file["mtime_ns"], file["mtime_ns"]))
            temporary.replace(path)
            durable.sync_folder(path.parent)
        done += file["size"]
    wanted = {file["path"] for file in told["files"]}
    for path in half.rglob("*"):  # of another backup whose restore was interrupted
        if path.is_file() and path.relative_to(half).as_posix() not in wanted:
            path.unlink()
    if folder.exists():
        folder.rmdir()
    half.rename(folder)
    durable.sync_folder(folder.parent)
    progress(told["bytes"], told["bytes"], "done")
    about = {"files": len(told["files"]), "bytes": told["bytes"]}
    return {"id": told["id"], "folder": str(folder), **about}


def _inside(folder: Path, path: str) -> Path:
    target = (folder / path).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise InputError(f"{path!r} leads out of the folder", where="backup", next="do not use it")
    return target


def _is_there(path: Path, file: dict[str, Any]) -> bool:
    """Whether an interrupted restore finished this file."""
    if not path.is_file() or path.stat().st_size != file["size"]:
        return False
    with path.open("rb") as done:
        return all(
            hashlib.sha256(done.read(PART)).hexdigest() == part for part in file["parts"]
        ) and not done.read(1)


def prune(store: ObjectStore, keep: int) -> dict[str, Any]:
    """Give up all but the newest `keep` backups, and the parts that none of those needs.

    A part younger than a day stays: a backup under way may have stored it.

    Returns:
        {"removed": [ids], "deleted_parts", "deleted_bytes"}
    """
    if keep < 1:
        raise InputError(f"keep={keep}: wanted at least 1", where=store.address)
    known = [one["id"] for one in listed(store)]
    needed = {
        part for id in known[-keep:] for file in _list(store, id)["files"] for part in file["parts"]
    }
    for id in known[:-keep]:
        store.delete(f"backups/{id}.json")
    old = datetime.now(UTC) - YOUNG
    gone = [
        entry
        for entry in store.list("parts")
        if Path(entry.key).name not in needed and entry.modified < old
    ]
    for entry in gone:
        store.delete(entry.key)
    return {
        "removed": known[:-keep],
        "deleted_parts": len(gone),
        "deleted_bytes": sum(entry.size for entry in gone),
    }
