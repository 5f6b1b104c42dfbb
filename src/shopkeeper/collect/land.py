"""sources -> raw.<table>: what the shop handed over, row by row with file and line, as text.

Rows are only ever added. Every batch is saved with the place it was read up to, so a killed run
goes on where it was and a file is never read twice. Under a changed mapping all is read anew.
"""

import hashlib
import json
from typing import Any

import polars as pl

from shopkeeper.assets.buckets import bucket_column
from shopkeeper.assets.catalog import Version
from shopkeeper.assets.store import TableWriter
from shopkeeper.collect.batch import REJECTS
from shopkeeper.collect.read import read
from shopkeeper.collect.sources import find_sources, name_of
from shopkeeper.collect.tables import COLUMNS
from shopkeeper.config import Settings, Source
from shopkeeper.engine.steps import Context
from shopkeeper.words import Grade

ABOUT_USERS = ("events", "users")


def raw_schema(table: str) -> pl.Schema:
    """Columns of raw.<table>: canonical ones as text, where the row stood, and its arrival number."""
    columns: dict[str, Any] = dict.fromkeys(COLUMNS[table], pl.String())
    if table == "images":
        columns["content"] = pl.Binary()
    stood = {"source": pl.String(), "file": pl.String(), "line": pl.Int64()}
    return pl.Schema({**columns, **stood, "seq": pl.Int64()})


def mapping_digest(sources: list[Source], settings: Settings) -> str:
    """Changes when the same files would give other rows."""
    rules = [source.model_dump(exclude={"skip"}) for source in sources]
    text = json.dumps([rules, settings.timezone, settings.minor_units, settings.buckets])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def land(context: Context, table: str) -> None:
    """Read what is new in all sources of `table` into raw.<table>; unreadable lines go to
    unread.<table>."""
    run, settings = context.run, context.settings
    sources = [s for s in find_sources(settings, context.folder) if s.table == table]
    if not sources:
        return
    asset = f"raw.{table}"
    mapping = mapping_digest(sources, settings)
    for name in (asset, f"unread.{table}"):
        context.assets.catalog.forget(name, mapping, all=context.force)
    known, anew = context.assets.catalog.positions(asset, mapping)
    anew = anew or context.force
    mode: Any = "replace" if anew else "append"
    rows = run.table(asset, mode, description=f"{table} as the shop handed them over")
    rows.grade = Grade.PERSONAL if table in ABOUT_USERS else Grade.INTERNAL
    unread = run.table(f"unread.{table}", mode, description=f"lines of {table} nobody could read")
    before = context.assets.catalog.current(asset)
    rows.notes = {"begun": begun(before) if before and not anew else run.id}
    run.resume(rows, mapping, raw_schema(table))
    run.resume(unread, mapping, REJECTS)
    rows.put(pl.DataFrame(schema=raw_schema(table)), bucket=0)
    unread.put(pl.DataFrame(schema=REJECTS), bucket=0)
    seq = rows.rows
    if not anew and before is not None:
        seq += before.rows or 0
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
    run.note("rows", taken)
    run.note("unread", refused)


def begun(version: Version) -> str:
    """Which reading the rows of a raw table go back to: rows are only added while it is the same."""
    return version.id if "restored" in version.notes else str(version.notes.get("begun", ""))


def put_by_user(writer: TableWriter, frame: pl.DataFrame, buckets: int) -> None:
    """Write rows about users, each to its user's bucket."""
    parted = frame.with_columns(bucket_column(frame["user_id"], buckets).alias("bucket"))
    for (bucket,), part in parted.partition_by(
        "bucket", as_dict=True, include_key=False, maintain_order=True
    ).items():
        writer.put(part, bucket=int(bucket))
