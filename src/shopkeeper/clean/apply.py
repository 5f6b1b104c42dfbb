"""raw.<table> -> clean.<table>, quarantine.<table> and quality.<table>: the steps of cleaning.

Users and events (`clean.arrivals`) are cleaned bucket by bucket, by kernels (`engine.kernels`):
functions of one bucket's rows and of what all buckets share, which write that bucket's data files and
return what was counted. Memory is that of one bucket a worker, whatever the shop.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import polars as pl

from shopkeeper.assets import contracts
from shopkeeper.assets.contracts import Contract
from shopkeeper.assets.parts import Part, Place
from shopkeeper.clean import derivations, repairs
from shopkeeper.clean.additions import Busy
from shopkeeper.clean.catalogue import clean_images, clean_items, clean_shops, clean_users
from shopkeeper.clean.checks import CHECKS, Cleaned, Unaccounted
from shopkeeper.clean.report import combine_checks, report
from shopkeeper.config import CleanSettings
from shopkeeper.engine.kernels import BucketTask
from shopkeeper.engine.steps import Context
from shopkeeper.words import ABOUT_USERS, KINDS, Grade

TIME = "%Y-%m-%dT%H:%M:%S%.fZ"  # as collect/ writes one
MANY_CHECKS = 1000  # rows of one account, which are added up then
PICTURE_BYTES = 64 << 20  # of pictures in memory at a time


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
    last: datetime | None = None  # see `Cleaned`
    busy: Busy | None = None
    adds: bool = False  # to what the bucket held before; else this is all of it


@dataclass(frozen=True)
class Account:
    """What cleaning counted in one bucket."""

    clean: int
    quarantined: int
    merged: int
    repaired: Mapping[str, int]
    checks: pl.DataFrame  # a rule may have several rows, which add up
    last: datetime | None = None
    busy: Busy | None = None  # as of when the bucket was cleaned as a whole

    @classmethod
    def of(cls, part: Settled) -> "Account":
        counts = part.clean.rows, part.quarantine.rows, part.merged
        return cls(*counts, part.repaired, part.checks, part.last, part.busy)

    @property
    def rows(self) -> int:
        return self.clean + self.quarantined + self.merged

    def __add__(self, more: "Account") -> "Account":
        repaired = Counter(self.repaired)
        repaired.update(more.repaired)
        return Account(
            self.clean + more.clean,
            self.quarantined + more.quarantined,
            self.merged + more.merged,
            dict(repaired),
            pl.concat([self.checks, more.checks]),
            max((at for at in (self.last, more.last) if at is not None), default=None),
            self.busy,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain data, which `from_dict` takes."""
        few = self.checks if self.checks.height < MANY_CHECKS else combine_checks([self.checks])
        checks = [list(row) for row in few.iter_rows()]
        told = {**vars(self), "checks": checks, "last": self.last and self.last.isoformat()}
        return {**told, "busy": self.busy and [self.busy.file, self.busy.users]}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> "Account":
        checks = pl.DataFrame(told["checks"], schema=CHECKS, orient="row")
        last = told["last"] and datetime.fromisoformat(told["last"])
        busy = told["busy"] and Busy(told["busy"][0], tuple(told["busy"][1]))
        return cls(**{**told, "checks": checks, "last": last, "busy": busy})


def settle(bucket: int, cleaned: Cleaned, out: Outputs) -> Settled:
    """Write one bucket's rows; runs where the kernel runs. Whatever else is to be known of the clean
    rows of each bucket is computed here, while they are in memory."""
    return Settled(
        clean=out.clean.write(cleaned.clean, bucket, synced=True),
        quarantine=out.quarantine.write(cleaned.quarantine, bucket, synced=True),
        checks=cleaned.checks,
        merged=cleaned.merged,
        repaired=cleaned.repaired,
        last=cleaned.last,
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
    context: Context,
    table: str,
    contract: Contract,
    rows: int,
    done: Iterable[Settled],
    before: Mapping[int, Account] | None = None,
) -> dict[int, Account]:
    """Take what became of `rows` rows into the run, and check that every one is accounted for.

    Args:
        before: accounts of buckets as they were, where `done` adds to them.
    Returns:
        the account of each bucket.
    """
    run = context.run
    clean, rejected = run.table(f"clean.{table}"), run.table(f"quarantine.{table}")
    accounts = dict(before or {})
    buckets = context.settings.buckets if table in ABOUT_USERS else 1
    for part in done:
        clean.take(part.clean)
        rejected.take(part.quarantine)
        bucket, counted = part.clean.bucket, Account.of(part)
        further = bucket in accounts and (part.adds or not before)
        accounts[bucket] = accounts[bucket] + counted if further else counted
        context.progress(bucket + 1, buckets, f"bucket {bucket + 1}")
    if clean.name not in run.lineage.said:
        derivations.table(run, contract)
    total = _total(accounts.values())
    if rows != total.rows:
        raise Unaccounted(
            f"{table}: {rows} rows in, but {total.clean} clean + {total.merged} merged "
            f"+ {total.quarantined} quarantined"
        )
    told = report(
        total.checks,
        clean=total.clean,
        merged=total.merged,
        quarantined=total.quarantined,
        repaired=dict(total.repaired),
    )
    clean.quality = {key: value for key, value in told.items() if key != "rules"}
    run.table(
        f"quality.{table}",
        description=f"what was checked in {table}, and what was found",
        quality=clean.quality,
        notes=told,
    ).put(total.checks)
    run.note("rows", rows)
    run.note("clean", total.clean)
    run.note("merged", total.merged)
    run.note("quarantined", total.quarantined)
    run.note("repaired", total.repaired)
    return accounts


def _total(accounts: Iterable[Account]) -> Account:
    """All buckets in one."""
    parts = list(accounts)
    repaired: Counter[str] = Counter()
    for part in parts:
        repaired.update(part.repaired)
    return Account(
        sum(part.clean for part in parts),
        sum(part.quarantined for part in parts),
        sum(part.merged for part in parts),
        dict(repaired),
        combine_checks([part.checks for part in parts]),
    )


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
