"""The catalogue: what assets there are, every version of each, which run made it from what.

SQLite (WAL, synchronous=FULL) at store/catalog.db, or PostgreSQL where shop.toml names one; one schema
in SQLAlchemy Core. One transaction writes at a time, in either. The catalogue alone decides which
version is current: a version exists once its row is committed here.

A branch is one more notion of current: what was written in it is current there and invisible
elsewhere, and what was not is that of the main line. Main is the branch None.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from shopkeeper.assets import durable, search, transfer
from shopkeeper.assets.schema import (
    FILLS,
    METADATA,
    SCHEMA_VERSION,
    UPGRADES,
    assets,
    branch_heads,
    branches,
    descriptions,
    fixed,
    merged_files,
    positions,
    run_inputs,
    run_outputs,
    runs,
    search_documents,
    staged_files,
    versions,
)
from shopkeeper.errors import Conflict, InputError, SourceError
from shopkeeper.words import Grade

_SCHEMA = "schema"  # in `fixed`: the version of the tables, where the database has no place for it
_LOCKS = {"runs": 746164, "commit": 746165, "run": 746166}  # advisory locks of PostgreSQL
_ONE_WRITER = "SELECT pg_advisory_xact_lock(746163)"
_SAID = ("description", "owner", "grade")  # of an asset, by people
_OF_ASSET = ("name", "kind", "description", "owner", "grade", "contract")  # in a list of them
_OF_VERSION = ("id", "number", "rows", "bytes", "created_at", "quality")
_MAPPED = 1 << 31  # bytes of a catalogue that readers map; SQLite maps no more than that
GIVEN_UP = "given up"  # settings of a position that a forced run makes void


@dataclass(frozen=True)
class Version:
    """One immutable state of an asset."""

    asset: str
    number: int
    digest: str
    delta_version: int | None
    schema: dict[str, str]
    rows: int | None
    bytes: int
    contract_version: str | None
    quality: dict[str, Any] | None
    notes: dict[str, Any]
    run_id: str
    created_at: str
    branch: str | None = None
    files: list[dict[str, Any]] | None = None
    removed_at: str | None = None

    @property
    def id(self) -> str:
        return f"{self.asset}@{self.number}"

    @property
    def is_table(self) -> bool:
        return self.delta_version is not None or self.files is not None


def now() -> str:
    """This instant as the catalogue writes it: ISO 8601, UTC, microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class Catalog:
    """Open (and make, where missing) the catalogue at `path`, as `branch` (an id) sees it."""

    def __init__(self, path: Path, branch: str | None = None, url: str | None = None) -> None:
        self.branch = branch
        self.url = url
        durable.make_folder(path.parent)
        self.engine = _engine(path, url)
        self.reader = _engine(path, url)  # plain transactions: readers never wait for a writer
        if url is None:
            _map_into_memory(self.reader)
        one_writer = "BEGIN IMMEDIATE" if url is None else _ONE_WRITER

        @sa.event.listens_for(self.engine, "begin")
        def _begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql(one_writer)

        try:
            self._bring_up_to_date(path)
        except BaseException:
            self.close()
            raise
        durable.sync_folder(path.parent)

    def _bring_up_to_date(self, path: Path) -> None:
        """Make what tables are not there, and change those of an older schema."""
        with _reached(self.url), self.engine.begin() as connection:
            found = _schema_version(connection)
            if found and found > SCHEMA_VERSION:
                raise InputError(
                    f"this catalogue is of schema {found}, written by a newer Shopkeeper; this one "
                    f"knows {SCHEMA_VERSION}",
                    where=str(path) if self.url is None else _shown(self.url),
                    next="open it with the newer version, or restore a backup made before it",
                )
            for number in range(found + 1 if found else SCHEMA_VERSION + 1, SCHEMA_VERSION + 1):
                for change in UPGRADES[number]:
                    connection.exec_driver_sql(change)
            METADATA.create_all(connection)
            if found and found < SCHEMA_VERSION:
                for index in [one for table in METADATA.sorted_tables for one in table.indexes]:
                    index.create(connection, checkfirst=True)
            if self.url is not None:
                transfer.take_in(path, connection, empty=not found)
            for table, changes in FILLS.items():
                if connection.execute(sa.select(table).limit(1)).first() is None:
                    for change in changes:
                        connection.exec_driver_sql(change)
            if connection.execute(sa.select(search_documents).limit(1)).first() is None:
                search.index_assets(connection)
            if not found or found < SCHEMA_VERSION:
                _set_schema_version(connection)
        if self.url is not None:
            transfer.put_aside(path)

    def close(self) -> None:
        self.engine.dispose()
        self.reader.dispose()

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction; all of it is on disk when the block ends, or none."""
        with self.engine.begin() as connection:
            yield connection

    def _rows(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        with self.reader.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    # assets and versions

    def _visible(self, table: sa.Table) -> sa.ColumnElement[bool]:
        """Of versions or runs: those of the main line and of this branch."""
        main = table.c.branch.is_(None)
        return main if self.branch is None else main | (table.c.branch == self.branch)

    def asset_names(self) -> list[str]:
        found = {row["name"] for row in self._rows(sa.select(assets.c.name))}
        return sorted(found | {head["asset"] for head in self._own_heads()})

    def asset(self, name: str, *, told: bool = True) -> dict[str, Any] | None:
        """One asset as `assets` has it; with `told` False, without what people say of it."""
        return next(iter(self.assets([name], told=told)), None)

    def assets(
        self, names: Collection[str] | None = None, *, told: bool = True
    ) -> list[dict[str, Any]]:
        """Assets, each with its current version under "version" (or None); all without `names`.

        Description and owner are what people say where they do, the grade is the strictest said.
        """
        columns = [c.label(f"v_{c.name}") for c in versions.c]
        query = _with_current([*assets.c, *columns], names)
        result: dict[str, dict[str, Any]] = {}
        said_of = {}
        for row in self._rows(query):
            record = {c.name: row[c.name] for c in assets.c}
            version = {c.name: row[f"v_{c.name}"] for c in versions.c if c.name != "id"}
            record["version"] = Version(**version) if version["asset"] else None
            result[record["name"]] = record
            said_of[record["name"]] = {name: row[f"t_{name}"] for name in _SAID}
        for head in self._own_heads():
            if names is not None and head["asset"] not in names:
                continue
            version_ = self.version(head["version_id"])
            known = {"name": head["asset"], "created_at": version_ and version_.created_at}
            record = {**known, **result.get(head["asset"], {}), **head["about"]}
            result[head["asset"]] = record | {"current": head["version_id"], "version": version_}
        if told:
            for name, words in said_of.items():
                _overlay(result[name], words)
        return [result[name] for name in sorted(result)]

    def listed(self, names: Collection[str] | None = None) -> list[dict[str, Any]]:
        """As `assets`, in short: without what is wide in a version (schema, files, notes).

        Returns:
            [{"name", "layer", "kind", "description", "owner", "grade", "contract", "version": its id,
            "number", "rows", "bytes", "created_at", "quality"}], by name; from "version" on those of
            the current version, None without one.
        """
        columns = [
            *(assets.c[name] for name in _OF_ASSET),
            *(versions.c[name] for name in _OF_VERSION),
        ]
        keys = (*_OF_ASSET, "version", *_OF_VERSION[1:])
        result: dict[str, dict[str, Any]] = {}
        said_of = {}
        with self.reader.connect() as connection:
            for row in connection.execute(_with_current(columns, names)):
                result[row[0]] = dict(zip(keys, row, strict=False))
                if any(row[len(keys) :]):
                    said_of[row[0]] = dict(zip(_SAID, row[len(keys) :], strict=True))
        for head in self._own_heads():
            if names is not None and head["asset"] not in names:
                continue
            version = self.version(head["version_id"])
            about = {name: head["about"].get(name) for name in _OF_ASSET[1:]}
            record = {name: getattr(version, name, None) for name in _OF_VERSION[1:]}
            record |= {"name": head["asset"], "version": head["version_id"], **about}
            result[head["asset"]] = record
        for name, words in said_of.items():
            _overlay(result[name], words)
        return [{"layer": name.partition(".")[0], **result[name]} for name in sorted(result)]

    def _own_heads(self) -> list[dict[str, Any]]:
        """What this branch wrote; nothing on the main line."""
        return [] if self.branch is None else self.heads(self.branch)

    def current(self, name: str) -> Version | None:
        return self._branch_current(name) or self.main_current(name)

    def main_current(self, name: str) -> Version | None:
        """What is current on the main line, whichever branch this is."""
        query = sa.select(versions).join(assets, assets.c.current == versions.c.id)
        return self._one(query.where(assets.c.name == name))

    def _branch_current(self, name: str) -> Version | None:
        if self.branch is None:
            return None
        heads = branch_heads
        query = sa.select(versions).join(heads, heads.c.version_id == versions.c.id)
        return self._one(query.where(heads.c.branch == self.branch, heads.c.asset == name))

    def version(self, version_id: str) -> Version | None:
        return self._one(
            sa.select(versions).where(versions.c.id == version_id, self._visible(versions))
        )

    def history(self, name: str) -> list[Version]:
        """All versions, newest first; those whose data was given up have `removed_at`."""
        query = sa.select(versions).where(versions.c.asset == name, self._visible(versions))
        found = self._rows(query.order_by(versions.c.number.desc()))
        return [_version(row) for row in found]

    def every_version(self) -> list[Version]:
        """Of all assets and all branches, oldest first."""
        found = self._rows(sa.select(versions).order_by(versions.c.asset, versions.c.number))
        return [_version(row) for row in found]

    def next_number(self, name: str) -> int:
        """The number of the asset's next version; one number is never used twice."""
        query = sa.select(sa.func.max(versions.c.number).label("last"))
        return int(self._rows(query.where(versions.c.asset == name))[0]["last"] or 0) + 1

    def merged(self, name: str) -> dict[str, dict[str, Any]]:
        """{path: row} of the data files of a table that compactions made."""
        found = self._rows(sa.select(merged_files).where(merged_files.c.asset == name))
        return {row["path"]: row for row in found}

    # branches

    def branches(self) -> list[dict[str, Any]]:
        return self._rows(sa.select(branches).order_by(branches.c.created_at))

    def heads(self, branch: str) -> list[dict[str, Any]]:
        query = sa.select(branch_heads).where(branch_heads.c.branch == branch)
        return self._rows(query.order_by(branch_heads.c.asset))

    def held_by_branches(self) -> set[str]:
        """Ids of main's versions that open branches stand on or have read."""
        opened = [row["id"] for row in self.branches()]
        read = sa.select(run_inputs.c.version_id).join(runs, runs.c.id == run_inputs.c.run_id)
        held = {row["version_id"] for row in self._rows(read.where(runs.c.branch.in_(opened)))}
        bases = [head["base_id"] for branch in opened for head in self.heads(branch)]
        return held | {base for base in bases if base is not None}

    def _one(self, query: sa.Select[Any]) -> Version | None:
        found = self._rows(query)
        return _version(found[0]) if found else None

    # runs

    def run(self, run_id: str) -> dict[str, Any] | None:
        found = self._rows(sa.select(runs).where(runs.c.id == run_id))
        return found[0] if found else None

    def runs(self, *, step: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Newest first."""
        query = sa.select(runs).where(self._visible(runs))
        query = query.order_by(runs.c.started_at.desc()).limit(limit)
        if step is not None:
            query = query.where(runs.c.step == step)
        return self._rows(query)

    def done_runs(self, key: str) -> list[dict[str, Any]]:
        """Successful runs with this key (same step, inputs, code and parameters), newest first."""
        query = sa.select(runs).where(runs.c.key == key, runs.c.outcome == "done")
        query = query.where(self._visible(runs))
        return self._rows(query.order_by(runs.c.started_at.desc()))

    def inputs(self, run_id: str) -> list[str]:
        query = sa.select(run_inputs.c.version_id).where(run_inputs.c.run_id == run_id)
        return sorted(row["version_id"] for row in self._rows(query))

    def outputs(self, run_id: str) -> list[str]:
        query = sa.select(run_outputs.c.version_id).where(run_outputs.c.run_id == run_id)
        return sorted(row["version_id"] for row in self._rows(query))

    def made_from(self, version_id: str) -> list[str]:
        """Ids of the versions that `version_id` was made from; a restored one as it was at first.

        Where several runs made the very same, from the inputs of the newest.
        """
        version = self.version(version_id)
        while version is not None and "restored" in version.notes:
            version = self.version(version.notes["restored"]["from"])
        if version is None:
            return []
        makers = (
            sa.select(runs.c.id)
            .join(run_outputs, run_outputs.c.run_id == runs.c.id)
            .where(run_outputs.c.version_id == version.id, runs.c.outcome == "done")
            .where(runs.c.step != "restore")  # it only points at what was made before
            .order_by(runs.c.started_at.desc())
            .limit(1)
        )
        found = self._rows(makers)
        maker = found[0]["id"] if found else version.run_id
        query = sa.select(run_inputs.c.version_id).where(run_inputs.c.run_id == maker)
        return sorted(row["version_id"] for row in self._rows(query))

    def used_by(self, version_id: str) -> list[str]:
        """Ids of the versions made by runs that read `version_id`."""
        query = (
            sa.select(versions.c.id)
            .distinct()
            .join(run_outputs, run_outputs.c.version_id == versions.c.id)
            .join(run_inputs, run_inputs.c.run_id == run_outputs.c.run_id)
            .where(run_inputs.c.version_id == version_id, self._visible(versions))
        )
        return sorted(row["id"] for row in self._rows(query))

    @contextmanager
    def lock(self, name: str, *, wait: bool, holder: str, shared: bool) -> Iterator[None]:
        """Beside a lock on this machine's disk: one for all machines that share a catalogue.

        Nothing is done for SQLite, whose file is on this machine. The server releases it when the
        connection ends, as it does when the process dies. Conflict: held, and `wait` is False.
        """
        if self.url is None:
            yield
            return
        kind = f"{'_shared' if shared else ''}(hashtext(current_schema()), {_LOCKS[name]})"
        take = f"SELECT pg_{'' if wait else 'try_'}advisory_lock{kind}"
        apart = self.reader.execution_options(isolation_level="AUTOCOMMIT")
        with _reached(self.url):
            connection = apart.connect()
        with connection:
            if connection.execute(sa.text(take)).scalar() is False:
                raise Conflict(
                    f"{holder} is at work here",
                    where=_shown(self.url),
                    next="wait until it is done, or stop it, then try again",
                )
            try:
                yield
            finally:
                connection.execute(sa.text(f"SELECT pg_advisory_unlock{kind}"))

    def fix(self, name: str, value: Any) -> Any:
        """The value that `name` has in this workspace: the first it was ever given."""
        with self.write() as connection:
            query = sa.select(fixed.c.value).where(fixed.c.name == name)
            found = connection.execute(query).scalar()
            if found is None:
                connection.execute(fixed.insert().values(name=name, value=value))
        return value if found is None else found

    # how far sources were read

    def positions(
        self, asset: str, settings: str
    ) -> tuple[dict[str, dict[str, dict[str, Any]]], bool]:
        """{source: {file: position}} of what was read into `asset`, staged files included.

        The flag says that some of it was read under another mapping (`settings`), so all must be
        read anew; then only what was staged since under this mapping is returned.
        """
        found = self._rows(sa.select(positions).where(positions.c.asset == asset))
        anew = any(row["settings"] != settings for row in found)
        result: dict[str, dict[str, dict[str, Any]]] = {}
        for row in found:
            if row["settings"] == settings and (row["staged"] or not anew):
                result.setdefault(row["source"], {})[row["file"]] = row["position"]
        return result, anew

    def committed(self, asset: str, source: str, file: str) -> dict[str, Any] | None:
        """Up to where `file` of `source` was read into a version of `asset`; None: not, or more of it
        was read since that is in no version yet."""
        where = (positions.c.asset == asset, positions.c.source == source, positions.c.file == file)
        settled = ~positions.c.staged & positions.c.settings.not_in(("", GIVEN_UP))
        found = self._rows(sa.select(positions.c.position).where(*where, settled))
        return found[0]["position"] if found else None

    def forget(self, asset: str, settings: str, *, all: bool = False) -> None:
        """Drop what is staged under another mapping, or all that was read; what it was read up to
        stays as a mark that the next version of `asset` replaces the one before. With `all`, files
        that are not there any more are given up."""
        other = sa.true() if all else staged_files.c.settings != settings
        read = sa.true() if all else positions.c.staged & (positions.c.settings != settings)
        with self.write() as connection:
            connection.execute(
                staged_files.delete().where(staged_files.c.asset == asset).where(other)
            )
            connection.execute(
                positions.update()
                .where(positions.c.asset == asset)
                .where(read)
                .values(settings=GIVEN_UP if all else "", staged=False)
            )

    def files_read(self, asset: str) -> set[str]:
        """Files whose rows are in `asset`, or on their way, and were not given up."""
        found = self._rows(
            sa.select(positions.c.file).where(
                positions.c.asset == asset, positions.c.settings != GIVEN_UP
            )
        )
        return {row["file"] for row in found}

    def staged_paths(self) -> list[tuple[str, str]]:
        """(asset, path) of every data file that a killed run left to be taken up."""
        found = self._rows(sa.select(staged_files.c.asset, staged_files.c.path))
        return [(row["asset"], row["path"]) for row in found]

    def staged(self, asset: str, settings: str) -> list[dict[str, Any]]:
        query = sa.select(staged_files.c.file)
        query = query.where(staged_files.c.asset == asset, staged_files.c.settings == settings)
        return [dict(row["file"]) for row in self._rows(query)]


def _engine(path: Path, url: str | None) -> sa.Engine:
    if url is not None:
        if find_spec("psycopg") is None:
            raise InputError(
                "a catalogue on PostgreSQL needs psycopg",
                where="catalog",
                next='pip install "shopkeeper[sql]"',
            )
        address = sa.make_url(url)
        if address.get_backend_name() != "postgresql":
            raise InputError(
                f"a catalogue cannot stand on {address.drivername}",
                where="catalog",
                next="use postgresql://user:password@host/database, or leave it out for SQLite",
            )
        return sa.create_engine(address.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": 60})

    @sa.event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    return engine


def _map_into_memory(engine: sa.Engine) -> None:
    """Let connections read the file where the system keeps it in memory, one copy for all of them."""

    @sa.event.listens_for(engine, "connect")
    def _mapped(connection: Any, _: Any) -> None:
        connection.execute(f"PRAGMA mmap_size={_MAPPED}")


@contextmanager
def _reached(url: str | None) -> Iterator[None]:
    """SourceError, without the password, where the catalogue's server does not let us in."""
    try:
        yield
    except sa.exc.OperationalError as error:
        if url is None:
            raise
        reason = str(error.orig).strip().splitlines()[0]
        raise SourceError(
            f"the catalogue cannot be reached: {reason}",
            where=_shown(url),
            next="start the database, or correct `catalog` in shop.toml",
            retryable=True,
        ) from error


@contextmanager
def as_it_stands(url: str) -> Iterator[tuple[sa.Connection, int | None]]:
    """A connection to the catalogue on a server, nothing brought up to date, one moment of it, and the
    version of its tables (None: there are none yet). SourceError: it cannot be reached."""
    engine = _engine(Path(), url)
    try:
        with _reached(url), engine.connect() as connection:
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection, _schema_version(connection)
    finally:
        engine.dispose()


def _shown(url: str) -> str:
    return sa.make_url(url).render_as_string(hide_password=True)


def _schema_version(connection: sa.Connection) -> int | None:
    """The version of the tables that are there; None of an empty database."""
    if connection.dialect.name == "sqlite":
        return connection.exec_driver_sql("PRAGMA user_version").scalar() or None
    if not sa.inspect(connection).has_table(fixed.name):
        return None
    query = sa.select(fixed.c.value).where(fixed.c.name == _SCHEMA)
    return connection.execute(query).scalar()


def _set_schema_version(connection: sa.Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA_VERSION}")
    else:
        upsert(connection, fixed, {"name": _SCHEMA}, {"value": SCHEMA_VERSION})


def _with_current(
    columns: Sequence[sa.ColumnElement[Any]], names: Collection[str] | None
) -> sa.Select[Any]:
    """Columns of assets and of their current versions, and behind them what people say (`_SAID`)."""
    people = (descriptions.c.asset == assets.c.name) & (descriptions.c.column == "")
    join = assets.outerjoin(versions, versions.c.id == assets.c.current)
    said = [descriptions.c[name].label(f"t_{name}") for name in _SAID]
    query = sa.select(*columns, *said).select_from(join.outerjoin(descriptions, people))
    return query if names is None else query.where(assets.c.name.in_(list(names)))


def _overlay(record: dict[str, Any], said: Mapping[str, Any]) -> None:
    """Let what people say of an asset stand over what its run said."""
    for name in ("description", "owner"):
        record[name] = said[name] or record[name]
    grades = [record["grade"], said["grade"] or record["grade"]]
    record["grade"] = max(grades, key=lambda grade: list(Grade).index(Grade(grade)))


def _version(row: Mapping[str, Any]) -> Version:
    return Version(**{name: value for name, value in row.items() if name != "id"})


def make_current(connection: sa.Connection, version: Version, about: Mapping[str, Any]) -> None:
    """Let `version` be what its asset is on the main line, and `about` what is said of it."""
    upsert(
        connection,
        assets,
        {"name": version.asset},
        {**about, "current": version.id},
        insert_only={"created_at": now()},
    )
    search.index_assets(connection, [version.asset])


def upsert(
    connection: sa.Connection,
    table: sa.Table,
    key: Mapping[str, Any],
    values: Mapping[str, Any],
    insert_only: Mapping[str, Any] | None = None,
) -> None:
    where = sa.and_(*(table.c[name] == value for name, value in key.items()))
    updated = connection.execute(table.update().where(where).values(**values))
    if not updated.rowcount:
        connection.execute(table.insert().values(**key, **values, **(insert_only or {})))
