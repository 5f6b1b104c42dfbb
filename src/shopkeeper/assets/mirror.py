"""A lake in object storage, with copies on this disk of what was written or read here.

    lake = "s3://bucket/prefix"        in shop.toml

    <address>/<layer>/<name>/          a Delta table, as any Delta reader finds it: data files, log
    <address>/shopkeeper.json          whose lake it is
    store/lake/<layer>/<name>/         copies of data files, in the same places; no log
    store/lake/.place.json             where the tables lie

Data files are named by their digest and never change, so a copy is right or it is none. One is
uploaded before it gets its name here: what has its name lies in the bucket. Commits are delta-rs's
own, by conditional put: of two writers of one Delta version, one is told to look again.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from shopkeeper.assets import durable
from shopkeeper.assets.objects import Entry, Folder, ObjectStore, is_url, opened
from shopkeeper.errors import Conflict, InputError, NotFound, NotReady, SourceError

_PLACE = ".place.json"  # in store/lake
_OWNER = "shopkeeper.json"  # in the bucket
_LOG = "_delta_log"
_IN_USE = 600.0  # seconds: a copy that was asked for so lately may be being read
# delta-rs decides by it which of two writers made a Delta version
OPTIONS = {"aws_conditional_put": "etag"}

Progress = Callable[[float, float, str], None]


class Mirror:
    """The objects of one table at `address`, and their copies below `root`."""

    def __init__(self, root: Path, address: str, name: str) -> None:
        self.root = root
        self.name = name
        self.store = opened(address)

    def settle(self, temporary: Path, key: str) -> None:
        """Upload a data file, then give it its name here."""
        self.store.put_file(key, temporary)
        temporary.replace(self.root / key)

    def at_hand(self, key: str, size: int) -> Path:
        """The path of a copy of a data file, fetched where there is none.

        NotReady: the bucket has no such file, or one of another size or content.
        """
        path = self.root / key
        with suppress(FileNotFoundError):
            told = path.stat()
            if told.st_size == size:
                if time.time() - told.st_mtime > _IN_USE / 2:
                    os.utime(path)  # the copy that was asked for last goes last
                return path
        durable.make_folder(path.parent)
        temporary = path.with_name(f".{uuid4().hex}.part")
        digest = hashlib.sha256()
        try:
            with temporary.open("wb") as file:
                for part in self.store.stream(key):
                    file.write(part)
                    digest.update(part)
            found = temporary.stat().st_size
            if found != size:
                raise self._damaged(key, f"it has {found:,} bytes, wanted {size:,}")
            if not digest.hexdigest().startswith(digest_of(key)):
                raise self._damaged(key, "its content is not what was written")
            temporary.replace(path)
        except NotFound as error:
            raise self._damaged(key, f"it is missing, wanted {size:,} bytes") from error
        finally:
            temporary.unlink(missing_ok=True)
        return path

    def right(self, key: str) -> bool:
        """Whether the object's content is what its name says: it is read whole."""
        digest = hashlib.sha256()
        for part in self.store.stream(key):
            digest.update(part)
        return digest.hexdigest().startswith(digest_of(key))

    def sizes(self) -> dict[str, int]:
        """{key: bytes} of the data files in the bucket."""
        return {entry.key: entry.size for entry in self.store.list() if is_data(entry.key)}

    def drop_checkpoints(self, before: int) -> None:
        """Delete checkpoints of the log that are older than Delta version `before`."""
        for entry in list(self.store.list(_LOG)):
            name = entry.key.rpartition("/")[2]
            if name.endswith(".checkpoint.parquet") and int(name.partition(".")[0]) <= before:
                self.store.delete(entry.key)

    def _damaged(self, key: str, what: str) -> NotReady:
        return NotReady(
            f"a data file of {self.name} is damaged: {what}",
            where=f"{self.store.address}/{key}",
            next="bring it back from a backup, or make it anew: shopkeeper run --force",
        )


def digest_of(key: str) -> str:
    """The beginning of the digest of a data file's bytes, as its name tells it."""
    return Path(key).stem.rpartition("-")[2].partition("_")[0]


def is_data(key: str) -> bool:
    """Whether an object of the lake is a data file."""
    return key.endswith(".parquet") and f"{_LOG}/" not in key


# where the tables of a workspace lie


def below(store: Path) -> Path:
    """The folder of tables, or of their copies, in store/ of a workspace."""
    return store / "lake"


def place(lake: Path) -> str:
    """The address where the tables of the workspace lie whose store/lake is `lake`; "" for here."""
    try:
        return str(json.loads((lake / _PLACE).read_text(encoding="utf-8"))["address"])
    except FileNotFoundError:
        return ""


def begin(lake: Path, address: str, workspace: Callable[[], str]) -> None:
    """Begin, or go on, with tables at `address` ("" for `lake` itself).

    Args:
        lake: store/lake of the workspace.
        workspace: tells its id; a bucket's prefix is one workspace's.
    Raises:
        InputError: the tables lie elsewhere. Conflict: those of another workspace lie there.
    """
    now = place(lake)
    if now == address:
        return
    if now or any(lake.glob(f"*/*/{_LOG}")):
        raise InputError(
            f"the tables of this workspace lie in {now or lake}, and shop.toml says "
            + (f"lake = {address!r}" if address else "nothing of `lake`, so on this disk"),
            where="shop.toml",
            next="move them: shopkeeper lake --move; or write `lake` as it was",
        )
    _own(address, workspace())
    _remember(lake, address)


def _own(address: str, workspace: str) -> None:
    store = opened(address)
    told = json.dumps({"workspace": workspace}).encode()
    if store.create(_OWNER, told):
        return
    if json.loads(store.read(_OWNER)).get("workspace") != workspace:
        raise Conflict(
            "the tables of another workspace lie there",
            where=address,
            next="name a prefix of its own for each workspace, in `lake` of shop.toml",
        )


def _remember(lake: Path, address: str) -> None:
    durable.write_bytes(lake / _PLACE, json.dumps({"address": address}).encode())


def move(
    lake: Path, address: str, workspace: str, progress: Progress = lambda done, total, text: None
) -> dict[str, Any]:
    """Move all tables to `address` ("" for `lake` itself), every version of them.

    What is there already is not copied again, so an interrupted move goes on. What was at a bucket
    stays there; copies on this disk stay as copies.

    Returns:
        {"from", "to", "files", "bytes", "copied_bytes"}
    Raises:
        Conflict: another workspace's tables lie there, or a log that says something else.
    """
    now = place(lake)
    source = opened(now) if now else Folder(lake)
    target = opened(address) if address else Folder(lake)
    if address:
        _own(address, workspace)
    files = [entry for entry in source.list() if entry.key not in (_OWNER, _PLACE)]
    files = [entry for entry in files if now or not Path(entry.key).name.startswith(".")]
    files.sort(key=lambda entry: (f"/{_LOG}/" in entry.key, entry.key))  # logs name what is there
    there = {entry.key: entry.size for entry in target.list()}
    total, done, copied = sum(entry.size for entry in files), 0, 0
    for entry in files:
        progress(done, total, entry.key)
        done += entry.size
        if _is_entry(entry.key):
            content = source.read(entry.key)
            if not target.create(entry.key, content) and target.read(entry.key) != content:
                raise Conflict(
                    f"another log lies there: {entry.key} says something else",
                    where=target.address,
                    next="name an empty prefix in `lake` of shop.toml, then again",
                )
        elif there.get(entry.key) != entry.size or not is_data(entry.key):
            _copy(source, target, entry, lake)
        else:
            continue
        copied += entry.size
    if address:
        _remember(lake, address)
        for log in lake.glob(f"*/*/{_LOG}"):  # the bucket's is the one that counts now
            for path in log.iterdir():
                path.unlink()
            log.rmdir()
    else:
        durable.sync_tree(lake)
        (lake / _PLACE).unlink(missing_ok=True)
        durable.sync_folder(lake)
    progress(total, total, "done")
    return {
        "from": now or str(lake),
        "to": address or str(lake),
        "files": len(files),
        "bytes": total,
        "copied_bytes": copied,
    }


def _is_entry(key: str) -> bool:
    """Whether it is an entry of a Delta log, which never changes."""
    return f"/{_LOG}/" in key and Path(key).stem.isdigit() and key.endswith(".json")


def _copy(source: ObjectStore, target: ObjectStore, entry: Entry, lake: Path) -> None:
    if isinstance(source, Folder):
        target.put_file(entry.key, source.root / entry.key)
        return
    durable.make_folder(lake)
    with tempfile.NamedTemporaryFile(dir=lake, prefix=".", suffix=".part") as file:
        for part in source.stream(entry.key):
            file.write(part)
        file.flush()
        if Path(file.name).stat().st_size != entry.size:
            raise SourceError(
                "an object changed while it was copied",
                where=f"{source.address}/{entry.key}",
                next="run again; what was copied stays",
                retryable=True,
            )
        target.put_file(entry.key, Path(file.name))


# the copies on this disk


def copies(lake: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The copies of data files below store/lake."""
    for path in lake.glob("*/*/bucket=*/*.parquet"):
        with suppress(FileNotFoundError):
            yield path, path.stat()


def trim(lake: Path, limit: int) -> int:
    """Delete the copies that nobody asked for the longest, until `limit` bytes are left; bytes freed.

    One that was asked for within ten minutes stays, whatever the limit: it may be being read.
    """
    found = sorted(copies(lake), key=lambda one: one[1].st_mtime)
    over = sum(told.st_size for _, told in found) - limit
    freed, now = 0, time.time()
    for path, told in found:
        if freed >= over or now - told.st_mtime < _IN_USE:
            break
        path.unlink(missing_ok=True)
        freed += told.st_size
    return freed


def about(lake: Path, address: str) -> dict[str, Any]:
    """{"place", "files", "bytes": all data files there, "copies", "copied_bytes": on this disk}."""
    here = [(path, told.st_size) for path, told in copies(lake)]
    there = [(e.key, e.size) for e in opened(address).list() if is_data(e.key)] if address else []
    both = there if is_url(address) else [(str(path), size) for path, size in here]
    return {
        "place": address or str(lake),
        "files": len(both),
        "bytes": sum(size for _, size in both),
        "copies": len(here),
        "copied_bytes": sum(size for _, size in here),
    }
