"""Diversity and exploration."""

import numpy as np
import polars as pl
import pytest

from shopkeeper.recommend.catalogue import Catalogue
from shopkeeper.recommend.rerank import FIRST_SLOT, demote, diversify, explore


def catalogue(categories: list[str | None]) -> Catalogue:
    ids = [f"i{n}" for n in range(len(categories))]
    items = pl.DataFrame(
        {"item_id": ids, "category": categories}, schema_overrides={"category": pl.String}
    )
    return Catalogue(ids, items)


def test_no_category_fills_more_than_its_share_while_others_are_left() -> None:
    store = catalogue(["a"] * 8 + ["b"] * 8)
    page = diversify(np.arange(16), np.linspace(2.0, 1.0, 16), 10, store)
    assert sum(row < 8 for row in page) == 6
    assert page[0] == 0


def test_a_page_is_filled_from_the_capped_when_nothing_else_is_left() -> None:
    store = catalogue(["a"] * 9 + ["b"])
    page = diversify(np.arange(10), np.linspace(2.0, 1.0, 10), 10, store)
    assert sorted(page.tolist()) == list(range(10))


def test_one_category_or_none_leaves_the_order_alone() -> None:
    for categories in (["a"] * 5, [None] * 5):
        page = diversify(np.arange(5), np.array([1.0, 5, 3, 4, 2]), 3, catalogue(categories))
        assert page.tolist() == [1, 3, 2]


def test_viewed_items_step_back_and_stay() -> None:
    assert demote(np.array([1.0, 0.9]), np.array([4, 9]), [4]).tolist() == [0.5, 0.9]


def test_propensities_are_the_shares_with_which_items_stand_there() -> None:
    page, pool, share, times = np.arange(5), np.array([10, 11]), 0.4, 40_000
    draw = np.random.default_rng(1)
    seen: dict[tuple[int, int], int] = {}
    told: dict[tuple[int, int], float] = {}
    for _ in range(times):
        shown = explore(page, pool, share, draw)
        for slot, (row, chance) in enumerate(zip(shown.rows, shown.propensity, strict=True)):
            at = (slot, int(row))
            seen[at] = seen.get(at, 0) + 1
            told.setdefault(at, float(chance))
            assert told[at] == chance  # the same whatever else happened
    for at, chance in told.items():
        assert seen[at] / times == pytest.approx(chance, abs=0.012)
    for slot in range(5):
        assert sum(chance for at, chance in told.items() if at[0] == slot) == pytest.approx(1.0)
    assert told[0, 0] == 1.0
    assert FIRST_SLOT == 1


def test_without_a_share_or_a_pool_nothing_is_explored() -> None:
    draw = np.random.default_rng(1)
    for share, pool in ((0.0, np.array([9])), (0.5, np.array([], dtype=np.int64))):
        shown = explore(np.arange(3), pool, share, draw)
        assert shown.explored is None
        assert shown.propensity.tolist() == [1.0, 1.0, 1.0]
