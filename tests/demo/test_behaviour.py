"""The simulated users behave as the truth says, so that models have something true to find."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest

from shopkeeper.demo import behaviour, catalogue
from shopkeeper.demo.goods import GOODS
from shopkeeper.words import KIND_CODES

DAYS = 40


@dataclass(frozen=True)
class World:
    goods: catalogue.Catalogue
    users: behaviour.Users
    events: pl.DataFrame  # behaviour.COLUMNS and `good`, the name of the item's good


@pytest.fixture(scope="module")
def world() -> World:
    rng = np.random.default_rng(1)
    first_day = np.datetime64("2026-01-01T00:00:00", "s")
    goods = catalogue.make(rng, 500, DAYS, first_day)
    users = behaviour.make_users(rng, 700, DAYS, first_day)
    market = behaviour.Market(rng, goods, DAYS)
    events = behaviour.simulate(rng, market, users, 1_767_225_600_000)
    of = {catalogue.item_id(row): GOODS[good].name for row, good in enumerate(goods.good)}
    good = pl.col("item_id").replace_strict(of, return_dtype=pl.String)
    return World(goods, users, events.with_columns(good=good))


def test_kinds_are_ours_and_prices_and_times_can_be_true(world: World) -> None:
    assert set(world.events["kind"]) <= set(KIND_CODES)
    assert world.events["price_minor"].drop_nulls().min() > 0  # type: ignore[operator]
    first, last = world.events["ms"].min(), world.events["ms"].max()
    assert last - first <= DAYS * behaviour.DAY_MS  # type: ignore[operator]


def test_nobody_does_the_same_to_the_same_item_twice_within_two_seconds(world: World) -> None:
    same = ["user_id", "item_id", "kind", "query"]
    apart = world.events.sort(*same, "ms").with_columns(gap=pl.col("ms").diff().over(same))
    assert apart["gap"].drop_nulls().min() > 2_000  # type: ignore[operator]


def test_nothing_is_touched_before_it_is_launched(world: World) -> None:
    day = {catalogue.item_id(row): day for row, day in enumerate(world.goods.launched)}
    began = world.events.filter(pl.col("item_id").is_not_null()).with_columns(
        day=(pl.col("ms") - 1_767_225_600_000) / behaviour.DAY_MS,
        launched=pl.col("item_id").replace_strict(day, return_dtype=pl.Float64),
    )
    assert (began["day"] >= began["launched"]).all()
    assert (world.goods.launched > 0).sum() > 30


def test_after_a_purchase_the_wish_moves_to_what_goes_with_it(world: World) -> None:
    bought = world.events.filter(kind="purchase").sort("user_id", "ms")
    pairs = bought.with_columns(then=pl.col("good").shift(-1).over("user_id")).drop_nulls("then")
    leads = {good.name: good.leads_to[0] for good in GOODS if good.leads_to}
    likeliest = pl.col("good").replace_strict(leads, return_dtype=pl.String)
    followed = float((pairs.select(likeliest).to_series() == pairs["then"]).mean())  # type: ignore[arg-type]
    shuffled = pairs["then"].sample(fraction=1.0, shuffle=True, seed=3)
    by_chance = float((pairs.select(likeliest).to_series() == shuffled).mean())  # type: ignore[arg-type]
    assert followed > 0.2
    assert followed > 8 * by_chance


def test_what_is_used_up_is_bought_again_and_durable_goods_are_not(world: World) -> None:
    bought = world.events.filter(kind="purchase")
    again = bought.group_by("user_id", "item_id", "good").len()
    used_up = [good.name for good in GOODS if good.again_days]
    share = again.with_columns(
        used_up=pl.col("good").is_in(used_up), again=pl.col("len") > 1
    ).group_by("used_up")
    rates = dict(share.agg(pl.col("again").mean()).rows())
    assert rates[True] > 3 * rates[False]


def test_the_first_places_of_a_list_are_opened_more_often(world: World) -> None:
    app = world.events.filter(channel="app")
    shown = app.filter(kind="impression").group_by("position").len(name="shown")
    opened = app.filter(kind="view").group_by("position").len(name="opened")
    rate = shown.join(opened, on="position").with_columns(rate=pl.col("opened") / pl.col("shown"))
    by_place = dict(rate.select("position", "rate").rows())
    assert by_place[1] > 1.3 * by_place[4] > 0


def test_who_stays_longer_likes_it_more(world: World) -> None:
    rows = {catalogue.item_id(row): row for row in range(len(world.goods.good))}
    users = {name: row for row, name in enumerate(world.users.ids)}
    views = world.events.filter(pl.col("kind") == "view", pl.col("position").is_not_null())
    who = [users[name] for name in views["user_id"]]
    what = [rows[name] for name in views["item_id"]]
    liked = (world.users.taste[who] * world.goods.traits[what]).sum(axis=1)
    correlation = np.corrcoef(liked, np.log(views["dwell_ms"].to_numpy()))[0, 1]
    assert correlation > 0.1


def test_few_items_have_most_of_the_attention(world: World) -> None:
    counts = np.sort(world.events.filter(kind="view")["item_id"].value_counts()["count"].to_numpy())
    top_fifth = counts[-len(counts) // 5 :].sum() / counts.sum()
    assert 0.4 < top_fifth < 0.9


def test_searches_are_in_both_languages(world: World) -> None:
    queries = world.events.filter(kind="search")["query"]
    chinese = float(queries.str.contains(r"\p{Han}").mean())  # type: ignore[arg-type]
    assert 0.5 < chinese < 0.9
