"""Planted examination curves come back within their intervals; clicks per showing does not tell them."""

import numpy as np
import polars as pl
import pytest

from shopkeeper.errors import InputError, NotReady
from shopkeeper.evaluation.examination import (
    Examination,
    estimate,
    exposure,
    exposures,
    weighed,
)

PLACES = 10
TRUTH = 1.0 / np.arange(1, PLACES + 1) ** 0.7


def _clicks(answers: int, seed: int, contexts: int = 300, noise: float = 0.4) -> pl.DataFrame:
    """Lists ranked by relevance and luck, read as TRUTH says: the better stands higher."""
    rng = np.random.default_rng(seed)
    relevance = rng.beta(1.0, 5.0, contexts)
    rows = []
    for answer in range(answers):
        about = rng.choice(contexts, 30, replace=False)
        order = np.argsort(-(np.log(relevance[about]) + noise * rng.gumbel(size=30)))[:PLACES]
        listed = about[order]
        clicked = rng.random(PLACES) < TRUTH * relevance[listed]
        rows += [
            (f"a{answer}", f"c{item}", place + 1, bool(clicked[place]))
            for place, item in enumerate(listed.tolist())
        ]
    schema = ["answer_id", "context", "position", "clicked"]
    return pl.DataFrame(rows, schema=schema, orient="row")


@pytest.fixture(scope="module")
def log() -> pl.DataFrame:
    return _clicks(6_000, seed=1)


@pytest.mark.parametrize("method", ["harvest", "em"])
def test_a_planted_curve_comes_back_within_its_intervals(log: pl.DataFrame, method: str) -> None:
    found = estimate(log, method=method, draws=100)  # type: ignore[arg-type]
    assert found.places.tolist() == list(range(1, PLACES + 1))
    assert found.curve[0] == 1.0
    inside = (found.low <= TRUTH) & (found.high >= TRUTH)
    assert inside.sum() >= PLACES - 1, found.as_dict()
    assert np.abs(found.curve - TRUTH).max() < 0.06
    assert (found.high - found.low)[
        1:
    ].max() < 0.2  # an interval that holds everything says nothing


def test_clicks_a_showing_tell_another_curve_for_the_better_stands_higher(
    log: pl.DataFrame,
) -> None:
    found = estimate(log, method="harvest", draws=100)
    plain = found.clicks / found.shown
    assert (plain / plain[0])[3] < found.low[3]


def _learning(answers: int, seed: int, users: int = 3_000) -> pl.DataFrame:
    """Recommendations that put a category higher when it was clicked, and what was clicked lower."""
    rng = np.random.default_rng(seed)
    category = np.repeat(np.arange(20), 20)
    wish = rng.dirichlet(np.full(20, 0.3), users)
    relevance = np.minimum(1, 8 * wish[:, category])
    relevance *= np.exp(-0.5 * np.abs(rng.normal(0, 2, relevance.shape)))
    score = 0.2 * np.log(wish[:, category] + 0.02) + rng.normal(0, 1.2, relevance.shape)
    often = 1 / np.arange(1, users + 1) ** 0.8
    rows = []
    for answer, user in enumerate(rng.choice(users, answers, p=often / often.sum())):
        now = score[user] + 0.15 * rng.gumbel(size=len(category))
        listed = np.argsort(-now)[:PLACES]
        clicked = rng.random(PLACES) < TRUTH * relevance[user, listed]
        for item in listed[clicked]:
            score[user] += 1.5 * (category == category[item])
            score[user, item] -= 1.5
        rows += [
            (
                f"a{answer}",
                f"u{user}",
                f"{user} {item}",
                f"{user}/{category[item]}",
                n + 1,
                bool(hit),
            )
            for n, (item, hit) in enumerate(zip(listed.tolist(), clicked, strict=True))
        ]
    schema = ["answer_id", "cluster", "context", "group", "position", "clicked"]
    return pl.DataFrame(rows, schema=schema, orient="row")


@pytest.mark.slow
def test_lists_that_learn_from_clicks_are_allowed_for_by_groups_and_by_nothing_else() -> None:
    log = _learning(6_000, seed=4)
    found = estimate(log, draws=8, method="em")
    alone = estimate(log.drop("group"), draws=0, method="em")
    pairs = estimate(log, draws=0, method="harvest")
    assert np.abs(found.curve - TRUTH).max() < 0.06
    assert abs(np.mean(found.curve - TRUTH)) < 0.02
    assert np.mean(alone.curve - TRUTH) < -0.03  # too steep
    assert np.mean(pairs.curve - TRUTH) < -0.06
    assert (found.high - found.low)[1:].max() < 0.15


def test_an_even_examination_comes_out_even_though_clicks_fall_with_the_place() -> None:
    rng = np.random.default_rng(3)
    log = _clicks(3_000, seed=2)
    relevance = dict(enumerate(np.random.default_rng(2).beta(1.0, 5.0, 300)))
    chance = log["context"].str.slice(1).cast(pl.Int64).replace_strict(relevance).to_numpy()
    even = log.with_columns(clicked=pl.Series(rng.random(log.height) < chance))
    found = estimate(even, method="harvest", draws=100)
    assert ((found.low <= 1) & (found.high >= 1)).sum() >= PLACES - 1
    assert (found.clicks / found.shown)[-1] < 0.75 * (found.clicks / found.shown)[0]


def test_intervals_of_the_harvest_hold_the_truth_about_as_often_as_they_say() -> None:
    held = [
        (found.low[1:] <= TRUTH[1:]) & (found.high[1:] >= TRUTH[1:])
        for seed in range(12)
        for found in [estimate(_clicks(700, seed=100 + seed), method="harvest", draws=60)]
    ]
    assert 0.85 <= np.mean(held) <= 1.0


@pytest.mark.parametrize("method", ["harvest", "em"])
def test_contexts_that_never_move_compare_nothing(method: str) -> None:
    rng = np.random.default_rng(0)
    rows = [
        (f"a{n}", f"c{k}", k, bool(rng.random() < 0.3 / k)) for n in range(400) for k in (1, 2, 3)
    ]
    columns = ["answer_id", "context", "position", "clicked"]
    still = pl.DataFrame(rows, schema=columns, orient="row")
    with pytest.raises(NotReady, match="nothing compares"):
        estimate(still, method=method, draws=5)  # type: ignore[arg-type]
    swapped = [(f"b{n}", "c1", n % 2 + 1, True) for n in range(20)]
    both = pl.concat([still, pl.DataFrame(swapped, schema=columns, orient="row")])
    assert estimate(both, method=method, draws=5).places.tolist() == [1, 2]  # type: ignore[arg-type]


def test_a_log_without_clicks_says_what_to_send() -> None:
    log = _clicks(5, seed=0).with_columns(clicked=pl.lit(False))
    with pytest.raises(NotReady, match="send events with the answer_id"):
        estimate(log)
    with pytest.raises(InputError, match="context"):
        estimate(log.drop("context"))


def test_weights_undo_the_examination_up_to_a_bound() -> None:
    curve = np.array([1.0, 0.5, 0.01])
    whole = np.array([1, 2, 3])
    found = Examination(whole, curve, curve, curve, whole, whole, "em", 1)
    assert found.weights([1, 2, 3, 9]).tolist() == pytest.approx([1.0, 2.0, 3.0, 3.0])
    assert found.at([1.5]).tolist() == [0.75]


def test_what_few_clicks_tell_is_made_up_for_in_part_alone() -> None:
    curve, high, whole = np.array([1.0, 0.2]), np.array([1.0, 0.8]), np.array([1, 2])
    found = Examination(whole, curve, curve, high, whole, whole, "em", 1)
    assert found.weights([2]).tolist() == [1.25]
    assert Examination.from_dict(found.as_dict()).weights([2]).tolist() == [1.25]


def test_a_click_counts_the_more_the_less_its_place_is_looked_at() -> None:
    curve, whole = np.array([1.0, 0.5]), np.array([1, 2])
    seen = Examination(whole, curve, curve, curve, whole, whole, "em", 1)
    answers = pl.DataFrame({"answer_id": ["r", "s"], "kind": ["recommend", "search"]})
    events = pl.DataFrame(
        {
            "item_id": ["top", "second", "deep", "search", "file", "bare"],
            "answer_id": ["r", "r", "r", "s", None, "r"],
            "position": [1, 2, 9, 2, 2, None],
        },
        schema_overrides={"position": pl.Int32},
    )
    told = weighed(events.lazy(), answers.lazy(), {"recommend": seen}).collect()
    assert told["item_id"].to_list() == events["item_id"].to_list()
    assert told["weight"].to_list() == [1.0, 2.0, 2.0, 1.0, 1.0, 1.0]
    assert weighed(events.lazy(), answers.lazy(), {}).collect()["weight"].to_list() == [1.0] * 6


def test_exposures_are_the_items_of_answers_with_what_became_of_them() -> None:
    answers = pl.DataFrame(
        {
            "answer_id": ["s", "r"],
            "user_id": ["u1", "u1"],
            "query": ["lamp", None],
            "explored": [None, 0],
            "items": [["i1", "i2"], ["i1"]],
            "positions": [[1, 2], [1]],
        }
    )
    events = pl.DataFrame({"answer_id": ["s", "s", None], "item_id": ["i2", "i2", "i1"]})
    categories = pl.DataFrame({"item_id": ["i1", "i2"], "category": ["lamp", None]})
    told = exposures(answers, events, categories)
    assert told["group"].to_list() == ["q:lamp\tlamp", "q:lamp\t", "explored"]
    assert exposures(answers, events)["group"].to_list() == ["q:lamp\t", "q:lamp\t", "explored"]
    assert told.select("answer_id", "item_id", "position", "clicked").rows() == [
        ("s", "i1", 1, False),
        ("s", "i2", 2, True),
        ("r", "i1", 1, False),
    ]
    assert told["context"].to_list() == ["q:lamp\ti1", "q:lamp\ti2", "explored"]


def test_exposure_is_even_at_0_and_counts_what_was_never_shown() -> None:
    assert exposure(pl.Series(["a", "b"]), 2) == {"gini": 0.0, "never_shown": 0.0}
    told = exposure(pl.Series(["a"] * 9), 10)
    assert told["gini"] == pytest.approx(0.9)
    assert told["never_shown"] == pytest.approx(0.9)
