"""Several sources' candidates -> one order, by weighted reciprocal ranks.

Ranks, not scores, because the sources' scores have no common scale. Weights are chosen on
validation examples (`choose_weights`) and kept in the release; without any, all weigh the same.

Source: Cormack, Clarke, Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and individual
Rank Learning Methods", SIGIR 2009; weights and constant are ours, chosen on validation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shopkeeper.features.sequences import Ints
from shopkeeper.recommend.catalogue import Rows
from shopkeeper.recommend.retrieve import Candidates

Doubles = npt.NDArray[np.float64]

CONSTANT = 60.0


@dataclass(frozen=True)
class Ranked:
    """Fused candidates, best first."""

    rows: Rows  # (C,)
    scores: Doubles  # (C,)
    sources: list[str]  # (C,) the source that gave each candidate most of its score


def fuse(
    found: Sequence[Candidates],
    weights: Mapping[str, float] | None = None,
    constant: float = CONSTANT,
) -> Ranked:
    """Sum of weight / (constant + rank) over the sources that propose a row; ties to the lower row.

    Sources without an entry in `weights` weigh 1 (no weights at all) or nothing.
    """
    rows: list[Rows] = []
    values: list[Doubles] = []
    owners: list[Rows] = []
    for number, one in enumerate(found):
        weight = 1.0 if weights is None else weights.get(one.source, 0.0)
        if weight <= 0.0 or not len(one.rows):
            continue
        rows.append(one.rows)
        values.append(weight / (constant + np.arange(1.0, len(one.rows) + 1)))
        owners.append(np.full(len(one.rows), number))
    if not rows:
        return Ranked(np.zeros(0, np.int64), np.zeros(0), [])
    every, value, owner = np.concatenate(rows), np.concatenate(values), np.concatenate(owners)
    unique, back = np.unique(every, return_inverse=True)
    total = np.zeros(len(unique))
    np.add.at(total, back, value)
    strongest = np.lexsort((value, back))  # by row, then value: the last of a row is its strongest
    ends = np.append(np.flatnonzero(np.diff(back[strongest])), len(strongest) - 1)
    owner_of = owner[strongest[ends]]
    order = np.lexsort((unique, -total))
    return Ranked(unique[order], total[order], [found[owner_of[n]].source for n in order])


def choose_weights(
    rankings: Mapping[str, npt.NDArray[np.int32]],
    targets: npt.NDArray[np.int32],
    k: int = 10,
    steps: Sequence[float] = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0),
    constants: Sequence[float] = (1.0, 5.0, 20.0, 60.0),
) -> tuple[dict[str, float], float, float]:
    """Weights and constant that rank validation targets best, by coordinate ascent on NDCG@k.

    Starts from the best single source, and adds another only where that helps, so the fused order
    is never worse on these examples than any one source.

    Args:
        rankings: source -> (E, C) candidate rows, best first, -1 where there are fewer.
        targets: (E,) the row that came next.
    Returns:
        weights (sources of weight 0 left out), constant, NDCG@k reached.
    """
    gains = {source: _reciprocals(ranking, constants) for source, ranking in rankings.items()}
    best_value, best_weights, best_constant = -1.0, dict.fromkeys(rankings, 1.0), CONSTANT
    union, target_at = _union(rankings, targets)
    for number, constant in enumerate(constants):
        dense = {
            source: _spread(ranking, gains[source][number], union)
            for source, ranking in rankings.items()
        }
        single = {source: _ndcg(scores, target_at, k) for source, scores in dense.items()}
        first = max(single, key=lambda source: single[source])
        weights = dict.fromkeys(rankings, 0.0) | {first: 1.0}
        value = single[first]
        improved = True
        while improved:
            improved = False
            for source in rankings:
                base = sum(
                    (
                        weight * dense[other]
                        for other, weight in weights.items()
                        if other != source and weight > 0
                    ),
                    np.zeros_like(dense[source]),
                )
                for step in steps:
                    if step == weights[source]:
                        continue
                    tried = _ndcg(base + step * dense[source], target_at, k)
                    if tried > value + 1e-9:
                        value, improved = tried, True
                        weights = weights | {source: step}
        if value > best_value + 1e-9:
            best_value, best_weights, best_constant = value, weights, constant
    kept = {source: weight for source, weight in best_weights.items() if weight > 0}
    return kept, best_constant, best_value


def _reciprocals(ranking: npt.NDArray[np.int32], constants: Sequence[float]) -> list[Doubles]:
    places = np.arange(1.0, ranking.shape[1] + 1)
    return [1.0 / (constant + places) for constant in constants]


def _union(
    rankings: Mapping[str, npt.NDArray[np.int32]], targets: npt.NDArray[np.int32]
) -> tuple[list[Ints], Ints]:
    """Per example its distinct candidates (sorted), and where the target stands there (-1: nowhere)."""
    together = np.concatenate(list(rankings.values()), axis=1)
    union: list[Ints] = []
    at = np.full(len(targets), -1, dtype=np.int64)
    for example in range(len(targets)):
        rows = np.unique(together[example])
        rows = rows[rows >= 0].astype(np.int64)
        union.append(rows)
        place = int(np.searchsorted(rows, targets[example]))
        if place < len(rows) and rows[place] == targets[example]:
            at[example] = place
    return union, at


def _spread(ranking: npt.NDArray[np.int32], gain: Doubles, union: list[Ints]) -> Doubles:
    """(E, widest union) gain of each candidate of the union."""
    width = max((len(rows) for rows in union), default=0)
    out = np.zeros((len(ranking), width))
    for example, rows in enumerate(union):
        proposed = ranking[example]
        kept = proposed >= 0
        out[example, np.searchsorted(rows, proposed[kept])] = gain[kept]
    return out


def _ndcg(scores: Doubles, at: Ints, k: int) -> float:
    """Mean NDCG@k with one target an example; ties to the earlier column, as `fuse` has it."""
    hit = at >= 0
    if not hit.any():
        return 0.0
    rows = np.flatnonzero(hit)
    mine = scores[rows, at[rows]][:, None]
    columns = np.arange(scores.shape[1])[None, :]
    better = (scores[rows] > mine) | ((scores[rows] == mine) & (columns < at[rows][:, None]))
    rank = better.sum(axis=1)
    found = (rank < k) & (mine[:, 0] > 0)
    return float(np.where(found, 1.0 / np.log2(rank + 2.0), 0.0).sum() / len(at))
