"""sources -> raw.<table>: what the shop handed over, row by row with file and line, as text.

Rows are only ever added. Every batch is saved with the place it was read up to, so a killed run
goes on where it was and a file is never read twice. Under a changed mapping all is read anew, save
rows whose stream gave their messages up since (gone.py): these stay as they were read.
"""

import hashlib
import json
from typing import Any

import polars as pl

from shopkeeper.assets.buckets import bucket_column
from shopkeeper.assets.catalog import Version
from shopkeeper.assets.store import TableWriter
from shopkeeper.collect import gone, streams
from shopkeeper.collect.batch import REJECTS
from shopkeeper.collect.read import read
from shopkeeper.collect.sources import files_of, find_sources, name_of
from shopkeeper.collect.tables import COLUMNS
from shopkeeper.config import Settings, Source
from shopkeeper.engine.steps import Context
from shopkeeper.errors import InputError
from shopkeeper.words import ABOUT_USERS, WHOLE_FILES, Grade


def raw_schema(table: str) -> pl.Schema:
    """Columns of raw.<table>: canonical ones as text, where the row stood, and its arrival number."""
    columns: dict[str, Any] = dict.fromkeys(COLUMNS[table], pl.String())
    if table in WHOLE_FILES:
        columns["content"] = pl.Binary()
    stood = {"source": pl.String(), "file": pl.String(), "line": pl.Int64()}
    return pl.Schema({**columns, **stood, "seq": pl.Int64()})


def mapping_digest(sources: list[Source], settings: Settings) -> str:
    """Changes when the same files would give other rows."""
    rules = [source.model_dump(exclude={"skip"}, exclude_defaults=True) for source in sources]
    text = json.dumps([rules, settings.timezone, settings.minor_units, settings.buckets])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def land(context: Context, table: str) -> None:
    """Read what is new in all sources of `table` into raw.<table>; unreadable lines go to
    unread.<table>.

    Rows stay until they are read anew, also those of a table that no source names any more; forced,
    such a table is emptied.

    Raises:
        InputError: all must be read anew, and a file whose rows are here is gone.
    """
    run, settings = context.run, context.settings
    sources = [s for s in find_sources(settings, context.folder) if s.table == table]
    asset = f"raw.{table}"
    before = context.assets.catalog.current(asset)
    if not sources and (before is None or not context.force):
        if before is not None:
            run.note("kept", before.rows)
            context.progress(1, 1, f"no source any more: its {before.rows:,} rows stay")
        return
    mapping = mapping_digest(sources, settings)
    for name in (asset, f"unread.{table}"):
        context.assets.catalog.forget(name, mapping, all=context.force)
    known, anew = context.assets.catalog.positions(asset, mapping)
    if anew and not context.force:
        _all_there(context, asset, sources)
    anew = anew or context.force
    mode: Any = "replace" if anew else "append"
    rows = run.table(asset, mode, description=f"{table} as the shop handed them over")
    rows.grade = Grade.PERSONAL if table in ABOUT_USERS else Grade.INTERNAL
    unread = run.table(f"unread.{table}", mode, description=f"lines of {table} nobody could read")
    rows.notes = {"begun": begun(before) if before and not anew else run.id}
    run.resume(rows, mapping, raw_schema(table))
    run.resume(unread, mapping, REJECTS)
    rows.put(pl.DataFrame(schema=raw_schema(table)), bucket=0)
    unread.put(pl.DataFrame(schema=REJECTS), bucket=0)
    if anew and before is not None:
        some = [s for s in sources if not context.force or s.format == "webhook"]
        gone.keep(context, rows, unread, some, known)
    seq = rows.rows
    if not anew and before is not None:
        seq += following_number(before)
    taken = refused = 0
    for source in sources:
        name = name_of(source)
        for batch in read(source, settings, context.folder, known.get(name, {})):
            height = batch.frame.height
            frame = batch.frame.with_columns(seq=pl.int_range(seq, seq + height, dtype=pl.Int64))
            frame = frame.select(raw_schema(table).names())
            if table in ABOUT_USERS:
                put_by_user(rows, frame, settings.buckets)
            else:
                rows.put(frame)
            if batch.rejects.height:
                unread.put(batch.rejects)
            run.position(rows, name, batch.file, batch.position)
            run.checkpoint()
            seq += height
            taken += height
            refused += batch.rejects.height
            context.progress(batch.done_bytes, batch.total_bytes, f"{taken:,} rows")
    if seq > rows.rows + (0 if anew or before is None else before.rows or 0):
        rows.notes["next"] = seq
    run.note("rows", taken)
    run.note("unread", refused)


def _all_there(context: Context, asset: str, sources: list[Source]) -> None:
    """InputError where a file that `asset` holds rows of could not be read anew."""
    there = {source.sql_table for source in sources if source.format == "sql"}
    for source in sources:
        if source.format in streams.OPEN:
            there |= {*streams.parts(source, context.folder)}
        elif source.format != "sql":
            there |= {name for name, _ in files_of(source, context.folder)}
    if lost := sorted(context.assets.catalog.files_read(asset) - there):
        more = f" and {len(lost) - 3:,} more" if len(lost) > 3 else ""
        raise InputError(
            f"sources or settings of {asset} changed, so its files must be read anew, but "
            f"{', '.join(lost[:3])}{more} can not: no source finds them any more",
            where=str(context.folder),
            next="put them back, undo the change in shop.toml, or give their rows up with: "
            f"shopkeeper run collect.{asset.partition('.')[2]} --force",
        )


def following_number(version: Version) -> int:
    """The arrival number of the next row that comes into a raw table; more than its rows where a file
    was read again and gave fewer (again.py)."""
    return max(version.rows or 0, int(version.notes.get("next", 0)))


def begun(version: Version) -> str:
    """Which reading the rows of a raw table go back to: rows are only added while it is the same."""
    return version.id if "restored" in version.notes else str(version.notes.get("begun", ""))


def put_by_user(writer: TableWriter, frame: pl.DataFrame, buckets: int) -> None:
    """Write rows about users, each to its user's bucket: that of the id as it stands after cleaning."""
    users = frame["user_id"].str.strip_chars()
    parted = frame.with_columns(bucket_column(users, buckets).alias("bucket"))
    for (bucket,), part in parted.partition_by(
        "bucket", as_dict=True, include_key=False, maintain_order=True
    ).items():
        writer.put(part, bucket=int(bucket))
