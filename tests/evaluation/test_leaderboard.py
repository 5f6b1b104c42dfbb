import json

import numpy as np
import pytest

from shopkeeper.errors import InputError, NotReady
from shopkeeper.evaluation import leaderboard as lb
from shopkeeper.evaluation.leaderboard import (
    as_json,
    difference,
    entry,
    interval,
    leaderboard,
    table,
    validator,
)
from shopkeeper.evaluation.metrics import measure
from shopkeeper.features.items import bare
from shopkeeper.models.popularity import Popularity
from shopkeeper.models.protocol import TrainingData


@pytest.fixture
def measured(ask, fixed):
    """model name -> entry; a higher `skill` finds the target more often."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 40, 300)
    asked = ask([([], [int(t)]) for t in targets])

    def make(name: str, skill: float):
        matrix = rng.random((300, 40))
        matrix[np.arange(300), targets] += skill
        return entry(name, measure(fixed(matrix), asked, exclude_seen=False), 1.5)

    return make


def test_the_best_model_stands_first_and_is_compared_with_the_best_floor(measured) -> None:
    frame = leaderboard([measured("popularity", 0.0), measured("mine", 0.6), measured("ease", 0.3)])
    assert frame["model"].to_list() == ["mine", "ease", "popularity"]
    assert frame["is_floor"].to_list() == [False, True, True]
    assert frame["against"].to_list() == ["ease", None, "ease"]
    mine, _, popularity = frame.to_dicts()
    assert mine["ci_low"] < mine["NDCG@10"] < mine["ci_high"]
    assert mine["diff"] == pytest.approx(mine["NDCG@10"] - frame["NDCG@10"][1])
    assert (mine["better"], popularity["better"]) == (True, False)


def test_a_model_that_is_equal_to_the_floor_is_not_better(ask, fixed) -> None:
    asked = ask([([], [n % 5]) for n in range(40)])
    same = measure(fixed(np.random.default_rng(0).random((40, 5))), asked, exclude_seen=False)
    frame = leaderboard([entry("mine", same, 1.0), entry("ease", same, 1.0)])
    assert frame.filter(model="mine")["diff"].to_list() == [0.0]
    assert frame.filter(model="mine")["better"].to_list() == [False]


def test_json_has_the_agreed_keys_and_no_nan(measured) -> None:
    made = as_json(leaderboard([measured("popularity", 0.0), measured("mine", 0.6)]))
    text = json.dumps(made, allow_nan=False)
    first = json.loads(text)[0]
    assert first["model"] == "mine"
    assert {"HR@10", "NDCG@10", "recall@20", "precision@10", "f1@10", "accuracy"} <= set(
        first["metrics"]
    )
    assert first["difference"]["against"] == "popularity"
    assert json.loads(text)[1]["difference"] is None


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_table_marks_floors_and_differences_that_are_not_chance(measured, lang) -> None:
    entries = [measured("popularity", 0.0), measured("ease", 0.4), measured("mine", 0.9)]
    headings, rows = table(leaderboard(entries), lang=lang)
    assert all(len(row) == len(headings) for row in rows)
    assert [row[0] for row in rows] == ["mine", "ease ·", "popularity ·"]
    assert (rows[0][-2][-1], rows[1][-2], rows[2][-2][-1]) == ("▲", "–", "▼")
    assert sum(max(map(len, column)) + 2 for column in zip(headings, *rows, strict=True)) <= 80


def test_models_measured_under_different_rules_are_not_compared(ask, fixed) -> None:
    asked = ask([([], [1])] * 3)
    one = measure(fixed(np.random.default_rng(0).random((3, 4))), asked, exclude_seen=False)
    other = measure(fixed(np.random.default_rng(0).random((3, 4))), asked, exclude_seen=True)
    with pytest.raises(InputError, match="different rules"):
        leaderboard([entry("a", one, 1.0), entry("b", other, 1.0)])
    with pytest.raises(InputError, match="twice"):
        leaderboard([entry("a", one, 1.0), entry("a", one, 1.0)])
    with pytest.raises(NotReady, match=r"no model to compare, as .* put user_behavior\.csv"):
        leaderboard([])
    with pytest.raises(InputError, match="'coverage@10' is no metric of single users"):
        leaderboard([entry("a", one, 1.0)], primary="coverage@10")


def test_a_95_percent_interval_holds_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for trial in range(300):
        made = interval(rng.random(200) < 0.3, seed=trial, draws=300)
        inside += made.low <= 0.3 <= made.high
    assert 0.90 <= inside / 300 <= 0.985


def test_bootstrap_and_normal_intervals_agree(monkeypatch) -> None:
    values = np.random.default_rng(2).random(5_000) ** 3
    drawn = interval(values)
    monkeypatch.setattr(lb, "BOOTSTRAP_USERS", 100)
    normal = interval(values)
    assert (drawn.method, normal.method) == ("bootstrap", "normal")
    assert drawn.low == pytest.approx(normal.low, abs=0.0008)
    assert drawn.high == pytest.approx(normal.high, abs=0.0008)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(3).random(100)
    assert interval(values, seed=4) == interval(values, seed=4)
    assert interval(values, seed=4) != interval(values, seed=5)


def test_a_paired_difference_is_narrower_than_two_intervals() -> None:
    rng = np.random.default_rng(6)
    hard = rng.random(500)  # how easy each user is, for both models
    mine, floor = hard + 0.02 + rng.normal(0, 0.01, 500), hard + rng.normal(0, 0.01, 500)
    made = difference(mine, floor)
    assert made.low > 0
    assert made.high - made.low < (interval(mine).high - interval(mine).low) / 5
    with pytest.raises(InputError, match="500 examples against 499"):
        difference(mine, floor[1:])


def test_a_validator_gives_the_curve_of_an_epoch_and_asks_the_same_users_each_time(ask) -> None:
    asked = ask([([n % 4], [(n + 1) % 4]) for n in range(50)])
    model = Popularity()
    model.fit(TrainingData(sequences=asked.histories, items=bare([str(n) for n in range(4)])))
    validate = validator(asked, exclude_seen=True, sample_size=10)
    first = validate(model)
    assert set(first) == {
        "NDCG@10",
        "HR@10",
        "MRR@10",
        "accuracy",
        "recall_weighted",
        "f1_weighted",
    }
    assert validate(model) == first
