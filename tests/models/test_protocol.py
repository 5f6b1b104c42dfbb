import numpy as np
import pytest

from shopkeeper.models.protocol import top


@pytest.mark.parametrize("seed", range(60))
def test_top_is_a_stable_sort_cut_short_whatever_the_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, items, k = rng.integers(1, 5), rng.integers(1, 3000), rng.integers(1, 30)
    scores = rng.integers(0, (2, 20, 10**6)[seed % 3], (rows, items)).astype(np.float32)
    scores[rng.random((rows, items)) < (0, 0.5, 0.999)[seed % 5 % 3]] = -np.inf
    found, values = top(scores, int(k))
    assert found.shape == values.shape == (rows, k)
    for row in range(rows):
        wanted = [
            i for i in np.argsort(-scores[row], kind="stable")[:k] if scores[row, i] > -np.inf
        ]
        assert found[row].tolist() == wanted + [-1] * (k - len(wanted))
        assert values[row, : len(wanted)].tolist() == scores[row, wanted].tolist()
        assert np.isneginf(values[row, len(wanted) :]).all()
