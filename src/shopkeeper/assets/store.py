"""Assets: the one read path and the one write path of a workspace.

    with assets.run("clean", reads=["raw.events"], parameters={...}, code="…") as run:
        for bucket in range(assets.buckets):
            raw = run.read("raw.events", buckets=[bucket])
            run.table("clean.events").put(clean(raw), bucket=bucket)

What a run writes becomes visible when its block ends, all of it in one catalogue transaction, or
not at all. Reads carry a principal and a purpose, and a run may read only what it declared: lineage
is what was read, not what somebody remembered to write down.
"""

import hashlib
import json
import os
import resource
import shutil
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import polars as pl
import sqlalchemy as sa

from shopkeeper.assets import (
    branches,
    diff,
    durable,
    lineage,
    mirror,
    openlineage,
    profile,
    retention,
    states,
)
from shopkeeper.assets import schema as tables
from shopkeeper.assets.catalog import Catalog, Version, make_current, now, upsert
from shopkeeper.assets.lake import DataFile, TableStore, schema_from
from shopkeeper.assets.lineage import Derivation
from shopkeeper.assets.parts import Part, Place, Rows
from shopkeeper.assets.provenance import git_state
from shopkeeper.assets.usage import Reads
from shopkeeper.errors import InputError, NotFound, NotReady
from shopkeeper.governance.access import OWNER, Principal, check_read
from shopkeeper.words import Grade, Purpose

Mode = Literal["replace", "append", "buckets"]
Form = Literal["polars", "pandas", "arrow"]


class Assets:
    """The assets of the workspace at `folder`, as a branch (an id) or the main line sees them."""

    def __init__(
        self,
        folder: Path,
        *,
        buckets: int = 16,
        branch: str | None = None,
        catalog: str | None = None,
        lake: str = "",
        copies: int = 50 << 30,
    ) -> None:
        """Open, or begin, the assets of a workspace.

        Args:
            catalog: URL of a PostgreSQL database; without one the catalogue is a file.
            lake: address of a bucket where tables lie; without one they lie in the workspace.
            copies: bytes of copies of its files that are kept in the workspace.
        """
        self.root = folder / "store"
        self.buckets = buckets
        self.catalog = Catalog(self.root / "catalog.db", branch, catalog)
        self.lake, self.copies = lake.rstrip("/"), copies
        mirror.begin(self.root / "lake", self.lake, self._workspace)
        self.teller = openlineage.Teller()  # whom runs are told to: nobody, unless shop.toml says
        self.reads = Reads(self.catalog)

    def close(self) -> None:
        self.reads.flush()
        self.catalog.close()

    # reading

    def exists(self, name: str) -> bool:
        return self.catalog.current(name) is not None

    def current(self, name: str) -> Version:
        """The current version. NotReady: there is none yet."""
        version = self.catalog.current(name)
        if version is None:
            raise NotReady(
                f"there is no {name} yet", where=name, next="make it with: shopkeeper run"
            )
        return version

    def version(self, name: str, version: str | int | None = None) -> Version:
        """Version `version` of an asset: a number, "asset@number", or None for the current one."""
        if version is None:
            return self.current(name)
        number = str(version).rpartition("@")[2]
        found = self.catalog.version(f"{name}@{number}")
        if found is None or found.removed_at is not None:
            known = [v.number for v in self.catalog.history(name) if v.removed_at is None]
            gone = f"version {number} of {name} was given up on {found and found.removed_at}"
            what = f"{name} has no version {number}" if found is None else gone
            raise NotFound(f"{what}; it has {known}", where=name)
        return found

    def scan(
        self,
        name: str,
        *,
        by: Principal,
        purpose: Purpose,
        version: str | int | None = None,
        buckets: Sequence[int] | None = None,
    ) -> pl.LazyFrame:
        """The rows of a table, lazily; of `buckets` only, if given.

        Whoever collects it later than the grace of a `vacuum` may find a data file gone
        (FileNotFoundError, never other rows): scan again.
        """
        return self.rows(name, by=by, purpose=purpose, version=version, buckets=buckets).scan()

    def rows(
        self,
        name: str,
        *,
        by: Principal,
        purpose: Purpose,
        version: str | int | None = None,
        buckets: Sequence[int] | None = None,
        step: str | None = None,
    ) -> Rows:
        """As `scan`, as a handle that can be sent to a worker and read there.

        Args:
            step: that reads it, if one does; else the principal is who counts as its reader.
        """
        check_read(by, purpose, name)
        found = self.version(name, version)
        if not found.is_table:
            raise InputError(f"{name} is no table", where=name, next="open it as a folder")
        self.reads.note(name, f"step {step}" if step else by.name, purpose)
        files = self._data_files(found)
        return self._rows(found, [f for f in files if buckets is None or f.bucket in buckets])

    def _data_files(self, version: Version) -> list[DataFile]:
        if version.files is not None:
            return [DataFile(**file) for file in version.files]
        assert version.delta_version is not None
        return self._store(version.asset).files(version.delta_version)

    def _rows(self, version: Version, files: Sequence[DataFile]) -> Rows:
        store = self._store(version.asset)
        return Rows(store.root, store.name, tuple(files), version.schema, address=store.address)

    def _open_files(self, version: Version, files: Sequence[DataFile]) -> pl.LazyFrame:
        """The rows of some files of a version; whoever asks has checked who reads and why."""
        return self._rows(version, files).scan()

    def read(
        self,
        name: str,
        *,
        by: Principal,
        purpose: Purpose,
        version: str | int | None = None,
        buckets: Sequence[int] | None = None,
    ) -> pl.DataFrame:
        """The rows of a table."""
        asked: dict[str, Any] = {"by": by, "purpose": purpose, "version": version}
        try:
            return self.scan(name, buckets=buckets, **asked).collect()
        except (OSError, pl.exceptions.PolarsError):
            # its files were merged or given up meanwhile: now it is found, or told what became of it
            return self.scan(name, buckets=buckets, **asked).collect()

    def open(
        self,
        name: str,
        as_: Form = "polars",
        *,
        by: Principal,
        purpose: Purpose,
        version: str | int | None = None,
        buckets: Sequence[int] | None = None,
    ) -> Any:
        """The rows of a table as a Polars or pandas data frame or a pyarrow table."""
        needs = {"polars": (), "pandas": ("pandas", "pyarrow"), "arrow": ("pyarrow",)}.get(as_)
        if needs is None:
            raise InputError(f"no form {as_!r}", where=name, next="polars, pandas or arrow")
        if missing := [module for module in needs if find_spec(module) is None]:
            raise InputError(
                f"to open a table as {as_}, {' and '.join(missing)} must be installed",
                where=name,
                next=f"pip install {' '.join(missing)}, or open it as polars",
            )
        frame = self.read(name, by=by, purpose=purpose, version=version, buckets=buckets)
        return {"polars": lambda: frame, "pandas": frame.to_pandas, "arrow": frame.to_arrow}[as_]()

    def folder(
        self,
        name: str,
        *,
        by: Principal,
        purpose: Purpose,
        version: str | int | None = None,
        step: str | None = None,
    ) -> Path:
        """The folder of an asset that is files (a model, an index, a report). Read only."""
        check_read(by, purpose, name)
        found = self.version(name, version)
        if found.is_table:
            raise InputError(f"{name} is a table", where=name, next="read it as a table")
        self.reads.note(name, f"step {step}" if step else by.name, purpose)
        return self._files_folder(name, found.digest)

    def diff(
        self,
        name: str,
        a: str | int,
        b: str | int | None = None,
        *,
        by: Principal,
        purpose: Purpose,
        keys: Sequence[str] | None = None,
        examples: int = 5,
    ) -> dict[str, Any]:
        """What version `b` (default: the current one) has that `a` has not, ready for JSON.

        Args:
            keys: columns that tell rows apart; default: the contract's primary key. Without any,
                versions are compared as multisets of rows and nothing is "changed".
            examples: rows shown of each kind; values above grade internal are hidden.
        Returns:
            {"asset", "a", "b", "same", "kind": "table", "schema": {"added", "removed", "retyped"},
            "keys", "rows": {"a", "b", "added", "removed", "changed"}, "examples": {"added",
            "removed", "changed"}, "columns": {column: {"a", "b", "psi"}}}; of an asset that is
            files {…, "kind": "files", "bytes", "files": {"added", "removed", "changed"}}.
        """
        return diff.diff(
            self,
            name,
            self.version(name, a),
            self.version(name, b),
            by=by,
            purpose=purpose,
            keys=keys,
            examples=examples,
        )

    def profile(
        self, name: str, version: str | int | None = None, *, by: Principal, purpose: Purpose
    ) -> dict[str, Any]:
        """What stands in the columns of a table; see `profile.finish`.

        It was made with the version, or is made now, bucket by bucket, and kept. Values of columns
        graded above internal are not in it.

        Returns:
            {"asset", "version", "rows", "sampled", "columns": [{"column", "type", "grade", "nulls",
            "distinct", "min", "max", "mean", "histogram", "top", "examples", "bins"}]}
        """
        check_read(by, purpose, name)
        found = self.version(name, version)
        if not found.is_table:
            raise InputError(f"{name} is no table", where=name, next="open it as a folder")
        grades = diff.column_grades(self, name, list(found.schema))
        told = profile.kept(self.catalog, found.id)
        if told is None:
            rows = self._rows(found, self._data_files(found))
            buckets = sorted({file.bucket for file in rows.files})
            parts = (
                replace(rows, files=tuple(f for f in rows.files if f.bucket == bucket))
                for bucket in buckets
            )
            made = [profile.profile_part(part.scan().collect(), grades) for part in parts]
            told = profile.finish(profile.merge_parts(made))
            if not made:
                told = profile.finish(profile.profile_part(rows.scan().collect(), grades))
            with self.catalog.write() as connection:
                profile.keep(connection, found.id, told)
        return {"asset": name, "version": found.id, **profile.masked(told, grades)}

    def remembered(self, version: Version) -> dict[str, Any] | None:
        """What the run that made a version remembered of it; None: nothing, or a newer one stands."""
        return states.kept(self.catalog, version.id)

    # branches

    @contextmanager
    def branch(self, name: str) -> Iterator["Assets"]:
        """These assets as the branch `name` sees them; a new one where there is none.

        Runs in it write versions that are current in the branch and invisible elsewhere. They stand
        until the branch is promoted or dropped, so a dry run is: branch, run, compare, drop.
        """
        opened = branches.identify(self.catalog, name)
        assets = Assets(
            self.root.parent,
            buckets=self.buckets,
            branch=opened,
            catalog=self.catalog.url,
            lake=self.lake,
            copies=self.copies,
        )
        try:
            yield assets
        finally:
            assets.close()

    def branches(self) -> list[dict[str, Any]]:
        """Open branches: {"branch", "created_at", "assets": [{"asset", "version", "base",
        "moved"}]}; "moved": main's has changed since, so the branch cannot be promoted."""
        return branches.listed(self.catalog)

    def branch_diff(
        self, name: str, *, by: Principal, purpose: Purpose, examples: int = 5
    ) -> list[dict[str, Any]]:
        """For each asset that the branch wrote: `diff` from what main has to what the branch has.

        Of an asset that is new: {"asset", "a": None, "b", "kind", "rows"}.
        """
        return branches.compare(self, name, by=by, purpose=purpose, examples=examples)

    def promote(self, name: str) -> list[Version]:
        """Make all that the branch wrote current on the main line, whole or not at all.

        Raises:
            Conflict: main's version of an asset is not the one that the branch stands on.
        """
        return branches.promote(self, name)

    def drop(self, name: str) -> list[str]:
        """Give the branch up; ids of the versions that are gone. `vacuum` frees their bytes."""
        return branches.drop(self, name)

    # keeping and giving up

    def retain(
        self,
        *,
        keep_last: int = 10,
        days: float = 30,
        pinned: Collection[str] = (),
        names: Sequence[str] | None = None,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Give up old versions: their records stay, their data goes with the next `vacuum`.

        Kept are the current version, the last `keep_last`, those younger than `days`, the `pinned`
        ids, inputs of kept models, and whatever open branches stand on.

        Args:
            pinned: version ids that releases on disk name.
            names: assets to look at; default: all.
        Returns:
            {"dry_run", "removed": [{"version", "rows", "bytes", "created_at"}], "kept": {reason: n}}
        """
        return retention.retain(self, keep_last, days, pinned, names, dry_run)

    def compact(self, name: str, *, small_bytes: int = retention.SMALL) -> dict[str, Any]:
        """Merge neighbouring data files smaller than `small_bytes` in each bucket of a table.

        The current version stays the same version: same rows in the same order, same digest.

        Returns:
            {"asset", "version", "files": {"before", "after"}, "bytes": {"before", "after"}}
        """
        return retention.compact(self, name, small_bytes)

    def vacuum(
        self, *, grace: timedelta = timedelta(hours=1), dry_run: bool = False
    ) -> dict[str, Any]:
        """Delete files that no kept version needs, once they are unneeded for `grace`.

        Returns:
            {"dry_run", "files": [paths below store/], "bytes"}
        Raises:
            Conflict: a run is at work; what it wrote is in no version yet.
        """
        return retention.vacuum(self, grace, dry_run)

    # writing

    @contextmanager
    def run(
        self,
        step: str,
        *,
        reads: Sequence[str] = (),
        parameters: Mapping[str, Any] | None = None,
        code: str = "",
        by: Principal = OWNER,
        purpose: Purpose = Purpose.OPERATE,
    ) -> Iterator["Run"]:
        """Do one step; see the module's example. A failed run is recorded and changes nothing."""
        run = Run(self, step, tuple(reads), dict(parameters or {}), code, by, purpose)
        with self.writing(), run.recorded():
            yield run

    @contextmanager
    def alone(self, step: str, parameters: Mapping[str, Any]) -> Iterator["Run"]:
        """As `run`, while no run is at work. Conflict: one is."""
        run = Run(self, step, (), dict(parameters), "", OWNER, Purpose.OPERATE)
        with self.lock("runs", wait=False, holder="a run"), run.recorded():
            yield run

    def run_key(
        self, step: str, reads: Sequence[str], parameters: Mapping[str, Any], code: str
    ) -> str:
        """Digest of all that decides a step's result: step, inputs, parameters, code."""
        inputs = []
        for name in sorted(reads):
            version = self.catalog.current(name)
            inputs.append([name, version.digest if version else None])
        text = json.dumps([step, inputs, parameters, code], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def fresh(self, key: str) -> dict[str, Any] | None:
        """The run with this key whose outputs all still stand, or None."""
        for run in self.catalog.done_runs(key):
            if all(self._stands(version_id) for version_id in self.catalog.outputs(run["id"])):
                return run
        return None

    def _stands(self, version_id: str) -> bool:
        """Whether a version is current, or somebody restored another in its place.

        A restored version holds until what its asset is made of changes: were the step that made
        the version in its place stale, the next run would undo what was just restored.
        """
        version = self.catalog.current(version_id.rpartition("@")[0])
        while version is not None and version.id != version_id and "restored" in version.notes:
            version = self.catalog.version(version.notes["restored"]["over"])
        return version is not None and version.id == version_id

    def restore(self, name: str, version: str | int, *, by: Principal = OWNER) -> Version:
        """Make an old version current again, as a new version; no data is written anew.

        Steps that read it run again. What was read from outside stays read: rows that came into a
        raw table after `version` are out of it until they are collected with force.

        Returns:
            the current version: the new one, or the old where it holds the same already.
        """
        old = self.version(name, version)
        reads, parameters = [name], {"asset": name, "version": old.id}
        with self.run("restore", reads=reads, parameters=parameters, by=by) as run:
            run.restore(old)
        return self.current(name)

    def _workspace(self) -> str:
        """The id of this workspace, the same for all its life."""
        return str(self.catalog.fix("workspace", uuid4().hex))

    def writing(self) -> AbstractContextManager[None]:
        """Held by all who write data files, so that `vacuum` does not take those for waste."""
        return self.lock("runs", wait=True, shared=True)

    def committing(self) -> AbstractContextManager[None]:
        """Held by the one who changes what is current."""
        return self.lock("commit", wait=True)

    @contextmanager
    def lock(
        self, name: str, *, wait: bool, holder: str = "another process", shared: bool = False
    ) -> Iterator[None]:
        """As `durable.lock`, on every machine where the catalogue is one that several share."""
        path = self.root / f".{name}.lock"
        with (
            durable.lock(path, wait=wait, holder=holder, shared=shared),
            self.catalog.lock(name, wait=wait, holder=holder, shared=shared),
        ):
            yield

    def known_delta_version(self, name: str) -> int:
        """The Delta version of main's current state, which is on disk for certain; -1: none."""
        current = self.catalog.main_current(name)
        found = None if current is None else current.delta_version
        return -1 if found is None else found

    def _store(self, name: str) -> TableStore:
        layer, _, rest = name.partition(".")
        address = f"{self.lake}/{layer}/{rest}" if self.lake else ""
        return TableStore(self.root / "lake" / layer / rest, name, address)

    def _files_folder(self, name: str, digest: str) -> Path:
        layer, _, rest = name.partition(".")
        return self.root / "files" / layer / rest / digest[:32]


class TableWriter:
    """Collects the data files of one table within a run."""

    def __init__(self, run: "Run", name: str, mode: Mode) -> None:
        self.run = run
        self.name = name
        self.mode = mode
        self.store = run.assets._store(name)
        self.files: list[DataFile] = []
        self.schema: pl.Schema | None = None
        self.description = ""
        self.grade = Grade.INTERNAL
        self.contract: tuple[str, str] | None = None
        self.quality: dict[str, Any] | None = None
        self.notes: dict[str, Any] = {}
        self.grades: Mapping[str, Grade] | None = None  # of columns, where they are to be profiled
        self.profiles: list[dict[str, Any] | None] = []
        self.whole: dict[str, Any] | None = None  # merged profile of all rows, if the step knows it
        self.emptied: set[int] = set()
        self.settings: str | None = None  # of a table read from outside: digest of its mapping
        self._saved = 0  # files that a checkpoint has recorded
        self._taken: set[str] = set()  # their paths

    @property
    def place(self) -> Place:
        """Where a worker writes what `take` then takes."""
        return Place(self.store.root, self.name, self.grades, self.store.address)

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    def put(self, frame: pl.DataFrame, bucket: int = 0) -> None:
        """Add rows of one bucket. An empty frame still tells the columns."""
        self.take(self.place.write(frame, bucket))

    def take(self, part: Part) -> None:
        """Add rows of one bucket that are on disk already."""
        if self.schema is not None and part.schema != self.schema:
            raise ValueError(f"{self.name}: {part.schema} does not match {self.schema}")
        self.schema = part.schema
        self.emptied.add(part.bucket)
        self.profiles.append(part.profile)
        for file in part.files:
            self._add(self.store.apart(file, self._taken))

    def keep(self, files: Sequence[DataFile], schema: pl.Schema) -> None:
        """Add data files that are there already and in no version yet (a killed run's)."""
        self.schema = self.schema or schema
        for file in files:
            self._add(file)

    def profile(self) -> dict[str, Any] | None:
        """What stands in the columns, where all that was put was profiled and nothing else is in it."""
        if self.whole is not None:
            return profile.finish(self.whole)
        parts = [part for part in self.profiles if part is not None]
        whole = self.mode == "replace" and len(parts) == len(self.profiles)
        if not parts or not whole or sum(part["rows"] for part in parts) != self.rows:
            return None
        return profile.finish(profile.merge_parts(parts))

    def _add(self, file: DataFile) -> None:
        self.files.append(file)
        self._taken.add(file.path)


class Run:
    """One execution of a step. Made by `Assets.run`."""

    def __init__(
        self,
        assets: Assets,
        step: str,
        reads: tuple[str, ...],
        parameters: dict[str, Any],
        code: str,
        by: Principal,
        purpose: Purpose,
    ) -> None:
        self.assets = assets
        self.step = step
        self.reads = reads
        self.parameters = parameters
        self.code = code
        self.by = by
        self.purpose = purpose
        self.id = uuid4().hex
        self.key = assets.run_key(step, reads, parameters, code)
        self.notes: dict[str, Any] = {}
        self.made: list[Version] = []
        self.lineage = lineage.Recorder()
        self._inputs: set[str] = set()
        self._tables: dict[str, TableWriter] = {}
        self._folders: dict[str, dict[str, Any]] = {}
        self._states: dict[str, Mapping[str, Any]] = {}
        self._restored: list[Version] = []
        self._positions: list[dict[str, Any]] = []
        self._files: dict[
            str, list[DataFile]
        ] = {}  # of versions read, while nothing takes them away
        self._wall = time.monotonic()
        self._cpu = _cpu_seconds()
        self._workers_cpu = self._workers_peak = 0.0

    # within the block

    def scan(
        self,
        name: str,
        *,
        columns: Sequence[str] | None = None,
        buckets: Sequence[int] | None = None,
        version: str | None = None,
    ) -> pl.LazyFrame:
        """A declared input, lazily; the version and the columns become part of the lineage.

        Args:
            columns: those that are needed; nothing else can be read then. Default: all.
        """
        return self.rows(name, columns=columns, buckets=buckets, version=version).scan()

    def rows(
        self,
        name: str,
        *,
        columns: Sequence[str] | None = None,
        buckets: Sequence[int] | None = None,
        version: str | None = None,
    ) -> Rows:
        """As `scan`, as a handle that can be sent to a worker and read there."""
        found = self._input(name, version)
        self.lineage.reading(name, found.schema if columns is None else columns)
        if found.id not in self._files:
            asked = self.assets.rows(
                name, by=self.by, purpose=self.purpose, version=found.number, step=self.step
            )
            self._files[found.id] = list(asked.files)
        files = self._files[found.id]
        here = [f for f in files if buckets is None or f.bucket in buckets]
        rows = self.assets._rows(found, here)
        return rows if columns is None else replace(rows, only=tuple(columns))

    def read(
        self,
        name: str,
        *,
        columns: Sequence[str] | None = None,
        buckets: Sequence[int] | None = None,
        version: str | None = None,
    ) -> pl.DataFrame:
        return self.scan(name, columns=columns, buckets=buckets, version=version).collect()

    def folder(self, name: str) -> Path:
        version = self._input(name)
        self.lineage.reading(name, [lineage.ROWS])
        return self.assets.folder(
            name, by=self.by, purpose=self.purpose, version=version.number, step=self.step
        )

    def has(self, name: str) -> bool:
        """Whether an input exists. What this run wrote itself is no input yet."""
        return name in self.reads

    def _input(self, name: str, version: str | None = None) -> Version:
        if name not in self.reads:
            raise ValueError(f"step {self.step} reads {name} but does not declare it")
        found = self.assets.version(name, version)
        self._inputs.add(found.id)
        return found

    def writes(self, name: str) -> bool:
        """Whether this run has put rows into a table, or none on purpose."""
        return name in self._tables and self._tables[name].schema is not None

    def written(self, name: str) -> pl.LazyFrame:
        """The rows that a table will hold once the block ends; nobody else sees them yet."""
        writer = self._tables[name]
        assert writer.schema is not None
        files = [*self._kept(writer, self.assets.catalog.current(name)), *writer.files]
        columns = {column: str(kind) for column, kind in writer.schema.items()}
        return Rows(
            writer.store.root, name, tuple(files), columns, address=writer.store.address
        ).scan()

    def table(self, name: str, mode: Mode = "replace", **about: Any) -> TableWriter:
        """The writer of an output table.

        Args:
            name: the asset.
            mode: "replace" all rows; "append" to them; "buckets": replace the buckets put.
            about: description, grade, contract=(name, version), quality, notes.
        """
        if name not in self._tables:
            self._tables[name] = TableWriter(self, name, mode)
        writer = self._tables[name]
        for key, value in about.items():
            setattr(writer, key, value)
        return writer

    def derive(self, name: str, said: Derivation) -> None:
        """Say from which columns read the columns of an output are made; see `assets.lineage`.

        Where nothing is said, everything made may hold something of everything read.
        """
        self.lineage.said[name] = said

    def files(
        self,
        name: str,
        fill: Callable[[Path], None],
        *,
        kind: str = "files",
        description: str = "",
        grade: Grade = Grade.INTERNAL,
        notes: Mapping[str, Any] | None = None,
        quality: dict[str, Any] | None = None,
    ) -> Path:
        """Make an asset that is a folder of files; `fill` writes into an empty folder."""
        folder = self.assets.root / "files" / f".{self.id}-{name}"
        durable.make_folder(folder)
        fill(folder)
        digest = _folder_digest(folder)
        self._folders[name] = {
            "folder": folder,
            "digest": digest,
            "kind": kind,
            "description": description,
            "grade": grade,
            "notes": dict(notes or {}),
            "quality": quality,
        }
        return folder

    def restore(self, old: Version) -> None:
        """Make an old version of a declared input current when the block ends."""
        check_read(self.by, self.purpose, old.asset)
        self._restored.append(self._input(old.asset, old.id))

    def remember(self, name: str, state: Mapping[str, Any]) -> None:
        """Keep what must be known to add to the version of `name` that this run makes; plain data."""
        self._states[name] = state

    def note(self, key: str, value: Any) -> None:
        """Put a JSON value into the run's record."""
        self.notes[key] = value

    def used(self, cpu_seconds: float, peak_rss_mb: float) -> None:
        """Count what a worker used for this run."""
        self._workers_cpu += cpu_seconds
        self._workers_peak = max(self._workers_peak, peak_rss_mb)

    def resume(self, writer: TableWriter, settings: str, schema: pl.Schema) -> None:
        """Take up what a killed run had saved with `checkpoint` under the same mapping."""
        self._on_main(writer.name)
        writer.settings = settings
        found = self.assets.catalog.staged(writer.name, settings)
        writer.keep([DataFile(**file) for file in found], schema)
        writer._saved = len(writer.files)

    def position(self, writer: TableWriter, source: str, file: str, at: Mapping[str, Any]) -> None:
        """Remember how far a source file was read; saved with the rows, never without them."""
        self._on_main(writer.name)
        row = {"asset": writer.name, "source": source, "file": file, "position": dict(at)}
        self._positions.append(row | {"settings": writer.settings})

    def checkpoint(self) -> None:
        """Save what was put so far, so that a killed run resumes here; still invisible."""
        for writer in self._tables.values():
            writer.store.sync(writer.files[writer._saved :])
        with self.assets.catalog.write() as connection:
            for writer in self._tables.values():
                for file in writer.files[writer._saved :]:
                    key = {"asset": writer.name, "path": file.path}
                    values = {"settings": writer.settings or "", "file": file.as_dict()}
                    upsert(connection, tables.staged_files, key, values)
                writer._saved = len(writer.files)
            self._save_positions(connection, staged=True)

    def _on_main(self, name: str) -> None:
        if self.assets.catalog.branch is not None:
            raise InputError(
                f"{name} is read from outside, and a branch does not do that: what it read "
                "would count as read for the main line",
                where=self.step,
                next="collect on the main line, and run the steps after it in the branch",
            )

    # the ends

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """From start to finish, or to the failure, which is recorded and goes on."""
        self.start()
        try:
            yield
            self.finish()
        except BaseException as error:
            self.fail(error)
            raise

    def start(self) -> None:
        commit, dirty = git_state()
        with self.assets.catalog.write() as connection:
            connection.execute(
                tables.runs.insert().values(
                    id=self.id,
                    step=self.step,
                    key=self.key,
                    code_digest=self.code,
                    git_commit=commit,
                    git_dirty=dirty,
                    parameters=json.loads(json.dumps(self.parameters, default=str)),
                    notes={},
                    started_at=(began := now()),
                    outcome="running",
                    branch=self.assets.catalog.branch,
                )
            )
            self.assets.teller.start(connection, self.id, self.step, began)

    def finish(self) -> None:
        """Commit everything: Delta tables, then folders, then all of it in the catalogue."""
        new: list[tuple[Version, dict[str, Any], bool]] = []
        branch = self.assets.catalog.branch
        with self.assets.committing():
            branches.still_open(self.assets.catalog)
            profiles: dict[str, dict[str, Any]] = {}
            for name, writer in self._tables.items():
                new.append(self._commit_table(name, writer))
                if (told := writer.profile()) is not None:
                    profiles[new[-1][0].id] = told
            for name, made in self._folders.items():
                new.append(self._commit_folder(name, made))
            restored: dict[str, str] = {}
            for older in self._restored:
                new.append(self._commit_restored(older))
                restored[new[-1][0].id] = older.id
            wrote: list[tuple[Version, Mapping[str, Any], list[lineage.Edge]]] = []
            with self.assets.catalog.write() as connection:
                for version, about, is_new in new:
                    if is_new:
                        connection.execute(
                            tables.versions.insert().values(
                                id=version.id, **{f: getattr(version, f) for f in _VERSION_FIELDS}
                            )
                        )
                    if branch is None:
                        make_current(connection, version, about)
                    elif is_new:
                        base = self.assets.catalog.main_current(version.asset)
                        upsert(
                            connection,
                            tables.branch_heads,
                            {"branch": branch, "asset": version.asset},
                            {"version_id": version.id, "about": about},
                            insert_only={"base_id": base.id if base else None},
                        )
                    connection.execute(
                        tables.run_outputs.insert().values(run_id=self.id, version_id=version.id)
                    )
                    if version.id not in restored:
                        edges = self.lineage.keep(connection, version.id, self.id, version.schema)
                        wrote.append((version, about, edges))
                    elif is_new:
                        lineage.record_same(connection, version.id, restored[version.id])
                for version_id in sorted(self._inputs):
                    connection.execute(
                        tables.run_inputs.insert().values(run_id=self.id, version_id=version_id)
                    )
                self._save_positions(connection, staged=False)
                for version_id, told in profiles.items():
                    profile.keep(connection, version_id, told)
                for version, _, _ in new:
                    if version.asset in self._states:
                        state = self._states[version.asset]
                        states.keep(connection, version.id, state, alone=branch is None)
                for name, writer in self._tables.items():
                    if writer.settings is not None and branch is None:
                        _settle(connection, name, writer.settings)
                connection.execute(self._end("done"))
                self.assets.teller.complete(
                    connection,
                    self.assets.catalog,
                    self.id,
                    self.step,
                    self._inputs,
                    wrote,
                    profiles,
                )
        self.made = [version for version, _, is_new in new if is_new]
        if self.assets.lake:
            mirror.trim(self.assets.root / "lake", self.assets.copies)

    def fail(self, error: BaseException) -> None:
        for made in self._folders.values():
            shutil.rmtree(made["folder"], ignore_errors=True)
        text = "".join(traceback.format_exception_only(error)).strip()
        with self.assets.catalog.write() as connection:
            connection.execute(self._end("failed", text))
            self.assets.teller.fail(connection, self.id, self.step, text)

    def _end(self, outcome: str, error: str | None = None) -> sa.Update:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return (
            tables.runs.update()
            .where(tables.runs.c.id == self.id)
            .values(
                outcome=outcome,
                error=error,
                notes=json.loads(json.dumps(self.notes, default=str)),
                finished_at=now(),
                seconds=time.monotonic() - self._wall,
                cpu_seconds=_cpu_seconds() - self._cpu + self._workers_cpu,
                peak_rss_mb=max(peak, self._workers_peak),
            )
        )

    def _save_positions(self, connection: sa.Connection, *, staged: bool) -> None:
        for row in self._positions:
            key = {name: row[name] for name in ("asset", "source", "file")}
            values = {"position": row["position"], "settings": row["settings"], "staged": staged}
            upsert(connection, tables.positions, key, values)
        self._positions = []

    def _commit_table(self, name: str, writer: TableWriter) -> tuple[Version, dict[str, Any], bool]:
        base = self.assets.catalog.current(name)
        old = self._kept(writer, base)
        schema = writer.schema
        if schema is None:
            if base is None:
                raise ValueError(f"{name}: nothing was put, not even an empty frame")
            schema = schema_from(base.schema)
        there = {file.path for file in old}
        target = list(old)
        for file in writer.files:  # somebody may have committed the same bytes since they were put
            target.append(writer.store.apart(file, there))
            there.add(target[-1].path)
        target.sort(key=lambda file: (file.bucket, file.path))
        columns = {column: str(kind) for column, kind in schema.items()}
        if base is not None and writer.mode != "replace":
            columns = {**base.schema, **columns}
        digest = self._table_digest(name, target, columns)
        about = _about("table", writer.description, writer.grade, writer.contract)
        if base is not None and base.digest == digest:
            return base, about, False
        number = self.assets.catalog.next_number(name)
        where = self._store_table(name, target, schema_from(columns), number, digest)
        version = Version(
            asset=name,
            number=number,
            digest=digest,
            schema=columns,
            rows=sum(file.rows for file in target),
            bytes=sum(file.size for file in target),
            contract_version=writer.contract[1] if writer.contract else None,
            quality=writer.quality,
            notes=writer.notes,
            run_id=self.id,
            created_at=now(),
            branch=self.assets.catalog.branch,
            **where,
        )
        return version, about, True

    def _kept(self, writer: TableWriter, base: Version | None) -> list[DataFile]:
        """Data files of the version before that stay in the table."""
        if base is None or not base.is_table or writer.mode == "replace":
            return []
        old = self.assets._data_files(base)
        return (
            old if writer.mode == "append" else [f for f in old if f.bucket not in writer.emptied]
        )

    def _store_table(
        self, name: str, target: list[DataFile], schema: pl.Schema, number: int, digest: str
    ) -> dict[str, Any]:
        """Put a table's state where it is found again: main's in Delta, a branch's in the catalogue."""
        store = self.assets._store(name)
        if self.assets.catalog.branch is not None:
            store.sync(target)
            return {"delta_version": None, "files": [file.as_dict() for file in target]}
        about = {"run_id": self.id, "digest": digest}
        known = self.assets.known_delta_version(name)
        return {"delta_version": store.commit(target, schema, number, about, known), "files": None}

    def _table_digest(self, name: str, target: list[DataFile], columns: dict[str, str]) -> str:
        """Digest of the files as runs made them: a merged file counts as its parts."""
        merged = self.assets.catalog.merged(name)
        parts: list[list[Any]] = []
        for file in target:
            own = [[file.bucket, file.digest, file.rows]]
            parts += merged[file.path]["parts"] if file.path in merged else own
        return _digest([*sorted(parts), columns])

    def _commit_folder(
        self, name: str, made: dict[str, Any]
    ) -> tuple[Version, dict[str, Any], bool]:
        base = self.assets.catalog.current(name)
        about = _about(made["kind"], made["description"], made["grade"], None)
        home = self.assets._files_folder(name, made["digest"])
        if home.exists():
            shutil.rmtree(made["folder"])
        else:
            durable.make_folder(home.parent)
            durable.sync_tree(made["folder"])
            os.replace(made["folder"], home)
            durable.sync_folder(home.parent)
        if base is not None and base.digest == made["digest"]:
            return base, about, False
        version = Version(
            asset=name,
            number=self.assets.catalog.next_number(name),
            digest=made["digest"],
            delta_version=None,
            schema={},
            rows=None,
            bytes=sum(path.stat().st_size for path in home.rglob("*") if path.is_file()),
            contract_version=None,
            quality=made["quality"],
            notes=made["notes"],
            run_id=self.id,
            created_at=now(),
            branch=self.assets.catalog.branch,
        )
        return version, about, True

    def _commit_restored(self, old: Version) -> tuple[Version, dict[str, Any], bool]:
        name, base = old.asset, self.assets.current(old.asset)
        if base.digest == old.digest:
            return base, {}, False
        about = self.assets.catalog.asset(name, told=False) or {}
        said = ("kind", "owner", "description", "grade", "contract")
        number = self.assets.catalog.next_number(name)
        where = {}
        if old.is_table:
            files, schema = self.assets._data_files(old), schema_from(old.schema)
            where = self._store_table(name, files, schema, number, old.digest)
        version = replace(
            old,
            number=number,
            notes={**old.notes, "restored": {"from": old.id, "over": base.id}},
            run_id=self.id,
            created_at=now(),
            branch=self.assets.catalog.branch,
            **where,
        )
        return version, {key: about[key] for key in said if key in about}, True


_VERSION_FIELDS = tuple(Version.__dataclass_fields__)


def _about(
    kind: str, description: str, grade: Grade, contract: tuple[str, str] | None
) -> dict[str, Any]:
    return {
        "kind": kind,
        "owner": OWNER.name,
        "description": description,
        "grade": grade.value,
        "contract": contract[0] if contract else None,
    }


def _settle(connection: sa.Connection, asset: str, settings: str) -> None:
    """What was staged is in a version now; what was read under another mapping is gone."""
    staged, read = tables.staged_files, tables.positions
    connection.execute(staged.delete().where(staged.c.asset == asset))
    connection.execute(read.delete().where(read.c.asset == asset, read.c.settings != settings))
    connection.execute(read.update().where(read.c.asset == asset).values(staged=False))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _folder_digest(folder: Path) -> str:
    entries = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            entries.append([str(path.relative_to(folder)), digest])
    return _digest(entries)


def _cpu_seconds() -> float:
    """Of this process; what workers used comes with their results."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime
