"""Promises of a whole table, kept or not: measured on what a run is about to commit.

`check` runs after a table was cleaned and before any of it is visible. What it finds is written into
the table's quality report; a broken promise of severity error raises, so nothing is committed and the
version before stays current. `watch` measures the age of what is current where nothing new came in.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from shopkeeper.analysis.sql import Limits, query
from shopkeeper.assets import contracts, journal
from shopkeeper.assets.catalog import Version
from shopkeeper.assets.contracts.dataset import DatasetRule
from shopkeeper.assets.store import Assets
from shopkeeper.clean.quality import Before, Finding, frame_of, measure
from shopkeeper.clean.report import add_rules, told_rule
from shopkeeper.engine.steps import Context
from shopkeeper.errors import InputError
from shopkeeper.governance.access import OWNER
from shopkeeper.words import Purpose

LIMITS = Limits(rows=2, seconds=120.0)  # of one rule of SQL


def check(context: Context, table: str) -> None:
    """Measure the promises of `table`. InputError: one of severity error is broken."""
    rules = contracts.load(context.folder)[table].checks
    name, run = f"clean.{table}", context.run
    if not rules or not run.writes(name):
        return
    frame = run.written(name)
    found = measure(
        rules,
        frame,
        now=datetime.now(UTC),
        before=_before(context.assets, name, max(rule.versions for rule in rules)),
        ask=partial(_ask, context, name, {name: frame}),
    )
    rows = frame_of(found, name)
    quality = run.table(f"quality.{table}")
    quality.put(rows)
    add_rules(quality.notes, [told_rule(row) for row in rows.iter_rows(named=True)])
    counts = {key: value for key, value in quality.notes.items() if key != "rules"}
    quality.quality = run.table(name).quality = counts
    run.note("warned", [one.rule.name for one in found if one.level == "WARN"])
    broken = [one for one in found if one.level == "FAIL"]
    if broken:
        journal.stopped(context.assets.catalog, name, run.id, quality.notes)
        raise InputError(
            f"{table} breaks {_promises(broken)}",
            where=f"contract of {table}",
            next="nothing was committed, the version before stays current; correct the data or the "
            f"promise, then run again; see: shopkeeper quality history {name}",
        )


def watch(assets: Assets, folder: Path, table: str) -> None:
    """Measure the age of what is current. InputError: it is older than a promise of severity error."""
    name = f"clean.{table}"
    version = assets.catalog.current(name)
    rules = [rule for rule in contracts.load(folder)[table].checks if rule.kind == "freshness"]
    if not rules or version is None:
        return
    frame = assets.scan(name, by=OWNER, purpose=Purpose.OPERATE, version=version.id)
    found = measure(rules, frame, now=datetime.now(UTC))
    rows = frame_of(found, name)
    journal.watched(
        assets.catalog, name, version.id, [told_rule(row) for row in rows.iter_rows(named=True)]
    )
    broken = [one for one in found if one.level == "FAIL"]
    if broken:
        raise InputError(
            f"nothing new came in: {table} breaks {_promises(broken)}",
            where=f"contract of {table}",
            next="see why the source sends nothing, or loosen the promise; what is there still serves",
        )


def _promises(broken: Sequence[Finding]) -> str:
    s = "s" if len(broken) > 1 else ""
    return f"{len(broken)} promise{s}: " + "; ".join(
        f"{one.rule.name}: {one.said}" for one in broken
    )


def _before(assets: Assets, name: str, most: int) -> list[Before]:
    """The versions whose data are still there, the newest first."""
    there = [version for version in assets.catalog.history(name) if version.removed_at is None]
    return [_state(assets, version) for version in there[:most]]


def _state(assets: Assets, version: Version) -> Before:
    def scan() -> pl.LazyFrame:
        return assets.scan(version.asset, by=OWNER, purpose=Purpose.OPERATE, version=version.id)

    return Before(version.id, version.rows or 0, scan)


def _ask(
    context: Context, name: str, instead: Mapping[str, pl.LazyFrame], rule: DatasetRule
) -> Any:
    """The one value that a rule's SELECT answers over the rows about to be committed."""
    text = rule.query
    column = '"' + rule.columns[0].replace('"', '""') + '"' if rule.columns else ""
    for word, means in (
        ("object", name),
        ("table", name),
        ("property", column),
        ("column", column),
    ):
        text = text.replace(f"${{{word}}}", means).replace(f"{{{word}}}", means)
    try:
        answer = query(
            context.assets, text, by=OWNER, limits=LIMITS, timezone=context.settings.timezone,
            instead=instead,
        )  # fmt: skip
    except InputError as error:
        raise InputError(
            f"{rule.name}: {error.message}", where=f"contract of {name.partition('.')[2]}, {error.where}",
            next=error.next,
        ) from error  # fmt: skip
    if answer.frame.shape != (1, 1):
        raise InputError(
            f"{rule.name} answers {answer.frame.height} rows of {answer.frame.width} columns, wanted one value",
            where=f"contract of {name.partition('.')[2]}",
            next="ask for one, as in SELECT count(*) FROM ${object} WHERE …",
        )
    return answer.frame.item()
