"""The whole catalogue from one database into another, row by row: for backups, and to move it."""

import hashlib
from pathlib import Path

import sqlalchemy as sa

from shopkeeper.assets import durable
from shopkeeper.assets.schema import METADATA, SCHEMA_VERSION, fixed
from shopkeeper.errors import InputError

BATCH = 2_000  # rows in memory at a time
_TAKEN = "taken_in"  # in `fixed`: digest of the file that was moved into this database


def into_file(source: sa.Engine, path: Path) -> None:
    """Write the catalogue in `source`, as of one moment, into a new SQLite file at `path`."""
    engine = sa.create_engine(f"sqlite:///{path}")
    try:
        with (
            source.connect().execution_options(isolation_level="REPEATABLE READ") as old,
            engine.begin() as new,
        ):
            METADATA.create_all(new)
            copy_rows(old, new)
            new.execute(fixed.delete().where(fixed.c.name == _TAKEN))
            new.exec_driver_sql(f"PRAGMA user_version={SCHEMA_VERSION}")
    finally:
        engine.dispose()
    durable.sync_file(path)


def as_it_was(source: sa.Connection, path: Path, version: int) -> None:
    """Write a catalogue of an older schema, as it stands on a server, into a new SQLite file.

    Tables and columns are those that are there, and JSON is copied as the text it is kept in.
    """
    found = sa.MetaData()
    there = set(sa.inspect(source).get_table_names())
    found.reflect(source, only=sorted(there & set(METADATA.tables)))
    engine = sa.create_engine(f"sqlite:///{path}")
    try:
        with engine.begin() as new:
            for table in found.sorted_tables:
                columns = [
                    sa.Column(
                        c.name, c.type.as_generic(), primary_key=c.primary_key, nullable=c.nullable
                    )
                    for c in table.columns
                ]
                sa.Table(table.name, sa.MetaData(), *columns).create(new)
                texts = [
                    sa.cast(c, sa.Text).label(c.name) if isinstance(c.type, sa.JSON) else c
                    for c in table.columns
                ]
                target = sa.table(table.name, *(sa.column(c.name) for c in table.columns))
                rows = (
                    source.execution_options(yield_per=BATCH).execute(sa.select(*texts)).mappings()
                )
                for some in rows.partitions(BATCH):
                    new.execute(target.insert(), [dict(row) for row in some])
            new.execute(
                sa.table(fixed.name, sa.column("name")).delete().where(sa.column("name") == _TAKEN)
            )
            new.exec_driver_sql(f"PRAGMA user_version={version}")
    finally:
        engine.dispose()


def take_in(path: Path, target: sa.Connection, *, empty: bool) -> None:
    """Move the SQLite catalogue at `path`, if there is one, into the database that takes its place.

    Afterwards, once the transaction of `target` is committed, `put_aside` renames the file.

    Raises:
        InputError: the database holds another catalogue already, or the file is of an older schema.
    """
    if not path.exists():
        return
    digest = _digest(path)
    if not empty:
        known = target.execute(sa.select(fixed.c.value).where(fixed.c.name == _TAKEN)).scalar()
        if known == digest:  # killed between the commit and the renaming
            return
        raise InputError(
            "this file and the database named by `catalog` both hold a catalogue",
            where=str(path),
            next="name an empty database to move the file into it, or move the file away to go on "
            "with what the database holds",
        )
    engine = sa.create_engine(f"sqlite:///{path}")
    try:
        with engine.connect() as old:
            found = old.exec_driver_sql("PRAGMA user_version").scalar()
            if found != SCHEMA_VERSION:
                raise InputError(
                    f"this catalogue is of schema {found}, wanted {SCHEMA_VERSION}",
                    where=str(path),
                    next="take `catalog` out of shop.toml, run: shopkeeper upgrade; then put it back",
                )
            copy_rows(old, target)
    finally:
        engine.dispose()
    target.execute(fixed.insert().values(name=_TAKEN, value=digest))


def put_aside(path: Path) -> None:
    """Rename a file that was taken in, so that nobody takes it for the catalogue."""
    if path.exists():
        path.replace(path.with_suffix(".moved"))
        durable.sync_folder(path.parent)


def copy_rows(source: sa.Connection, target: sa.Connection) -> None:
    """Copy every table into the empty tables of `target`; its counters go on behind the last row."""
    for table in METADATA.sorted_tables:
        if not sa.inspect(source).has_table(table.name):
            continue
        rows = source.execution_options(yield_per=BATCH).execute(sa.select(table)).mappings()
        for some in rows.partitions(BATCH):
            target.execute(table.insert(), [dict(row) for row in some])
        counter = table.autoincrement_column
        if counter is not None and target.dialect.name == "postgresql":
            last = target.execute(sa.select(sa.func.max(counter))).scalar()
            if last is not None:
                sequence = sa.func.pg_get_serial_sequence(table.name, counter.name)
                target.execute(sa.select(sa.func.setval(sequence, last)))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
