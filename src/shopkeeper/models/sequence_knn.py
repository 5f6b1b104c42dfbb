"""Item-kNN over sequences: what came shortly before or after what the user had last; the rule is in neighbours.py."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from shopkeeper.features.sequences import Floats, Sequences
from shopkeeper.models import calibration, weights
from shopkeeper.models.calibration import Calibration
from shopkeeper.models.neighbours import Nearby as Config
from shopkeeper.models.neighbours import log_scores, recent_weights, similarity
from shopkeeper.models.options import configure
from shopkeeper.models.protocol import TrainingData


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
