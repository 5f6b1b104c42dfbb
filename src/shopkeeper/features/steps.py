"""clean tables -> features.items and features.sequences, and both back as arrays for training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from shopkeeper.assets.parts import Part, Place
from shopkeeper.assets.store import Run
from shopkeeper.engine.kernels import BucketTask
from shopkeeper.engine.steps import Context
from shopkeeper.features.build import item_rows, item_table, newer, sequence_rows, sequences
from shopkeeper.features.items import ItemTable
from shopkeeper.features.sequences import Sequences
from shopkeeper.words import Grade


def make_items(context: Context) -> None:
    """clean.items and the items that events name -> features.items."""
    run = context.run
    seen = run.scan("clean.events").select(pl.col("item_id").unique()).collect()["item_id"]
    items = run.read("clean.items") if run.has("clean.items") else None
    made = item_rows(items, seen)
    run.table("features.items", description="tags, numbers and text of every item").put(made)
    run.note("items", made.height)


def make_sequences(context: Context) -> None:
    """clean.events -> features.sequences, bucket by bucket."""
    run, settings = context.run, context.settings
    table = run.table(
        "features.sequences",
        description="each user's behaviour, oldest first",
        grade=Grade.PERSONAL,
    )
    shared = SequencesShared(settings.features.kinds, table.place)
    tasks = context.buckets(["clean.events"], range(settings.buckets))
    for part in context.each(make_sequences_bucket, shared, tasks):
        table.take(part)
        context.progress(part.bucket + 1, settings.buckets, f"{table.rows:,} users")
    run.note("users", table.rows)


@dataclass(frozen=True)
class SequencesShared:
    """What the sequences of any bucket need."""

    kinds: tuple[str, ...]
    place: Place


def make_sequences_bucket(shared: SequencesShared, task: BucketTask) -> Part:
    """Kernel: clean.events of one bucket -> its users' sequences."""
    made = sequence_rows(task.inputs["clean.events"].scan(), shared.kinds)
    return shared.place.write(made, task.bucket, synced=True)


def items_as_of(run: Run, instant: int | None) -> tuple[ItemTable, dict[str, Any]]:
    """The items as a model to be measured from `instant` (ms) on may know them, and how many changed.

    The catalogue holds each item's newest state only. Numbers of a newer state are left out; its
    tags and text stay, and so do numbers of items that the catalogue does not date.
    """
    rows = run.read("features.items")
    dated = rows.filter(pl.col("names").list.len() > 0)
    told = {
        "as_of": instant,
        "items_with_numbers": dated.height,
        "left_out": 0 if instant is None else rows.filter(newer(instant)).height,
        "undated": dated["updated_at"].null_count(),
        "note": "items are known by their newest state; numbers of states newer than as_of are left "
        "out of the measured model, those of undated items, tags and text are as of today",
    }
    return item_table(rows, instant), told


def load(run: Run, versions: Mapping[str, str] | None = None) -> tuple[Sequences, ItemTable]:
    """The feature tables as arrays; users sorted by id, so the order of buckets does not matter.

    Args:
        versions: asset -> version id, of those that are not to be the current ones.
    """
    named = versions or {}
    items = item_table(run.read("features.items", version=named.get("features.items")))
    rows = run.read("features.sequences", version=named.get("features.sequences"))
    return sequences(rows.sort("user_id"), items.vocabulary), items
