"""Item-kNN over sequences: what came shortly before or after what the user had last.

For items at distance d <= `window` in a sequence, weight(a, b) grows by 1/d where b came after a
and by `backward`/d where it came before; divided by sqrt((events of a + 1) * (events of b + 1));
score = sum over the last `recent` items of the history with weight `decay`^age.
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
    window: int = 5  # events apart that still count as neighbours
    backward: float = 0.7  # weight of "came before", beside 1 for "came after"
    recent: int = 20  # events of the history that are asked
    decay: float = 0.7  # weight of an event, to the power of the number of newer ones
    neighbours: int = 1000  # kept of each item; bounds memory, hardly changes answers


class SequenceKnn:
    name: ClassVar[str] = "sequence_knn"

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
        self.similar = similarity(shorter, len(data.items), self.config)
        targets = data.sequences.items[data.sequences.offsets[1:][users] - 1]
        self.calibration = calibration.fit(self.scores(shorter.take(users)), targets, self.shares)
        self.similar = similarity(data.sequences, len(data.items), self.config)
        self.card = {
            "what": "weighted co-occurrence within a few events, nearer and later counting more",
            "chosen": asdict(self.config),
            "calibration": self.calibration.as_dict(),
            "parameters": int(self.similar.nnz),
            "seed": data.seed,
        }

    def scores(self, histories: Sequences) -> Floats:
        asked = recent_weights(histories, len(self.shares), self.config)
        return log_scores(asked @ self.similar, self.shares)

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


def similarity(sequences: Sequences, items: int, config: Config) -> sp.csr_array:
    """(M, M) float32, row a: the weights of what comes around a; zero diagonal."""
    flat = sequences.items.astype(np.int64)
    owner = np.repeat(np.arange(len(sequences)), sequences.lengths)
    total = sp.csr_array((items, items), dtype=np.float64)
    for distance in range(1, config.window + 1):
        same = owner[distance:] == owner[:-distance]
        earlier, later = flat[:-distance][same], flat[distance:][same]
        apart = earlier != later
        earlier, later = earlier[apart], later[apart]
        weight = np.full(len(earlier), 1.0 / distance)
        after = sp.csr_array(sp.coo_array((weight, (earlier, later)), shape=(items, items)))
        total = total + after + config.backward * after.T
    scale = 1.0 / np.sqrt(np.bincount(flat, minlength=items) + 1.0)
    scaled = sp.csr_array(sp.diags_array(scale) @ total @ sp.diags_array(scale))
    return keep_largest(scaled, config.neighbours)


def recent_weights(histories: Sequences, items: int, config: Config) -> sp.csr_array:
    """(B, M) float32: `decay`^age of each of the last `recent` events (repeats add up)."""
    recent = histories.last(config.recent)
    ends = np.repeat(recent.offsets[1:], recent.lengths)
    age = ends - 1 - np.arange(len(recent.items))
    weight = np.power(np.float32(config.decay), age.astype(np.float32)).astype(np.float32)
    shape = (len(histories), items)
    asked = sp.csr_array((weight, recent.items.astype(np.int64), recent.offsets), shape=shape)
    asked.sum_duplicates()
    return asked
