from pathlib import Path

import polars as pl
import pytest

from shopkeeper.search import Searcher, build


@pytest.fixture(scope="session")
def shelf() -> pl.DataFrame:
    """Eight items, Chinese and English, with what real catalogues have: nulls, odd attributes."""
    return pl.DataFrame(
        {
            "item_id": ["mouse", "pad", "lamp", "spray", "coffee", "bank", "ps4", "book"],
            "title": [
                "Wireless mouse black",
                "Mouse pad",
                "Desk lamp",
                "WD-40 spray 500 ml",
                "Café crème maker",
                "Power bank 20000mAh",
                "PS4 console 500GB",
                "note book A5",
            ],
            "title_zh": [
                "无线鼠标 黑色",
                "鼠标垫",
                "台灯",
                "除锈剂 500毫升",
                "咖啡机",
                "充电宝 20000毫安",
                "游戏机",
                "笔记本 A5",
            ],
            "brand": ["Acme", "Acme", "Lux", "WD", "Krups", "Anker", "Sony", "Moleskine"],
            "category": ["mice", "pads", "lamps", "tools", "kitchen", "power", "games", "paper"],
            "shop_id": ["s1", "s1", "s2", "s2", "s1", "s1", "s1", None],
            "price_minor": [1900, 500, 2500, None, 9900, 3900, 29900, 990],
            "stock": [3, 0, 7, None, 1, 1, 1, 1],
            "attributes": [
                '{"colour": "black", "sku": "MX-5500"}',
                None,
                "no JSON",
                '{"sizes": [1, "XL"]}',
                "[]",
                None,
                None,
                None,
            ],
        }
    )


@pytest.fixture(scope="session")
def shelf_folder(shelf: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("indexes") / "search"
    build(
        shelf,
        folder,
        popularity={"ps4": 10, "pad": 3},
        queries={"wireless mouse": 5, "Wireless charger": 9},
    )
    return folder


@pytest.fixture
def searcher(shelf_folder: Path, tmp_path: Path) -> Searcher:
    """The shelf, open; what a test writes does not reach the next test."""
    return Searcher.open(shelf_folder, live=tmp_path / "live")
