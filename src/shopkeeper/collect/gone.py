"""Rows of streams that the streams no longer hold, kept when all else is read anew.

A file that is gone stops a reading under a changed mapping, because it could be put back. A topic's
retention cannot be undone: rows whose messages it deleted stay as they were mapped when they were
read, and reading goes on at the oldest message that is left. A webhook's rows are kept even where all
is read from the start by force: it was we who deleted them (webhook.prune).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import sqlalchemy as sa

from shopkeeper.assets.catalog import GIVEN_UP
from shopkeeper.assets.schema import positions
from shopkeeper.assets.store import TableWriter
from shopkeeper.collect import streams
from shopkeeper.collect.sources import name_of
from shopkeeper.config import Source
from shopkeeper.engine.steps import Context
from shopkeeper.words import ABOUT_USERS

Positions = dict[str, dict[str, dict[str, Any]]]


def keep(
    context: Context,
    rows: TableWriter,
    unread: TableWriter,
    sources: Sequence[Source],
    known: Positions,
) -> None:
    """Put rows that cannot be read again into `rows` and `unread`, once, and note in `known` where
    their streams are read from; saved together, so a killed run neither loses nor doubles them."""
    before = _read_before(context, rows.name)
    kept = 0
    for source in sources:
        if source.format not in streams.OPEN:
            continue
        name = name_of(source)
        for part, (first, position) in streams.parts(source, context.folder).items():
            if part in known.get(name, {}):
                continue  # a killed run did it
            was = before.get(name, {}).get(part)
            if was is None or not first:
                continue
            here = (pl.col("source") == name) & (pl.col("file") == part) & (pl.col("line") < first)
            kept += _copy(context, rows, here)
            _copy(context, unread, here)
            if _behind(was, position):
                position = was  # what was lost in between is told when reading goes on there
            known.setdefault(name, {})[part] = position
            context.run.position(rows, name, part, position)
            context.run.checkpoint()
    if kept:
        context.run.note("kept", kept)


def _read_before(context: Context, asset: str) -> Positions:
    """What the current version of `asset` was read up to, whatever the mapping was."""
    given_up = (positions.c.settings == GIVEN_UP) & positions.c.file.not_like("hook:%")
    settled = ~positions.c.staged & (positions.c.settings != "") & ~given_up
    columns = positions.c.source, positions.c.file, positions.c.position
    query = sa.select(*columns).where(positions.c.asset == asset, settled)
    found: Positions = {}
    with context.assets.catalog.reader.begin() as connection:
        for source, part, position in connection.execute(query):
            found.setdefault(source, {})[part] = position
    return found


def _behind(was: Mapping[str, Any], oldest: Mapping[str, Any]) -> bool:
    """Whether reading had not come as far as what is the oldest message now."""
    keys = [key for key in ("offset", "added") if key in was and key in oldest]
    return any(was[key] < oldest[key] for key in keys)


def _copy(context: Context, into: TableWriter, which: pl.Expr) -> int:
    """Rows of the current version into the next one, numbered on in the order they arrived in."""
    run, table = context.run, into.name.partition(".")[2]
    by_user = table in ABOUT_USERS and into.name.startswith("raw.")

    def scan(buckets: list[int] | None = None) -> pl.LazyFrame:
        rows = context.assets.scan(into.name, buckets=buckets, by=run.by, purpose=run.purpose)
        return rows.filter(which)

    numbered = "seq" in scan().collect_schema()
    seqs = (
        scan().select("seq").collect()["seq"].sort() if numbered else pl.Series([], dtype=pl.Int64)
    )
    start, copied = into.rows, 0
    for bucket in range(context.settings.buckets) if by_user else (None,):
        found = scan(None if bucket is None else [bucket]).collect()
        if numbered:
            found = found.with_columns(seq=start + seqs.search_sorted(found["seq"]).cast(pl.Int64))
        if found.height:
            into.put(found, bucket=bucket or 0)
        copied += found.height
    return copied
