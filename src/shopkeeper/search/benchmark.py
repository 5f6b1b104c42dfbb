"""Protocol `chorus_icecat`: human relevance ratings of shop queries over an electronics catalogue.

Source: github.com/querqy/chorus (products: Icecat Open Content License). A folder of that form:
products.parquet (id, name, title, short_description, supplier, price, date_released, image,
attributes: JSON text) and judgments.parquet (query, product_id, rating 0..3). All products are
ranked for each query. NDCG@10 has gain rating / 3, discount 1 / log2(rank + 1) and the ideal order
of the query's rated products; a product without a rating counts 0; queries whose ratings are all 0
are left out. condensed_NDCG@10 takes unrated products out first. judged@10 is the share of the
first ten that is rated, recall@100 the share of the products rated above 0 among the first 100.
"""

import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from shopkeeper.errors import InputError, NotFound
from shopkeeper.search.index import build
from shopkeeper.search.searcher import WEIGHTS, Searcher
from shopkeeper.training.trainer import peak_rss_mb

NAME = "chorus_icecat"
DEPTH = 100
MODELS = {
    "lexical": replace(WEIGHTS, head=0.0, head_word=1.0),  # text matching alone
    "full": WEIGHTS,  # and which word names the product, learned from the catalogue
}
METRICS = ("NDCG@10", "condensed_NDCG@10", "judged@10", "recall@100")
Ratings = Mapping[str, Mapping[str, int]]


def benchmark(data: Path, model: str = "full") -> dict[str, Any]:
    """Metrics of one model on a folder of the protocol's form, and milliseconds per query.

    Returns:
        What evaluation.benchmarks.run_benchmark returns, and {"queries", "p50_ms", "p99_ms"}.
        Nothing is drawn and no epoch is trained: the CPU seconds are those of the index.
    Raises:
        NotFound: a file is missing. InputError: no such model.
    """
    if model not in MODELS:
        raise InputError(
            f"no model {model!r} of search", where=NAME, next=f"use one of: {', '.join(MODELS)}"
        )
    products, ratings = read(data)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "search"
        started = time.process_time()
        build(products, folder)
        built = time.process_time() - started
        searcher = Searcher.open(folder, weights=MODELS[model])
        measured = measure(lambda q: [item for item, _ in searcher.search(q, DEPTH).hits], ratings)
    return {
        "benchmark": NAME,
        "model": model,
        "seed": None,
        "metrics": {name: round(measured.pop(name), 6) for name in METRICS},
        "epochs": 0,
        "train_cpu_seconds": round(built, 1),
        "peak_rss_mb": peak_rss_mb(),
        "published": {},
        **measured,
    }


def read(data: Path) -> tuple[pl.DataFrame, dict[str, dict[str, int]]]:
    """(products as clean.items columns, query -> product -> rating)."""
    for name in ("products.parquet", "judgments.parquet"):
        if not (data / name).exists():
            raise NotFound(f"no {name}", where=str(data), next="see the protocol's source")
    products = pl.read_parquet(data / "products.parquet")
    named = [
        json.dumps({"name": name, **json.loads(attributes)}, ensure_ascii=False)
        for name, attributes in products.select("name", "attributes").iter_rows()
    ]
    items = products.select(
        item_id="id",
        title="title",
        title_zh=pl.lit(None, pl.String),
        description="short_description",
        category=pl.lit(None, pl.String),
        brand="supplier",
        shop_id=pl.lit(None, pl.String),
        price_minor=pl.col("price").cast(pl.Int64),
        stock=pl.lit(None, pl.Int64),
        image="image",
        updated_at=pl.col("date_released").str.to_datetime(time_zone="UTC", strict=False),
        attributes=pl.Series(named),
    )
    ratings: dict[str, dict[str, int]] = {}
    judged = pl.read_parquet(data / "judgments.parquet")
    for query, product, rating in judged.select("query", "product_id", "rating").iter_rows():
        ratings.setdefault(query, {})[product] = int(rating)
    return items, ratings


def measure(ranked: Callable[[str], Sequence[str]], ratings: Ratings) -> dict[str, float]:
    """The protocol's metrics of a function query -> item ids, best first, at least DEPTH of them."""
    rows: list[tuple[float, float, float, float]] = []
    took: list[float] = []
    for query, rated in sorted(ratings.items()):
        wanted = {product for product, rating in rated.items() if rating > 0}
        if not wanted:
            continue
        started = time.perf_counter()
        found = list(ranked(query))[:DEPTH]
        took.append((time.perf_counter() - started) * 1e3)
        ideal = _gain(sorted(rated.values(), reverse=True)[:10])
        rows.append(
            (
                _gain([rated.get(item, 0) for item in found[:10]]) / ideal,
                _gain([rated[item] for item in found if item in rated][:10]) / ideal,
                sum(item in rated for item in found[:10]) / 10,
                len(wanted.intersection(found)) / len(wanted),
            )
        )
    means = np.mean(rows, axis=0)
    return {
        **{name: float(value) for name, value in zip(METRICS, means, strict=True)},
        "queries": len(rows),
        "p50_ms": float(np.percentile(took, 50)),
        "p99_ms": float(np.percentile(took, 99)),
    }


def _gain(ratings: Sequence[int]) -> float:
    return sum(rating / 3 / math.log2(rank + 2) for rank, rating in enumerate(ratings))
