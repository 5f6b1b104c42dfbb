"""The loop's data quality: levels by bounds, and a shift that was planted is seen."""

import numpy as np
import pytest

from shopkeeper.evaluation.loop import Check, drifts, judged, stability, wanted
from shopkeeper.features.sequences import Sequences, pack


@pytest.mark.parametrize(
    ("value", "bounds", "level"),
    [
        (0.1, (0.2, 0.5), "ok"),
        (0.2, (0.2, 0.5), "ok"),
        (0.3, (0.2, 0.5), "warning"),
        (0.6, (0.2, 0.5), "error"),
        (0.3, (0.2, 0.05), "ok"),
        (0.1, (0.2, 0.05), "warning"),
        (0.01, (0.2, 0.05), "error"),
        (0.0, (0.0, 0.0), "ok"),
        (0.1, (0.0, 0.0), "error"),
    ],
)
def test_the_order_of_the_bounds_says_which_side_is_bad(
    value: float, bounds: tuple[float, float], level: str
) -> None:
    assert judged(value, bounds) == level


def test_bounds_are_told_in_words_and_no_value_is_unknown() -> None:
    assert wanted((0.2, 0.5)) == "at most 0.2; above 0.5 is an error"
    assert wanted((0.2, 0.05)) == "at least 0.2; below 0.05 is an error"
    assert Check("bots", None).level((0.2, 0.5)) == "unknown"


def test_the_same_distribution_is_stable_and_a_shifted_one_is_not() -> None:
    rng = np.random.default_rng(0)
    before = rng.normal(size=5_000)
    same = stability(before, rng.normal(size=5_000))
    moved = stability(before, rng.normal(0.7, 1.0, size=5_000))
    assert same is not None
    assert same < 0.02
    assert moved is not None
    assert moved > 0.25
    assert stability(before, before[:50]) is None


def _shop(rng: np.random.Generator, users: int, price: float, kind: float) -> Sequences:
    lengths = rng.integers(3, 12, users)
    total = int(lengths.sum())
    return pack(
        [str(u) for u in range(users)],
        lengths,
        rng.integers(0, 30, total),
        kinds=(rng.random(total) < kind).astype(np.uint8),
        times=np.cumsum(rng.integers(1_000, 100_000, total)),
        dwell_ms=rng.lognormal(9, 1, total),
        price_minor=rng.lognormal(price, 1, total),
    )


def test_only_the_feature_that_moved_is_named() -> None:
    rng = np.random.default_rng(1)
    trained = _shop(rng, 500, price=7.0, kind=0.3)
    told = drifts(trained, _shop(rng, 400, price=8.5, kind=0.3), 30)
    assert set(told) == {"length", "kind", "dwell", "gap", "price", "popularity"}
    known = {name: value for name, value in told.items() if value is not None}
    assert {name for name, value in known.items() if value > 0.1} == {"price"}
    again = drifts(trained, _shop(rng, 400, price=7.0, kind=0.8), 30)
    assert again["kind"] is not None
    assert again["kind"] > 0.25
