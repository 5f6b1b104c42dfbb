"""From a model's scores to the probability that an item is the next one.

p(item | history) = (1 - mix) * softmax(sharpness * scores) + mix * popularity. The two numbers are
fitted by maximum likelihood on examples that the scores were not fitted on; one sharpness is
"temperature scaling" (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017), the
mixture keeps items that a rule has never seen follow each other from getting probability zero.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shopkeeper.features.sequences import Floats, Ints, Sequences

SHARPNESS = (0.25, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.15, 1.3, 1.5, 2.0, 3.0)
MIX = (0.001, 0.01, 0.03, 0.1, 0.2, 0.3, 0.45, 0.6, 0.75, 0.9)


@dataclass(frozen=True)
class Calibration:
    sharpness: float = 1.0  # multiplies the scores before the softmax
    mix: float = 0.01  # share of plain popularity, in (0, 1)
    examples: int = 0  # held-out examples it was fitted on; 0: not fitted, the defaults

    def probabilities(self, scores: Floats, popularity: Floats) -> Floats:
        """(B, M) probabilities that add up to 1 a row, from (B, M) scores and (M,) shares."""
        return (1.0 - self.mix) * _softmax(scores * self.sharpness) + self.mix * popularity

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def shares(counts: npt.ArrayLike) -> Floats:
    """(M,) smoothed share of each item, adding up to 1, from (M,) counts."""
    smoothed = np.asarray(counts, dtype=np.float64) + 1.0
    return np.asarray(smoothed / smoothed.sum(), dtype=np.float32)


def fit(scores: Floats, targets: npt.NDArray[np.integer[Any]], popularity: Floats) -> Calibration:
    """The Calibration under which (E,) `targets` are most likely, given their (E, M) `scores`."""
    if len(targets) == 0:
        return Calibration()
    rows = np.arange(len(targets))
    best, found = -np.inf, Calibration()
    prior = popularity[targets]
    for sharpness in SHARPNESS:
        hit = _softmax(scores * sharpness)[rows, targets]
        for mix in MIX:
            likelihood = float(np.log((1.0 - mix) * hit + mix * prior).mean())
            if likelihood > best:
                best, found = likelihood, Calibration(sharpness, mix, len(targets))
    return found


def hold_out(sequences: Sequences, seed: int, most: int = 1000) -> tuple[Sequences, Ints]:
    """Take the last event away from up to `most` users that have at least 3.

    Returns (the shortened sequences of all users, the (E,) users shortened).
    """
    able = np.flatnonzero(sequences.lengths >= 3)
    chosen = np.random.default_rng(seed).permutation(able)[:most]
    chosen = np.sort(chosen[: max(1, len(able) // 5)]) if len(able) else chosen
    ends = sequences.offsets[1:].copy()
    ends[chosen] -= 1
    return sequences.slice_events(sequences.offsets[:-1], ends), chosen.astype(np.int64)


def expected_error(probabilities: Floats, happened: npt.NDArray[np.bool_], bins: int = 10) -> float:
    """Expected calibration error of (P,) pairs: mean |said - seen| over `bins` of equal size."""
    order = np.argsort(probabilities, kind="stable")
    parts = np.array_split(order, bins)
    gaps = [
        abs(float(probabilities[p].mean()) - float(happened[p].mean())) * len(p)
        for p in parts
        if len(p)
    ]
    return float(sum(gaps) / max(1, len(order)))


def _softmax(scores: Floats) -> Floats:
    shifted = scores - scores.max(axis=1, keepdims=True)
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=1, keepdims=True)
    return np.asarray(shifted, dtype=np.float32)
