"""What is kept: which versions, in how many files, and which bytes go.

Giving a version up is a line in the catalogue; its record stays, so every trace stays whole. Files
go later, in `vacuum`, once nothing has needed them for a while: whoever opened the version before
can finish. No Delta log entry is ever dropped.
"""

import os
import shutil
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from shopkeeper.assets import durable, mirror
from shopkeeper.assets import schema as tables
from shopkeeper.assets.branches import on_main
from shopkeeper.assets.catalog import Version, now, upsert
from shopkeeper.assets.lake import DataFile, schema_from
from shopkeeper.assets.objects import opened
from shopkeeper.errors import InputError

if TYPE_CHECKING:
    from shopkeeper.assets.store import Assets

SMALL = 32 * 2**20  # bytes; a smaller data file is worth merging
FULL = 128 * 2**20  # bytes; a merged file takes no more than that together


def retain(
    assets: "Assets",
    keep_last: int,
    days: float,
    pinned: Collection[str],
    names: Sequence[str] | None,
    dry_run: bool,
) -> dict[str, Any]:
    """See `Assets.retain`."""
    on_main(assets)
    if keep_last < 1 or days < 0:
        raise InputError(f"keep_last={keep_last}, days={days}: wanted at least 1 and 0")
    parameters = {"keep_last": keep_last, "days": days, "pinned": sorted(pinned), "names": names}
    with (
        assets.run("retain", parameters=parameters | {"dry_run": dry_run}) as run,
        assets.committing(),
    ):
        main = [v for v in assets.catalog.every_version() if v.branch is None and not v.removed_at]
        kept = _kept(assets, main, keep_last, days, pinned)
        gone = [v for v in main if v.id not in kept and (names is None or v.asset in names)]
        if gone and not dry_run:
            with assets.catalog.write() as connection:
                for version in gone:
                    row = tables.versions.update().where(tables.versions.c.id == version.id)
                    connection.execute(row.values(removed_at=now()))
        run.note("removed", [version.id for version in gone])
    told = [
        {"version": v.id, "rows": v.rows, "bytes": v.bytes, "created_at": v.created_at}
        for v in gone
    ]
    return {"dry_run": dry_run, "removed": told, "kept": dict(Counter(kept.values()))}


def _kept(
    assets: "Assets",
    versions: Sequence[Version],
    keep_last: int,
    days: float,
    pinned: Collection[str],
) -> dict[str, str]:
    """{version id: why it is kept}."""
    catalog = assets.catalog
    records = {record["name"]: record for record in catalog.assets()}
    young = (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="microseconds")
    held = catalog.held_by_branches()
    kept = {}
    seen: Counter[str] = Counter()
    for version in reversed(versions):  # newest first
        seen[version.asset] += 1
        for reason, true in (
            ("current", records[version.asset]["current"] == version.id),
            ("release", version.id in pinned),
            ("branch", version.id in held),
            ("last", seen[version.asset] <= keep_last),
            ("young", version.created_at >= young),
        ):
            if true:
                kept[version.id] = reason
                break
    models = [i for i in kept if records[i.rpartition("@")[0]]["kind"] == "model"]
    alive = {version.id for version in versions}
    while models:
        for source in catalog.made_from(models.pop()):
            if source in alive and source not in kept:
                kept[source] = "model"
                if records[source.rpartition("@")[0]]["kind"] == "model":
                    models.append(source)
    return kept


# compaction


def compact(assets: "Assets", name: str, small_bytes: int) -> dict[str, Any]:
    """See `Assets.compact`. Merges beside what runs do; only merges that still fit are taken."""
    on_main(assets)
    with assets.run("compact", parameters={"asset": name, "small_bytes": small_bytes}) as run:
        version = assets.current(name)
        if not version.is_table:
            raise InputError(f"{name} is no table", where=name, next="only tables have data files")
        store = assets._store(name)
        merges = []
        for group in _groups(assets._data_files(version), small_bytes):
            merged = store.merge(group, assets._open_files(version, group).collect())
            merges.append((group, merged))
        store.sync(merged for _, merged in merges)
        with assets.committing():
            version = assets.current(name)
            files = assets._data_files(version)
            before = {"files": len(files), "bytes": version.bytes}
            taken = []
            for group, merged in merges:
                if all(file in files for file in group):
                    files = [file for file in files if file not in group] + [merged]
                    taken.append((group, merged))
            if taken:
                files.sort(key=lambda file: (file.bucket, file.path))
                about = {"run_id": run.id, "digest": version.digest}
                known = assets.known_delta_version(name)
                schema = schema_from(version.schema)
                delta = store.commit(files, schema, version.number, about, known)
                _record(assets, version, files, taken, delta)
        size = sum(file.size for file in files)
        told = {
            "asset": name,
            "version": version.id,
            "files": {"before": before["files"], "after": len(files)},
            "bytes": {"before": before["bytes"], "after": size},
        }
        run.note("compacted", told)
    return told


def _groups(files: list[DataFile], small_bytes: int) -> Iterator[list[DataFile]]:
    """Two or more small files that stand side by side in one bucket, up to FULL bytes together."""
    group: list[DataFile] = []
    for file in sorted(files, key=lambda file: (file.bucket, file.path)):
        fits = group and file.bucket == group[0].bucket and file.size < small_bytes
        if not fits or sum(f.size for f in group) + file.size > FULL:
            if len(group) > 1:
                yield group
            group = []
        if file.size < small_bytes:
            group.append(file)
    if len(group) > 1:
        yield group


def _record(
    assets: "Assets",
    version: Version,
    files: list[DataFile],
    taken: list[tuple[list[DataFile], DataFile]],
    delta: int,
) -> None:
    """The version is found in its merged files from now on, in one transaction."""
    known = assets.catalog.merged(version.asset)
    with assets.catalog.write() as connection:
        for group, merged in taken:
            parts: list[list[Any]] = []
            for file in group:
                own = [[file.bucket, file.digest, file.rows]]
                parts += known[file.path]["parts"] if file.path in known else own
            sources = [file.path for file in group]
            values = {"parts": parts, "sources": sources, "created_at": now()}
            key = {"asset": version.asset, "path": merged.path}
            upsert(connection, tables.merged_files, key, values)
        row = tables.versions.update().where(tables.versions.c.id == version.id)
        size = sum(file.size for file in files)
        connection.execute(row.values(delta_version=delta, bytes=size))


# vacuum


def vacuum(assets: "Assets", grace: timedelta, dry_run: bool) -> dict[str, Any]:
    """See `Assets.vacuum`. All that goes is known before the first file goes."""
    on_main(assets)
    if dry_run:
        return _told(assets, _waste(assets, grace), dry_run)
    with assets.alone("vacuum", {"grace_seconds": grace.total_seconds()}) as run:
        _settle_heads(assets)
        found = _waste(assets, grace)
        told = _told(assets, found, dry_run)
        for path in found:
            if path.is_dir():  # gone at once for who looks, then byte by byte
                away = assets.root / "files" / f".{uuid4().hex}-away"
                durable.make_folder(away.parent)
                os.replace(path, away)
                shutil.rmtree(away)
            else:
                _delete(assets, path)
        with assets.catalog.write() as connection:
            for path in found:
                merged = tables.merged_files
                gone = merged.c.path == path.relative_to(path.parent.parent).as_posix()
                connection.execute(merged.delete().where(gone, merged.c.asset == _asset(path)))
        run.note("deleted", {"files": len(found), "bytes": told["bytes"]})
    return told


def _told(assets: "Assets", found: Mapping[Path, int], dry_run: bool) -> dict[str, Any]:
    paths = [path.relative_to(assets.root).as_posix() for path in found]
    return {"dry_run": dry_run, "files": paths, "bytes": sum(found.values())}


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return path.stat().st_size


def _delete(assets: "Assets", path: Path) -> None:
    """Delete a file below store/, and the one in the bucket that it is a copy of."""
    lake = assets.root / "lake"
    if assets.lake and path.is_relative_to(lake) and path.suffix == ".parquet":
        opened(assets.lake).delete(path.relative_to(lake).as_posix())
    path.unlink(missing_ok=True)


def _asset(path: Path) -> str:
    """The asset of a data file: lake/<layer>/<name>/bucket=3/<file>."""
    table = path.parent.parent
    return f"{table.parent.name}.{table.name}"


def _settle_heads(assets: "Assets") -> None:
    """Plain Delta readers look at the head; where a crash left it aside, set it to what is current."""
    for record in assets.catalog.assets():
        version: Version | None = record["version"]
        if version is None or not version.is_table:
            continue
        store, files = assets._store(version.asset), assets._data_files(version)
        if {file.path for file in store.head()} != {file.path for file in files}:
            about = {"run_id": version.run_id, "digest": version.digest}
            known = assets.known_delta_version(version.asset)
            store.commit(files, schema_from(version.schema), version.number, about, known)


def _waste(assets: "Assets", grace: timedelta) -> dict[Path, int]:
    """{path: bytes} of what nothing needs, and has not needed for `grace`: files of the lake (of one in
    a bucket, where their copies would be) and folders of files."""
    cutoff = (datetime.now(UTC) - grace).isoformat(timespec="microseconds")
    old = time.time() - grace.total_seconds()
    needed: set[Path] = set()
    known: set[str] = set()
    for version in assets.catalog.every_version():
        known.add(version.asset)
        if version.removed_at is not None and version.removed_at <= cutoff:
            continue
        if version.is_table:
            root = assets._store(version.asset).root
            needed |= {root / file.path for file in assets._data_files(version)}
        else:
            needed.add(assets._files_folder(version.asset, version.digest))
    for asset, path in assets.catalog.staged_paths():
        known.add(asset)
        needed.add(assets._store(asset).root / path)
    for asset in known:
        root = assets._store(asset).root
        for row in assets.catalog.merged(asset).values():
            if row["created_at"] > cutoff:
                needed |= {root / source for source in row["sources"]}
    found = [
        *assets.root.glob("lake/*/*/bucket=*/*.parquet"),
        *assets.root.glob("lake/*/*/bucket=*/.*.part"),
        *(p for p in assets.root.glob("files/*/*/*") if not p.relative_to(assets.root / "files").parts[0].startswith(".")),
        *assets.root.glob("files/.*"),
    ]  # fmt: skip
    waste = {
        path: _size(path) for path in found if path not in needed and path.stat().st_mtime <= old
    }
    for entry in opened(assets.lake).list() if assets.lake else ():
        place = assets.root / "lake" / entry.key
        if mirror.is_data(entry.key) and place not in needed:
            waste.pop(place, None)  # a copy may be older than what it is a copy of
            if entry.modified.timestamp() <= old:
                waste[place] = entry.size
    return dict(sorted(waste.items()))
