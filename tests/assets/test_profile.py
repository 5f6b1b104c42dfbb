"""Column profiles: exact where they say so, the same in any order, silent about people."""

import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from shopkeeper.assets.profile import SAMPLE, finish, merge_parts, profile_part, rebinned
from shopkeeper.words import Grade

GRADES = {
    "price": Grade.INTERNAL,
    "share": Grade.INTERNAL,
    "kind": Grade.PUBLIC,
    "at": Grade.INTERNAL,
    "sold": Grade.INTERNAL,
    "user": Grade.PERSONAL,
}


def table(rows: int, seed: int = 1) -> pl.DataFrame:
    dice = random.Random(seed)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return pl.DataFrame(
        {
            "price": [dice.choice([None, *range(0, 50_000, 7)]) for _ in range(rows)],
            "share": [dice.gauss(0, 3) for _ in range(rows)],
            "kind": [dice.choice(["view", "view", "view", "cart"]) for _ in range(rows)],
            "at": [start + timedelta(seconds=dice.randrange(9_000_000)) for _ in range(rows)],
            "sold": [dice.random() < 0.25 for _ in range(rows)],
            "user": [f"u{dice.randrange(rows)}" for _ in range(rows)],
        },
        schema_overrides={"price": pl.Int64},
    )


def told(frame: pl.DataFrame) -> dict[str, dict[str, Any]]:
    profile = finish(profile_part(frame, GRADES))
    return {column["column"]: column for column in profile["columns"]}


def test_counts_least_greatest_and_mean_are_those_of_every_row() -> None:
    frame = table(30_000)
    found = told(frame)
    assert found["price"]["nulls"] == frame["price"].null_count()
    assert found["price"]["min"] == frame["price"].min()
    assert found["price"]["max"] == frame["price"].max()
    assert found["price"]["mean"] == pytest.approx(frame["price"].mean())
    assert found["sold"]["mean"] == pytest.approx(frame["sold"].mean())
    assert found["at"]["min"] == min(frame["at"].to_list()).isoformat()
    assert found["kind"]["distinct"] == 2
    assert [value for value, _ in found["kind"]["top"]] == ["view", "cart"]


def test_the_number_of_distinct_values_is_exact_when_small_and_close_when_large() -> None:
    few = pl.DataFrame({"kind": [f"{n % 700}" for n in range(20_000)]})
    assert told(few)["kind"]["distinct"] == 700
    for values in (range(200_000), [f"item {n}" for n in range(200_000)]):
        many = pl.DataFrame({"price": list(values)})
        assert told(many)["price"]["distinct"] == pytest.approx(200_000, rel=0.1)


def test_parts_give_the_same_profile_in_any_order_and_however_they_are_grouped() -> None:
    frame = table(6_000)
    pieces = [frame[n : n + 500] for n in range(0, 6_000, 500)]
    parts = [json.loads(json.dumps(profile_part(piece, GRADES))) for piece in pieces]
    whole = finish(merge_parts(parts))
    assert finish(merge_parts(parts[::-1])) == whole
    half = [merge_parts(parts[5:]), merge_parts(parts[:5])]
    assert finish(merge_parts(half)) == whole
    one = finish(profile_part(frame, GRADES))
    for mine, theirs in zip(whole["columns"], one["columns"], strict=True):
        for key in ("nulls", "distinct", "min", "max", "histogram", "examples"):
            assert mine[key] == theirs[key], (mine["column"], key)
        assert mine["mean"] == (theirs["mean"] and pytest.approx(theirs["mean"]))


def test_a_histogram_holds_every_row_that_has_a_value() -> None:
    frame = table(SAMPLE)
    for name, column in told(frame).items():
        if column["histogram"] is not None:
            counts, edges = column["histogram"]["counts"], column["histogram"]["edges"]
            assert sum(counts) == frame[name].count()
            assert len(edges) == len(counts) + 1
            assert edges == sorted(edges)
    histogram = told(pl.DataFrame({"price": [0, 1, 1, 5]}))["price"]["histogram"]
    assert histogram == {"edges": [0, 1, 2, 3, 4, 5, 6], "counts": [1, 2, 0, 0, 0, 1]}


def test_many_small_values_and_a_few_huge_ones_get_bins_that_grow() -> None:
    prices = [*range(100, 200), *range(1000, 1100), 10_000_000]
    histogram = told(pl.DataFrame({"price": prices}))["price"]["histogram"]
    assert sum(histogram["counts"]) == len(prices)
    assert max(histogram["counts"]) < 0.75 * len(prices)


def test_a_large_part_is_sampled_evenly_and_says_so() -> None:
    frame = pl.DataFrame({"kind": ["a", "b", "b", "b", "b"] * SAMPLE})
    profile = finish(profile_part(frame, GRADES))
    assert profile["sampled"] == pytest.approx(0.2)
    assert sum(n for _, n in profile["columns"][0]["top"]) == pytest.approx(frame.height)


def test_a_value_that_no_looked_at_row_has_is_counted_all_the_same() -> None:
    frame = pl.DataFrame({"price": [None, 7, *[None] * (2 * SAMPLE)]}, schema={"price": pl.Int64})
    price = told(frame)["price"]
    assert (price["min"], price["mean"], price["distinct"]) == (7, 7, 1)
    assert (price["histogram"], price["top"]) == (None, [])


def test_counts_of_the_values_of_a_part_are_those_of_a_plain_count() -> None:
    frame = table(5_000).with_columns(huge=pl.lit(2**64 - 1, dtype=pl.UInt64))
    profile = finish(profile_part(frame, GRADES | {"huge": Grade.PUBLIC}))
    found = {column["column"]: column for column in profile["columns"]}
    for name in ("price", "kind", "sold"):
        counts = Counter(frame[name].drop_nulls().to_list())
        assert all(counts[value] == n for value, n in found[name]["top"])
        assert found[name]["distinct"] == pytest.approx(len(counts), rel=0.1)
        assert set(found[name]["examples"]) <= set(counts)
    bins, width = Counter(), found["price"]["bins"]["width_log2"]
    bins.update(str(price >> width) for price in frame["price"].drop_nulls())
    assert found["price"]["bins"]["counts"] == bins
    assert sum(found["huge"]["histogram"]["counts"]) == frame.height


def test_values_of_people_are_not_in_a_profile() -> None:
    frame = table(300)
    text = json.dumps(finish(profile_part(frame, GRADES)))
    assert told(frame)["user"]["distinct"] == frame["user"].n_unique()
    assert not any(f'"{user}"' in text for user in frame["user"])
    assert told(frame)["user"]["histogram"] is None
    unknown = finish(profile_part(frame.select(secret="user"), GRADES))
    assert unknown["columns"][0]["examples"] == []


def test_a_column_of_one_part_only_is_null_in_the_others() -> None:
    parts = [
        profile_part(pl.DataFrame({"price": [1, 2]}), GRADES),
        profile_part(pl.DataFrame({"price": [3], "share": [0.5]}), GRADES),
    ]
    found = {column["column"]: column for column in finish(merge_parts(parts))["columns"]}
    assert found["share"]["nulls"] == 2
    assert found["price"]["mean"] == 2


def test_empty_columns_nested_ones_and_odd_numbers_are_told_plainly() -> None:
    frame = pl.DataFrame(
        {
            "price": pl.Series([None, None], dtype=pl.Int64),
            "share": [float("nan"), float("inf")],
            "kind": [["a"], ["b"]],
        }
    )
    found = told(frame)
    assert found["price"]["nulls"] == 2
    assert found["price"]["histogram"] is None
    assert found["share"]["mean"] is None
    assert found["kind"]["distinct"] is None
    assert finish(merge_parts([]))["rows"] == 0
    assert told(frame.clear())["price"]["distinct"] == 0
    json.dumps(finish(profile_part(frame, GRADES)), allow_nan=False)


def test_two_versions_are_compared_in_bins_of_one_width() -> None:
    small = told(pl.DataFrame({"price": list(range(100))}))["price"]["bins"]
    large = told(pl.DataFrame({"price": list(range(1000))}))["price"]["bins"]
    a, b = rebinned([small, large])
    assert sum(a.values()) == 100
    assert sum(b.values()) == 1000
    assert set(a) <= set(b)


@pytest.mark.parametrize("name", ["n", "hash", "value", "len", "*", "", "0 nulls", "键"])
def test_a_column_may_be_called_anything(name: str) -> None:
    frame = pl.DataFrame({name: [3, 3, 4]})
    found = finish(profile_part(frame, {"*": Grade.PUBLIC}))["columns"][0]
    assert (found["column"], found["mean"], found["top"][0]) == (name, 10 / 3, [3, 2])
    text = finish(profile_part(pl.DataFrame({name: ["a"]}), {"*": Grade.PUBLIC}))
    assert text["columns"][0]["examples"] == ["a"]
