"""What serves is chosen on validation; the gate asks the test, the same people for all."""

import numpy as np
import pytest

from shopkeeper.config import Settings
from shopkeeper.evaluation.metrics import Evaluation
from shopkeeper.serving import publish

METRIC = "NDCG@10"


def evaluation(*gains: float) -> Evaluation:
    values = np.asarray(gains, dtype=np.float64)
    return Evaluation(
        metrics={METRIC: float(values.mean())},
        per_user={METRIC: values},
        groups={},
        examples=len(values),
        items=10,
        ks=(10,),
        exclude_seen=False,
        seconds=0.0,
        predicted=np.zeros(len(values), np.int32),
    )


def test_the_floor_that_may_serve_instead_is_the_best_on_validation() -> None:
    right, late, wrong = [[1, 2, 3]] * 4, [[3, 2, 1]] * 4, [[5, 6, 7]] * 4
    lists = {
        "popularity": np.array(wrong, np.int32),
        "ease": np.array(late, np.int32),
        "item_knn": np.array(right, np.int32),
        "transformer": np.array(right, np.int32),
    }
    targets = np.ones(4, np.int32)
    assert publish.best_floor(lists, targets) == "item_knn"
    assert publish.best_floor({"transformer": lists["transformer"]}, targets) is None


def test_chance_alone_makes_nothing_clearly_better() -> None:
    fused = evaluation(*[0.5, 0.0] * 50)
    assert not publish.clearly_better(evaluation(*[0.0, 0.52] * 50), fused, METRIC)
    assert publish.clearly_better(evaluation(*[0.6, 0.1] * 50), fused, METRIC)


@pytest.mark.parametrize(
    ("others", "passed", "said"),
    [
        ({"ease": evaluation(*[0.4, 0.1] * 50)}, False, "below the floor ease"),
        ({"ease": evaluation(*[0.0, 0.31] * 50)}, True, ""),  # that is chance
        ({publish.CURRENT: evaluation(*[0.4, 0.1] * 50)}, False, "below the current release's"),
        ({publish.CURRENT: evaluation(*[0.3, 0.001] * 50)}, True, ""),
    ],
)
def test_the_gate_asks_floors_and_current_weights_on_the_same_people(
    others: dict[str, Evaluation], passed: bool, said: str
) -> None:
    shown = {publish.FUSED: evaluation(*[0.3, 0.0] * 50), **others}
    decision = publish.ask_gate(Settings(), shown, [])
    assert decision.passed is passed
    assert said in decision.reason
