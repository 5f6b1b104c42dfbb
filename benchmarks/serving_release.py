"""A synthetic shop of any size with a release of real models, ready for `shopkeeper serve`.

    python benchmarks/serving_release.py FOLDER [--items 100000 --users 20000 --events 1000000]

Users have two of 200 tastes each; an item belongs to one, popularity falls as in real shops (Zipf).
Models are fitted, not filled with noise; the transformer for one epoch, since only its cost counts
here. What it recommends says nothing about quality.
"""

import argparse
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from shopkeeper import search
from shopkeeper.features.build import item_rows, item_table
from shopkeeper.features.sequences import pack
from shopkeeper.models import registry
from shopkeeper.models.protocol import TrainingData
from shopkeeper.serving import releases

TASTES = 200
WORDS = [
    "silk",
    "cotton",
    "oak",
    "steel",
    "glass",
    "stone",
    "paper",
    "clay",
    "wool",
    "brass",
    "amber",
    "ivory",
    "cedar",
    "linen",
]
GOODS = [
    "lamp",
    "teapot",
    "kettle",
    "chair",
    "desk",
    "mug",
    "scarf",
    "jacket",
    "shelf",
    "vase",
    "clock",
    "basket",
    "knife",
    "rug",
]


def catalogue(items: int, draw: np.random.Generator) -> pl.DataFrame:
    """clean.items columns of `items` made-up goods."""
    taste = np.arange(items) % TASTES
    return pl.DataFrame(
        {
            "item_id": [f"item{n:06}" for n in range(items)],
            "title": [
                f"{WORDS[n % 14]} {GOODS[int(t) % 14]} {WORDS[(n // 14) % 14]} {n}"
                for n, t in enumerate(taste)
            ],
            "category": [f"{GOODS[int(t) % 14]}s" for t in taste],
            "brand": [f"brand{n % 300}" for n in range(items)],
            "shop_id": [f"shop{n % 50}" for n in range(items)],
            "price_minor": draw.integers(100, 100_000, items),
            "stock": draw.integers(0, 50, items),
            "updated_at": [datetime(2026, 1, 1, tzinfo=UTC)] * items,
        }
    ).with_columns(
        pl.lit(None, dtype=pl.String).alias(name)
        for name in ("title_zh", "description", "image", "attributes")
    )


def behaviour(users: int, events: int, items: int, draw: np.random.Generator) -> pl.DataFrame:
    """clean.events of users who stay with their two tastes, sorted by user and time."""
    per_taste = items // TASTES
    user = np.sort(draw.integers(0, users, events))
    tastes = draw.integers(0, TASTES, (users, 2))
    taste = tastes[user, draw.integers(0, 2, events)]
    rank = np.minimum((per_taste ** draw.random(events)).astype(np.int64) - 1, per_taste - 1)
    item = np.minimum(taste + rank * TASTES, items - 1)
    start = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1_000_000)
    at = start + draw.integers(0, int(timedelta(days=60).total_seconds()), events) * 1_000_000
    kind = draw.choice(["view", "cart", "purchase"], events, p=[0.85, 0.1, 0.05])
    return (
        pl.DataFrame({"u": user, "i": item, "ts": at, "kind": kind})
        .with_columns(
            pl.format("user{}", "u").alias("user_id"),
            pl.format("item{}", pl.col("i").cast(pl.String).str.zfill(6)).alias("item_id"),
            pl.from_epoch("ts", time_unit="us").dt.replace_time_zone("UTC"),
            pl.lit(3_000, dtype=pl.Int64).alias("dwell_ms"),
            pl.lit(None, dtype=pl.Int64).alias("price_minor"),
            pl.lit(1, dtype=pl.Int64).alias("quantity"),
        )
        .sort("u", "ts")
    )


def make(folder: Path, items: int, users: int, events: int, models: list[str]) -> str:
    """Write shop.toml and a serving release below `folder`; returns the release's id."""
    draw = np.random.default_rng(7)
    goods = catalogue(items, draw)
    done = behaviour(users, events, items, draw)
    table = item_table(item_rows(goods, goods["item_id"]))
    index = table.vocabulary.index
    counts = done.group_by("user_id", maintain_order=True).len()
    sequences = pack(
        counts["user_id"].to_list(),
        counts["len"].to_numpy(),
        [index[item] for item in done["item_id"].to_list()],
        times=done["ts"].dt.epoch("ms").to_numpy(),
    )
    fitted: dict[str, Path] = {}
    for name in models:
        began = time.perf_counter()
        model = registry.resolve(name)()
        settings = {"max_epochs": 1} if name == "transformer" else {}
        model.fit(TrainingData(sequences, table, settings=settings))
        fitted[name] = folder / "fitted" / name
        fitted[name].mkdir(parents=True, exist_ok=True)
        registry.save(model, fitted[name])
        print(f"{name}: fitted in {time.perf_counter() - began:.0f} s", flush=True)
    began = time.perf_counter()
    search.build(goods, folder / "fitted" / "search")
    print(f"search: indexed in {time.perf_counter() - began:.0f} s", flush=True)
    (folder / "shop.toml").write_text(f'name = "synthetic {items:,} items"\n', encoding="utf-8")
    store = folder / "store" / "releases"
    release = releases.build(
        store,
        models=fitted,
        item_table=table,
        items=goods,
        events=done,
        search=folder / "fitted" / "search",
    )
    releases.swap(store, release, reason="benchmark")
    return release


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--models", default="popularity,item_knn,sequence_knn,transformer")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    release = make(asked.folder, asked.items, asked.users, asked.events, asked.models.split(","))
    size = sum(f.stat().st_size for f in asked.folder.rglob("*") if f.is_file())
    print(json.dumps({"release": release, "bytes": size, "items": asked.items}))


if __name__ == "__main__":
    main()
