"""Files that lie in a bucket: s3://bucket/prefix, a pattern (s3://bucket/logs/*.csv) or one object.

An object is known by its size and its ETag: with other content it counts as rewritten, as a file
does. It is fetched whole into store/spool/ when it is to be read, so one object's room on disk is
enough, and taken away behind its last row. Credentials and endpoint come from the environment (AWS_…).
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from shopkeeper.assets.objects import Entry, open_store
from shopkeeper.errors import InputError, NotFound, SourceError

SPOOL = Path("store", "spool")  # in a workspace
_SIGNS = "*?["


class Remote(NamedTuple):
    """One object of a bucket."""

    name: str  # its address, as positions, lineage and errors call it
    bucket: str  # the address of the bucket
    entry: Entry

    @property
    def size(self) -> int:
        return self.entry.size

    @property
    def stamp(self) -> dict[str, int]:
        """As `positions.stamp` of the fetched copy: its time of change is that of the object to the
        second, with nine digits of its version behind."""
        digest = hashlib.blake2b(self.entry.version.encode(), digest_size=8).digest()
        second = int(self.entry.modified.timestamp())
        mtime_ns = second * 10**9 + int.from_bytes(digest, "big") % 10**9
        return {"size": self.entry.size, "mtime_ns": mtime_ns}


def find(address: str, known: Callable[[str], bool]) -> list[Remote]:
    """The objects that `address` stands for: one, those below it, or those that match a pattern.

    Args:
        known: whether a name is that of a file that can be read; asked of what lies below a prefix.
    Raises:
        InputError: nothing is there. SourceError: the bucket does not answer.
    """
    scheme, _, rest = address.partition("://")
    host, _, path = rest.partition("/")
    bucket, path = f"{scheme}://{host}", path.strip("/")
    store = open_store(bucket)
    if any(sign in path for sign in _SIGNS):
        parts = path.split("/")
        fixed = [part for part in parts if not any(sign in part for sign in _SIGNS)]
        below = "/".join(parts[: next(i for i, part in enumerate(parts) if part not in fixed)])
        found = [e for e in store.list(below) if _matches(e.key, parts) and not _hidden(e.key)]
    else:
        found = [e for e in store.list(path) if known(e.key) and not _hidden(e.key)]
        with suppress(NotFound):
            found += [store.about(path)] if path and not found else []
    if not found:
        raise InputError(
            f"no object matches path = {address!r}",
            where=bucket,
            next="correct `path` in shop.toml or put the object there; "
            "`skip = true` keeps the block without reading it",
        )
    return [Remote(f"{bucket}/{entry.key}", bucket, entry) for entry in found]


@contextmanager
def spooled(remote: Remote, folder: Path) -> Iterator[Path]:
    """A copy of the object on this disk, with its stamp, for as long as the block lasts.

    SourceError: the object changed while it was fetched.
    """
    key, stamp = remote.entry.key, remote.stamp
    place = folder / SPOOL / hashlib.sha256(remote.name.encode()).hexdigest()[:16]
    path = place / Path(key).name
    told = path.stat() if path.exists() else None
    if told is None or (told.st_size, told.st_mtime_ns) != (stamp["size"], stamp["mtime_ns"]):
        store = open_store(remote.bucket)
        place.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for part in store.stream(key):
                file.write(part)
        if store.about(key) != remote.entry or path.stat().st_size != remote.size:
            path.unlink()
            raise SourceError(
                "the object changed while it was fetched",
                where=remote.name,
                next="run again; what other files gave is kept",
                retryable=True,
            )
        os.utime(path, ns=(stamp["mtime_ns"], stamp["mtime_ns"]))
    yield path  # of a reading that fails, the copy stays for the next one
    path.unlink()
    place.rmdir()


def _matches(key: str, pattern: list[str]) -> bool:
    parts = key.split("/")
    return len(parts) == len(pattern) and all(map(fnmatchcase, parts, pattern))


def _hidden(key: str) -> bool:
    return key.rpartition("/")[2].startswith((".", "_", "~$"))
