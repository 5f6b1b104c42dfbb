"""A slow or broken model is waited for no longer than the deadline."""

import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from shopkeeper.features.sequences import Sequences, pack
from shopkeeper.serving.scoring import PAUSE_S, Question, Scorer

ASKED = pack([""], [1], [0])


class Behaves:
    """A model that answers, fails, answers nonsense or hangs, as told."""

    name: ClassVar[str] = "behaves"
    card: ClassVar[dict[str, Any]] = {}

    def __init__(self, how: str = "well") -> None:
        self.how = how
        self.go = threading.Event()

    def scores(self, histories: Sequences) -> np.ndarray[Any, Any]:
        if self.how == "hangs":
            self.go.wait(30)
        if self.how == "fails":
            raise ValueError("no")
        value = np.nan if self.how == "nonsense" else 1.0
        return np.full((len(histories), 3), value, dtype=np.float32)

    def fit(self, data: object) -> None: ...

    def predict(self, histories: Sequences, items: object) -> np.ndarray[Any, Any]:
        return np.zeros(len(histories), dtype=np.float32)

    def save(self, folder: Path) -> None: ...

    @classmethod
    def load(cls, folder: Path) -> "Behaves":
        return cls()


def questions(*names: str) -> list[Question]:
    return [Question(name, name, ASKED) for name in names]


def test_models_that_fail_or_talk_nonsense_are_named_and_the_others_heard() -> None:
    models = {"a": Behaves("fails"), "b": Behaves("nonsense"), "c": Behaves()}
    scorer = Scorer(models, 5.0, 1)
    outcome = scorer.ask(questions("a", "b", "c", "d"))
    assert list(outcome.scores) == ["c"]
    assert outcome.failed == {
        "a": "ValueError: no",
        "b": "scores that are not numbers",
        "d": "not in the release",
    }
    scorer.close()


def test_a_hanging_model_costs_one_deadline_and_is_left_alone_until_it_returns() -> None:
    slow = Behaves("hangs")
    scorer = Scorer({"good": Behaves(), "slow": slow}, 2.0, 1)
    began = time.monotonic()
    outcome = scorer.ask(questions("good", "slow"))
    assert time.monotonic() - began > 1.9
    assert list(outcome.scores) == ["good"]
    assert outcome.failed == {"slow": "no answer within 2000 ms"}
    assert "has not come back" in scorer.ask(questions("slow", "good")).failed["slow"]
    slow.how = "well"
    slow.go.set()
    until = time.monotonic() + 5
    while scorer.ask(questions("slow")).failed and time.monotonic() < until:
        time.sleep(0.01)
    assert list(scorer.ask(questions("slow")).scores) == ["slow"]
    scorer.close()


def test_a_model_that_fails_three_times_rests_and_is_tried_again() -> None:
    now = [0.0]
    model = Behaves("fails")
    scorer = Scorer({"a": model}, 5.0, 1, clock=lambda: now[0])
    for _ in range(3):
        assert scorer.ask(questions("a")).failed == {"a": "ValueError: no"}
    assert scorer.ask(questions("a")).failed == {"a": "rests after repeated failures"}
    model.how = "well"
    now[0] = PAUSE_S + 1
    assert scorer.ask(questions("a")).failed == {}
    scorer.close()


@pytest.mark.parametrize("at_once", [1, 4])
def test_many_askers_all_get_answers(at_once: int) -> None:
    scorer = Scorer({"a": Behaves()}, 5.0, at_once)
    failed: list[dict[str, str]] = []

    def ask() -> None:
        for _ in range(50):
            outcome = scorer.ask(questions("a"))
            if outcome.failed or list(outcome.scores) != ["a"]:
                failed.append(outcome.failed)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    scorer.close()
