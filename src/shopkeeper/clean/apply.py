"""raw.<table> -> clean.<table>, quarantine.<table> and quality.<table>: the steps of cleaning.

Events and users are cleaned bucket by bucket, by kernels (`engine.kernels`): functions of one
bucket's rows and of what all buckets share, which write that bucket's data files and return what was
counted. Memory is that of one bucket a worker, whatever the shop.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from shopkeeper.assets import contracts
from shopkeeper.assets.contracts import Contract
from shopkeeper.assets.parts import Part, Place
from shopkeeper.clean import derivations, identity, repairs
from shopkeeper.clean.catalogue import clean_images, clean_items, clean_shops, clean_users
from shopkeeper.clean.checks import Cleaned, Unaccounted
from shopkeeper.clean.events import clean_events
from shopkeeper.clean.report import combine_checks, report
from shopkeeper.collect.sources import files_of, find_sources, name_of
from shopkeeper.config import CleanSettings, Source
from shopkeeper.engine.kernels import BucketTask
from shopkeeper.engine.steps import Context
from shopkeeper.errors import InputError
from shopkeeper.words import ABOUT_USERS, KINDS, Grade

TIME = "%Y-%m-%dT%H:%M:%S%.fZ"  # as collect/ writes one
SHOWN_FILES = 5  # that a message names
PICTURE_BYTES = 64 << 20  # of pictures in memory at a time
LIVE_AFTER = 2**40  # events received while serving come after all that files told


def events_step(context: Context) -> None:
    """raw.events and raw.feedback, by bucket."""
    run, settings = context.run, context.settings
    if not run.has("raw.events") and not run.has("raw.feedback"):
        return
    rows = sum(
        context.assets.current(name).rows or 0
        for name in ("raw.events", "raw.feedback")
        if run.has(name)
    )
    if not rows:
        raise _no_events(context)
    contract = contract_of(context, "events")
    items = None
    if run.has("clean.items"):
        found = [run.scan("clean.items", columns=["item_id", "price_minor"])]
        if run.has("quarantine.items"):  # a bad price must not drag the item's events along
            bad = run.scan("quarantine.items", columns=["item_id"])
            bad = bad.select(pl.col("item_id").str.strip_chars())
            found.append(bad.drop_nulls().unique())
        items = pl.concat(found, how="diagonal").unique("item_id", keep="first").collect()
        if items.height and run.has("raw.item_writes"):  # what was sold once was no mistake
            gone = run.scan("raw.item_writes", columns=["item_id", "mode"])
            gone = gone.filter(pl.col("mode") == "delete")
            ids = gone.select("item_id").unique().collect().join(items, on="item_id", how="anti")
            items = pl.concat([items, ids.sort("item_id")], how="diagonal")
    shops = None
    if run.has("clean.shops"):
        shops = run.read("clean.shops", columns=["shop_id"])["shop_id"]
    has_time = True
    if run.has("raw.events"):
        timed = (
            run.scan("raw.events", columns=["ts"])
            .select(pl.col("ts").is_not_null().any())
            .collect()
            .item()
        )
        has_time = bool(timed)
    persons = identity.persons_of(run)
    shared = EventsShared(
        items=items,
        shops=shops,
        settings=settings.clean,
        now=datetime.now(UTC),
        has_time=has_time,
        contract=contract,
        persons=persons,
        away=identity.movers(persons, settings.buckets),
        repairs=repairs.repairs_of(run, "events"),
        out=outputs(context, "events", contract),
    )
    names = [name for name in ("raw.events", "raw.feedback") if run.has(name)]
    names += [identity.MOVED] * (shared.away.height > 0)
    tasks = list(context.buckets(names, range(settings.buckets)))
    derivations.events(run, contract, (identity.IDENTITIES, identity.MOVED))
    account(context, "events", contract, rows, context.each(clean_events_bucket, shared, tasks))


@dataclass(frozen=True)
class EventsShared:
    """What cleaning any bucket of events needs; see `clean_events`."""

    items: pl.DataFrame | None
    shops: pl.Series | None
    settings: CleanSettings
    now: datetime
    has_time: bool
    contract: Contract
    persons: pl.DataFrame  # user_id, person
    away: pl.DataFrame  # user_id, from, to: whose person lives in another bucket
    repairs: tuple[repairs.Repair, ...]
    out: "Outputs"


def clean_events_bucket(shared: EventsShared, task: BucketTask) -> "Settled":
    """Kernel: raw.events and raw.feedback of one bucket."""
    found = []
    for name in ("raw.events", "raw.feedback"):
        if name in task.inputs:
            rows = task.inputs[name].scan()
            if shared.away.height:
                came = task.inputs[identity.MOVED].scan()
                rows = identity.of_bucket(name, task.bucket, rows, came, shared.away)
            after = LIVE_AFTER if name == "raw.feedback" else 0
            found.append(rows.with_columns(pl.col("seq") + after))
    work = partial(
        clean_events,
        items=shared.items,
        shops=shared.shops,
        settings=shared.settings,
        now=shared.now,
        has_time=shared.has_time,
        contract=shared.contract,
    )
    cleaned = repairs.clean(pl.concat(found).collect(), shared.repairs, work)
    clean = identity.follow(cleaned.clean, shared.persons)
    return settle(task.bucket, replace(cleaned, clean=clean), shared.out)


def _no_events(context: Context) -> InputError:
    """Sources of events were read, and none has a row."""
    sources = find_sources(context.settings, context.folder)
    files = [
        name
        for source in sources
        if source.table == "events"
        for name in ([name_of(source)] if source.path is None else _files(source, context.folder))
    ]
    named = ", ".join(files[:SHOWN_FILES]) + (" …" if len(files) > SHOWN_FILES else "")
    unread = context.assets.catalog.current("unread.events")
    if unread is not None and unread.rows:
        return InputError(
            f"no event to learn from: none of the {unread.rows:,} lines of {named} can be read",
            where="events",
            next="see why: shopkeeper quarantine ls",
        )
    return InputError(
        f"no event to learn from: no rows below the header in {named}",
        where="events",
        next="export them again, or name the right files by `path` in shop.toml, then run again",
    )


def _files(source: Source, folder: Path) -> list[str]:
    return [name for name, _ in files_of(source, folder)]


def items_step(context: Context) -> None:
    """raw.items, and item writes in the order in which both arrived; an empty table without any."""
    run = context.run
    contract = contract_of(context, "items")
    shops = None
    if run.has("clean.shops"):
        shops = run.read("clean.shops", columns=["shop_id"])["shop_id"]
    files = run.read("raw.items") if run.has("raw.items") else None
    writes = run.read("raw.item_writes") if run.has("raw.item_writes") else None
    raw = with_writes(files, writes, [column.name for column in contract.columns])
    now = datetime.now(UTC)

    def work(rows: pl.DataFrame) -> Cleaned:
        return clean_items(
            rows.drop("empties"),
            empties=rows["empties"],
            shops=shops,
            settings=context.settings.clean,
            now=now,
            contract=contract,
        )

    cleaned = repairs.clean(raw, repairs.repairs_of(run, "items"), work)
    derivations.items(run, contract)
    write(context, "items", contract, raw.height, [(0, cleaned)])


def users_step(context: Context) -> None:
    """raw.users, by bucket."""
    contract, settings = contract_of(context, "users"), context.settings
    out = outputs(context, "users", contract)
    told = repairs.repairs_of(context.run, "users")
    shared = UsersShared(settings.clean, datetime.now(UTC), contract, told, out)
    tasks = context.buckets(["raw.users"], range(settings.buckets))
    rows = context.assets.current("raw.users").rows or 0
    account(context, "users", contract, rows, context.each(clean_users_bucket, shared, tasks))


@dataclass(frozen=True)
class UsersShared:
    """What cleaning any bucket of users needs."""

    settings: CleanSettings
    now: datetime
    contract: Contract
    repairs: tuple[repairs.Repair, ...]
    out: "Outputs"


def clean_users_bucket(shared: UsersShared, task: BucketTask) -> "Settled":
    """Kernel: raw.users of one bucket."""
    raw = task.inputs["raw.users"].scan().collect()
    work = partial(clean_users, settings=shared.settings, now=shared.now, contract=shared.contract)
    cleaned = repairs.clean(raw, shared.repairs, work)
    return settle(task.bucket, cleaned, shared.out)


def shops_step(context: Context) -> None:
    contract, now = contract_of(context, "shops"), datetime.now(UTC)
    raw = context.run.read("raw.shops")
    work = partial(clean_shops, settings=context.settings.clean, now=now, contract=contract)
    cleaned = repairs.clean(raw, repairs.repairs_of(context.run, "shops"), work)
    write(context, "shops", contract, raw.height, [(0, cleaned)])


def images_step(context: Context) -> None:
    contract = contract_of(context, "images")
    scan = context.run.scan("raw.images")
    whole_files(context, "images", contract, clean_images(scan.drop("content"), contract=contract))


def whole_files(context: Context, table: str, contract: Contract, cleaned: Cleaned) -> None:
    """Write what became of a table of files, each row with its bytes."""
    scan = context.run.scan(f"raw.{table}")
    names = scan.collect_schema().names()
    sizes = scan.select("seq", size=pl.col("content").bin.size()).collect().sort("seq")

    def parts() -> Iterable[tuple[int, Cleaned]]:
        """Files in order of arrival, as many at a time as PICTURE_BYTES allow."""
        rest = cleaned
        part = (pl.col("size").fill_null(0).cum_sum() - 1).clip(0) // PICTURE_BYTES
        for (_,), some in sizes.group_by(part, maintain_order=True):
            here = pl.col("seq").is_between(some["seq"][0], some["seq"][-1])
            bytes_ = scan.filter(here).select("seq", "content").collect()
            clean = cleaned.clean.filter(here).join(bytes_, on="seq", how="left")
            bad = cleaned.quarantine.filter(here).join(bytes_, on="seq", how="left")
            bad = bad.select(*names, "rule", "detail")
            yield 0, replace(rest, clean=clean.sort("file_path"), quarantine=bad)
            rest = replace(cleaned, checks=cleaned.checks.clear(), merged=0, repaired={})

    def none() -> Iterable[tuple[int, Cleaned]]:
        empty = pl.lit(None, pl.Binary).alias("content")
        bad = cleaned.quarantine.with_columns(empty).select(*names, "rule", "detail")
        yield 0, replace(cleaned, clean=cleaned.clean.with_columns(empty), quarantine=bad)

    write(context, table, contract, sizes.height, parts() if sizes.height else none())


def with_writes(
    files: pl.DataFrame | None, writes: pl.DataFrame | None, columns: list[str]
) -> pl.DataFrame:
    """Item rows of files and live writes as one table in order of arrival, `seq` anew.

    A write is as of the instant it was received; a file's row is as of its own `updated_at`, or
    else it arrived before or after the write, and after it is as of that write. A put or a delete
    makes what was before of its item void: such rows are left out here, and so is the delete
    itself. A patch is a row that tells only some columns, and in `empties` those that it empties
    (null for none); "attributes.colour" is one attribute. A patch of what was not there, or was
    deleted, tells nothing.
    """
    trace = ["source", "file", "line", "seq", "empties"]
    schema: dict[str, pl.DataType] = dict.fromkeys([*columns, "source", "file"], pl.String())
    schema |= {"line": pl.Int64(), "seq": pl.Int64(), "empties": pl.List(pl.String())}
    if files is None:
        files = pl.DataFrame(schema=schema)
    if writes is None or not writes.height:
        return files.with_columns(empties=pl.lit(None, schema["empties"])).select(*columns, *trace)
    told = []
    for item_id, mode, text, received, after, line, seq in writes.select(
        "item_id", "mode", "fields", "received", "after_rows", "line", "seq"
    ).iter_rows():
        fields = json.loads(text)
        empties = []
        if mode == "patch":
            empties = [name for name in columns if name in fields and fields[name] is None]
            attributes = fields.get("attributes") or {}
            empties += [f"attributes.{name}" for name, v in attributes.items() if v is None]
            known = {name: value for name, value in attributes.items() if value is not None}
            fields["attributes"] = known or None
        row: dict[str, Any] = {name: _text(fields.get(name)) for name in columns}
        row |= {"item_id": item_id, "source": "live", "file": "items.db", "line": line}
        row |= {"updated_at": received, "empties": empties or None}
        told.append(row | {"seq": seq, "mode": mode, "after": after, "live": 1})
    rows = pl.concat(
        [
            files.with_columns(mode=pl.lit("file"), after=pl.col("seq") + 1, live=pl.lit(0)),
            pl.DataFrame(
                told,
                schema={**schema, "mode": pl.String(), "after": pl.Int64(), "live": pl.Int32()},
            ),
        ],
        how="diagonal",
    ).sort("after", "live", "seq")
    rows = rows.with_columns(seq=pl.int_range(pl.len(), dtype=pl.Int64))
    live, own = pl.col("live") == 1, pl.col("updated_at")
    anew = pl.col("mode").is_in(["put", "delete"])
    rows = rows.with_columns(
        at=own.str.to_datetime(TIME, time_unit="us", strict=False),
        anew=pl.when(anew).then("seq").max().over("item_id"),
    )
    anew_at = pl.col("at").filter(pl.col("seq") == pl.col("anew")).first().over("item_id")
    dated = ~live & pl.col("at").is_not_null()
    stands = pl.when(dated).then(pl.col("at") > anew_at).otherwise(pl.col("seq") >= pl.col("anew"))
    written = pl.when(live).then(own).forward_fill().over("item_id")
    rows = rows.with_columns(
        updated_at=pl.coalesce(own, written), key=pl.col("item_id").str.strip_chars()
    )
    rows = rows.filter(stands.fill_null(True), pl.col("mode") != "delete")
    whole = pl.col("mode") != "patch"
    first = (pl.col(name).filter(whole).min().over("key") for name in ("seq", "at"))
    there = pl.any_horizontal(
        pl.col(name) >= one for name, one in zip(("seq", "at"), first, strict=True)
    )
    return rows.filter(whole | there.fill_null(False)).select(*columns, *trace)


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def contract_of(context: Context, table: str) -> Contract:
    return contracts.load(context.folder)[table]


# what becomes of a bucket


@dataclass(frozen=True)
class Outputs:
    """Where a table's clean and rejected rows go."""

    clean: Place
    quarantine: Place


@dataclass(frozen=True)
class Settled:
    """What became of one bucket: its data files on disk, and the accounts."""

    clean: Part
    quarantine: Part
    checks: pl.DataFrame
    merged: int
    repaired: Mapping[str, int]


def settle(bucket: int, cleaned: Cleaned, out: Outputs) -> Settled:
    """Write one bucket's rows; runs where the kernel runs. Whatever else is to be known of the clean
    rows of each bucket is computed here, while they are in memory."""
    return Settled(
        clean=out.clean.write(cleaned.clean, bucket, synced=True),
        quarantine=out.quarantine.write(cleaned.quarantine, bucket, synced=True),
        checks=cleaned.checks,
        merged=cleaned.merged,
        repaired=cleaned.repaired,
    )


def outputs(context: Context, table: str, contract: Contract) -> Outputs:
    """Where `account` expects the rows of `table`."""
    run = context.run
    grade = Grade.PERSONAL if table in ABOUT_USERS else Grade.INTERNAL
    if table in KINDS:
        grade = max(grade, contract.grade, key=list(Grade).index)
    clean = run.table(
        f"clean.{table}",
        description=f"{table}, checked and repaired",
        grade=grade,
        contract=(contract.name, contract.version),
        grades={"*": grade} | {column.name: column.grade for column in contract.columns},
    )
    rejected = run.table(
        f"quarantine.{table}", description=f"{table} that broke a rule, whole", grade=grade
    )
    return Outputs(clean.place, rejected.place)


def account(
    context: Context, table: str, contract: Contract, rows: int, done: Iterable[Settled]
) -> None:
    """Take what became of `rows` rows into the run, and check that every one is accounted for."""
    run = context.run
    clean, rejected = run.table(f"clean.{table}"), run.table(f"quarantine.{table}")
    checks: list[pl.DataFrame] = []
    repaired: dict[str, int] = {}
    merged = 0
    buckets = context.settings.buckets if table in ABOUT_USERS else 1
    for part in done:
        clean.take(part.clean)
        rejected.take(part.quarantine)
        checks.append(part.checks)
        merged += part.merged
        for rule, count in part.repaired.items():
            repaired[rule] = repaired.get(rule, 0) + count
        context.progress(part.clean.bucket + 1, buckets, f"bucket {part.clean.bucket + 1}")
    if clean.name not in run.lineage.said:
        derivations.table(run, contract)
    kept, quarantined = clean.rows, rejected.rows
    if rows != kept + merged + quarantined:
        raise Unaccounted(
            f"{table}: {rows} rows in, but {kept} clean + {merged} merged + {quarantined} quarantined"
        )
    combined = combine_checks(checks)
    told = report(combined, clean=kept, merged=merged, quarantined=quarantined, repaired=repaired)
    clean.quality = {key: value for key, value in told.items() if key != "rules"}
    run.table(
        f"quality.{table}",
        description=f"what was checked in {table}, and what was found",
        quality=clean.quality,
        notes=told,
    ).put(combined)
    run.note("rows", rows)
    run.note("clean", kept)
    run.note("merged", merged)
    run.note("quarantined", quarantined)
    run.note("repaired", repaired)


def write(
    context: Context,
    table: str,
    contract: Contract,
    rows: int,
    parts: Iterable[tuple[int, Cleaned]],
) -> None:
    """`settle` and `account` for what was cleaned in this process."""
    out = outputs(context, table, contract)
    account(context, table, contract, rows, (settle(n, part, out) for n, part in parts))
