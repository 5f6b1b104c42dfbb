"""Scores of one model -> its best candidates. Filter first, then take the top: a filter that
leaves ten items leaves ten candidates."""

from dataclasses import dataclass

import numpy as np

from shopkeeper.features.sequences import Floats
from shopkeeper.models.protocol import top
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
    floor = -np.inf
    if scores.size and scores.min() == 0.0:
        floor = 0.0  # counts and similarities: zero means "nothing is known", not "worst"
    proposed = allowed[: len(scores)] & (scores > floor)  # nan compares false
    values = np.where(proposed, np.asarray(scores, dtype=np.float32), np.float32(-np.inf))
    rows, kept = top(values[None, :], min(count, len(scores)))
    filled = int((rows[0] >= 0).sum())
    return Candidates(source, rows[0, :filled].astype(np.int64), kept[0, :filled])


def without(rows: Rows, gone: Rows) -> Rows:
    """The `rows` that are not among `gone`, in their order; for pages: short arrays."""
    known = set(gone.tolist())
    left = [row for row in rows.tolist() if row not in known]
    return np.array(left, dtype=np.int64)


def by_popularity(popularity: Floats) -> Rows:
    """Rows, most popular first, ties to the lower row; once per release, for `popular`."""
    return np.argsort(-popularity, kind="stable").astype(np.int64)


def popular(order: Rows, allowed: Bools, count: int) -> Candidates:
    """The floor under everything: most popular allowed items; unpopular ones too, so that an answer
    is empty only where nothing is allowed. Rows beyond those of `order` come last."""
    rows = order[allowed[order]][:count]
    if len(rows) < count:
        beyond = len(order) + np.flatnonzero(allowed[len(order) :])[: count - len(rows)]
        rows = np.concatenate([rows, beyond])
    scores = 1.0 / np.arange(1.0, len(rows) + 1)
    return Candidates("popularity", rows.astype(np.int64), scores.astype(np.float32))
