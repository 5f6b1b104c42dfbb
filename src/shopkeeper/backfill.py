"""A part of what is there, made anew: the events of some days, of some files, or some buckets.

Days and files are about what came in: source files that were repaired where they stand are read again
in the place of what they gave (`collect.again`), and what is made of events follows. Buckets are about
what was made: tables of events that are split by user are made anew in those buckets from what they are
made of, which brings a lost or damaged data file back. Either way the rows are those of a full run, and
runs and lineage are recorded as of any step.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Any

from shopkeeper.assets import upgrade
from shopkeeper.clean import arrivals
from shopkeeper.collect import again
from shopkeeper.engine.steps import Report, Step, select, silent
from shopkeeper.errors import InputError, NotFound
from shopkeeper.features.steps import make_sequences
from shopkeeper.shop import Shop

AFTER = ("clean", "features")  # groups of steps that follow new raw rows
BY_BUCKET = ("clean.events", "quarantine.events", "features.sequences")


def of_files(
    shop: Shop,
    *,
    first: date | None = None,
    last: date | None = None,
    files: Collection[str] = (),
    dry_run: bool = False,
    report: Report = silent,
) -> dict[str, Any]:
    """Read the files again that gave events of the days `first` to `last` (UTC), and those named.

    Returns:
        {"dry_run", "files": [{"source", "file", "rows", "rows_in_days", "buckets", "state"}],
        "buckets": [those with rows of them], "steps": [names], "run": what `Shop.run` returns or None}
    Raises:
        NotFound: no file gave such events. InputError: one of the files is gone.
    """
    begin, end = first or last, last or first
    days = None if begin is None or end is None else (begin, end)
    if days is not None and days[0] > days[1]:
        raise InputError(f"from {days[0]} to {days[1]} is no day", next="the first day comes first")
    found = again.held(shop.assets, shop.settings, shop.folder, days=days, files=files)
    if not found:
        when = f"{begin} to {end}" if days else "no days"
        raise NotFound(
            f"no file gave events of {when}", where=again.RAW, next="see: shopkeeper assets show raw.events"
        )  # fmt: skip
    if gone := [one.file for one in found if one.state == "gone"]:
        raise InputError(
            "this file gave events and cannot be read again",
            where=gone[0],
            next="put it back, or name days or files that are there",
        )
    keys = [(one.source, one.file) for one in found]
    work = partial(again.read_again, files=keys)
    told = {"files": [file for _, file in keys], "days": [str(day) for day in days or ()]}
    read = Step(
        "collect.events", (), (again.RAW, again.UNREAD), work, lambda s, f: told, outside=True
    )
    steps = [read, *select(shop.steps, AFTER)]
    return {
        "dry_run": dry_run,
        "files": again.plan(found),
        "buckets": sorted({bucket for one in found for bucket in one.buckets}),
        "steps": [step.name for step in steps],
        "run": None if dry_run else shop.do(steps, report),
    }


def of_buckets(
    shop: Shop, buckets: Sequence[int], *, dry_run: bool = False, report: Report = silent
) -> dict[str, Any]:
    """Make `buckets` of clean.events, quarantine.events and features.sequences anew.

    Returns:
        {"dry_run", "buckets", "tables": [{"asset", "rows", "files", "damaged": [paths]}]: of those
        buckets, "steps": [names], "run": what `Shop.run` returns or None}
    """
    known = shop.settings.buckets
    if wrong := [bucket for bucket in buckets if not 0 <= bucket < known]:
        raise InputError(f"no bucket {wrong[0]}", next=f"this shop has 0 to {known - 1}")
    some = frozenset(buckets)
    works = {
        "clean.events": partial(arrivals.events_step, anew=some),
        "features.sequences": partial(make_sequences, only=some),
    }
    steps = [
        replace(step, work=works[step.name], outside=True)
        for step in shop.steps
        if step.name in works and all(shop.assets.exists(name) for name in step.makes)
    ]
    return {
        "dry_run": dry_run,
        "buckets": sorted(some),
        "tables": _tables(shop, some),
        "steps": [step.name for step in steps],
        "run": None if dry_run else shop.do(steps, report),
    }


def _tables(shop: Shop, buckets: Collection[int]) -> list[dict[str, Any]]:
    damaged = upgrade.verify(shop.assets, whole=False)["damaged"]
    told = []
    for name in BY_BUCKET:
        version = shop.assets.catalog.current(name)
        if version is None:
            continue
        files = [file for file in shop.assets._data_files(version) if file.bucket in buckets]
        bad = [one["file"] for one in damaged if one["version"] == version.id]
        rows = sum(file.rows for file in files)
        told.append({"asset": name, "rows": rows, "files": len(files), "damaged": bad})
    return told
