"""Batches of sequences of nearly one length each, so that no padding is ever computed.

A batch keeps its tokens (events) in one flat row order, users of one length side by side: linear
layers run over all tokens at once, attention over each `Group` as a (users, length) block.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shopkeeper.features.sequences import Ints


class Group(NamedTuple):
    """Users of one length: tokens start .. start + users * length of the batch."""

    start: int
    users: int
    length: int


@dataclass(frozen=True)
class Layout:
    """Which flat rows a batch takes, and how they lie."""

    users: Ints  # (B,) rows of the sequences, shortest first
    tokens: Ints  # (T,) flat event rows, users end to end
    groups: list[Group]
    ends: Ints  # (B,) token of each user's newest event


def layout(starts: Ints, lengths: Ints, users: Ints) -> Layout:
    """Lay out `users` (those of length 0 must have been left out).

    Args:
        starts: (U,) first flat row of every user.
        lengths: (U,) events of every user.
        users: (B,) the users of this batch, in any order.
    """
    users = users[np.argsort(lengths[users], kind="stable")]
    counts = lengths[users]
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    tokens = np.arange(total, dtype=np.int64) + np.repeat(starts[users] - (ends - counts), counts)
    found, first, many = np.unique(counts, return_index=True, return_counts=True)
    groups = [
        Group(int(ends[i] - counts[i]), int(n), int(length))
        for length, i, n in zip(found, first, many, strict=True)
    ]
    return Layout(users=users, tokens=tokens, groups=groups, ends=ends - 1)


def epoch(
    lengths: Ints, tokens: int, rng: np.random.Generator, *, pool: int = 16
) -> Iterator[Ints]:
    """Each user with at least one event once, in batches of about `tokens` events.

    Users are shuffled, `pool` batches' worth of them sorted by length and cut, the batches
    shuffled: random enough to learn from, few lengths in a batch.
    """
    order = rng.permutation(np.flatnonzero(lengths > 0))
    if len(order) == 0:
        return
    ends = np.cumsum(lengths[order])
    batches: list[Ints] = []
    part = (ends - 1) // max(1, tokens * pool)
    for piece in np.split(order, np.flatnonzero(np.diff(part)) + 1):
        sorted_piece = piece[np.argsort(lengths[piece], kind="stable")]
        cut = (np.cumsum(lengths[sorted_piece]) - 1) // tokens
        batches.extend(np.split(sorted_piece, np.flatnonzero(np.diff(cut)) + 1))
    for index in rng.permutation(len(batches)):
        yield batches[index]


def windows(offsets: Ints, length: int) -> tuple[Ints, Ints]:
    """Cut every user's events into pieces of at most `length`, newest piece full.

    Neighbouring pieces share one event, so that every event but a user's first is a target once.
    Returns (starts, lengths) of the pieces of at least 2 events.
    """
    sizes = np.diff(offsets)
    step = length - 1
    pieces = np.maximum(1, -(-(sizes - 1) // step))
    owner = np.repeat(np.arange(len(sizes)), pieces)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    ends = offsets[1:][owner] - place * step
    starts = np.maximum(offsets[:-1][owner], ends - length)
    long_enough = ends - starts >= 2
    return starts[long_enough], (ends - starts)[long_enough]


def order_noise(
    starts: Ints, lengths: Ints, size: float, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """(T,) flat rows of all pieces end to end, neighbours swapped at random.

    Each place gets uniform noise in [0, size) and the piece is sorted by it: 0 changes nothing,
    1 never swaps, 2 swaps some neighbours. Reviews and clicks of one day often have no true order.
    """
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    owner = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(total, dtype=np.int64) - np.repeat(ends - lengths, lengths)
    rows = starts[owner] + place
    if size <= 1.0:
        return np.asarray(rows, dtype=np.int64)
    key = place + rng.uniform(0.0, size, total)
    return np.asarray(rows[np.lexsort((key, owner))], dtype=np.int64)


def turn(
    rows: npt.NDArray[np.int64], places: Ints, lengths: Ints, which: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """(T,) `rows` with the pieces of `which` (P,) from last to first; piece p starts at places[p]."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    at = np.arange(len(rows), dtype=np.int64)
    mirrored = 2 * places[owner] + lengths[owner] - 1 - at
    return np.asarray(rows[np.where(which[owner], mirrored, at)], dtype=np.int64)
