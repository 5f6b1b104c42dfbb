"""Object storage by address: a folder, or a bucket (s3://, gs://, az://) through obstore.

Keys are relative paths with "/". What `put` returned from is durable: in a folder it was fsynced with
its directory entries, in a bucket the service acknowledged it. Credentials, region and endpoint of a
bucket come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION,
AWS_ENDPOINT_URL and the like), never from a file of ours.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from shopkeeper.assets import durable
from shopkeeper.errors import InputError, NotFound, SourceError

SCHEMES = ("s3://", "gs://", "az://")
PART = 8 << 20  # bytes read at a time


class Entry(NamedTuple):
    """One stored object."""

    key: str
    size: int
    modified: datetime  # UTC
    version: str = ""  # changes whenever the content does: a bucket's ETag


class ObjectStore(Protocol):
    """Where objects lie."""

    address: str

    def put(self, key: str, content: bytes) -> None:
        """Store `content`, replacing what was there, whole or not at all."""

    def put_file(self, key: str, path: Path) -> None:
        """As `put`, of the content of a file, which may be larger than memory."""

    def create(self, key: str, content: bytes) -> bool:
        """Store `content` unless there is such an object already, which stays; whether it was stored.

        Of several that try at once, one does.
        """

    def read(self, key: str) -> bytes:
        """The content of a small object. NotFound: there is none."""

    def stream(self, key: str) -> Iterator[bytes]:
        """The content in parts. NotFound: there is none."""

    def about(self, key: str) -> Entry:
        """What is known of one object. NotFound: there is none."""

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Everything whose key begins with `prefix` (whole path segments), in no order."""

    def delete(self, key: str) -> None:
        """Remove it; nothing happens where it is gone already."""


def is_url(where: str) -> bool:
    """Whether `where` names a bucket and not a folder."""
    return where.startswith(SCHEMES)


def open_store(where: str) -> ObjectStore:
    """The object store at `where`: s3://bucket/prefix, gs://…, az://…, or a folder.

    Raises:
        InputError: another scheme, or obstore is not installed.
    """
    if is_url(where):
        return Bucket(where)
    if "://" in where:
        raise InputError(
            f"cannot store at {where!r}", next=f"name a folder, or begin with {', '.join(SCHEMES)}"
        )
    return Folder(Path(where))


def opened(where: str) -> ObjectStore:
    """As `open_store`, the same one again within a process: connections are kept."""
    return _opened(where, os.environ.get("AWS_ENDPOINT_URL", ""))


@lru_cache(maxsize=64)
def _opened(where: str, _endpoint: str) -> ObjectStore:
    return open_store(where)


class Folder:
    """Objects as files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.address = str(root)

    def put(self, key: str, content: bytes) -> None:
        durable.write_bytes(self.root / key, content)

    def put_file(self, key: str, path: Path) -> None:
        durable.copy_file(path, self.root / key)

    def create(self, key: str, content: bytes) -> bool:
        target = self.root / key
        durable.make_folder(target.parent)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
        durable.write_bytes(temporary, content)
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        durable.sync_folder(target.parent)
        return True

    def read(self, key: str) -> bytes:
        return b"".join(self.stream(key))

    def stream(self, key: str) -> Iterator[bytes]:
        try:
            file = (self.root / key).open("rb")
        except FileNotFoundError as error:
            raise _missing(key, self.address) from error
        with file:
            while part := file.read(PART):
                yield part

    def about(self, key: str) -> Entry:
        try:
            told = (self.root / key).stat()
        except FileNotFoundError as error:
            raise _missing(key, self.address) from error
        at = datetime.fromtimestamp(told.st_mtime, UTC)
        return Entry(key, told.st_size, at, str(told.st_mtime_ns))

    def list(self, prefix: str = "") -> Iterator[Entry]:
        for path in (self.root / prefix).rglob("*"):
            if path.is_file() and not path.name.endswith(".part"):
                yield self.about(path.relative_to(self.root).as_posix())

    def delete(self, key: str) -> None:
        (self.root / key).unlink(missing_ok=True)


class Bucket:
    """Objects in a bucket, below the path of its address."""

    def __init__(self, address: str) -> None:
        if find_spec("obstore") is None:
            raise InputError(
                f"nothing here can speak to {address}",
                next="install it with: pip install 'shopkeeper[s3]'",
            )
        from obstore.store import from_url

        self.address = address
        self._store: Any
        with self._answering():
            self._store = from_url(address.rstrip("/"))

    def put(self, key: str, content: bytes) -> None:
        import obstore

        with self._answering(key):
            obstore.put(self._store, key, content)

    def put_file(self, key: str, path: Path) -> None:
        import obstore

        with self._answering(key):
            obstore.put(self._store, key, path)

    def create(self, key: str, content: bytes) -> bool:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        with self._answering(key):
            try:
                obstore.put(self._store, key, content, mode="create")
            except AlreadyExistsError:
                return False
        return True

    def read(self, key: str) -> bytes:
        return b"".join(self.stream(key))

    def stream(self, key: str) -> Iterator[bytes]:
        import obstore

        with self._answering(key):
            for part in obstore.get(self._store, key).stream(min_chunk_size=PART):
                yield bytes(part)

    def about(self, key: str) -> Entry:
        import obstore

        with self._answering(key):
            return _entry(obstore.head(self._store, key))

    def list(self, prefix: str = "") -> Iterator[Entry]:
        import obstore

        with self._answering(prefix):
            for page in obstore.list(self._store, prefix or None):
                yield from map(_entry, page)

    def delete(self, key: str) -> None:
        import obstore

        with self._answering(key):
            obstore.delete(self._store, key)

    @contextmanager
    def _answering(self, key: str = "") -> Iterator[None]:
        from obstore.exceptions import BaseError, NotFoundError

        try:
            yield
        except (FileNotFoundError, NotFoundError) as error:
            if "NoSuchBucket" not in str(error):
                raise _missing(key, self.address) from error
            raise SourceError(
                "object storage did not answer as it should: there is no such bucket",
                where=self.address,
                next="make the bucket, or correct its name in shop.toml",
            ) from error
        except (BaseError, ValueError, PermissionError) as error:
            raise SourceError(
                f"object storage did not answer as it should: {str(error).splitlines()[0][:200]}",
                where=self.address,
                next="check address, credentials (AWS_…) and the rights on the bucket",
                retryable=True,
            ) from error


def _entry(told: Any) -> Entry:
    version = str(told.get("e_tag") or told.get("version") or "")
    return Entry(told["path"], told["size"], told["last_modified"], version)


def _missing(key: str, address: str) -> NotFound:
    return NotFound(f"no object {key!r}", where=address, next="check the address and what it holds")
