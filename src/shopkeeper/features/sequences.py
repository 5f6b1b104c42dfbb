"""Behaviour sequences, packed: all users' events end to end in flat arrays, no padding anywhere.

One definition for training and for a live request: both go through `pack`.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

NO_TIME = -1
MAX_DWELL_S = 1800.0


class Vocabulary:
    """Outside item ids <-> ItemIndex, in a fixed order."""

    def __init__(self, ids: list[str]) -> None:
        self.ids = ids
        self.index: dict[str, int] = {item: row for row, item in enumerate(ids)}

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Sequences:
    """U users' histories, N events in all, oldest first within a user.

    User u's events are rows offsets[u]:offsets[u + 1] of every flat array.
    """

    users: list[str]  # U outside ids
    offsets: Ints  # (U + 1,)
    items: npt.NDArray[np.int32]  # (N,) ItemIndex
    kinds: npt.NDArray[np.uint8]  # (N,) words.KIND_CODES
    times: Ints  # (N,) milliseconds since 1970 UTC, NO_TIME where unknown
    dwell: Floats  # (N,) log1p(seconds), clipped at MAX_DWELL_S; 0 where unknown
    prices: Floats  # (N,) log1p(price in minor units); 0 where unknown

    def __len__(self) -> int:
        return len(self.users)

    @property
    def lengths(self) -> Ints:
        """(U,) events per user."""
        return np.diff(self.offsets)

    @property
    def gaps(self) -> Floats:
        """(N,) log1p(seconds since the user's previous event); 0 for the first or unknown times."""
        gap = np.zeros(len(self.items), dtype=np.float32)
        if len(gap) > 1:
            seconds = np.diff(self.times) / 1000.0
            known = (self.times[1:] != NO_TIME) & (self.times[:-1] != NO_TIME)
            gap[1:] = np.where(known, np.log1p(np.maximum(seconds, 0.0)), 0.0)
        starts = self.offsets[:-1][self.lengths > 0]
        gap[starts] = 0.0
        return gap

    def user(self, row: int) -> slice:
        """The flat rows of user `row`."""
        return slice(int(self.offsets[row]), int(self.offsets[row + 1]))

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> "Sequences":
        """The users at `rows`, in that order (rows may repeat)."""
        lengths = self.lengths[rows]
        flat = _ranges(self.offsets[:-1][rows], lengths)
        return self._flat([self.users[row] for row in rows], lengths, flat)

    def slice_events(self, starts: Ints, ends: Ints) -> "Sequences":
        """Same users; of each, only its flat rows starts[u]:ends[u]."""
        lengths = np.maximum(ends - starts, 0)
        return self._flat(self.users, lengths, _ranges(starts, lengths))

    def last(self, count: int) -> "Sequences":
        """Same users, at most the `count` newest events of each."""
        ends = self.offsets[1:]
        return self.slice_events(np.maximum(self.offsets[:-1], ends - count), ends)

    def _flat(self, users: list[str], lengths: Ints, flat: Ints) -> "Sequences":
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        values = {
            f.name: getattr(self, f.name)[flat]
            for f in fields(self)
            if f.name not in ("users", "offsets")
        }
        return Sequences(users=users, offsets=offsets, **values)


def _ranges(starts: Ints, lengths: Ints) -> Ints:
    """Concatenate starts[i] .. starts[i] + lengths[i] - 1."""
    total = int(lengths.sum())
    if total == 0:
        return np.zeros(0, dtype=np.int64)
    ends = np.cumsum(lengths)
    flat: Ints = np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - lengths), lengths)
    return flat


def pack(
    users: list[str],
    lengths: npt.ArrayLike,
    items: npt.ArrayLike,
    *,
    kinds: npt.ArrayLike | None = None,
    times: npt.ArrayLike | None = None,
    dwell_ms: npt.ArrayLike | None = None,
    price_minor: npt.ArrayLike | None = None,
) -> Sequences:
    """Build Sequences from raw event values: the only place where features of events are computed.

    Args:
        users: U outside ids.
        lengths: (U,) events of each.
        items: (N,) ItemIndex, users end to end, oldest first.
        kinds: (N,) codes of words.KIND_CODES; default view.
        times: (N,) ms since 1970; default unknown.
        dwell_ms: (N,) float, nan or negative where unknown.
        price_minor: (N,) float, nan or negative where unknown.
    """
    flat = np.asarray(items, dtype=np.int32)
    count = len(flat)
    offsets = np.concatenate([[0], np.cumsum(np.asarray(lengths, dtype=np.int64))]).astype(np.int64)
    if int(offsets[-1]) != count:
        raise ValueError(f"lengths add up to {int(offsets[-1])}, but there are {count} events")
    dwell = np.zeros(count) if dwell_ms is None else np.asarray(dwell_ms, dtype=np.float64)
    price = np.zeros(count) if price_minor is None else np.asarray(price_minor, dtype=np.float64)
    dwell_s = np.clip(np.nan_to_num(dwell, nan=0.0) / 1000.0, 0.0, MAX_DWELL_S)
    return Sequences(
        users=users,
        offsets=offsets,
        items=flat,
        kinds=np.zeros(count, np.uint8) if kinds is None else np.asarray(kinds, dtype=np.uint8),
        times=np.full(count, NO_TIME, np.int64)
        if times is None
        else np.asarray(times, dtype=np.int64),
        dwell=np.log1p(dwell_s).astype(np.float32),
        prices=np.log1p(np.maximum(np.nan_to_num(price, nan=0.0), 0.0)).astype(np.float32),
    )


@dataclass(frozen=True)
class Examples:
    """What to predict: E histories, each with the set of items that came after it.

    Example e's targets are target_items[target_offsets[e]:target_offsets[e + 1]], in time order;
    the first one is *the* next item. An example always has at least one target.
    """

    histories: Sequences  # E of them (may be empty sequences: new users)
    target_offsets: Ints  # (E + 1,)
    target_items: npt.NDArray[np.int32]  # (T,) ItemIndex

    def __len__(self) -> int:
        return len(self.histories)

    @property
    def first_targets(self) -> npt.NDArray[np.int32]:
        """(E,) the next item of each example."""
        return self.target_items[self.target_offsets[:-1]]
