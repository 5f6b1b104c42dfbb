"""Item-kNN without order: items that the same users had are neighbours.

similarity(a, b) = users with both / sqrt((users with a + 1) * (users with b + 1)), no self
similarity; score = sum over the items of the history. Source: Linden et al., "Amazon.com
Recommendations: Item-to-Item Collaborative Filtering", IEEE Internet Computing 2003; unlike it,
the "+ 1" shrinks the similarity of items that hardly anybody had.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from shopkeeper.features.sequences import Floats, Sequences
from shopkeeper.models import calibration, weights
from shopkeeper.models.calibration import Calibration
from shopkeeper.models.neighbours import keep_largest, log_scores
from shopkeeper.models.options import configure
from shopkeeper.models.protocol import TrainingData


@dataclass(frozen=True)
class Config:
    neighbours: int = 1000  # kept of each item; bounds memory, hardly changes answers


class ItemKnn:
    name: ClassVar[str] = "item_knn"

    def __init__(self, config: Config = Config()) -> None:
        self.config = config
        self.card: dict[str, Any] = {}
        self.similar: sp.csr_array = weights.empty_matrix()  # (M, M)
        self.shares: Floats = np.zeros(0, dtype=np.float32)  # (M,)
        self.calibration = Calibration()

    def fit(self, data: TrainingData) -> None:
        self.config = configure(Config, self.name, data.settings)
        counts = np.bincount(data.sequences.items, minlength=len(data.items))
        self.shares = calibration.shares(counts)
        shorter, users = calibration.hold_out(data.sequences, data.seed)
        self.similar = similarity(shorter, len(data.items), self.config.neighbours)
        targets = data.sequences.items[data.sequences.offsets[1:][users] - 1]
        self.calibration = calibration.fit(self.scores(shorter.take(users)), targets, self.shares)
        self.similar = similarity(data.sequences, len(data.items), self.config.neighbours)
        self.card = {
            "what": "co-occurrence without order",
            "chosen": asdict(self.config),
            "calibration": self.calibration.as_dict(),
            "parameters": int(self.similar.nnz),
            "seed": data.seed,
        }

    def scores(self, histories: Sequences) -> Floats:
        return log_scores(_had(histories, len(self.shares)) @ self.similar, self.shares)

    def predict(self, histories: Sequences, items: npt.NDArray[np.int32]) -> Floats:
        likely = self.calibration.probabilities(self.scores(histories), self.shares)
        return likely[np.arange(len(items)), items]

    def save(self, folder: Path) -> None:
        weights.write_linear(folder, self, "similar", self.similar)

    @classmethod
    def load(cls, folder: Path) -> Self:
        model, similar = weights.read_linear(folder, cls, Config, "similar")
        model.similar = similar
        return model


def similarity(sequences: Sequences, items: int, neighbours: int) -> sp.csr_array:
    """(M, M) float32, row a: similarities of a's neighbours; zero diagonal."""
    had = _had(sequences, items)  # (U, M) of ones
    together = sp.csr_array(had.T @ had)
    together.setdiag(0.0)
    together.eliminate_zeros()
    users = np.asarray(had.sum(axis=0)).ravel()
    scale = 1.0 / np.sqrt(users + 1.0)
    scaled = sp.csr_array(sp.diags_array(scale) @ together @ sp.diags_array(scale))
    return keep_largest(scaled, neighbours)


def _had(sequences: Sequences, items: int) -> sp.csr_array:
    """(U, M) float32: 1 where the user had the item, however often."""
    ones = np.ones(len(sequences.items), dtype=np.float32)
    shape = (len(sequences), items)
    ends = sequences.offsets.copy()  # sum_duplicates rewrites it in place
    had = sp.csr_array((ones, sequences.items.astype(np.int64), ends), shape=shape)
    had.sum_duplicates()
    had.data[:] = 1.0
    return had
