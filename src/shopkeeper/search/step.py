"""clean.items, and what people asked for and took -> indexes.search."""

from collections.abc import Collection, Mapping
from pathlib import Path

import polars as pl

from shopkeeper.assets.lineage import ROWS, Derivation
from shopkeeper.engine.steps import Context
from shopkeeper.evaluation import loop
from shopkeeper.features.build import deleted, known_items
from shopkeeper.search.index import KEPT, build
from shopkeeper.words import Kind

MAX_QUERIES = 10_000  # frequent queries offered as suggestions
OF_ITEMS = ("item_id", *(name for name in KEPT if name != "popularity"))
WHICH = ("features.items", "raw.item_writes")  # tell which items there are


def index(context: Context) -> None:
    """The search index over the catalogue."""
    run = context.run
    ids = run.read("features.items", columns=["item_id"])["item_id"]
    if run.has("raw.item_writes"):  # events still know what was deleted; nobody is to find it
        writes = run.read("raw.item_writes", columns=["item_id", "mode", "seq"])
        ids = ids.filter(~ids.is_in(deleted(writes).implode()))
    there = context.assets.current("clean.items").schema
    told = [name for name in OF_ITEMS if name in there]
    items = known_items(run.read("clean.items", columns=told), ids.to_list())
    events = run.scan("clean.events", columns=["item_id", "kind", "query", *loop.PLACE])
    did = events.filter(pl.col("kind") != Kind.IMPRESSION.value).select("item_id", *loop.PLACE)
    fair = loop.fair(run, did)
    weighted = "weight" in fair.collect_schema()
    weight = pl.col("weight").sum() if weighted else pl.len()
    wanted = fair.group_by("item_id").agg(weight).drop_nulls().collect()
    asked = (
        events.filter(pl.col("kind") == Kind.SEARCH.value)
        .select(pl.col("query").str.strip_chars().str.to_lowercase())
        .filter(pl.col("query").str.len_chars().is_between(1, 60))
        .group_by("query")
        .agg(pl.len())
        .filter(pl.col("len") >= 2)
        .sort(["len", "query"], descending=[True, False])
        .head(MAX_QUERIES)
        .collect()
    )

    def fill(folder: Path) -> None:
        build(
            items,
            folder,
            context.progress,
            popularity={item: float(round(count)) for item, count in wanted.iter_rows()},
            queries=dict(asked.select("query", "len").iter_rows()),
        )

    run.files(
        "indexes.search",
        fill,
        kind="index",
        description="search over the catalogue, Chinese and English",
        notes={"items": items.height, "queries": asked.height},
    )
    run.derive("indexes.search", _derived(run.lineage.read, weighted))
    run.note("items", items.height)


def _derived(read: Mapping[str, Collection[str]], weighted: bool) -> Derivation:
    """What is in the index, and which items are; places of clicks only where they weigh something."""
    found = [(table, name) for table, names in read.items() for name in sorted(names)]
    if not weighted:
        found = [one for one in found if one not in {("clean.events", name) for name in loop.PLACE}]
    inside = [one for one in found if one[0] not in WHICH]
    return Derivation({ROWS: inside}, [one for one in found if one[0] in WHICH])
