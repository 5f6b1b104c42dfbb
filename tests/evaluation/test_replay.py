import math

import pytest

from shopkeeper.errors import InputError
from shopkeeper.evaluation.replay import Computed, from_log, replay

ONE = Computed("f1", {"ease": (["a", "b"], [0.9, 0.5]), "popularity": (["c"], [3.0])})


def again(**changes: Computed | None):
    """Recompute to ONE, except where `changes` says otherwise."""
    return lambda answer_id: changes.get(answer_id, ONE)


def scored(items, scores) -> Computed:
    return Computed("f1", {"ease": (items, scores), "popularity": (["c"], [3.0])})


def test_what_is_computed_the_same_passes() -> None:
    report = replay([(f"a{n}", ONE) for n in range(5)], again())
    assert report.passed
    assert (report.answers, report.equal_features, report.equal_scores) == (5, 5, 5)
    assert (report.scores_compared, report.max_difference) == (15, 0.0)


def test_no_answers_are_no_pass() -> None:
    assert not replay([], again()).passed


@pytest.mark.parametrize(
    ("changed", "what", "detail"),
    [
        (Computed("f2", ONE.scores), "features", "logged f1, now f2"),
        (Computed("f1", {"ease": ONE.scores["ease"]}), "sources", "now ['ease']"),
        (scored(["a", "x"], [0.9, 0.5]), "items", "place 2: logged item b, now x"),
        (scored(["a", "a"], [0.9, 0.5]), "items", "place 2: logged item b, now a"),
        (scored(["b", "a"], [0.9, 0.5]), "items", "place 1: logged item a, now b"),
        (scored(["a"], [0.9]), "items", "2 candidates logged, 1 now"),
        (scored(["a", "b"], [0.9, 0.5000001]), "scores", "place 2: logged 0.5"),
        (scored(["a", "b"], [0.9, math.nan]), "scores", "now nan"),
        (None, "not replayable", "cannot be computed again"),
    ],
)
def test_each_difference_fails_and_is_named(changed, what, detail) -> None:
    report = replay([("good", ONE), ("bad", ONE)], again(bad=changed))
    assert not report.passed
    assert report.kinds == {what: 1}
    assert report.equal_scores == 1
    assert report.differences[0].answer_id == "bad"
    assert detail in report.differences[0].detail


def test_a_tolerance_lets_close_scores_be_equal_and_close_items_change_places() -> None:
    before = scored(["a", "b"], [0.5, 0.4999])
    after = scored(["b", "a"], [0.5, 0.4999])
    assert not replay([("x", before)], lambda _: after).passed
    report = replay([("x", before)], lambda _: after, tolerance=1e-3)
    assert report.passed
    apart = replay([("x", before)], lambda _: scored(["a", "b"], [0.5, 0.499]), tolerance=1e-3)
    assert apart.passed
    assert apart.max_difference == pytest.approx(9e-4)


def test_only_the_first_differences_are_named_but_all_are_counted() -> None:
    report = replay([(f"a{n}", ONE) for n in range(25)], lambda _: None)
    assert (len(report.differences), report.missing, report.kinds) == (
        10,
        25,
        {"not replayable": 25},
    )
    assert report.as_dict()["passed"] is False


def test_an_answer_logged_twice_is_refused() -> None:
    with pytest.raises(InputError, match="'x' stands twice"):
        replay([("x", ONE), ("x", ONE)], again())


def test_a_logged_answer_is_read_without_the_items_a_model_does_not_know() -> None:
    answer = {
        "answer_id": "x",
        "history_digest": "f1",
        "candidates": {
            "item_ids": ["a", "new", "b"],
            "fused": [0.3, 0.2, 0.1],
            "models": {"ease": [0.9, math.nan, 0.5], "popularity": [None, None, 3.0]},
        },
    }
    made = from_log(answer)
    assert made == Computed("f1", {"ease": (["a", "b"], [0.9, 0.5]), "popularity": (["b"], [3.0])})


def test_an_answer_without_candidates_cannot_be_replayed() -> None:
    with pytest.raises(InputError, match="answer x: no candidates are logged"):
        from_log({"answer_id": "x", "kind": "search"})
