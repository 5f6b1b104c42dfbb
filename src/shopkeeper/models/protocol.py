"""What every model meets, built in or a user's own; tests/models/test_contract.py checks it.

A model learns from `TrainingData`, answers for `Sequences` of histories, and is saved to a folder
of safetensors and JSON files. It never filters: exclusions and allowed items are the caller's,
applied by `rank`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from shopkeeper.features.items import ItemTable
from shopkeeper.features.sequences import Examples, Floats, Sequences
from shopkeeper.features.ties import Ties

# called with (done, total, text) as work goes on; the CLI draws a bar, tests pass nothing
Progress = Callable[[float, float, str], None]
# scores the model as it is now on validation examples; higher is better. Returns the metrics,
# of which the one named by `TrainingData.primary` decides early stopping.
Validate = Callable[["Model"], dict[str, float]]


def no_progress(done: float, total: float, text: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class TrainingData:
    """All that `fit` may look at."""

    sequences: Sequences
    items: ItemTable
    seed: int = 42
    threads: int = 2
    settings: dict[str, Any] = field(default_factory=dict)  # the [training] section of shop.toml
    validate: Validate | None = None  # None: no early stopping, fit for `max_epochs`
    primary: str = "NDCG@10"
    # what `validate` asks, for models that choose more than an epoch; nothing of it may be learned
    validation: Examples | None = None
    exclude_seen: bool = True  # whether what a history has is no candidate there
    members: Mapping[str, Callable[[], "Model"]] = field(default_factory=dict)  # fitted, by name
    teacher: "Model | None" = None  # of the same kind, larger: what it says is learned from as well
    checkpoint: Path | None = None  # folder for resumable checkpoints; None: keep none
    progress: Progress = no_progress
    ties: Ties | None = None  # who follows whom, where the shop tells; the graph models read it


@runtime_checkable
class Model(Protocol):
    """One model. `card` says what was chosen and why, and the curve of every epoch."""

    name: ClassVar[str]
    card: dict[str, Any]

    def fit(self, data: TrainingData) -> None:
        """Learn. Same data, seed and threads give the same weights."""
        ...

    def scores(self, histories: Sequences) -> Floats:
        """(B, M) float32, higher is better, over all M items, seen ones included.

        Row b depends on history b alone: a batch equals its rows one by one.
        """
        ...

    def predict(self, histories: Sequences, items: npt.NDArray[np.int32]) -> Floats:
        """(B,) float32 in [0, 1]: calibrated probability that item b is what history b leads to next."""
        ...

    def save(self, folder: Path) -> None:
        """Write weights (safetensors) and settings (JSON) into `folder`, which exists."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; answers are the same bit for bit."""
        ...


def rank(
    model: Model,
    histories: Sequences,
    k: int,
    *,
    exclude: list[npt.NDArray[np.int32]] | None = None,
    allowed: npt.NDArray[np.bool_] | None = None,
) -> tuple[npt.NDArray[np.int32], Floats]:
    """Best k items over the whole catalogue.

    Args:
        histories: B of them.
        exclude: per history, items never to return (the seen ones, say).
        allowed: (M,) mask; False is never returned.
    Returns:
        (B, k) int32 ItemIndex, -1 where fewer than k remain, and (B, k) float32 scores (-inf there).
        Ties go to the lower index.
    """
    scores = np.array(model.scores(histories), dtype=np.float32)
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    if exclude is not None:
        for row, items in enumerate(exclude):
            scores[row, items] = -np.inf
    return top(scores, k)


BLOCKS = 64  # of a row; the maxima of its columns bound the k-th largest value from below


def top(scores: Floats, k: int) -> tuple[npt.NDArray[np.int32], Floats]:
    """Indexes and values of the k largest of each row, largest first, ties to the lower index."""
    rows, items = scores.shape
    width = min(k, items)
    if width < items:
        bound = _lower_bound(scores, width)
        found = np.empty((rows, width), dtype=np.int64)
        for row in range(rows):
            (near,) = np.nonzero(scores[row] >= bound[row])  # at least `width`, seldom many more
            values = scores[row, near]
            kth = -np.partition(-values, width - 1)[width - 1]
            above = values > kth
            order = np.argsort(-values[above], kind="stable")
            first_ties = near[values == kth][: width - len(order)]
            found[row] = np.concatenate([near[above][order], first_ties])
    else:
        found = np.argsort(-scores, axis=1, kind="stable")
    best = np.take_along_axis(scores, found, axis=1)
    items_out = np.where(np.isneginf(best), -1, found).astype(np.int32)
    if width < k:
        items_out = np.pad(items_out, ((0, 0), (0, k - width)), constant_values=-1)
        best = np.pad(best, ((0, 0), (0, k - width)), constant_values=-np.inf)
    return items_out, best


def _lower_bound(scores: Floats, width: int) -> Floats:
    """(B,) a value that at least `width` scores of the row reach; one pass, no sorting of the row."""
    rows, items = scores.shape
    columns = items // BLOCKS
    if columns < width:
        return np.full(rows, -np.inf, dtype=scores.dtype)
    highest = scores[:, : columns * BLOCKS].reshape(rows, BLOCKS, columns).max(axis=1)
    bound: Floats = -np.partition(-highest, width - 1, axis=1)[:, width - 1]
    return bound
