"""clean.items, and what people asked for and took -> indexes.search."""

from pathlib import Path

import polars as pl

from shopkeeper.engine.steps import Context
from shopkeeper.evaluation import loop
from shopkeeper.features.build import deleted, known_items
from shopkeeper.search.index import build
from shopkeeper.words import Kind

MAX_QUERIES = 10_000  # frequent queries offered as suggestions


def index(context: Context) -> None:
    """The search index over the catalogue."""
    run = context.run
    ids = run.read("features.items", columns=["item_id"])["item_id"]
    if run.has("raw.item_writes"):  # events still know what was deleted; nobody is to find it
        writes = run.read("raw.item_writes", columns=["item_id", "mode", "seq"])
        ids = ids.filter(~ids.is_in(deleted(writes).implode()))
    items = known_items(run.read("clean.items"), ids.to_list())
    events = run.scan("clean.events", columns=["item_id", "kind", "query", *loop.PLACE])
    did = events.filter(pl.col("kind") != Kind.IMPRESSION.value).select("item_id", *loop.PLACE)
    fair = loop.fair(run, did)
    weight = pl.col("weight").sum() if "weight" in fair.collect_schema() else pl.len()
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
    run.note("items", items.height)
