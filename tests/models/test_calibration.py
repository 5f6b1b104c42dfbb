import numpy as np

from shopkeeper.models import calibration
from shopkeeper.models.calibration import Calibration


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def test_scores_that_are_twice_too_sharp_are_halved_and_then_calibrated() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=(6000, 20)).astype(np.float32) * 1.5
    targets = np.array([rng.choice(20, p=row) for row in _softmax(true.astype(float))])
    popularity = np.full(20, 0.05, dtype=np.float32)
    found = calibration.fit(true[:3000] * 2, targets[:3000], popularity)
    assert found.sharpness == 0.5
    assert found.examples == 3000
    held_out = slice(3000, 6000)
    happened = np.eye(20, dtype=bool)[targets[held_out]].ravel()

    def error(of: Calibration) -> float:
        said = of.probabilities(true[held_out] * 2, popularity).ravel()
        return calibration.expected_error(said, happened)

    assert error(found) < 0.006
    assert error(found) < error(Calibration(1.0, 0.001)) / 3


def test_probabilities_of_a_row_add_up_to_one() -> None:
    scores = np.random.default_rng(1).normal(size=(5, 30)).astype(np.float32)
    made = Calibration(1.3, 0.2).probabilities(scores, calibration.shares(np.arange(30)))
    np.testing.assert_allclose(made.sum(axis=1), 1.0, rtol=1e-5)


def test_nothing_to_fit_on_gives_the_defaults() -> None:
    empty = np.zeros((0, 4), dtype=np.float32)
    made = calibration.fit(empty, np.zeros(0, dtype=np.int64), calibration.shares([1, 1, 1, 1]))
    assert made == Calibration()


def test_expected_error_is_the_gap_between_said_and_seen() -> None:
    said = np.array([0.1] * 10 + [0.8] * 10, dtype=np.float32)
    happened = np.array([True] * 3 + [False] * 7 + [True] * 6 + [False] * 4)
    assert abs(calibration.expected_error(said, happened, bins=2) - 0.2) < 1e-6


def test_holding_out_takes_the_last_event_of_at_most_a_fifth_of_the_users() -> None:
    from shopkeeper.features.sequences import pack

    sequences = pack([str(u) for u in range(10)], np.full(10, 4), np.arange(40))
    shorter, users = calibration.hold_out(sequences, seed=0, most=1000)
    assert len(users) == 2
    assert (shorter.lengths[users] == 3).all()
    assert shorter.lengths.sum() == 38
