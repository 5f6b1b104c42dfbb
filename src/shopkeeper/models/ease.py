"""EASE: the linear item-to-item model with a closed form.

B = I - P diag(1 / diag(P)) with P = (X'X + penalty I)^-1, X the users x items matrix of ones; score =
sum of B's rows over the history. Source: Steck, "Embarrassingly Shallow Autoencoders for Sparse
Data", WWW 2019. Unlike the paper: an event's weight can fall with its age (`decay`), only the
`neighbours` largest weights of each item are kept, and above `max_items` items the closed form
covers the most popular ones alone (its cost grows with the cube of the items).
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from shopkeeper.features.sequences import Floats, Sequences
from shopkeeper.models import calibration, weights
from shopkeeper.models.calibration import Calibration
from shopkeeper.models.neighbours import keep_largest
from shopkeeper.models.options import configure
from shopkeeper.models.protocol import TrainingData


@dataclass(frozen=True)
class Config:
    penalty: float = 200.0  # the ridge term; larger trusts rare pairs less
    decay: float = 1.0  # weight of a history event, to the power of the number of newer ones
    neighbours: int = 500  # weights kept of each item
    max_items: int = 13_000  # more items than this: the most popular ones only


class Ease:
    name: ClassVar[str] = "ease"

    def __init__(self, config: Config = Config()) -> None:
        self.config = config
        self.card: dict[str, Any] = {}
        self.linear: sp.csr_array = weights.empty_matrix()  # (M, M)
        self.shares: Floats = np.zeros(0, dtype=np.float32)  # (M,)
        self.calibration = Calibration()

    def fit(self, data: TrainingData) -> None:
        self.config = configure(Config, self.name, data.settings)
        torch.set_num_threads(data.threads)
        items = len(data.items)
        self.shares = calibration.shares(np.bincount(data.sequences.items, minlength=items))
        shorter, users = calibration.hold_out(data.sequences, data.seed)
        data.progress(0.0, 2.0, "ease: weights without the calibration events")
        self.linear = solve(shorter, items, self.config)
        targets = data.sequences.items[data.sequences.offsets[1:][users] - 1]
        self.calibration = _calibrate(self.scores(shorter.take(users)), targets, self.shares)
        data.progress(1.0, 2.0, "ease: weights")
        self.linear = solve(data.sequences, items, self.config)
        data.progress(2.0, 2.0, "ease: done")
        self.card = {
            "what": "closed-form linear item-to-item weights",
            "chosen": asdict(self.config),
            "calibration": self.calibration.as_dict(),
            "items_covered": min(items, self.config.max_items),
            "parameters": int(self.linear.nnz),
            "seed": data.seed,
        }

    def scores(self, histories: Sequences) -> Floats:
        asked = _aged(histories, len(self.shares), self.config.decay)
        return np.asarray((asked @ self.linear).toarray() + 1e-4 * self.shares / self.shares.max())

    def predict(self, histories: Sequences, items: npt.NDArray[np.int32]) -> Floats:
        logits = _as_logits(self.scores(histories))
        likely = self.calibration.probabilities(logits, self.shares)
        return likely[np.arange(len(items)), items]

    def save(self, folder: Path) -> None:
        weights.write_linear(folder, self, "linear", self.linear)

    @classmethod
    def load(cls, folder: Path) -> Self:
        model, linear = weights.read_linear(folder, cls, Config, "linear")
        model.linear = linear
        return model


def solve(sequences: Sequences, items: int, config: Config) -> sp.csr_array:
    """(M, M) float32 weights B; row a: what having a says about every other item."""
    had = _aged(sequences, items, 1.0)
    had.data[:] = 1.0
    covered = np.arange(items)
    if items > config.max_items:
        users = np.asarray(had.sum(axis=0)).ravel()
        covered = np.sort(np.argsort(-users, kind="stable")[: config.max_items])
        had = sp.csr_array(had[:, covered])
    gram = torch.from_numpy(np.ascontiguousarray((had.T @ had).toarray(), dtype=np.float32))
    gram.diagonal().add_(config.penalty)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
    del gram
    inverse /= -inverse.diagonal().clone()[None, :]
    inverse.fill_diagonal_(0.0)
    most = min(config.neighbours, len(covered))
    rows, columns, values = [], [], []
    for start in range(0, len(covered), 1024):  # the dense matrix is large; walk it in blocks
        block = inverse[start : start + 1024]
        size, place = block.abs().topk(most, dim=1)
        kept = (size > 0).numpy()
        row = np.repeat(np.arange(start, start + len(block)), most).reshape(-1, most)
        rows.append(covered[row[kept]])
        columns.append(covered[place.numpy()[kept]])
        values.append(block.gather(1, place).numpy()[kept])
    parts = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return keep_largest(sp.csr_array(sp.coo_array(parts, shape=(items, items))), most)


def _aged(sequences: Sequences, items: int, decay: float) -> sp.csr_array:
    """(U, M) float32: decay^(age of the newest event with the item)."""
    ends = np.repeat(sequences.offsets[1:], sequences.lengths)
    age = ends - 1 - np.arange(len(sequences.items))
    user = np.repeat(np.arange(len(sequences)), sequences.lengths)
    order = np.lexsort((age, sequences.items, user))  # the newest of each (user, item) first
    first = np.ones(len(order), dtype=bool)
    pairs = np.stack([user[order], sequences.items[order]])
    first[1:] = (pairs[:, 1:] != pairs[:, :-1]).any(axis=0)
    keep = order[first]
    weight = np.power(np.float32(decay), age[keep].astype(np.float32)).astype(np.float32)
    parts = (weight, (user[keep], sequences.items[keep].astype(np.int64)))
    return sp.csr_array(sp.coo_array(parts, shape=(len(sequences), items)))


def _as_logits(scores: Floats) -> Floats:
    """EASE's scores are near-linear in probability; their log is what a softmax sharpens."""
    return np.log(np.maximum(scores, 0.0) + 1e-4).astype(np.float32)


def _calibrate(scores: Floats, targets: npt.NDArray[np.int32], popularity: Floats) -> Calibration:
    return calibration.fit(_as_logits(scores), targets, popularity)
