"""The demo's more kinds of data: clean by their contracts, and in agreement with what happened."""

from pathlib import Path

import polars as pl
import pytest

from shopkeeper.demo.goods import SHOPS
from shopkeeper.governance.access import OWNER
from shopkeeper.shop import Shop
from shopkeeper.words import Purpose

WRITTEN = {"regions", "campaigns", "coupons", "price_history", "stock_movements", "reviews", "follows",
           "campaign_participation", "dialogues", "knowledge"}  # fmt: skip


@pytest.fixture(scope="module")
def cleaned(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The marketplace's kinds, items and shops, collected and cleaned."""
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "raw").symlink_to(small / "raw")
    (folder / "shop.toml").write_text((small / "shop.toml").read_text("utf-8"), encoding="utf-8")
    tables = ["items", "shops", *sorted(WRITTEN)]
    with Shop.open(folder) as shop:
        shop.run([f"{group}.{table}" for group in ("collect", "clean") for table in tables])
    return folder


def test_every_row_of_the_kinds_is_clean_and_leads_somewhere(cleaned: Path) -> None:
    with Shop.open(cleaned) as shop:
        told = {one["table"]: one for one in shop.quality() if one["table"] in WRITTEN}
    assert set(told) == WRITTEN
    for table, one in told.items():
        assert one["rows"] == one["clean"] > 0, table
        assert [rule["rule"] for rule in one["rules"] if rule["level"] != "PASS"] == [], table


def test_what_moved_adds_up_to_the_stock_that_the_catalogue_tells(cleaned: Path) -> None:
    with Shop.open(cleaned) as shop:
        moves = shop.assets.read("clean.stock_movements", by=OWNER, purpose=Purpose.ANALYSE)
        items = shop.assets.read("clean.items", by=OWNER, purpose=Purpose.ANALYSE)
        follows = shop.assets.read("clean.follows", by=OWNER, purpose=Purpose.ANALYSE)
    left = moves.group_by("item_id").agg(pl.col("quantity").sum())
    both = items.filter(pl.col("stock") > 0).join(left, on="item_id")
    assert both.height > 200
    assert (both["stock"] == both["quantity"]).mean() > 0.97  # dirt: some pages tell another stock
    assert follows["shop_id"].drop_nulls().n_unique() <= len(SHOPS)
    assert (follows["user_id"] == follows["target_user_id"]).sum() == 0
