"""The catalogue: what assets there are, every version of each, which run made it from what.

SQLite (WAL, synchronous=FULL) at store/catalog.db; one schema in SQLAlchemy Core. The catalogue
alone decides which version is current: a version exists once its row is committed here.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from shopkeeper.assets import durable

SCHEMA_VERSION = 1

_tables = sa.MetaData()

assets = sa.Table(
    "assets",
    _tables,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column(
        "kind", sa.String, nullable=False
    ),  # table | model | index | report | release | files
    sa.Column("owner", sa.String, nullable=False),
    sa.Column("description", sa.String, nullable=False),
    sa.Column("grade", sa.String, nullable=False),
    sa.Column("contract", sa.String),
    sa.Column("current", sa.String),  # id of the current version
    sa.Column("created_at", sa.String, nullable=False),
)
versions = sa.Table(
    "versions",
    _tables,
    sa.Column("id", sa.String, primary_key=True),  # "<asset>@<number>"
    sa.Column("asset", sa.String, nullable=False, index=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("delta_version", sa.Integer),  # tables only
    sa.Column("schema", sa.JSON, nullable=False),
    sa.Column("rows", sa.Integer),
    sa.Column("bytes", sa.Integer, nullable=False),
    sa.Column("contract_version", sa.String),
    sa.Column("quality", sa.JSON),
    sa.Column("notes", sa.JSON, nullable=False),
    sa.Column("run_id", sa.String, nullable=False, index=True),
    sa.Column("created_at", sa.String, nullable=False),
    sa.UniqueConstraint("asset", "number"),
)
runs = sa.Table(
    "runs",
    _tables,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("step", sa.String, nullable=False, index=True),
    sa.Column("key", sa.String, nullable=False, index=True),
    sa.Column("code_digest", sa.String, nullable=False),
    sa.Column("git_commit", sa.String),
    sa.Column("git_dirty", sa.Boolean),
    sa.Column("parameters", sa.JSON, nullable=False),
    sa.Column("notes", sa.JSON, nullable=False),
    sa.Column("started_at", sa.String, nullable=False),
    sa.Column("finished_at", sa.String),
    sa.Column("outcome", sa.String, nullable=False),  # running | done | failed
    sa.Column("error", sa.String),
    sa.Column("seconds", sa.Float),
    sa.Column("cpu_seconds", sa.Float),
    sa.Column("peak_rss_mb", sa.Float),
)
run_inputs = sa.Table(
    "run_inputs",
    _tables,
    sa.Column("run_id", sa.String, primary_key=True),
    sa.Column("version_id", sa.String, primary_key=True, index=True),
)
run_outputs = sa.Table(
    "run_outputs",
    _tables,
    sa.Column("run_id", sa.String, primary_key=True),
    sa.Column("version_id", sa.String, primary_key=True, index=True),
)
positions = sa.Table(  # how far each source file was read
    "positions",
    _tables,
    sa.Column("asset", sa.String, primary_key=True),
    sa.Column("source", sa.String, primary_key=True),
    sa.Column("file", sa.String, primary_key=True),
    sa.Column("position", sa.JSON, nullable=False),
    sa.Column("settings", sa.String, nullable=False),  # digest of the mapping it was read under
    sa.Column("staged", sa.Boolean, nullable=False),  # True: read, but not in a version yet
)
staged_files = sa.Table(  # data files written and synced, but not in a version yet
    "staged_files",
    _tables,
    sa.Column("asset", sa.String, primary_key=True),
    sa.Column("path", sa.String, primary_key=True),
    sa.Column("settings", sa.String, nullable=False),
    sa.Column("file", sa.JSON, nullable=False),
)


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

    @property
    def id(self) -> str:
        return f"{self.asset}@{self.number}"

    @property
    def is_table(self) -> bool:
        return self.delta_version is not None


def now() -> str:
    """This instant as the catalogue writes it: ISO 8601, UTC, microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class Catalog:
    """Open (and make, where missing) the catalogue at `path`."""

    def __init__(self, path: Path) -> None:
        durable.make_folder(path.parent)
        self.engine = _engine(path)
        self.reader = _engine(path)  # plain transactions: readers never wait for a writer

        @sa.event.listens_for(self.engine, "begin")
        def _begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

        with self.engine.begin() as connection:
            _tables.create_all(connection)
            if not connection.exec_driver_sql("PRAGMA user_version").scalar():
                connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA_VERSION}")
        durable.sync_folder(path.parent)

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

    def asset_names(self) -> list[str]:
        return [row["name"] for row in self._rows(sa.select(assets.c.name).order_by(assets.c.name))]

    def asset(self, name: str) -> Mapping[str, Any] | None:
        found = self._rows(sa.select(assets).where(assets.c.name == name))
        return found[0] if found else None

    def assets(self) -> list[dict[str, Any]]:
        """All assets, each with its current version under "version" (or None)."""
        join = assets.outerjoin(versions, versions.c.id == assets.c.current)
        columns = [c.label(f"v_{c.name}") for c in versions.c]
        found = self._rows(sa.select(assets, *columns).select_from(join).order_by(assets.c.name))
        result = []
        for row in found:
            record = {c.name: row[c.name] for c in assets.c}
            version = {c.name: row[f"v_{c.name}"] for c in versions.c if c.name != "id"}
            record["version"] = Version(**version) if version["asset"] else None
            result.append(record)
        return result

    def current(self, name: str) -> Version | None:
        query = sa.select(versions).join(assets, assets.c.current == versions.c.id)
        return self._one(query.where(assets.c.name == name))

    def version(self, version_id: str) -> Version | None:
        return self._one(sa.select(versions).where(versions.c.id == version_id))

    def history(self, name: str) -> list[Version]:
        """All versions, newest first."""
        query = sa.select(versions).where(versions.c.asset == name)
        found = self._rows(query.order_by(versions.c.number.desc()))
        return [_version(row) for row in found]

    def _one(self, query: sa.Select[Any]) -> Version | None:
        found = self._rows(query)
        return _version(found[0]) if found else None

    # runs

    def run(self, run_id: str) -> dict[str, Any] | None:
        found = self._rows(sa.select(runs).where(runs.c.id == run_id))
        return found[0] if found else None

    def runs(self, *, step: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Newest first."""
        query = sa.select(runs).order_by(runs.c.started_at.desc()).limit(limit)
        if step is not None:
            query = query.where(runs.c.step == step)
        return self._rows(query)

    def done_runs(self, key: str) -> list[dict[str, Any]]:
        """Successful runs with this key (same step, inputs, code and parameters), newest first."""
        query = sa.select(runs).where(runs.c.key == key, runs.c.outcome == "done")
        return self._rows(query.order_by(runs.c.started_at.desc()))

    def inputs(self, run_id: str) -> list[str]:
        query = sa.select(run_inputs.c.version_id).where(run_inputs.c.run_id == run_id)
        return sorted(row["version_id"] for row in self._rows(query))

    def outputs(self, run_id: str) -> list[str]:
        query = sa.select(run_outputs.c.version_id).where(run_outputs.c.run_id == run_id)
        return sorted(row["version_id"] for row in self._rows(query))

    def made_from(self, version_id: str) -> list[str]:
        """Ids of the versions that `version_id` was made from; a restored one as it was at first."""
        version = self.version(version_id)
        while version is not None and "restored" in version.notes:
            version = self.version(version.notes["restored"]["from"])
        if version is None:
            return []
        query = sa.select(run_inputs.c.version_id).where(run_inputs.c.run_id == version.run_id)
        return sorted(row["version_id"] for row in self._rows(query))

    def used_by(self, version_id: str) -> list[str]:
        """Ids of the versions made by runs that read `version_id`."""
        query = (
            sa.select(versions.c.id)
            .join(run_inputs, run_inputs.c.run_id == versions.c.run_id)
            .where(run_inputs.c.version_id == version_id)
        )
        return sorted(row["id"] for row in self._rows(query))

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

    def forget(self, asset: str, settings: str, *, all: bool = False) -> None:
        """Drop what is staged under another mapping, or all that was read; what it was read up to
        stays as a mark that the next version of `asset` replaces the one before."""
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
                .values(settings="", staged=False)
            )

    def staged(self, asset: str, settings: str) -> list[dict[str, Any]]:
        query = sa.select(staged_files.c.file)
        query = query.where(staged_files.c.asset == asset, staged_files.c.settings == settings)
        return [dict(row["file"]) for row in self._rows(query)]


def _engine(path: Path) -> sa.Engine:
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": 60})

    @sa.event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    return engine


def _version(row: Mapping[str, Any]) -> Version:
    return Version(**{name: value for name, value in row.items() if name != "id"})
