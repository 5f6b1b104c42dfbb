"""raw.events and raw.feedback -> clean.events, bucket by bucket: all of it, or what is new.

Where much is there already and nothing but rows has come, a bucket gets its new rows cleaned and beside
its old ones (`additions` tells for which users both must be judged together). Where that would change
what became of an old row, the bucket is cleaned anew, and so is one to which much was added: rows of a
bucket that is cleaned as a whole lie in order of user and time. Which rows there are, and in which table,
is the same either way; reasons in quarantine and the counts of late rows are as of when a row came.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from shopkeeper.assets.catalog import Version
from shopkeeper.assets.contracts import Contract
from shopkeeper.assets.lake import DataFile
from shopkeeper.assets.parts import Rows
from shopkeeper.assets.profile import merge_parts
from shopkeeper.clean import additions, derivations, identity, repairs
from shopkeeper.clean.apply import Account, Outputs, Settled, account, contract_of, outputs, settle
from shopkeeper.clean.checks import Cleaned
from shopkeeper.clean.events import clean_events
from shopkeeper.clean.report import difference
from shopkeeper.collect.sources import files_of, find_sources, name_of
from shopkeeper.config import CleanSettings, Source
from shopkeeper.engine.kernels import BucketTask
from shopkeeper.engine.steps import Context
from shopkeeper.errors import InputError, NotFound
from shopkeeper.governance.access import OWNER
from shopkeeper.words import Purpose

CLEAN, QUARANTINE = "clean.events", "quarantine.events"
RAW = ("raw.events", "raw.feedback")
ITEMS = ("clean.items", "quarantine.items", "raw.item_writes")
SHOWN_FILES = 5  # that a message names
LIVE_AFTER = 2**40  # events received while serving come after all that files told
MANY_FILES = 16  # of one bucket, from which on it is cleaned anew
MUCH = 0.5  # share of a bucket's rows that were added, from which on it is cleaned anew
NEW = "new "  # of a raw table's name: only its new rows

Scan = Callable[[str, Sequence[str]], pl.LazyFrame | None]


def events_step(context: Context, anew: frozenset[int] = frozenset()) -> None:
    """raw.events and raw.feedback, by bucket; those of `anew` as a whole, whatever is there."""
    run, settings = context.run, context.settings
    names = [name for name in RAW if run.has(name)]
    rows = sum(context.assets.current(name).rows or 0 for name in names)
    if not names:
        return
    if not rows:
        raise _no_events(context)
    contract = contract_of(context, "events")
    items = known_items(
        lambda name, columns: run.scan(name, columns=columns) if run.has(name) else None
    )
    shops = None
    if run.has("clean.shops"):
        shops = run.read("clean.shops", columns=["shop_id"])["shop_id"]
    persons = identity.persons_of(run)
    told = repairs.repairs_of(run, "events")
    past = None
    if not context.force and not persons.height and not told:
        past = _past(context, names, items, shops)
    shared = EventsShared(
        items=items,
        shops=shops,
        settings=settings.clean,
        now=datetime.now(UTC),
        has_time=True if past and not past.broken else _has_time(context),
        contract=contract,
        persons=persons,
        away=identity.movers(persons, settings.buckets),
        repairs=told,
        out=outputs(context, "events", contract),
        changed=past.changed if past else None,
        before=past.accounts if past else {},
        then=past.then if past else datetime.min,
        then_items=past.items if past else None,
        remembers=rows >= settings.clean.add_from_rows,
    )
    whole = [*names, *[identity.MOVED] * (shared.away.height > 0)]
    tasks = list(context.buckets(whole, range(settings.buckets)))
    derivations.events(run, contract, (identity.IDENTITIES, identity.MOVED))
    clean, rejected = run.table(CLEAN), run.table(QUARANTINE)
    if past is None:
        done = context.each(clean_events_bucket, shared, tasks)
        accounts = account(context, "events", contract, rows, done)
        profiles = clean.profiles
    else:
        clean.mode = rejected.mode = "buckets"
        few = past.worn(settings.buckets) | past.broken | anew
        done = _beside(
            context, past, context.each(add_events, shared, past.tasks(iter(tasks), few))
        )
        accounts = account(context, "events", contract, rows, done, past.accounts)
        profiles = [past.profile, *clean.profiles] if not run.notes.get("buckets_anew") else []
        run.note("added", sum(file.rows for found in past.new.values() for file in found))
    parts = [part for part in profiles if part is not None]
    clean.whole = merge_parts(parts) if parts and len(parts) == len(profiles) else None
    if shared.remembers:
        _remember(context, names, accounts, shops, shared.has_time, shared.now)


def known_items(scan: Scan) -> pl.DataFrame | None:
    """item_id, price_minor of what events may name; None: there is no item table.

    A bad price must not drag the item's events along, and what was sold once was no mistake: items
    in quarantine and items that were deleted are known.
    """
    items = scan("clean.items", ["item_id", "price_minor"])
    if items is None:
        return None
    found = [items]
    bad = scan("quarantine.items", ["item_id"])
    if bad is not None:
        found.append(bad.select(pl.col("item_id").str.strip_chars()).drop_nulls().unique())
    known = pl.concat(found, how="diagonal").unique("item_id", keep="first").collect()
    gone = scan("raw.item_writes", ["item_id", "mode"])
    if known.height and gone is not None:
        ids = gone.filter(pl.col("mode") == "delete").select("item_id").unique().collect()
        ids = ids.join(known, on="item_id", how="anti")
        known = pl.concat([known, ids.sort("item_id")], how="diagonal")
    return known


def _has_time(context: Context) -> bool:
    """Whether any source has times. Events received while serving always have."""
    if not context.run.has("raw.events"):
        return True
    scan = context.run.scan("raw.events", columns=["ts"])
    return bool(scan.select(pl.col("ts").is_not_null().any()).collect().item())


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
    out: Outputs
    changed: pl.DataFrame | None = None  # of items, since the rows that are there were cleaned
    before: Mapping[int, Account] = field(default_factory=dict)  # of each bucket that is there
    then: datetime = datetime.min  # when they were cleaned, and by which items
    then_items: pl.DataFrame | None = None
    remembers: bool = False  # what the next run must know to add to what this one makes


def clean_events_bucket(shared: EventsShared, task: BucketTask) -> Settled:
    """Kernel: raw.events and raw.feedback of one bucket."""
    found = []
    for name in RAW:
        if name in task.inputs:
            rows = task.inputs[name].scan()
            if shared.away.height:
                came = task.inputs[identity.MOVED].scan()
                rows = identity.of_bucket(name, task.bucket, rows, came, shared.away)
            found.append(_numbered(name, rows))
    cleaned = repairs.clean(pl.concat(found).collect(), shared.repairs, partial(_clean, shared))
    clean = identity.follow(cleaned.clean, shared.persons)
    settled = settle(task.bucket, replace(cleaned, clean=clean), shared.out)
    if not shared.remembers:
        return settled
    file = "".join(file.digest for file in settled.clean.files)
    return replace(settled, busy=additions.busy(clean, file, shared.settings))


def _numbered(name: str, rows: pl.LazyFrame) -> pl.LazyFrame:
    """Raw rows with one order of arrival for both tables."""
    return rows.with_columns(pl.col("seq") + (LIVE_AFTER if name == "raw.feedback" else 0))


def _clean(shared: EventsShared, raw: pl.DataFrame) -> Cleaned:
    return clean_events(
        raw,
        items=shared.items,
        shops=shared.shops,
        settings=shared.settings,
        now=shared.now,
        has_time=shared.has_time,
        contract=shared.contract,
    )


# adding


@dataclass(frozen=True)
class Past:
    """What is there, and what came since."""

    accounts: dict[int, Account]
    files: Mapping[str, Sequence[DataFile]]  # CLEAN, QUARANTINE -> theirs
    versions: Mapping[str, Version]
    new: Mapping[str, Sequence[DataFile]]  # raw table -> data files that came
    old: Mapping[str, Sequence[DataFile]]
    broken: set[int]  # buckets where rows went, so that nothing can be added to what is there
    rows: Callable[[str, Sequence[DataFile]], Rows]
    then: datetime
    items: pl.DataFrame | None  # that were known then
    changed: pl.DataFrame
    profile: dict[str, Any] | None

    def worn(self, buckets: int) -> set[int]:
        """Buckets to clean anew because much was added to them; an eighth at most, the worst first."""
        share: dict[int, float] = {}
        for bucket in range(buckets):
            files = [file.rows for file in self.files[CLEAN] if file.bucket == bucket]
            if files:
                added = 1 - max(files) / max(sum(files), 1)
                share[bucket] = max(added / MUCH, len(files) / MANY_FILES)
        worst = sorted((b for b, much in share.items() if much >= 1), key=lambda b: (-share[b], b))
        return set(worst[: max(1, buckets // 8)])

    def tasks(self, whole: Iterator[BucketTask], anew: set[int]) -> Iterator[BucketTask]:
        """With all that a bucket holds; those of `anew` as if nothing were there."""
        for task in whole:
            inputs = dict(task.inputs)
            if task.bucket not in anew:
                for name in task.inputs:
                    inputs[NEW + name] = self.rows(name, _of(self.new[name], task.bucket))
                    inputs[name] = self.rows(name, _of(self.old[name], task.bucket))
                for name in (CLEAN, QUARANTINE):
                    inputs[name] = self.rows(name, _of(self.files[name], task.bucket))
            yield BucketTask(task.bucket, inputs)


def _of(files: Sequence[DataFile], bucket: int) -> list[DataFile]:
    return [file for file in files if file.bucket == bucket]


def add_events(shared: EventsShared, task: BucketTask) -> Settled:
    """Kernel: what was added to one bucket; all of the bucket, where that changes what was there."""
    names = [name for name in RAW if name in task.inputs]
    if CLEAN not in task.inputs:
        return clean_events_bucket(shared, task)
    new, old = (
        pl.concat([_numbered(name, task.inputs[kind + name].scan()) for name in names])
        for kind in (NEW, "")
    )
    rows = new.collect()
    alone = _clean(shared, rows)
    known = shared.before.get(task.bucket)
    there = additions.Old(
        old,
        task.inputs[CLEAN],
        task.inputs[QUARANTINE].scan(),
        None if known is None else known.last,
        None if known is None else known.busy,
    )
    by_robots = alone.quarantine.filter(pl.col("rule").str.starts_with("bot:"))
    robots = by_robots["user_id"].str.strip_chars()
    assert shared.changed is not None
    last = shared.now + timedelta(minutes=shared.settings.future_minutes)
    users = additions.touched(
        rows, alone.clean, robots, there, shared.changed, shared.settings, last
    )
    if not len(users):
        return replace(settle(task.bucket, alone, shared.out), adds=True)
    theirs = pl.col("user_id").str.strip_chars().is_in(users.implode()).fill_null(False)
    before = old.filter(theirs).collect()
    was = _clean(replace(shared, items=shared.then_items, now=shared.then), before)
    now = _clean(shared, pl.concat([before, rows.filter(theirs)]))
    then = pl.col("seq").is_in(before["seq"].implode())
    is_clean = task.inputs[CLEAN].scan().filter(pl.col("user_id").is_in(users.implode()))
    is_bad = there.quarantine.filter(theirs).select("seq", "rule").collect()
    stands = set(is_clean.select("seq").collect()["seq"]), set(is_bad.iter_rows())
    becomes = (
        set(now.clean.filter(then)["seq"]),
        set(now.quarantine.filter(then).select("seq", "rule").iter_rows()),
    )
    if stands != becomes:  # what is neither clean nor in quarantine was merged
        inputs = {name: _both(task.inputs[name], task.inputs[NEW + name]) for name in names}
        return clean_events_bucket(shared, BucketTask(task.bucket, inputs))
    rest = _clean(shared, rows.filter(~theirs))
    added = Cleaned(
        clean=pl.concat([rest.clean, now.clean.filter(~then)]).sort(
            "user_id", "ts", "seq", nulls_last=False
        ),
        quarantine=pl.concat([rest.quarantine, now.quarantine.filter(~then)]),
        checks=difference([rest.checks, now.checks], was.checks),
        merged=rest.merged + now.merged - was.merged,
        repaired={
            rule: count
            for rule in sorted({*rest.repaired, *now.repaired})
            if (count := sum(one.repaired.get(rule, 0) * sign for one, sign in ((rest, 1), (now, 1), (was, -1))))
        },
        last=max((one.last for one in (rest, now) if one.last is not None), default=None),
    )  # fmt: skip
    return replace(settle(task.bucket, added, shared.out), adds=True)


def _both(old: Rows, new: Rows) -> Rows:
    return replace(old, files=(*old.files, *new.files))


def _beside(context: Context, past: Past, done: Iterator[Settled]) -> Iterator[Settled]:
    """Leave the old data files of a bucket where they are, beside those that were added."""
    run, anew = context.run, 0
    for part in done:
        yield part
        if part.adds:
            for name, schema in ((CLEAN, part.clean.schema), (QUARANTINE, part.quarantine.schema)):
                run.table(name).keep(_of(past.files[name], part.clean.bucket), schema)
        else:
            anew += 1
            run.note("buckets_anew", anew)


def _past(
    context: Context, names: Sequence[str], items: pl.DataFrame | None, shops: pl.Series | None
) -> Past | None:
    """What can be added to; None: all must be cleaned anew."""
    assets, run = context.assets, context.run
    least = context.settings.clean.add_from_rows
    version, rejected = (assets.catalog.current(name) for name in (CLEAN, QUARANTINE))
    if version is None or rejected is None or (version.rows or 0) < least:
        return None
    told = assets.remembered(version)
    if (
        told is None
        or not {version.id, rejected.id} <= {*assets.catalog.outputs(told["run"])}
        or told["rest"] != _rest(context, shops)
        or sorted(told["raw"]) != sorted(names)
    ):
        return None
    accounts = {int(bucket): Account.from_dict(one) for bucket, one in told["accounts"].items()}
    if any(_counted(one, "form:ts") for one in accounts.values()):
        return None  # times of old rows cannot be compared as they are written

    def rows(name: str, files: Sequence[DataFile]) -> Rows:
        return replace(there[name], files=tuple(files))

    try:
        there = {
            name: assets.rows(
                name, by=OWNER, purpose=Purpose.OPERATE, version=one.id, step=run.step
            )
            for name, one in ((CLEAN, version), (QUARANTINE, rejected))
        }
        new: dict[str, list[DataFile]] = {}
        old: dict[str, list[DataFile]] = {}
        broken: set[int] = set()
        for name in names:
            there[name] = run.rows(name)
            before = assets.rows(name, by=OWNER, purpose=Purpose.OPERATE, version=told["raw"][name])
            old[name], new[name], gone = _parted(
                assets.catalog.merged(name), before.files, there[name].files
            )
            broken |= gone
        then = _items_then(context, told["items"], items)
    except NotFound:  # a version from then was given up
        return None
    changed = pl.DataFrame(schema=additions.CHANGED)
    if then is not items:
        if then is None or items is None or not then.height or not items.height:
            return None  # whether items are looked up at all is another now
        changed = additions.changed_items(then, items)
    if changed.height and context.settings.clean.unknown_items == "keep":
        return None  # what is counted of old rows changes
    files = {name: there[name].files for name in (CLEAN, QUARANTINE)}
    versions = {CLEAN: version, QUARANTINE: rejected}
    return Past(
        accounts,
        files,
        versions,
        new,
        old,
        broken,
        rows,
        datetime.fromisoformat(told["now"]),
        then,
        changed,
        told["profile"],
    )


def _counted(counted: Account, rule: str) -> bool:
    return bool(counted.checks.filter(pl.col("rule") == rule)["count"].sum())


def _parted(
    merged: Mapping[str, Mapping[str, Any]], before: Sequence[DataFile], now: Sequence[DataFile]
) -> tuple[list[DataFile], list[DataFile], set[int]]:
    """Data files of now that hold what was there before, those that came, and buckets that differ in
    more than what came. A file that a compaction made counts as those it was made of."""

    def parts(file: DataFile) -> set[tuple[int, str]]:
        found = merged.get(file.path)
        if found is None:
            return {(file.bucket, file.digest)}
        return {(int(bucket), str(digest)) for bucket, digest, *_ in found["parts"]}

    was = {part for file in before for part in parts(file)}
    old = [file for file in now if parts(file) <= was]
    new = [file for file in now if not parts(file) & was]
    lost = was - {part for file in old for part in parts(file)}
    torn = {file.bucket for file in now if file not in old and file not in new}
    return old, new, {bucket for bucket, _ in lost} | torn


def _items_then(
    context: Context, versions: Mapping[str, str], items: pl.DataFrame | None
) -> pl.DataFrame | None:
    """The items that were known when what is there was cleaned; `items` itself where they are the same."""
    assets = context.assets
    now = {name: context.assets.current(name).id for name in ITEMS if context.run.has(name)}
    if versions == now:
        return items

    def scan(name: str, columns: Sequence[str]) -> pl.LazyFrame | None:
        if name not in versions:
            return None
        found = assets.scan(name, by=OWNER, purpose=Purpose.OPERATE, version=versions[name])
        return found.select(columns)

    return known_items(scan)


def _rest(context: Context, shops: pl.Series | None) -> str:
    """Digest of all that decides about an event besides other events, and items."""
    run = context.run
    reads = [name for name in run.reads if name not in (*RAW, *ITEMS, "clean.shops")]
    parameters = {**run.parameters, "shops": additions.digest(shops)}
    return context.assets.run_key(run.step, reads, parameters, run.code)


def _remember(
    context: Context,
    names: Sequence[str],
    accounts: Mapping[int, Account],
    shops: pl.Series | None,
    has_time: bool,
    at: datetime,
) -> None:
    """What the next run must know to add to what this one makes."""
    if not has_time:
        return
    run, assets = context.run, context.assets
    run.remember(CLEAN, {
        "run": run.id,
        "raw": {name: assets.current(name).id for name in names},
        "items": {name: assets.current(name).id for name in ITEMS if run.has(name)},
        "now": at.isoformat(),
        "rest": _rest(context, shops),
        "accounts": {bucket: one.as_dict() for bucket, one in accounts.items()},
        "profile": run.table(CLEAN).whole,
    })  # fmt: skip


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
