"""The shops of examples/: each file of settings runs on rows of its source's own form, and, where
the public data is at hand (SHOPKEEPER_DATA, or ../shared/data beside the checkout), on all of it."""

import os
import shutil
from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest

from shopkeeper import config
from shopkeeper.governance.access import OWNER
from shopkeeper.shop import Shop
from shopkeeper.words import Purpose

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("SHOPKEEPER_DATA", ROOT.parent / "shared" / "data"))


def workspace(folder: Path, name: str) -> Path:
    (folder / "raw").mkdir(parents=True)
    shutil.copy(ROOT / "examples" / name / "shop.toml", folder)
    return folder


def table(shop: Shop, name: str) -> pl.DataFrame:
    return shop.assets.read(name, by=OWNER, purpose=Purpose.ANALYSE)


def quality(shop: Shop, name: str) -> tuple[int, int, int, int]:
    found = next(report for report in shop.quality() if report["table"] == name)
    return found["rows"], found["clean"], found["merged"], found["quarantined"]


@pytest.mark.parametrize("folder", sorted((ROOT / "examples").iterdir()), ids=lambda f: f.name)
def test_every_example_is_a_valid_shop(folder: Path) -> None:
    assert config.load(folder).sources


def test_invoices_become_purchases_returns_and_a_catalogue(tmp_path: Path) -> None:
    folder = workspace(tmp_path / "shop", "online_retail")
    july = datetime(2010, 7, 1, 9, 0)  # British summer time: 08:00 UTC
    later = datetime(2010, 7, 1, 10, 0)
    rows = [
        ("536365", "85123A", "WHITE LANTERN", 6, july, 2.55, 17850, "United Kingdom"),
        ("536365", "85123A", "WHITE LANTERN", 6, july, 2.55, 17850, "United Kingdom"),
        ("C536379", "85123A", "WHITE LANTERN", -2, later, 2.55, 17850, "United Kingdom"),
        ("536380", "85123A", "damages", -9, later, 0.0, None, "United Kingdom"),
        ("536381", "POST", "POSTAGE", 1, later, 18.0, 12583, "France"),
    ]
    names = "InvoiceNo StockCode Description Quantity InvoiceDate UnitPrice CustomerID Country"
    pl.DataFrame(rows, schema=names.split(), orient="row").cast(
        {"CustomerID": pl.Int32}
    ).write_parquet(folder / "raw" / "transactions.parquet")
    with Shop.open(folder) as shop:
        shop.run(["collect", "clean", "features"])
        assert quality(shop, "events") == (5, 3, 1, 1)  # a line twice, and one without a customer
        events = table(shop, "clean.events").sort("kind", "user_id")
        assert events["kind"].to_list() == ["purchase", "purchase", "return"]
        assert events["quantity"].to_list() == [1, 6, 2]
        assert events["price_minor"].to_list() == [1800, 255, 255]
        assert events["ts"].min().isoformat() == "2010-07-01T08:00:00+00:00"
        items = {row["item_id"]: row for row in table(shop, "clean.items").to_dicts()}
        assert items["85123A"]["title"] == "WHITE LANTERN"  # not the remark of the correction
        assert items["85123A"]["price_minor"] == 255
        assert items["POST"]["stock"] == 0  # never recommended
        learned = table(shop, "features.sequences").sort("user_id")
        assert learned["item_id"].to_list() == [["POST"], ["85123A"]]  # no return among them


def test_baskets_coupons_households_and_stores_become_one_shop(tmp_path: Path) -> None:
    folder = workspace(tmp_path / "shop", "complete_journey")
    raw = folder / "raw"
    noon = datetime(2017, 3, 1, 12, 0)
    pl.DataFrame(
        {
            "household_id": [1, 1, 2],
            "store_id": [319, 319, 320],
            "basket_id": [7, 7, 8],
            "product_id": [100, 101, 999],
            "quantity": [1, 0, 2],
            "sales_value": [1.5, 0.0, 3.0],
            "transaction_timestamp": [noon] * 3,
        }
    ).write_parquet(raw / "transactions_sample.parquet")
    pl.DataFrame(
        {
            "product_id": [100, 101],
            "manufacturer_id": [2, 69],
            "department": ["GROCERY", "PASTRY"],
            "brand": ["National", "Private"],
            "product_category": ["ICE", "BREAD"],
            "product_type": ["ICE - CRUSHED", None],
            "package_size": ["22 LB", None],
        }
    ).write_parquet(raw / "products.parquet")
    pl.DataFrame({"household_id": [1], "age": ["65+"], "income": ["35-49K"]}).write_parquet(
        raw / "demographics.parquet"
    )
    pl.DataFrame(
        {
            "household_id": [1, 1],
            "coupon_upc": [10000085207, 10000085208],  # two coupons on one day are two events
            "campaign_id": [26, 26],
            "redemption_date": [date(2017, 3, 1)] * 2,
        }
    ).write_parquet(raw / "coupon_redemptions.parquet")
    with Shop.open(folder) as shop:
        shop.run(["collect", "clean", "features"])
        rules = table(shop, "quarantine.events")["rule"].sort().to_list()
        assert rules == ["range:quantity", "reference:item_id"]  # 0 pieces; product 999 is unknown
        events = table(shop, "clean.events").sort("kind", "item_id", "query")
        assert events["kind"].to_list() == ["coupon_use", "coupon_use", "purchase"]
        assert events["query"].to_list()[:2] == ["10000085207", "10000085208"]
        assert table(shop, "clean.shops")["shop_id"].sort().to_list() == ["319", "320"]
        items = table(shop, "features.items").sort("item_id")
        assert {"brand=2", "category=ICE", "department=GROCERY"} <= set(items["tags"][0])
        assert table(shop, "clean.users")["attributes"].to_list() == [
            '{"age":"65+","income":"35-49K"}'
        ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "source", "events", "items"),
    [
        (
            "online_retail",
            "online_retail_2009_2010",
            (525_461, 410_665, 6_771, 108_025),
            (525_461, 4_631, 520_830, 0),
        ),
        (
            "complete_journey",
            "complete_journey",
            (77_102, 76_672, 13, 417),
            (92_331, 92_331, 0, 0),
        ),
    ],
)
def test_the_whole_public_data_is_cleaned_to_the_row(
    tmp_path: Path, name: str, source: str, events: tuple[int, ...], items: tuple[int, ...]
) -> None:
    if not (DATA / source).is_dir():
        pytest.skip(f"no {source} under {DATA}; set SHOPKEEPER_DATA to where the public data lies")
    folder = workspace(tmp_path / "shop", name)
    (folder / "raw").rmdir()
    (folder / "raw").symlink_to(DATA / source)
    with Shop.open(folder) as shop:
        shop.run(["collect", "clean"])
        assert quality(shop, "events") == events
        assert quality(shop, "items") == items
