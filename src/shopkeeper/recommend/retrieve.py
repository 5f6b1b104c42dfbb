"""Scores of one model -> its best candidates. Filter first, then take the top: a filter that
leaves ten items leaves ten candidates."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shopkeeper.features.sequences import Floats
from shopkeeper.recommend.catalogue import Bools, Rows


@dataclass(frozen=True)
class Candidates:
    """What one source proposes, best first."""

    source: str  # model name, or "popularity"
    rows: Rows  # (C,) catalogue rows
    scores: Floats  # (C,) the source's own scores, not comparable between sources


def best(source: str, scores: Floats, allowed: Bools, count: int) -> Candidates:
    """The `count` best allowed rows; a score of -inf, nan or (for sparse models) 0 is no proposal.

    Args:
        scores: (M,) over the first M catalogue rows.
        allowed: (N,) with N >= M.
    """
    width = len(scores)
    masked = np.where(allowed[:width], scores, -np.inf)
    floor = -np.inf
    if masked.size and scores.min() == 0.0:
        floor = 0.0  # counts and similarities: zero means "nothing is known", not "worst"
    return Candidates(source, *_top(masked, count, floor))


def _top(masked: Floats, count: int, floor: float) -> tuple[Rows, Floats]:
    if count < len(masked):
        found = np.argpartition(masked, len(masked) - count)[len(masked) - count :]
    else:
        found = np.arange(len(masked))
    found = found[masked[found] > floor]  # nan compares false
    order = np.lexsort((found, -masked[found]))
    rows: Rows = found[order].astype(np.int64)
    return rows, masked[rows].astype(np.float32)


def popular(popularity: npt.NDArray[np.float32], allowed: Bools, count: int) -> Candidates:
    """The floor under everything: most popular allowed items; unpopular ones too, so that an answer
    is empty only where nothing is allowed. Rows beyond the known ones count as popularity 0."""
    scores = np.zeros(len(allowed), dtype=np.float32)
    scores[: len(popularity)] = popularity
    return Candidates("popularity", *_top(np.where(allowed, scores, -np.inf), count, -np.inf))
