"""The report steps: made once, fresh after, made anew when their inputs change; the demo's truth."""

from pathlib import Path

import polars as pl
import pytest

from shopkeeper import demo
from shopkeeper.analysis import reports
from shopkeeper.analysis.derivations import MADE
from shopkeeper.analysis.steps import REPORTS, steps
from shopkeeper.assets import lineage
from shopkeeper.assets.store import Assets
from shopkeeper.config import Settings
from shopkeeper.demo import truth
from shopkeeper.engine.steps import run_steps
from shopkeeper.governance.access import OWNER
from shopkeeper.shop import Shop
from shopkeeper.words import Purpose

ZONE = "Asia/Shanghai"


def read(assets: Assets, name: str) -> pl.DataFrame:
    return assets.read(name, by=OWNER, purpose=Purpose.ANALYSE)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small demo marketplace, collected and cleaned."""
    folder = tmp_path_factory.mktemp("market") / "shop"
    demo.write(folder, users=1500, items=300, days=40, seed=5)
    with Shop.open(folder) as shop:
        shop.run(["collect", "clean"])
    return folder


def test_every_report_is_made_once_and_tells_what_it_rests_on(market: Path) -> None:
    with Shop.open(market) as shop:
        done = run_steps(steps(), shop.folder, shop.settings, shop.assets)
        assert [outcome.state for outcome in done] == ["done"] * len(REPORTS)
        again = run_steps(steps(), shop.folder, shop.settings, shop.assets)
        assert [outcome.state for outcome in again] == ["fresh"] * len(REPORTS)
        for name in REPORTS:
            version = shop.assets.current(f"reports.{name}")
            assert version.notes["timezone"] == ZONE
            assert version.notes["currency"] == "CNY"
            assert version.rows, name
            assert shop.assets.catalog.made_from(version.id)[0] == "clean.events@1"
        zone = shop.settings.model_copy(update={"timezone": "UTC"})
        moved = run_steps(steps(), shop.folder, zone, shop.assets)
        assert [outcome.state for outcome in moved] == ["done"] * len(REPORTS)


def test_each_column_of_a_report_is_told_with_the_columns_it_is_made_of(market: Path) -> None:
    with Shop.open(market) as shop:
        run_steps(steps(), shop.folder, shop.settings, shop.assets)
        for name, (made, _) in MADE.items():
            version = shop.assets.current(f"reports.{name}")
            edges = lineage.edges_of(shop.assets.catalog, version.id)
            assert {edge.how for edge in edges} == {"computed", "rows"}
            constant = {column for column, of in made.items() if not of}
            later = {"reached", "joined"}  # of a table that this shop has not
            told = {edge.to_column for edge in edges if edge.how == "computed"}
            assert told == set(version.schema) - constant - later == set(made) - constant - later
        channels = lineage.column_walk(shop.assets.catalog, "reports.channels", "users", depth=1)
        assert {edge.from_column for edge in channels} == {"channel", "user_id"}


def test_nobody_is_found_in_a_report(market: Path) -> None:
    """No id of a user, and no count of users from 1 to 4, in any of them."""
    with Shop.open(market) as shop:
        run_steps(steps(), shop.folder, shop.settings, shop.assets)
        people = set(read(shop.assets, "clean.users")["user_id"])
        for name in REPORTS:
            frame = read(shop.assets, f"reports.{name}")
            assert not people & set(frame.select(pl.col(pl.String)).unpivot()["value"])
            for column in {"users", "viewed", "carted", "bought", "active", "buyers"} & set(
                frame.columns
            ):
                if (name, column) != ("search_terms", "bought"):  # acts, by enough users
                    assert frame.filter(pl.col(column).is_between(1, 4)).height == 0, (name, column)  # fmt: skip


def test_the_demos_sums_are_those_of_its_events(market: Path) -> None:
    with Shop.open(market) as shop:
        run_steps(steps(), shop.folder, shop.settings, shop.assets)
        bought = read(shop.assets, "clean.events").filter(pl.col("kind") == "purchase")
        paid = bought.select((pl.col("price_minor") * pl.col("quantity")).sum()).item()
        channels = read(shop.assets, "reports.channels")
        assert channels["revenue_minor"].sum() == paid
        assert channels["purchases"].sum() == bought.height
        assert channels["channel"].to_list() == ["app", "miniapp", "web"]
        value = read(shop.assets, "reports.cohort_value")
        latest = value.group_by("cohort").agg(pl.col("cumulative_minor").max())
        assert 0 < latest["cumulative_minor"].sum() <= paid


def test_what_the_demo_sells_together_is_bought_together(market: Path) -> None:
    """Its truth says which good leads to which; those pairs have a high lift, others a low one."""
    known = truth.load(market / "truth")
    goods = pl.DataFrame({"item_id": list(known.items), "group": known.good})
    with Shop.open(market) as shop:
        scan = shop.assets.scan("clean.events", by=OWNER, purpose=Purpose.ANALYSE)
        pairs = reports.basket([scan], ZONE, goods, least=3, least_baskets=3).frame
    pairs = pairs.filter(pl.col("level") == "category")
    leads = {(a, b) for a, found in known.leads_to.items() for b in found}
    sold = [
        ((a, b) in leads or (b, a) in leads) for a, b in pairs.select("item_a", "item_b").rows()
    ]
    told = pairs.with_columns(truth=pl.Series(sold))
    true, other = told.filter("truth"), told.filter(~pl.col("truth"))
    assert true.height >= 60
    assert true.height > 10 * other.height
    assert true["lift"].min() > 1  # type: ignore[operator]


def test_prices_and_stock_have_the_history_of_the_catalogues_versions(tmp_path: Path) -> None:
    assets = Assets(tmp_path, buckets=1)
    events = {"user_id": pl.String, "session_id": pl.String, "item_id": pl.String, "kind": pl.String, "ts": pl.Datetime("us", "UTC"), "query": pl.String, "price_minor": pl.Int64, "quantity": pl.Int64, "channel": pl.String, "seq": pl.Int64}  # fmt: skip
    with assets.run("test") as run:
        run.table("clean.events").put(pl.DataFrame(schema=events))
    for version, (price, stock) in enumerate([(100, 9), (90, 4), (90, 7)]):
        with assets.run("test") as run:
            row = {"item_id": ["x"], "price_minor": [price], "stock": [stock], "category": ["c"]}
            run.table("clean.items").put(pl.DataFrame(row))
        with assets.catalog.write() as connection:
            connection.exec_driver_sql(
                "UPDATE versions SET created_at = ? WHERE id = ?",
                (f"2026-01-0{version + 1}T12:00:00.000000+00:00", f"clean.items@{version + 1}"),
            )
    run_steps(steps(), tmp_path, Settings(buckets=1), assets)
    prices = read(assets, "reports.price_history").select("price_minor", "first_day", "last_day")
    assert [(p, str(a), str(b)) for p, a, b in prices.rows()] == [
        (100, "2026-01-01", "2026-01-01"),
        (90, "2026-01-02", "2026-01-03"),
    ]
    stock_row = read(assets, "reports.stock_movement").select("stock", "risen", "fallen").row(0)
    assert stock_row == (7, 3, 5)
    version = assets.current("reports.stock_movement")
    assert assets.catalog.made_from(version.id)[-3:] == ["clean.items@1", "clean.items@2", "clean.items@3"]  # fmt: skip
    assert assets.current("reports.funnel").notes["why_empty"] == "there are no events"
    assets.close()
