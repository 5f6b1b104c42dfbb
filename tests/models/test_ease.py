import numpy as np

from shopkeeper.features.sequences import pack
from shopkeeper.models import ease
from shopkeeper.models.ease import Config


def test_weights_solve_the_ridge_problem_of_every_item() -> None:
    rng = np.random.default_rng(1)
    had = (rng.random((50, 9)) < 0.4).astype(float)
    rows, columns = np.nonzero(had)
    sequences = pack([str(u) for u in range(50)], np.bincount(rows, minlength=50), columns)
    fast = ease.solve(sequences, 9, Config(penalty=3.0, neighbours=9)).toarray()
    for item in range(9):  # column b of B: regress item b on all others, with the ridge term
        others = np.delete(np.arange(9), item)
        x = had[:, others]
        slow = np.linalg.solve(x.T @ x + 3.0 * np.eye(8), x.T @ had[:, item])
        np.testing.assert_allclose(fast[others, item], slow, atol=2e-5)
        assert fast[item, item] == 0.0


def test_above_the_limit_only_popular_items_have_weights() -> None:
    sequences = pack(["a", "b", "c"], [3, 3, 2], [0, 1, 2, 0, 1, 3, 0, 1])
    made = ease.solve(sequences, 4, Config(penalty=1.0, max_items=2)).toarray()
    assert made[0, 1] > 0
    assert not made[2:].any()
    assert not made[:, 2:].any()
