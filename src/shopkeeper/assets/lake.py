"""TableStore: one Delta table per asset, whose Parquet files are ours.

Data files are named by the digest of their bytes (`bucket=3/<sha256>.parquet`), so writing the same
rows twice is writing nothing, and a step that is repeated after a crash ends in the same files.
delta-rs only keeps the log: a commit adds and removes files, with the asset's version number as
application transaction. Everything is fsynced here, files before the commit and the log after it.

No log entry is ever dropped, so every version that the catalogue knows can be read. A checkpoint is
a summary of the log made now and then; one that a power cut spoiled is thrown away.

A table may lie in object storage (`assets.mirror`): then its files and its log are there, and here are
copies of files.

Which Delta version an asset version is stands in the catalogue, not here: a commit that the
catalogue never heard of (a crash in between) is an orphan, and the next commit sets the table to
what it should hold whatever the head says.
"""

import hashlib
import json
import random
import shutil
import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import polars as pl
from deltalake import (
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Schema,
    Transaction,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from shopkeeper.assets import durable
from shopkeeper.assets.mirror import OPTIONS, Mirror
from shopkeeper.errors import InputError, NotReady, SourceError

# Delta has no unsigned numbers
_SIGNED: dict[Any, Any] = {
    pl.UInt8: pl.Int16,
    pl.UInt16: pl.Int32,
    pl.UInt32: pl.Int64,
    pl.UInt64: pl.Int64,
    pl.Categorical: pl.String,
}
_COMMIT_TRIES = 20
CHECKPOINT_EVERY = 50  # Delta versions
# delta-rs would write checkpoints unsynced, and drop log entries after 30 days
_NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
_KEEP_LOG = {"delta.enableExpiredLogCleanup": "false"}


@dataclass(frozen=True, slots=True)
class DataFile:
    """One Parquet file of a table."""

    path: str  # relative to the table, "bucket=3/<digest>.parquet"
    bucket: int
    rows: int
    size: int

    @property
    def digest(self) -> str:
        return Path(self.path).stem

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class TableStore:
    """The Delta table of one asset at `root`, or at `address` in object storage with copies there."""

    def __init__(self, root: Path, name: str, address: str = "") -> None:
        self.root = root
        self.name = name
        self.address = address
        self.mirror = Mirror(root, address, name) if address else None
        self._at = address or str(root)  # as delta-rs is told
        self._options = OPTIONS if address else None

    def write_file(self, frame: pl.DataFrame, bucket: int, prefix: str = "") -> DataFile:
        """Write one data file, invisible until `commit`. Not yet synced (`sync`), unless in a bucket."""
        folder = self.root / f"bucket={bucket}"
        durable.make_folder(folder)
        temporary = folder / f".{uuid4().hex}.part"
        try:
            frame.write_parquet(temporary, compression="zstd", compression_level=1, statistics=True)
            with temporary.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()[:40]
            size = temporary.stat().st_size
            name = f"{prefix}{digest}.parquet"
            self._settle(temporary, f"bucket={bucket}/{name}")
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise InputError(
                f"could not write a data file: {error.strerror or error}",
                where=str(folder),
                next="free some disk space and run again; what was committed is unharmed",
            ) from error
        return DataFile(f"bucket={bucket}/{name}", bucket, frame.height, size)

    def apart(self, file: DataFile, taken: Container[str]) -> DataFile:
        """`file`, or the same rows once more under a name of their own where its is taken.

        The same bytes have the same name; rows that are put twice are there twice all the same.
        """
        if file.path not in taken:
            return file
        place, stem = self.root / f"bucket={file.bucket}", file.digest.partition("_")[0]
        number = 2
        while f"bucket={file.bucket}/{stem}_{number}.parquet" in taken:
            number += 1
        name = f"{stem}_{number}.parquet"
        temporary = place / f".{uuid4().hex}.part"
        shutil.copyfile(self.sound(file), temporary)
        self._settle(temporary, f"bucket={file.bucket}/{name}")
        return DataFile(f"bucket={file.bucket}/{name}", file.bucket, file.rows, file.size)

    def _settle(self, temporary: Path, path: str) -> None:
        """Give a file that was written its name, relative to the table."""
        if self.mirror is None:
            temporary.replace(self.root / path)
        else:
            self.mirror.settle(temporary, path)

    def sync(self, files: Iterable[DataFile]) -> None:
        """Force data files and their folders to disk; in a bucket they are safe since they were written."""
        if self.mirror is not None:
            return
        folders = set()
        for file in files:
            path = self.root / file.path
            durable.sync_file(path)
            folders.add(path.parent)
        for folder in folders:
            durable.sync_folder(folder)
        if folders:
            durable.sync_folder(self.root)

    def sound(self, file: DataFile) -> Path:
        """The path of a data file, which has the size it was written with. NotReady otherwise."""
        if self.mirror is not None:
            return self.mirror.at_hand(file.path, file.size)
        path = self.root / file.path
        size = path.stat().st_size if path.exists() else None
        if size != file.size:
            found = "it is missing" if size is None else f"it has {size:,} bytes"
            raise NotReady(
                f"a data file of {self.name} is damaged: {found}, wanted {file.size:,}",
                where=str(path),
                next="bring it back from a backup, or make it anew: shopkeeper run --force",
            )
        return path

    def merge(self, sources: list[DataFile], frame: pl.DataFrame) -> DataFile:
        """Write the rows of `sources` (neighbours in one bucket, in order) as one data file.

        Its name begins with that of the first, so that the order of rows stays what it was.
        """
        first = sources[0].digest.partition("-")[0]
        return self.write_file(frame, sources[0].bucket, prefix=f"{first}-")

    def head(self) -> list[DataFile]:
        """The data files that a plain Delta reader sees now."""
        with _answering(self.address):
            return _files(self._open())

    def files(self, version: int) -> list[DataFile]:
        """The data files of Delta version `version`."""
        if self.mirror is None:
            return _files(self._open(version))
        return list(_files_there(self.address, version, id(self.mirror.store)))

    def commit(
        self,
        target: list[DataFile],
        schema: pl.Schema,
        number: int,
        metadata: dict[str, str],
        known: int = -1,
    ) -> int:
        """Make the table hold exactly `target`; returns the Delta version that does.

        Args:
            target: all files the table shall consist of; those not yet in the table must exist.
            schema: of the data files (without `bucket`).
            number: version number of the asset, recorded as application transaction.
            metadata: goes into the commit (run id, digest).
            known: newest Delta version that is on disk for certain; what came after it may be the
                work of a process that died before it synced, and is synced now.
        """
        self.sync(target)
        columns = pl.Schema({**schema, "bucket": pl.Int32()})
        delta_schema = Schema.from_arrow(columns)
        for attempt in range(_COMMIT_TRIES):
            try:
                with _answering(self.address):
                    version = self._commit(target, delta_schema, number, metadata)
                break
            except CommitFailedError:
                if attempt == _COMMIT_TRIES - 1:
                    raise
                time.sleep(random.uniform(0.5, 1.5) * 0.01 * 2 ** min(attempt, 6))
        if self.mirror is None:
            log = self.root / "_delta_log"
            for entry in range(known + 1, version + 1):
                durable.sync_file(log / f"{entry:020}.json")
            durable.sync_folder(log)
        if version // CHECKPOINT_EVERY > known // CHECKPOINT_EVERY:
            self._checkpoint(version)
        return version

    def _created(self, schema: Schema) -> DeltaTable:
        """The table, made here or by another writer that was faster."""
        try:
            self._create(schema)
        except DeltaError as error:
            try:
                return self._open()
            except TableNotFoundError:
                raise error from None
        return self._open()

    def _create(self, schema: Schema) -> None:
        if self.mirror is None:
            durable.make_folder(self.root)
        DeltaTable.create(
            self._at,
            schema=schema,
            partition_by=["bucket"],
            configuration=_KEEP_LOG,
            storage_options=self._options,
            post_commithook_properties=_NO_HOOKS,
        )
        if self.mirror is None:
            durable.sync_folder(self.root)

    def _open(self, version: int | None = None) -> DeltaTable:
        try:
            return DeltaTable(self._at, version=version, storage_options=self._options)
        except DeltaError:
            if self.mirror is not None or not self._drop_spoiled_checkpoints():
                raise
            return DeltaTable(self._at, version=version)

    def _checkpoint(self, version: int) -> None:
        """Sum the log up, so that opening the table reads one file and not every entry."""
        self._open().create_checkpoint()
        if self.mirror is not None:
            self.mirror.drop_checkpoints(version - 2 * CHECKPOINT_EVERY)
            return
        log = self.root / "_delta_log"
        for made in log.glob("*.checkpoint.parquet"):
            durable.sync_file(made)
        durable.sync_file(log / "_last_checkpoint")
        durable.sync_folder(log)
        for old in log.glob("*.checkpoint.parquet"):
            if int(old.name.partition(".")[0]) <= version - 2 * CHECKPOINT_EVERY:
                old.unlink()  # the one before stays: a reader may just have been told of it

    def _drop_spoiled_checkpoints(self) -> bool:
        """Take away what a power cut left of a checkpoint; the log itself says the same."""
        log = self.root / "_delta_log"
        checkpoints = list(log.glob("*.checkpoint.parquet"))
        if not checkpoints and not (log / "_last_checkpoint").exists():
            return False
        (log / "_last_checkpoint").unlink(missing_ok=True)
        for spoiled in checkpoints:
            spoiled.unlink(missing_ok=True)
        durable.sync_folder(log)
        return True

    def _commit(
        self, target: list[DataFile], schema: Schema, number: int, metadata: dict[str, str]
    ) -> int:
        try:
            table = self._open()
        except TableNotFoundError:
            table = self._created(schema)
        head = {file.path: file for file in _files(table)}
        wanted = {file.path: file for file in target}
        now = int(time.time() * 1000)
        adds: list[AddAction | RemoveAction] = [
            AddAction(
                file.path,
                file.size,
                {"bucket": str(file.bucket)},
                now,
                True,
                json.dumps({"numRecords": file.rows}),
            )
            for path, file in wanted.items()
            if path not in head
        ]
        changed = _columns(table.schema()) != _columns(schema)
        kept = wanted.keys() & head.keys()
        if changed and kept:
            _add_columns(table, schema)
            table = self._open()
            changed = _columns(table.schema()) != _columns(schema)
        if changed and kept and _columns(schema).items() <= _columns(table.schema()).items():
            # columns go (a version from before they came): no file may stay while they do
            gone = [_removal(file, now) for file in head.values()]
            _write(table, gone, "append", table.schema())
            return self._commit(target, schema, number, metadata)
        if changed and kept:
            raise InputError(
                f"{self.name}: columns changed in a way that needs every row written anew",
                where=str(self.root),
                next="run the step with --force",
            )
        removals = [_removal(file, now) for path, file in head.items() if path not in wanted]
        properties = CommitProperties(
            custom_metadata=metadata, app_transactions=[Transaction(self.name, number)]
        )
        if changed:  # overwrite removes all files by itself and takes the new schema
            _write(table, adds, "overwrite", schema, properties)
        elif adds or removals:
            _write(table, [*adds, *removals], "append", schema, properties)
        table = self._open()
        if {file.path for file in _files(table)} != wanted.keys():
            raise CommitFailedError(f"{self.name}: another writer came in between")
        return int(table.version())


def signed(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with types that Delta knows."""
    return frame.cast({c: _SIGNED[t] for c, t in frame.schema.items() if t in _SIGNED})


_TYPES: dict[str, Any] = {
    str(kind): kind
    for kind in (
        pl.String(),
        pl.Int8(),
        pl.Int16(),
        pl.Int32(),
        pl.Int64(),
        pl.Float32(),
        pl.Float64(),
        pl.Boolean(),
        pl.Binary(),
        pl.Date(),
        pl.Datetime("us", "UTC"),
    )
}
_TYPES |= {str(pl.List(kind)): pl.List(kind) for kind in list(_TYPES.values())}


def schema_from(columns: Mapping[str, str]) -> pl.Schema:
    return pl.Schema({name: _TYPES[kind] for name, kind in columns.items()})


def _files(table: DeltaTable) -> list[DataFile]:
    actions = pl.DataFrame(table.get_add_actions(flatten=True))
    if actions.is_empty():
        return []
    picked = actions.select("path", "partition.bucket", "num_records", "size_bytes")
    files = [
        DataFile(path, int(bucket), int(rows), int(size))
        for path, bucket, rows, size in picked.iter_rows()
    ]
    return sorted(files, key=lambda file: (file.bucket, file.path))


@lru_cache(maxsize=64)  # a Delta version never changes, and asking a bucket takes a while
def _files_there(address: str, version: int, _server: int) -> tuple[DataFile, ...]:
    with _answering(address):
        return tuple(_files(DeltaTable(address, version=version, storage_options=OPTIONS)))


@contextmanager
def _answering(address: str) -> Iterator[None]:
    """SourceError where object storage, if it is one, does not answer."""
    try:
        yield
    except OSError as error:
        if not address:
            raise
        raise SourceError(
            f"object storage did not answer as it should: {str(error).splitlines()[0][:200]}",
            where=address,
            next="check address, credentials (AWS_…) and the rights on the bucket",
            retryable=True,
        ) from error


def _columns(schema: Schema) -> dict[str, str]:
    """Columns and types, in whatever order."""
    return {field.name: field.type.to_json() for field in schema.fields}


def _removal(file: DataFile, now: int) -> RemoveAction:
    where: dict[str, str | None] = {"bucket": str(file.bucket)}
    return RemoveAction(file.path, True, now, size=file.size, partition_values=where)


def _write(
    table: DeltaTable,
    actions: Sequence[AddAction | RemoveAction],
    mode: Literal["append", "overwrite"],
    schema: Schema,
    properties: CommitProperties | None = None,
) -> None:
    table.create_write_transaction(
        list(actions),
        mode,
        schema,
        ["bucket"],
        commit_properties=properties,
        post_commithook_properties=_NO_HOOKS,
    )


def _add_columns(table: DeltaTable, schema: Schema) -> None:
    known = {field.name for field in table.schema().fields}
    new = [field for field in schema.fields if field.name not in known]
    if new:
        table.alter.add_columns(new, post_commithook_properties=_NO_HOOKS)
