"""raw.<table> -> clean.<table> for every table that its contract describes whole.

One row a primary key: the newest state of a key stays, whole; older ones are merged into it, and the
same row twice is one. Newest is by `updated_at` where the contract has such a column, else by arrival.
What a reference leads to is looked up in the clean table it names; where there is no such table, or
nothing in it, the reference is not checked. Tables about users go bucket by bucket.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import polars as pl

from shopkeeper.assets import contracts
from shopkeeper.assets.contracts import Contract
from shopkeeper.clean import repairs
from shopkeeper.clean.apply import (
    Outputs,
    Settled,
    account,
    contract_of,
    outputs,
    settle,
    whole_files,
)
from shopkeeper.clean.checks import TRACE, Cleaned, Ledger, apply, found, open_ledger
from shopkeeper.config import CleanSettings
from shopkeeper.engine.kernels import BucketTask
from shopkeeper.engine.steps import Context
from shopkeeper.words import ABOUT_USERS, WHOLE_FILES

PAST = ("ts", "updated_at", "ended_at")  # times of what has happened; other times may be to come


def table_step(context: Context, table: str) -> None:
    """Clean one table as its contract says."""
    run, settings = context.run, context.settings
    contract = contract_of(context, table)
    now = datetime.now(UTC)
    known = _known(context, contract)
    if table in WHOLE_FILES:
        scan = run.scan(f"raw.{table}")
        cleaned = clean_table(
            scan.drop("content").collect(), contract, now=now, known=known, settings=settings.clean
        )
        whole_files(context, table, contract, cleaned)
        return

    out = outputs(context, table, contract)
    told = repairs.repairs_of(run, table)
    shared = TableShared(contract, now, known, settings.clean, told, out)
    buckets = range(settings.buckets) if table in ABOUT_USERS else [0]
    tasks = context.buckets([f"raw.{table}"], buckets)
    rows = context.assets.current(f"raw.{table}").rows or 0
    account(context, table, contract, rows, context.each(clean_table_bucket, shared, tasks))


@dataclass(frozen=True)
class TableShared:
    """What cleaning any bucket of a table needs; see `clean_table`."""

    contract: Contract
    now: datetime
    known: Mapping[str, pl.Series]
    settings: CleanSettings
    repairs: tuple[repairs.Repair, ...]
    out: Outputs


def clean_table_bucket(shared: TableShared, task: BucketTask) -> Settled:
    """Kernel: one bucket of a table that its contract describes whole."""
    raw = task.inputs[f"raw.{shared.contract.name}"].scan().collect()
    work = partial(
        clean_table,
        contract=shared.contract,
        now=shared.now,
        known=shared.known,
        settings=shared.settings,
    )
    cleaned = repairs.clean(raw, shared.repairs, work)
    return settle(task.bucket, cleaned, shared.out)


def clean_table(
    raw: pl.DataFrame,
    contract: Contract,
    *,
    now: datetime,
    known: Mapping[str, pl.Series] | None = None,
    settings: CleanSettings | None = None,
) -> Cleaned:
    """Rows of one table, or of a bucket of it; sorted by primary key.

    Args:
        raw: columns of the contract as text, and seq, source, file, line.
        known: "items.item_id" -> what is there; what is not in here is not checked.
        now: aware; times of what has happened may not be after it (and `future_minutes`).
    """
    settings = settings or CleanSettings()
    ledger = open_ledger(f"clean.{contract.name}", raw, contract)
    apply(ledger, contracts.rules(contract))
    last = now + timedelta(minutes=settings.future_minutes)
    for column in contract.columns:
        if column.name in PAST:
            late = ledger.typed[column.name] > last
            wanted = found(column.name, "a time not after now")
            ledger.quarantine(f"future:{column.name}", column.name, late, wanted)
    _references(ledger, contract, known or {}, settings)
    _ties_to_oneself(ledger, contract)
    _own_ancestors(ledger, contract)
    return _one_a_key(ledger, contract)


def refers_to(contract: Contract) -> tuple[str, ...]:
    """The tables that a contract's references name, without itself."""
    named = (column.reference.partition(".")[0] for column in contract.columns if column.reference)
    return tuple(sorted(set(named) - {contract.name}))


def _known(context: Context, contract: Contract) -> dict[str, pl.Series]:
    """What references may lead to, of the tables that this run reads."""
    run, made = context.run, {}
    for column in contract.columns:
        table, _, name = (column.reference or "").partition(".")
        if column.reference and run.has(f"clean.{table}"):
            ids = [run.scan(f"clean.{table}", columns=[name])]
            if table == "items" and run.has(
                "quarantine.items"
            ):  # a bad price is there all the same
                bad = run.scan("quarantine.items", columns=[name])
                ids.append(bad.select(pl.col(name).str.strip_chars()))
            made[column.reference] = pl.concat(ids).collect()[name].drop_nulls().unique()
    return made


def _references(
    ledger: Ledger, contract: Contract, known: Mapping[str, pl.Series], settings: CleanSettings
) -> None:
    for column in contract.columns:
        if column.reference is None:
            continue
        table, _, name = column.reference.partition(".")
        own = table == contract.name
        ids = ledger.typed[name] if own else known.get(column.reference)
        if ids is None or not len(ids.drop_nulls()):
            continue
        lost = ~ledger.typed[column.name].is_in(ids.drop_nulls().implode()).fill_null(True)
        rule = f"reference:{column.name}"
        kept = column.reference == "items.item_id" and settings.unknown_items == "keep"
        if column.reference_severity == "error" and not kept:
            wanted = found(column.name, f"one of table {table}")
            ledger.quarantine(rule, column.name, lost, wanted)
        else:
            ledger.notice(rule, column.name, int(lost.sum()))


def _ties_to_oneself(ledger: Ledger, contract: Contract) -> None:
    """Nobody follows himself: a column `target_x` that names the `x` of its own row."""
    for column in contract.columns:
        of = column.name.removeprefix("target_")
        if of != column.name and of in contract.names:
            itself = ledger.typed[column.name] == ledger.typed[of]
            wanted = found(column.name, f"another than the row's own {of}")
            ledger.quarantine(f"self:{column.name}", column.name, itself, wanted)


def _own_ancestors(ledger: Ledger, contract: Contract) -> None:
    """Rows of a table that refers to itself, as regions to their parents, lead round no circle.

    Looked at is the newest sound state of each key, as it would become current. All rows of a circle go
    to quarantine, what hangs below it stays; then older states of their keys are looked at likewise.
    """
    key = [column.name for column in contract.columns if column.key]
    for column in contract.columns:
        if len(key) != 1 or column.reference != f"{contract.name}.{key[0]}":
            continue
        rule = f"cycle:{column.name}"
        ledger.look(rule, column.name)
        while rows := _circles(ledger, key[0], column.name):
            mask = pl.Series(np.isin(np.arange(ledger.typed.height), rows))
            wanted = found(column.name, f"no {key[0]} that leads back to the row itself")
            ledger.quarantine(rule, column.name, mask, wanted)


def _circles(ledger: Ledger, key: str, parent: str) -> list[int]:
    """Places of the rows, among the newest sound ones of each key, whose parents lead back to them."""
    newest = _in_order(ledger, [key]).unique(key, keep="last")
    rows = dict(zip(newest[key].to_list(), newest["row"].to_list(), strict=True))
    above = dict(zip(newest[key].to_list(), newest[parent].to_list(), strict=True))
    circles: list[int] = []
    walked: dict[str, int] = {}  # key -> the walk that came by first
    for walk, start in enumerate(above):
        at: str | None = start
        while at is not None and at in above and at not in walked:
            walked[at] = walk
            at = above[at]
        if at is not None and walked.get(at) == walk:  # it came back to where it had been
            circle = [at]
            while (up := above[circle[-1]]) is not None and up != at:
                circle.append(up)
            circles += [rows[name] for name in circle]
    return circles


def _in_order(ledger: Ledger, key: Sequence[str]) -> pl.DataFrame:
    """The rows that nothing is wrong with, by key, oldest state first; `row` is their place."""
    rows = ledger.typed.with_row_index("row")
    broken = ledger.broken()
    if broken is not None:
        rows = rows.filter(~broken)
    order = [name for name in ("updated_at", "seq", "row") if name in rows.columns]
    return rows.sort(*key, *order)


def _one_a_key(ledger: Ledger, contract: Contract) -> Cleaned:
    """Merge the states of each key and close the accounts."""
    columns = ledger.typed.columns
    key = [column.name for column in contract.columns if column.key]
    rows = _in_order(ledger, key)
    said = [name for name in columns if name not in TRACE]
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(1)) for name in said)
    once = rows.filter(~(same & (pl.int_range(pl.len()) > 0)))
    newest = once.unique(key, keep="last", maintain_order=True)
    twins, older = rows.height - once.height, once.height - newest.height
    ledger.notice(f"duplicate:{key[0]}", key[0], twins)
    ledger.notice(f"older:{key[0]}", key[0], older, level="PASS")
    return ledger.close(newest.select(columns), twins + older)
