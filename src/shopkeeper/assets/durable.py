"""Bytes that survive a power cut: nothing counts as written before it is fsynced.

A file that others wait for is written under a temporary name, synced, then renamed, and the
directory is synced too; otherwise the name itself can be lost.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shopkeeper.errors import Conflict, InputError

FULL = ("No space left on device", "disk is full", "Disk quota exceeded")


@contextmanager
def full_disk_told(where: Path) -> Iterator[None]:
    """Whatever part of ours met a full disk (a file, SQLite, Delta): one InputError, one next step."""
    try:
        yield
    except Exception as error:
        if not _full(error):
            raise
        raise InputError(
            "the disk is full, so this could not be written",
            where=str(where),
            next="free some space and run again; what was committed is unharmed",
        ) from error


def _full(error: BaseException | None) -> bool:
    """Whether `error`, or what it came from, is a full disk."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(words in str(error) for words in FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def sync_file(path: Path) -> None:
    """Force the bytes of `path` to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


sync_folder = sync_file  # a directory is synced through the same call


def sync_tree(folder: Path) -> None:
    """Force every file and folder below `folder`, and `folder` itself, to disk."""
    for root, _, names in os.walk(folder):
        for name in names:
            sync_file(Path(root) / name)
        sync_folder(Path(root))
    sync_folder(folder.parent)


def make_folder(folder: Path) -> None:
    """mkdir -p whose new names are on disk."""
    missing = []
    at = folder
    while not at.exists():
        missing.append(at)
        at = at.parent
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync_folder(made.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content` atomically and durably."""
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def copy_file(source: Path, target: Path) -> None:
    """Replace `target` by a copy of `source` atomically and durably."""
    make_folder(target.parent)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    shutil.copyfile(source, temporary)
    sync_file(temporary)
    temporary.replace(target)
    sync_folder(target.parent)


@contextmanager
def lock(
    path: Path, *, wait: bool, holder: str = "another process", shared: bool = False
) -> Iterator[None]:
    """Hold a lock on `path` (released by the system when the process dies).

    Args:
        wait: until whoever holds it is done.
        holder: who that may be, for the message.
        shared: several may hold it at once, as long as nobody holds it exclusively.
    Raises:
        Conflict: somebody else holds it and `wait` is False.
    """
    make_folder(path.parent)
    with path.open("a") as file:
        try:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(file, kind | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise Conflict(
                f"{holder} is at work here",
                where=str(path),
                next="wait until it is done, or stop it, then try again",
            ) from error
        yield
