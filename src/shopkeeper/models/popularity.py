"""Popularity: everybody gets what most events were about. The floor under all floors."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from shopkeeper.features.sequences import Floats, Sequences
from shopkeeper.models import calibration, weights
from shopkeeper.models.options import configure
from shopkeeper.models.protocol import TrainingData


@dataclass(frozen=True)
class Config:
    pass


class Popularity:
    name: ClassVar[str] = "popularity"

    def __init__(self) -> None:
        self.card: dict[str, Any] = {}
        self.shares: Floats = np.zeros(0, dtype=np.float32)  # (M,)

    def fit(self, data: TrainingData) -> None:
        configure(Config, self.name, data.settings)
        counts = np.bincount(data.sequences.items, minlength=len(data.items))
        self.shares = calibration.shares(counts)
        self.card = {
            "what": "share of all events, smoothed by one event an item; the same for every user",
            "parameters": len(self.shares),
            "seed": data.seed,
        }

    def scores(self, histories: Sequences) -> Floats:
        row = np.log(self.shares)
        return np.repeat(row[None, :], len(histories), axis=0)

    def predict(self, histories: Sequences, items: npt.NDArray[np.int32]) -> Floats:
        return self.shares[items]  # a share is its own probability

    def save(self, folder: Path) -> None:
        weights.write(folder, {"shares": self.shares}, {"card": self.card})

    @classmethod
    def load(cls, folder: Path) -> Self:
        arrays, about = weights.read(folder)
        model = cls()
        model.shares, model.card = arrays["shares"], about["card"]
        return model
