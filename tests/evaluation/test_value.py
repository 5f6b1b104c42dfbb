"""Planted truth in both directions: what carries taste is valuable, what is noise is worth nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from shopkeeper.evaluation import probe
from shopkeeper.evaluation.metrics import measure
from shopkeeper.evaluation.probe import Column
from shopkeeper.evaluation.splits import time_split
from shopkeeper.evaluation.value import Bench, Protocol, gained, shuffled, without_kind
from shopkeeper.features.sequences import Sequences, pack
from shopkeeper.governance.access import OWNER
from shopkeeper.schedule import run_every
from shopkeeper.shop import Shop
from shopkeeper.words import Purpose

ITEMS, USERS, STYLES = 240, 600, 8
NOISE = (3, 2)  # codes of kinds: favourites that are noise, searches that nobody has


def _market(seed: int) -> tuple[Sequences, np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Everybody likes one style and has one of two budgets; half of all events are favourites of
    anything at all. Styles of items, and budgets of people."""
    rng = np.random.default_rng(seed)
    style = rng.integers(0, STYLES, ITEMS)
    dear = rng.random(ITEMS) < 0.5
    rows = []
    rich = rng.random(USERS) < 0.5
    for user in range(USERS):
        liked = np.flatnonzero((style == rng.integers(STYLES)) & (dear == rich[user]))
        for _ in range(8):
            at = int(rng.integers(0, 10**9))
            own = int(rng.choice(liked)) if rng.random() < 0.8 else int(rng.integers(ITEMS))
            rows.append((user, at, own, 0))
            if at < 8 * 10**8:  # noise is no target, or nothing could be asked
                rows.append((user, at + 1, int(rng.integers(ITEMS)), NOISE[0]))
    rows.sort()
    user, at, item, kind = (np.array(part) for part in zip(*rows, strict=True))
    people = [f"u{n:03d}" for n in range(USERS)]
    made = pack(
        people, np.bincount(user, minlength=USERS), item, kinds=kind, times=at,
        dwell_ms=rng.lognormal(9, 1, len(item)),
    )  # fmt: skip
    return made, style, rich


@pytest.fixture(scope="module")
def market() -> tuple[Protocol, list[Column]]:
    rng = np.random.default_rng(9)
    sequences, style, rich = _market(4)
    split = time_split(sequences)
    ids = [f"i{n}" for n in range(ITEMS)]
    target = np.repeat(np.arange(len(split.test)), np.diff(split.test.target_offsets))
    money = sp.csr_array(
        (np.full(len(target), 100.0), (target, split.test.target_items)),
        shape=(len(split.test), ITEMS),
    )
    protocol = Protocol(split, split.validation, split.test, ids, False, money, 1)
    rows = list(range(ITEMS))

    def people(values: np.ndarray) -> dict[str, str]:  # type: ignore[type-arg]
        return {f"u{n:03d}": str(value) for n, value in enumerate(values)}

    columns = [
        Column("items", "style", labels=probe.labels(rows, [f"s{s}" for s in style], ITEMS), few=True),
        Column("items", "noise", labels=probe.labels(rows, [f"n{n}" for n in rng.integers(0, STYLES, ITEMS)], ITEMS), few=True),
        Column("items", "noise_number", numbers=rng.normal(size=ITEMS)),
        Column("noise", "a", labels=probe.labels(rows, [f"a{n}" for n in rng.integers(0, 20, ITEMS)], ITEMS), few=True),
        Column("noise", "b", numbers=rng.normal(size=ITEMS)),
        Column("users", "budget", segments=people(rich)),
        Column("users", "noise", segments=people(rng.integers(0, 3, USERS))),
        Column("events", "dwell_ms", events="dwell"),
    ]  # fmt: skip
    return protocol, columns


@pytest.fixture(scope="module")
def bench(market: tuple[Protocol, list[Column]]) -> Bench:
    return Bench(*market, seeds=3)


def _gain(bench: Bench, *names: tuple[str, str], metric: str = "NDCG@10") -> tuple[float, float]:
    places = [n for n, one in enumerate(bench.columns) if (one.asset, one.name) in names]
    assert len(places) == len(names)
    found = gained(
        bench.whole[metric],
        bench.without(places)[metric],
        confidence=0.95,
        tests=len(bench.columns),
    )
    return found.low, found.high


@pytest.mark.parametrize("metric", ["NDCG@10", "revenue@10"])
@pytest.mark.parametrize("column", [("items", "style"), ("users", "budget")])
def test_a_planted_informative_column_is_valuable(
    bench: Bench, column: tuple[str, str], metric: str
) -> None:
    assert _gain(bench, column, metric=metric)[0] > 0


@pytest.mark.parametrize(
    "column",
    [("items", "noise"), ("items", "noise_number"), ("users", "noise"), ("events", "dwell_ms")],
)
def test_a_planted_column_of_noise_is_worthless(bench: Bench, column: tuple[str, str]) -> None:
    low, high = _gain(bench, column)
    assert low <= 0 <= high
    assert high - low < 0.02  # it is known to be little, not merely unknown


def test_an_asset_of_noise_is_worthless_and_one_that_tells_taste_is_not(bench: Bench) -> None:
    low, high = _gain(bench, ("noise", "a"), ("noise", "b"))
    assert low <= 0 <= high
    assert _gain(bench, ("items", "style"), ("items", "noise"), ("items", "noise_number"))[0] > 0


def test_events_of_noise_are_worthless_and_events_of_taste_are_not(
    market: tuple[Protocol, list[Column]],
) -> None:
    protocol, _ = market
    whole = Bench(protocol, [], seeds=2).whole["NDCG@10"]
    for code, valuable in ((0, True), (NOISE[0], False)):
        less = without_kind(protocol, code)
        assert less is not None
        assert np.array_equal(less.test.target_items, protocol.test.target_items)
        without = Bench(less, [], seeds=2).whole["NDCG@10"]
        assert (gained(whole, without, confidence=0.95).low > 0) == valuable
    assert without_kind(protocol, NOISE[1]) is None


def test_without_order_nothing_is_lost_where_order_says_nothing(
    market: tuple[Protocol, list[Column]],
) -> None:
    protocol, _ = market
    mixed = shuffled(protocol)
    before, after = protocol.split.train, mixed.split.train
    assert sorted(before.items[before.user(3)]) == sorted(after.items[after.user(3)])
    found = gained(
        Bench(protocol, [], seeds=2).whole["NDCG@10"],
        Bench(mixed, [], seeds=2).whole["NDCG@10"],
        confidence=0.95,
    )
    assert found.low <= 0 <= found.high


def test_results_are_those_of_the_leaderboard(bench: Bench) -> None:
    """The probe's own NDCG@10 is that of `metrics.measure` on the same scores."""
    people, test = bench.stack.test, bench.protocol.test
    rng = np.random.default_rng(0)
    scored = rng.normal(size=people.pool.shape).astype(np.float32)
    at = 0

    def score(histories: Sequences) -> np.ndarray:  # type: ignore[type-arg]
        nonlocal at
        every = np.full((len(histories), ITEMS), -np.inf, dtype=np.float32)
        rows = np.arange(at, at + len(histories))
        np.put_along_axis(every, people.pool[rows].astype(np.int64), scored[rows], axis=1)
        at += len(histories)
        return every

    wanted = measure(score, test, (10,), exclude_seen=False, groups=False).per_user["NDCG@10"]
    found, _ = probe.results(scored, people, bench.paid)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_an_interval_of_nothing_holds_0_and_worth_asks_more_of_many() -> None:
    rng = np.random.default_rng(0)
    whole = rng.random((3, 500))
    nothing = gained(whole, whole + rng.normal(0, 0.05, whole.shape), confidence=0.95)
    assert nothing.low <= 0 <= nothing.high
    assert nothing.worth == "none"
    slight = whole - rng.normal(0.0045, 0.05, (1, 500))
    assert gained(whole, slight, confidence=0.95).worth == "valuable"
    assert gained(whole, slight, confidence=0.95, tests=10_000).worth == "likely"


def test_a_shop_is_measured_within_its_budget_and_what_is_left_comes_next(folder: Path) -> None:
    with Shop.open(folder) as shop:
        assert shop.values() == []
        shop.settings = replace_value(shop, max_minutes=1e-6, seeds=1)
        first = shop.measure_values()
        assert first["measured"] == 1
        assert len(shop.values()) == 2  # one thing, two metrics
        second = shop.measure_values()
        assert second["measured"] == 1
        assert len({(r["asset"], r["column"], r["method"]) for r in shop.values()}) == 2
        shop.settings = replace_value(shop, max_minutes=5, seeds=1)
        assert shop.measure_values()["left_for_later"] == 0
        rows = shop.values()
    assert {row["asset"] for row in rows} == {"clean.events", "clean.items", "clean.images"}
    events = next(row for row in rows if row["method"] == "nothing left")
    assert events["gain"] == events["base"] > 0
    assert events["bytes"] > 0
    assert events["cpu_seconds"] > 0
    kinds = {row["column"] for row in rows if row["method"] == "retrain: floors + ranker"}
    assert kinds == {"kind=view", "kind=cart", "kind=purchase", "ts"}


def test_a_scheduled_run_measures_once_a_night_and_the_next_night_goes_on(folder: Path) -> None:
    def night(hours: float) -> tuple[str, int]:
        """One round of `run --every`: the version of the values, and how many things are known."""
        text = toml.read_text("utf-8").partition("\n[value]")[0]
        text += f"\n[value]\nevery_hours = {hours}\nmax_minutes = 1e-9\nseeds = 1\n"
        toml.write_text(text, "utf-8")
        code = run_every(
            folder, 1, lambda shop: shop.run(scheduled=True), say=said.append, rounds=1
        )
        assert code == 0, said
        with Shop.open(folder) as shop:
            known = {(row["asset"], row["column"], row["method"]) for row in shop.values()}
            version = shop.assets.catalog.current("reports.value")
            return version.id if version else "", len(known)

    toml, said = folder / "shop.toml", []  # type: ignore[var-annotated]
    assert night(0) == ("", 0)  # only when asked
    first, known = night(24)
    assert known == 1
    assert night(24) == (first, 1)  # the same night
    second, known = night(1e-9)
    assert second != first
    assert known == 2
    with Shop.open(folder) as shop:
        assert len(shop.assets.catalog.history("reports.value")) == 2


@pytest.mark.slow
def test_a_neural_model_is_asked_with_shuffled_columns_and_is_the_one_that_never_saw_the_test(
    folder: Path,
) -> None:
    toml = folder / "shop.toml"
    text = toml.read_text("utf-8").replace(
        'models = ["item_knn"]', 'models = ["item_knn", "transformer"]'
    )
    toml.write_text(text + "\n[training]\nmax_epochs = 1\n", "utf-8")
    with Shop.open(folder) as shop:
        shop.run(["train.transformer"])
        shop.settings = replace_value(shop, seeds=1)
        shop.measure_values()
        rows = [row for row in shop.values() if row["method"] == "permutation: transformer"]
        evaluation = shop.assets.folder(
            "evaluations.transformer", by=OWNER, purpose=Purpose.ANALYSE
        )
    assert {row["column"] for row in rows} == {"kind", "dwell_ms", "ts", "price_minor"}
    told = json.loads((evaluation / "evaluation.json").read_text("utf-8"))["evaluation"]
    for row in rows:
        if row["metric"] == "NDCG@10":
            assert row["base"] == pytest.approx(told["metrics"]["NDCG@10"], abs=1e-6)
        if row["column"] == "price_minor":  # no input of this model
            assert row["gain"] == row["low"] == row["high"] == 0.0


def replace_value(shop: Shop, **changed: float):  # type: ignore[no-untyped-def]
    value = shop.settings.value.model_copy(update=changed)
    return shop.settings.model_copy(update={"value": value})
