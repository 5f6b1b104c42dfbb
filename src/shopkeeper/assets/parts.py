"""What a worker may read and where it may write: handles that travel to another process or machine.

`Rows` names data files that somebody was allowed to read, `Place` where data files of a table go, and
`Part` what was written there. None of them opens the catalogue: what is current is not a worker's
affair, and nothing it writes is seen before the run it works for commits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from shopkeeper.assets.lake import DataFile, TableStore, schema_from, signed
from shopkeeper.assets.profile import profile_part
from shopkeeper.words import Grade


@dataclass(frozen=True)
class Rows:
    """Some data files of one version of a table; who reads them and why was checked."""

    root: Path  # of the table
    name: str
    files: tuple[DataFile, ...]
    columns: Mapping[str, str]  # name -> type, the version's
    only: tuple[str, ...] | None = None  # columns that may be read; None: all
    address: str = ""  # of the table in object storage; "": it lies at `root`

    def scan(self) -> pl.LazyFrame:
        """The rows, lazily. NotReady: a file is missing or cut off."""
        store = TableStore(self.root, self.name, self.address)
        paths = [store.sound(file) for file in self.files]
        schema = schema_from(self.columns)
        wanted = list(self.columns if self.only is None else self.only)
        if not paths:
            return pl.LazyFrame(schema=schema).select(wanted)
        return pl.scan_parquet(  # the schema is the version's: an older file may lack a column
            paths, schema=schema, hive_partitioning=False, missing_columns="insert", glob=False
        ).select(wanted)


@dataclass(frozen=True)
class Part:
    """Rows put into one bucket of a table, on disk and in no version yet."""

    bucket: int
    files: tuple[DataFile, ...]  # none for a frame without rows
    schema: pl.Schema
    profile: dict[str, Any] | None = None  # of these rows, where the place asked for it

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)


@dataclass(frozen=True)
class Place:
    """Where the data files of one table go."""

    root: Path
    name: str
    grades: Mapping[str, Grade] | None = None  # of its columns, where they are to be profiled
    address: str = ""  # of the table in object storage; "": it lies at `root`

    def write(self, frame: pl.DataFrame, bucket: int, *, synced: bool = False) -> Part:
        """Write rows of one bucket as a data file named by the digest of its bytes.

        Args:
            synced: force them to disk here; of what is written on another machine, only that one can.
        """
        frame = signed(frame)
        store = TableStore(self.root, self.name, self.address)
        files = (store.write_file(frame, bucket),) if frame.height else ()
        if synced:
            store.sync(files)
        told = None if self.grades is None else profile_part(frame, self.grades)
        return Part(bucket, files, frame.schema, told)
