"""clean tables -> features.items and features.sequences, and both back as arrays for training."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from shopkeeper.assets.lineage import Column, Derivation
from shopkeeper.assets.parts import Part, Place
from shopkeeper.assets.store import Run
from shopkeeper.engine.kernels import BucketTask
from shopkeeper.engine.steps import Context
from shopkeeper.features import pictures
from shopkeeper.features.build import item_rows, item_table, newer, sequence_rows, sequences
from shopkeeper.features.items import ItemTable
from shopkeeper.features.sequences import Sequences
from shopkeeper.words import Grade

IMAGE_ENCODER = "models.image_encoder"  # the encoder, and its vector of every picture
OF_ITEMS = ("item_id", "category", "brand", "shop_id", "price_minor", "attributes", "title",
            "title_zh", "description", "updated_at")  # fmt: skip
OF_EVENTS = ("user_id", "item_id", "kind", "ts", "dwell_ms", "price_minor", "seq")


def make_items(context: Context) -> None:
    """clean.items and the items that events name -> features.items."""
    run = context.run
    named = run.scan("clean.events", columns=["item_id"])
    seen = named.select(pl.col("item_id").unique()).collect()["item_id"]
    items = None
    if run.has("clean.items"):
        there = context.assets.current("clean.items").schema
        items = run.read("clean.items", columns=[name for name in OF_ITEMS if name in there])
    made = item_rows(items, seen)
    run.table("features.items", description="tags, numbers and text of every item").put(made)
    run.derive("features.items", derived_items(run.lineage.read.get("clean.items", ())))
    run.note("items", made.height)


def derived_items(there: Collection[str]) -> Derivation:
    """What of an item goes where in `build.item_rows`; `there`: columns of clean.items that were read."""

    def of(*names: str) -> list[Column]:
        return [("clean.items", name) for name in names if name in there]

    columns = {
        "item_id": [("clean.events", "item_id"), *of("item_id")],
        "tags": of("category", "brand", "shop_id", "attributes"),
        "names": of("price_minor", "attributes"),
        "values": of("price_minor", "attributes"),
        "text": of("title", "title_zh", "description"),
        "updated_at": of("updated_at"),
    }
    return Derivation(columns, columns["item_id"])


def make_sequences(context: Context, only: Collection[int] | None = None) -> None:
    """clean.events -> features.sequences, bucket by bucket; of `only`, beside the others as they are."""
    run, settings = context.run, context.settings
    table = run.table(
        "features.sequences",
        "replace" if only is None else "buckets",
        description="each user's behaviour, oldest first",
        grade=Grade.PERSONAL,
    )
    shared = SequencesShared(settings.features.kinds, table.place)
    buckets = range(settings.buckets) if only is None else sorted(only)
    tasks = context.buckets(["clean.events"], buckets, columns=OF_EVENTS)
    for part in context.each(make_sequences_bucket, shared, tasks):
        table.take(part)
        context.progress(part.bucket + 1, settings.buckets, f"{table.rows:,} users")
    told = [name for name in OF_EVENTS if name != "seq"]
    order = ("user_id", "item_id", "kind", "ts", "seq")
    run.derive("features.sequences", Derivation(
        {name: [("clean.events", name)] for name in told}, [("clean.events", name) for name in order]
    ))  # fmt: skip
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
    return _looked_at(run, item_table(rows, instant)), told


def load(run: Run, versions: Mapping[str, str] | None = None) -> tuple[Sequences, ItemTable]:
    """The feature tables as arrays; users sorted by id, so the order of buckets does not matter.

    Args:
        versions: asset -> version id, of those that are not to be the current ones.
    """
    named = versions or {}
    items = item_table(run.read("features.items", version=named.get("features.items")))
    rows = run.read("features.sequences", version=named.get("features.sequences"))
    return sequences(rows.sort("user_id"), items.vocabulary), _looked_at(run, items)


def _looked_at(run: Run, items: ItemTable) -> ItemTable:
    """`items` with what the image encoder saw, where the step reads it and there is one."""
    if not run.has(IMAGE_ENCODER):
        return items
    seen = pictures.of_items(items.vocabulary, *pictures.read_vectors(run.folder(IMAGE_ENCODER)))
    return replace(items, images=seen)
