"""Filters and live writes of the catalogue."""

import polars as pl
import pytest

from shopkeeper.errors import InputError, NotFound
from shopkeeper.recommend.catalogue import Catalogue


@pytest.fixture
def store() -> Catalogue:
    items = pl.DataFrame(
        {
            "item_id": ["a", "b", "c", "new"],
            "title": ["A", "B", "C", "N"],
            "category": ["lamp", "tea", None, "lamp"],
            "brand": ["Acme", "Bolt", "Acme", None],
            "price_minor": [100, 200, None, 400],
            "stock": [0, 5, None, 1],
        }
    )
    return Catalogue(["b", "a", "only events know it", "c"], items)


def passing(store: Catalogue, filters: dict[str, object]) -> list[str]:
    keep = store.matching(filters)
    assert keep is not None
    return [store.ids[row] for row in keep.nonzero()[0]]


def test_the_vocabulary_comes_first_and_other_items_after_it(store: Catalogue) -> None:
    assert store.ids == ["b", "a", "only events know it", "c", "new"]
    assert store.model_items == 4


def test_only_what_is_in_stock_or_of_unknown_stock_is_available(store: Catalogue) -> None:
    found = [store.ids[row] for row in store.available().nonzero()[0]]
    assert found == ["b", "only events know it", "c", "new"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"category": "lamp"}, ["a", "new"]),
        ({"category": ["lamp", "tea"], "brand": ["Acme", "Bolt"]}, ["b", "a"]),
        ({"category": []}, []),
        ({"brand": "nobody"}, []),
        ({"price_minor": {"min": 150}}, ["b", "new"]),
        ({"price_minor": {"min": 100, "max": 200}}, ["b", "a"]),
        ({"in_stock": True}, ["b", "only events know it", "c", "new"]),
    ],
)
def test_filters_join_keys_by_and_and_values_by_or(
    store: Catalogue, filters: dict[str, object], expected: list[str]
) -> None:
    assert passing(store, filters) == expected


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"colour": "red"}, "unknown filter 'colour'; filters are: category, brand"),
        ({"category": 3}, "filter category is 3, wanted a text or a list of texts"),
        ({"price_minor": 3}, 'filter price_minor is 3, wanted {"min": .., "max": ..}'),
        ({"price_minor": {"min": "x"}}, "filter price_minor.min is 'x', wanted a number"),
        ({"price_minor": {"min": 1, "max": 10**400}}, ", wanted a price"),
        ({"price_minor": {"max": float("nan")}}, "filter price_minor.max is nan, wanted a price"),
        ({"in_stock": "yes"}, "filter in_stock is 'yes', wanted true or false"),
    ],
)
def test_a_wrong_filter_says_what_was_wanted(
    store: Catalogue, filters: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError) as error:
        store.matching(filters)
    assert message in str(error.value)


def test_a_live_write_replaces_the_card_and_a_new_item_is_appended(store: Catalogue) -> None:
    version = store.version
    store.put({"item_id": "a", "title": "A2", "price_minor": 300, "stock": 2, "brand": "Fresh"})
    store.put({"item_id": "z", "title": "Z", "category": "lamp"})
    assert store.version > version
    assert store.card(store.row("a"))["title"] == "A2"
    assert passing(store, {"brand": "Fresh"}) == ["a"]
    assert passing(store, {"category": "lamp"}) == ["new", "z"]
    assert store.available()[store.row("a")]


def test_a_removed_item_is_gone_until_it_is_put_back(store: Catalogue) -> None:
    store.remove("b")
    with pytest.raises(NotFound):
        store.row("b")
    assert passing(store, {"category": "tea"}) == []
    store.put({"item_id": "b", "category": "tea"})
    assert passing(store, {"category": "tea"}) == ["b"]


def test_many_new_items_make_room(store: Catalogue) -> None:
    for n in range(3000):
        store.put({"item_id": f"n{n}", "category": "many", "price_minor": n})
    assert len(passing(store, {"category": "many", "price_minor": {"min": 2990}})) == 10
