"""The last steps: what was bought is not offered again, what was just viewed steps back, no category or
brand fills the page, and now and then one slot shows something unranked, with its exact propensity.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shopkeeper.recommend.catalogue import Catalogue, Rows

VIEWED = 0.5  # score factor of an item the user has just looked at; people come back later
DECAY = {"category": 0.97, "brand": 0.97, "shop_id": 0.98}  # per item of the same value before
FIRST_SLOT = 1  # exploration leaves the slots before it alone: the best item stays
CAP = {"category": 0.6, "brand": 0.5, "shop_id": 0.6}  # share of a page one value may fill


def demote(
    scores: npt.NDArray[np.float64], rows: Rows, viewed: Sequence[int]
) -> npt.NDArray[np.float64]:
    """Scores with those of viewed rows multiplied by `VIEWED`."""
    if not viewed:
        return scores
    known = frozenset(viewed)
    seen = np.fromiter((row in known for row in rows.tolist()), np.bool_, len(rows))
    return np.where(seen, scores * VIEWED, scores)


def diversify(
    rows: Rows,
    scores: npt.NDArray[np.float64],
    k: int,
    catalogue: Catalogue,
    by: Sequence[str] = tuple(DECAY),
) -> npt.NDArray[np.int64]:
    """Positions (into `rows`) of the page, best first, at most `k`.

    Greedy: each choice lowers the scores of what shares its category, brand or shop (`DECAY`), and
    a value that fills its share of the page (`CAP`) waits until nothing else is left. A column
    that has fewer than two values among the candidates, or is not in `by`, has no say.
    """
    count = len(rows)
    k = min(k, count)
    if k == 0:
        return np.zeros(0, dtype=np.int64)
    current = scores.astype(np.float64)  # a copy; -inf where taken
    capped = np.zeros(count, dtype=np.bool_)
    columns = []
    for name in by:
        decay = DECAY[name]
        codes = catalogue.codes(name)[rows]
        if len(set(codes[codes >= 0].tolist())) > 1:
            columns.append((codes, decay, max(1, int(np.ceil(k * CAP[name])))))
    if not columns:
        return np.lexsort((np.arange(count), -current))[:k]
    used: list[dict[int, int]] = [{} for _ in columns]
    page = np.empty(k, dtype=np.int64)
    full = False  # is any value at its cap?
    for slot in range(k):
        open_ = np.where(capped, -np.inf, current) if full else current
        choice = int(open_.argmax())
        if open_[choice] == -np.inf:  # every value is at its cap: the best of the rest
            choice = int(current.argmax())
        page[slot] = choice
        current[choice] = -np.inf
        for (codes, decay, cap), counts in zip(columns, used, strict=True):
            code = int(codes[choice])
            if code < 0:
                continue
            counts[code] = counts.get(code, 0) + 1
            same = codes == code
            current[same] *= decay
            if counts[code] >= cap:
                capped |= same
                full = True
    return page


@dataclass(frozen=True)
class Shown:
    """A page with the probability of each of its items standing where it stands."""

    rows: Rows  # (k,)
    propensity: npt.NDArray[np.float64]  # (k,)
    explored: int | None  # slot of the unranked item; None: the page is as ranked


def explore(
    page: Rows, pool: Rows, share: float, draw: np.random.Generator, first_slot: int = FIRST_SLOT
) -> Shown:
    """With probability `share` one slot (evenly, not before `first_slot`) shows a row of `pool`, evenly.

    The policy is fully known, so propensities are exact: a ranked item in one of the S slots that
    may change stands there with 1 - share / S, one before them always, and a pool item with
    share / (S * len(pool)).

    Args:
        page: (k,) rows as ranked.
        pool: rows that are not on the page.
    """
    slots = len(page) - first_slot
    if share <= 0.0 or slots <= 0 or not len(pool):
        return Shown(page, np.ones(len(page)), None)
    propensity = np.ones(len(page))
    propensity[first_slot:] = 1.0 - share / slots
    if draw.random() >= share:
        return Shown(page, propensity, None)
    slot = first_slot + int(draw.integers(slots))
    shown = page.copy()
    shown[slot] = pool[int(draw.integers(len(pool)))]
    propensity[slot] = share / (slots * len(pool))
    return Shown(shown, propensity, slot)
