"""clean tables -> reports.<name>: one step a report, made anew only when what it reads changed."""

from collections.abc import Callable, Collection, Mapping
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from shopkeeper.analysis import reports
from shopkeeper.analysis.derivations import columns_of, derived
from shopkeeper.analysis.reports import MIN_USERS, Buckets, Report, States
from shopkeeper.config import Settings
from shopkeeper.engine.steps import Context, Step

STATES = 60  # days of the catalogue that histories look back on

# report -> what it reads besides clean.events, and what it says
REPORTS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "funnel": ((), "users who viewed, carted, bought, by day and channel"),
    "retention": ((), "users first seen in a week who came back in later weeks"),
    "cohort_value": ((), "what the buyers of a month spent up to each later month"),
    "basket": (("clean.items",), "what is bought together: support, confidence, lift"),
    "search_terms": ((), "what was searched, and whether anything came of it"),
    "channels": ((), "users, sessions, buyers and revenue by channel"),
    "price_history": (("clean.items",), "prices items had, as seen and as the catalogue told them"),
    "stock_movement": (("clean.items",), "stock, its rises and falls, and what was sold"),
}

# report -> the optional table that it tells more by
MORE: Mapping[str, str] = {
    "channels": "campaign_participation",
    "price_history": "price_history",
    "stock_movement": "stock_movements",
}


def steps(there: Collection[str] = ()) -> tuple[Step, ...]:
    """The steps of all reports, for the loop; `there`: optional tables that the shop has."""
    return tuple(
        Step(
            f"report.{name}",
            ("clean.events", *also, *(f"clean.{t}" for t in [MORE.get(name)] if t in there)),
            (f"reports.{name}",),
            partial(make, name=name, description=description), _parameters, needs=("clean.events",),
        )
        for name, (also, description) in REPORTS.items()
    )  # fmt: skip


def make(context: Context, *, name: str, description: str) -> None:
    """Make reports.`name`; its notes tell time zone, currency, and what was hidden or is empty."""
    made = _work(name)(context)
    notes = {
        "timezone": context.settings.timezone,
        "currency": context.settings.currency,
        "minor_units": context.settings.minor_units,
        "least_users": MIN_USERS,
        **made.notes,
    }
    context.run.table(f"reports.{name}", description=description, notes=notes).put(made.frame)
    more = f"clean.{MORE[name]}" if name in MORE else None
    read = context.run.lineage.read
    context.run.derive(f"reports.{name}", derived(name, made.frame.columns, read, more))
    context.run.note("rows", made.frame.height)
    for key, value in made.notes.items():
        context.run.note(key, value)


def _parameters(settings: Settings, _: Path) -> Mapping[str, Any]:
    return {"timezone": settings.timezone, "currency": settings.currency, "minor_units": settings.minor_units}  # fmt: skip


def _work(name: str) -> Callable[[Context], Report]:
    work: dict[str, Callable[[Context], Report]] = {
        "funnel": lambda c: reports.funnel(_events(c, name), c.settings.timezone),
        "retention": lambda c: reports.retention(_events(c, name), c.settings.timezone),
        "cohort_value": lambda c: reports.cohort_value(_events(c, name), c.settings.timezone),
        "basket": _basket,
        "search_terms": lambda c: reports.search_terms(_events(c, name)),
        "channels": lambda c: reports.channels(_events(c, name), _more(c, name)),
        "price_history": lambda c: reports.price_history(
            _events(c, name), _states(c, name), c.settings.timezone, _more(c, name)
        ),
        "stock_movement": lambda c: reports.stock_movement(
            _events(c, name), _states(c, name), c.settings.timezone, _more(c, name)
        ),
    }  # fmt: skip
    return work[name]


def _basket(context: Context) -> Report:
    groups = None
    if context.run.has("clean.items"):
        items = context.run.scan("clean.items", columns=columns_of("basket", "items"))
        groups = items.select("item_id", group="category").drop_nulls().collect()
    return reports.basket(_events(context, "basket"), context.settings.timezone, groups)


def _more(context: Context, report: str) -> pl.LazyFrame | None:
    """The optional table that the report tells more by, where the shop has it."""
    name = f"clean.{MORE[report]}"
    if not context.run.has(name):
        return None
    there = context.assets.current(name).schema
    columns = [column for column in columns_of(report, "more") if column in there]
    return context.run.scan(name, columns=columns)


def _events(context: Context, report: str) -> Buckets:
    run = context.run
    columns = list(
        dict.fromkeys([*columns_of(report, ""), "ts"])
    )  # an empty one says if times lack
    buckets = range(context.settings.buckets)
    return [run.scan("clean.events", columns=columns, buckets=[bucket]) for bucket in buckets]


def _states(context: Context, report: str) -> States:
    """clean.items as it stood at the end of each day, by when a version was made; oldest first."""
    if not context.run.has("clean.items"):
        return []
    zone = ZoneInfo(context.settings.timezone)
    last: dict[date, str] = {}
    for version in context.assets.catalog.history("clean.items"):  # newest first
        if version.removed_at is not None:  # its data were given up
            continue
        day = datetime.fromisoformat(version.created_at).astimezone(zone).date()
        last.setdefault(day, version.id)
    days = sorted(last)[-STATES:]
    columns = columns_of(report, "items")
    return [(day, context.run.scan("clean.items", columns=columns, version=last[day])) for day in days]  # fmt: skip
