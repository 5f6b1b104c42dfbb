import json
import math
import os
from pathlib import Path

import polars as pl
import pytest

from shopkeeper.errors import InputError, NotFound
from shopkeeper.search.benchmark import benchmark, measure

SHAPE = {
    "benchmark", "model", "seed", "metrics", "epochs", "train_cpu_seconds", "peak_rss_mb",
    "published",
}  # fmt: skip
DATA = Path(os.environ.get("SHOPKEEPER_DATA", Path(__file__).parents[2].parent / "shared" / "data"))


def test_metrics_equal_the_protocol_by_hand() -> None:
    ratings = {"q": {"a": 3, "b": 1, "c": 0}, "all bad": {"a": 0}}
    found = measure(lambda query: ["x", "a", "c"], ratings)
    ideal = 1 + 1 / 3 / math.log2(3)
    assert found["NDCG@10"] == pytest.approx(1 / math.log2(3) / ideal)
    assert found["condensed_NDCG@10"] == pytest.approx(1 / ideal)
    assert found["judged@10"] == pytest.approx(0.2)
    assert found["recall@100"] == 0.5
    assert found["queries"] == 1


def test_a_folder_of_the_form_runs_and_a_perfect_answer_scores_one(tmp_path: Path) -> None:
    titles = {"1": "Red kettle", "2": "Blue mug", "3": "Tea pot"}
    pl.DataFrame(
        {
            "id": list(titles),
            "name": ["K1", "M2", "T3"],
            "title": list(titles.values()),
            "short_description": [None, "a mug", "for tea"],
            "supplier": ["Acme"] * 3,
            "price": [100, 200, 300],
            "date_released": ["2020-01-01T00:00:00Z"] * 3,
            "image": ["http://x/1.jpg"] * 3,
            "attributes": [json.dumps({"t_colour": "red"}), "{}", "{}"],
        }
    ).write_parquet(tmp_path / "products.parquet")
    pl.DataFrame(
        {"query": ["kettle", "mug"], "product_id": ["1", "2"], "rating": [3, 2]}
    ).write_parquet(tmp_path / "judgments.parquet")
    for model in ("lexical", "full"):
        found = benchmark(tmp_path, model)
        metrics = found["metrics"]
        assert (metrics["NDCG@10"], metrics["recall@100"]) == (1.0, 1.0)
        assert set(found) >= SHAPE
    with pytest.raises(InputError, match="no model 'best' of search; use one of: lexical, full"):
        benchmark(tmp_path, "best")
    with pytest.raises(NotFound, match=r"no products\.parquet"):
        benchmark(tmp_path / "nowhere")


@pytest.mark.slow
def test_public_ratings_are_ranked_better_than_the_plain_cascade() -> None:
    data = DATA / "chorus-icecat"
    if not (data / "products.parquet").exists():
        pytest.skip(f"no chorus-icecat data in {DATA}; set SHOPKEEPER_DATA")
    found = benchmark(data, "full")["metrics"]
    assert found["NDCG@10"] > 0.82
    assert found["condensed_NDCG@10"] > 0.86
    assert found["recall@100"] > 0.95
