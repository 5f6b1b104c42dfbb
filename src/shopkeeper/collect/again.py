"""Source files of events that are read once more, in the place of what they gave before.

A file that was repaired where it stands cannot just be read again: its events would be there twice, or
the first reading would win. Here the rows of such a file go and those that it gives now take their
arrival numbers, so a file with as many rows as before leaves exactly what reading everything from the
start would leave. All of it is one commit: a run that is killed in between changed nothing.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from shopkeeper.assets.store import Assets, TableWriter
from shopkeeper.collect.batch import REJECTS
from shopkeeper.collect.land import following_number, mapping_digest, put_by_user, raw_schema
from shopkeeper.collect.positions import stamp
from shopkeeper.collect.read import read
from shopkeeper.collect.sources import files_of, find_sources, name_of, objects_of
from shopkeeper.config import Settings, Source
from shopkeeper.engine.steps import Context
from shopkeeper.errors import InputError, NotFound
from shopkeeper.governance.access import OWNER
from shopkeeper.words import Grade, Purpose

TABLE, RAW, UNREAD = "events", "raw.events", "unread.events"
_NOT_FILES = ("sql", "kafka", "redis", "webhook")
LAST = 2**62  # beyond every arrival number
Key = tuple[str, str]  # source, file


@dataclass(frozen=True)
class Held:
    """A source file and what it gave."""

    source: str
    file: str
    rows: int
    rows_in_days: int  # of those, how many are of the days that were asked for
    buckets: tuple[int, ...]
    state: str  # "as it was" | "changed" | "gone", since it was read


def held(
    assets: Assets,
    settings: Settings,
    folder: Path,
    *,
    days: tuple[date, date] | None,
    files: Collection[str] = (),
) -> list[Held]:
    """The source files that gave events of `days` (UTC, both included), and those named, in order.

    Raises:
        NotReady: no event was collected yet. NotFound: a named file gave none.
    """
    version = assets.current(RAW)
    rows = assets.rows(RAW, by=OWNER, purpose=Purpose.OPERATE)
    inside = pl.lit(False)
    if days is not None:
        first, last = (f"{day:%Y-%m-%d}" for day in (days[0], days[1] + timedelta(days=1)))
        inside = (pl.col("ts") >= first) & (pl.col("ts") < last)
    found: dict[Key, list[Any]] = {}
    for bucket in sorted({file.bucket for file in rows.files}):
        scan = assets.scan(
            RAW, by=OWNER, purpose=Purpose.OPERATE, version=version.number, buckets=[bucket]
        )
        counted = scan.group_by("source", "file").agg(
            rows=pl.len(), inside=inside.fill_null(False).sum(), seq=pl.col("seq").min()
        )
        for source, file, count, within, seq in counted.collect().iter_rows():
            told = found.setdefault((source, file), [0, 0, [], seq])
            told[0] += count
            told[1] += within
            told[2].append(bucket)
            told[3] = min(told[3], seq)
    if assets.exists(UNREAD):
        lines = assets.scan(UNREAD, by=OWNER, purpose=Purpose.OPERATE).select("source", "file")
        for key in lines.unique().collect().iter_rows():
            found.setdefault(key, [0, 0, [], LAST])
    if unknown := sorted(set(files) - {file for _, file in found}):
        some = ", ".join(sorted(file for _, file in found)[:5])
        raise NotFound(
            f"no event came from {unknown[0]!r}", where=RAW, next=f"files that gave some: {some}"
        )
    states = _states(assets, settings, folder)
    return [
        Held(*key, told[0], told[1], tuple(told[2]), states.get(key, "gone"))
        for key, told in sorted(found.items(), key=lambda one: one[1][3])
        if told[1] or key[1] in files
    ]


def _states(assets: Assets, settings: Settings, folder: Path) -> dict[Key, str]:
    sources = _file_sources(settings, folder)
    known, _ = assets.catalog.positions(
        RAW, mapping_digest(_all_sources(settings, folder), settings)
    )
    found = {}
    for source in sources:
        name = name_of(source)
        if "://" in (source.path or ""):
            stamps = {one.name: one.stamp for one in objects_of(source)}
        else:
            stamps = {file: stamp(path) for file, path in files_of(source, folder)}
        for file, told in stamps.items():
            was = known.get(name, {}).get(file, {})
            same = all(was.get(key) == value for key, value in told.items())
            found[name, file] = "as it was" if same else "changed"
    return found


def _all_sources(settings: Settings, folder: Path) -> list[Source]:
    return [source for source in find_sources(settings, folder) if source.table == TABLE]


def _file_sources(settings: Settings, folder: Path) -> list[Source]:
    return [s for s in _all_sources(settings, folder) if s.format not in _NOT_FILES]


def read_again(context: Context, files: Sequence[Key]) -> None:
    """The work of a step: `files` (source, file) are read from their start, in the place of their rows.

    Raises:
        InputError: shop.toml reads them otherwise by now, or one of them is gone.
    """
    run, settings, assets = context.run, context.settings, context.assets
    before = assets.current(RAW)
    mapping = mapping_digest(_all_sources(settings, context.folder), settings)
    known, anew = assets.catalog.positions(RAW, mapping)
    if anew:
        raise InputError(
            "shop.toml reads events otherwise than when they were collected, so all must be read anew",
            where=RAW,
            next="shopkeeper run collect, then again",
        )
    wanted = set(files)
    rows = run.table(RAW, "replace", description=f"{TABLE} as the shop handed them over")
    unread = run.table(UNREAD, "replace", description=f"lines of {TABLE} nobody could read")
    described = assets.catalog.asset(RAW, told=False) or {}
    rows.grade = Grade(described.get("grade", Grade.PERSONAL))
    if assets.catalog.staged(RAW, mapping) or assets.catalog.staged(UNREAD, mapping):
        raise InputError(
            "a collecting was stopped before its end",
            where=RAW,
            next="let it go on first: shopkeeper run collect, then again",
        )
    rows.settings = unread.settings = mapping
    rows.put(pl.DataFrame(schema=raw_schema(TABLE)), bucket=0)
    unread.put(pl.DataFrame(schema=REJECTS), bucket=0)
    following = following_number(before)
    numbers = _set_aside(context, RAW, rows, wanted)
    if assets.exists(UNREAD):
        _set_aside(context, UNREAD, unread, wanted)
    taken = 0
    for source in _file_sources(settings, context.folder):
        name = name_of(source)
        if not any(key[0] == name for key in wanted):
            continue
        there = {file: at for file, at in known.get(name, {}).items() if (name, file) not in wanted}
        for batch in read(source, settings, context.folder, there):
            key = (name, batch.file)
            if key not in wanted:
                continue  # it has grown; the next collecting takes that
            height = batch.frame.height
            old = numbers.pop(key, pl.Series("seq", [], dtype=pl.Int64))
            numbers[key] = old[height:]
            more = max(0, height - len(old))
            added = pl.Series("seq", range(following, following + more), dtype=pl.Int64)
            following += more
            frame = batch.frame.with_columns(pl.concat([old[:height], added]).alias("seq"))
            put_by_user(rows, frame.select(raw_schema(TABLE).names()), settings.buckets)
            if batch.rejects.height:
                unread.put(batch.rejects)
            run.position(rows, name, batch.file, batch.position)
            taken += height
            context.progress(batch.done_bytes, batch.total_bytes, f"{taken:,} rows")
            there[batch.file] = batch.position
        if lost := sorted(file for one, file in wanted if one == name and file not in there):
            raise _lost(lost[0])
    named = {name_of(source) for source in _file_sources(settings, context.folder)}
    if gone := sorted(file for name, file in wanted if name not in named):
        raise _lost(gone[0])
    rows.notes = {"begun": run.id}
    if following > rows.rows:
        rows.notes["next"] = following
    run.note("rows", taken)
    run.note("before", before.rows)
    run.note("files", [file for _, file in files])


def _lost(file: str) -> InputError:
    return InputError(
        "this file gave events and cannot be read again",
        where=file,
        next="put it back, or leave out its days; to give its rows up: shopkeeper run collect --force",
    )


def _set_aside(
    context: Context, asset: str, writer: TableWriter, wanted: Collection[Key]
) -> dict[Key, pl.Series]:
    """Keep the data files of `asset` without rows of `wanted`; rows beside such are put anew.

    Returns:
        {(source, file): arrival numbers of the rows that go, ascending}, for a table that has them.
    """
    there = context.assets.rows(asset, by=OWNER, purpose=Purpose.OPERATE, step=context.run.step)
    pairs = pl.DataFrame(sorted(wanted), schema=["source", "file"], orient="row")
    numbers: dict[Key, list[pl.Series]] = {}
    counted = "seq" in there.columns
    for file in sorted(there.files, key=lambda one: (one.bucket, one.path)):
        rest, gone = _parted(replace(there, files=(file,)).scan(), pairs, counted)
        if not gone:
            writer.keep([file], raw_schema(TABLE) if counted else REJECTS)
            continue
        if rest.height:
            writer.put(rest, bucket=file.bucket)
        for key, seq in gone:
            numbers.setdefault(key, []).append(seq)
    return {key: pl.concat(parts).sort() for key, parts in numbers.items()}


def _parted(
    scan: pl.LazyFrame, pairs: pl.DataFrame, counted: bool
) -> tuple[pl.DataFrame, list[tuple[Key, pl.Series]]]:
    """Rows that stay (read only where some go), and the numbers of those that go, by (source, file)."""
    columns = ["source", "file", *["seq"] * counted]
    gone = scan.select(columns).join(pairs.lazy(), on=["source", "file"], how="semi").collect()
    if not gone.height:
        return gone, []
    rest = scan.join(pairs.lazy(), on=["source", "file"], how="anti", maintain_order="left")
    return rest.collect(), list(_by_key(gone, counted))


def _by_key(gone: pl.DataFrame, counted: bool) -> Iterator[tuple[Key, pl.Series]]:
    for (source, file), part in gone.partition_by("source", "file", as_dict=True).items():
        yield (str(source), str(file)), part["seq"] if counted else pl.Series("seq", [], pl.Int64)


def plan(found: Sequence[Held]) -> list[Mapping[str, Any]]:
    """`held` as plain data."""
    return [vars(one) | {"buckets": list(one.buckets)} for one in found]
