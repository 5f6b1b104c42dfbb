from pathlib import Path

import polars as pl
import pytest

from shopkeeper.search import Searcher, build


@pytest.fixture
def searcher(tmp_path: Path) -> Searcher:
    items = pl.DataFrame(
        {
            "item_id": ["1", "2", "3"],
            "title": ["Wireless mouse black", "Mouse pad", "Desk lamp"],
            "title_zh": ["无线鼠标 黑色", "鼠标垫", "台灯"],
            "brand": ["Acme", "Acme", "Lux"],
            "category": ["mice", "pads", "lamps"],
            "price_minor": [1900, 500, 2500],
            "stock": [3, 0, 7],
        }
    )
    build(items, tmp_path / "search")
    return Searcher.open(tmp_path / "search")


def test_an_item_with_all_words_comes_first(searcher: Searcher) -> None:
    found = searcher.search("wireless mouse")
    assert found.hits[0][0] == "1"


def test_chinese_words_find_chinese_titles(searcher: Searcher) -> None:
    assert searcher.search("无线鼠标").hits[0][0] == "1"


def test_a_live_price_shows_in_the_next_search(searcher: Searcher) -> None:
    searcher.upsert([{"item_id": "1", "title": "Wireless mouse", "price_minor": 100, "stock": 1}])
    assert [hit for hit, _ in searcher.search("mouse", filters={"price": {"max": 200}}).hits] == [
        "1"
    ]
    searcher.delete(["1"])
    assert "1" not in [hit for hit, _ in searcher.search("mouse").hits]


def test_nothing_found_shows_popular_items(searcher: Searcher) -> None:
    found = searcher.search("!!!")
    assert (found.stage, len(found.hits)) == ("popular", 3)
