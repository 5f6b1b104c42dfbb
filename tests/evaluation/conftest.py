"""Small real things the evaluation's tests share."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from shopkeeper.features.sequences import Examples, Sequences, pack

Asked = tuple[Sequence[int], Sequence[int]]  # a history and its targets


def _examples(asked: Sequence[Asked]) -> Examples:
    lengths = [len(history) for history, _ in asked]
    histories = pack(
        [f"u{row}" for row in range(len(asked))],
        lengths,
        [item for history, _ in asked for item in history],
    )
    offsets = np.cumsum([0, *(len(targets) for _, targets in asked)]).astype(np.int64)
    items = np.array([item for _, targets in asked for item in targets], dtype=np.int32)
    return Examples(histories, offsets, items)


@pytest.fixture
def ask() -> Callable[[Sequence[Asked]], Examples]:
    """Examples from (history, targets) pairs of item indexes."""
    return _examples


@pytest.fixture
def fixed() -> Callable[[np.ndarray], Callable[[Sequences], np.ndarray]]:
    """A score function that answers user "u3" with row 3 of a matrix, in whatever batch."""

    def make(matrix: np.ndarray) -> Callable[[Sequences], np.ndarray]:
        def score(histories: Sequences) -> np.ndarray:
            return np.asarray(matrix, np.float32)[[int(user[1:]) for user in histories.users]]

        return score

    return make
