"""Bring a workspace of an older version up to date, and look whether all it knows of is there.

Opening a catalogue brings its tables up to date in one transaction; here a copy of it is kept first,
so that the old program can go on from where it was.
"""

import hashlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shopkeeper.assets import durable, transfer
from shopkeeper.assets.catalog import Version, as_it_stands
from shopkeeper.assets.lake import DataFile
from shopkeeper.assets.mirror import Mirror, digest_of
from shopkeeper.assets.schema import SCHEMA_VERSION
from shopkeeper.assets.store import Assets, _folder_digest

Progress = Callable[[float, float, str], None]


def found_schema(catalog: Path, url: str | None = None) -> int | None:
    """The schema version of the catalogue at `url`, or else at `catalog`; None where there is none."""
    if url is not None:
        with as_it_stands(url) as (_, version):
            if version is not None:
                return version
    if not catalog.exists():
        return None
    with sqlite3.connect(f"file:{catalog}?mode=ro", uri=True) as connection:
        found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.close()
    return found


def keep_copy(catalog: Path, url: str | None = None) -> Path | None:
    """A copy of a catalogue of an older schema in store/, on disk for certain; None: not older.

    One that stands on a server is copied into a SQLite file of that schema: the old program opens it
    as store/catalog.db without `catalog`, or moves it into an empty database.
    """
    found = found_schema(catalog, url)
    if found is None or found >= SCHEMA_VERSION:
        return None
    copy = catalog.with_name(f"catalog.schema-{found}.db")
    temporary = copy.with_suffix(".part")
    temporary.unlink(missing_ok=True)
    if url is not None:
        with as_it_stands(url) as (connection, version):
            if version is not None:
                transfer.as_it_was(connection, temporary, version)
    if not temporary.exists():
        source, target = sqlite3.connect(catalog), sqlite3.connect(temporary)
        try:
            source.backup(target)
        finally:
            source.close()
            target.close()
    durable.sync_file(temporary)
    temporary.replace(copy)
    durable.sync_folder(copy.parent)
    return copy


def verify(
    assets: Assets, *, whole: bool, progress: Progress = lambda done, total, text: None
) -> dict[str, Any]:
    """Whether the files of all current versions are there, and of the right size.

    Args:
        whole: read every byte and compare it with the digest that the file is named by.
    Returns:
        {"versions", "files", "bytes", "damaged": [{"version", "file", "what"}]}
    """
    current = [v for r in assets.catalog.assets() if (v := r["version"]) is not None]
    files, size, damaged = 0, 0, []
    for number, version in enumerate(current):
        progress(number, len(current), version.id)
        for path, bytes_, what in _files(assets, version, whole):
            files, size = files + 1, size + bytes_
            if what:
                file = path.relative_to(assets.root).as_posix()
                damaged.append({"version": version.id, "file": file, "what": what})
    progress(len(current), len(current), "done")
    return {"versions": len(current), "files": files, "bytes": size, "damaged": damaged}


def _files(assets: Assets, version: Version, whole: bool) -> list[tuple[Path, int, str]]:
    """The files of a version: (path, bytes, what is wrong with it)."""
    if version.is_table:
        store = assets._store(version.asset)
        if store.mirror is not None:
            there = store.mirror.sizes()
            files = assets._data_files(version)
            return [_in_bucket(store.mirror, f, there.get(f.path), whole) for f in files]
        return [_data_file(store.root, f, whole) for f in assets._data_files(version)]
    home = assets._files_folder(version.asset, version.digest)
    if not home.is_dir():
        return [(home, 0, "it is missing")]
    found = [(path, path.stat().st_size, "") for path in home.rglob("*") if path.is_file()]
    total = sum(size for _, size, _ in found)
    if total != version.bytes:
        return [(home, total, f"it has {total:,} bytes, wanted {version.bytes:,}")]
    if whole and _folder_digest(home) != version.digest:
        return [(home, total, "its content is not what was written")]
    return found


def _data_file(root: Path, file: DataFile, whole: bool) -> tuple[Path, int, str]:
    path = root / file.path
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return path, 0, "it is missing"
    if size != file.size:
        return path, size, f"it has {size:,} bytes, wanted {file.size:,}"
    if whole:
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        if not digest.startswith(digest_of(file.path)):
            return path, size, "its content is not what was written"
    return path, size, ""


def _in_bucket(
    mirror: Mirror, file: DataFile, size: int | None, whole: bool
) -> tuple[Path, int, str]:
    """As `_data_file`, of a table in object storage; `size` is what it has there."""
    path = mirror.root / file.path
    if size is None:
        return path, 0, "it is missing in the bucket"
    if size != file.size:
        return path, size, f"it has {size:,} bytes in the bucket, wanted {file.size:,}"
    if whole and not mirror.right(file.path):
        return path, size, "its content in the bucket is not what was written"
    return path, size, ""
