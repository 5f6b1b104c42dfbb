"""Sequences -> what to train on, what to choose on, what to test on.

The primary split is by time: one instant for all users, so that nothing a model learned from
happened after anything it is asked. Leave-one-out is for comparison with papers only: there, one
user's training events may be newer than another's test event.

    time_split        ---- train ----|val_from -- validation --|test_from -- test --
    validation        history: before val_from      targets: what came in [val_from, test_from)
    test              history: before test_from     targets: what came from test_from on
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shopkeeper.errors import InputError
from shopkeeper.features.sequences import NO_TIME, Examples, Ints, Sequences


@dataclass(frozen=True)
class Split:
    """One way to train and test. Instants are ms since 1970 UTC; None for leave-one-out."""

    by: str  # "time" or "leave_one_out"
    train: Sequences  # users with at least one event to learn from
    validation: Examples
    test: Examples
    validation_from: int | None = None
    test_from: int | None = None

    def card(self) -> dict[str, Any]:
        """What was kept for what, for reports and for the catalogue."""
        return {
            "by": self.by,
            "train_users": len(self.train),
            "train_events": len(self.train.items),
            "validation_users": len(self.validation),
            "validation_targets": len(self.validation.target_items),
            "test_users": len(self.test),
            "test_targets": len(self.test.target_items),
            "test_new_users": int((self.test.histories.lengths == 0).sum()),
            "validation_from_ms": self.validation_from,
            "test_from_ms": self.test_from,
        }


def time_split(
    sequences: Sequences,
    test_share: float = 0.1,
    validation_share: float = 0.1,
    *,
    repeats: bool = True,
) -> Split:
    """Split all users at two global instants.

    The test takes the newest `test_share` of all events, the validation the newest
    `validation_share` of what is before. Events of one instant stay together, on the newer side,
    so the shares may be exceeded. A user without events before the instant is a new user: an
    example with an empty history. A user without events after it is no example.

    Args:
        repeats: False drops targets that are already in the example's history.
    Raises:
        InputError: an event has no time; a user's events are out of order; all events stand at
            too few instants to cut; a share is outside (0, 1).
    """
    for name, share in (("test_share", test_share), ("validation_share", validation_share)):
        if not 0 < share < 1:
            raise InputError(f"{name} = {share}; wanted a share above 0 and below 1")
    times = sequences.times
    if len(times) == 0:
        raise InputError("there are no events to split", next="collect events first")
    if unknown := int((times == NO_TIME).sum()):
        what = (
            "no event has a time"
            if unknown == len(times)
            else f"{unknown:,} events of {len(times):,} have no time"
        )
        raise InputError(
            f"{what}, so nothing can be said to come before or after one instant",
            where="split by time",
            next='map a time column to `ts`, or set by = "leave_one_out" under [split]',
        )
    _in_order(sequences)
    ordered = np.sort(times)
    test_from = _cut(ordered, test_share, 2)
    before = ordered[: np.searchsorted(ordered, test_from)]
    validation_from = _cut(before, validation_share, 1)
    starts, ends = sequences.offsets[:-1], sequences.offsets[1:]
    at_validation = starts + _count_before(sequences, validation_from)
    at_test = starts + _count_before(sequences, test_from)
    return Split(
        by="time",
        train=_present(sequences.slice_events(starts, at_validation)),
        validation=examples(sequences, at_validation, at_test, repeats=repeats),
        test=examples(sequences, at_test, ends, repeats=repeats),
        validation_from=validation_from,
        test_from=test_from,
    )


def leave_one_out(sequences: Sequences, *, min_events: int = 3) -> Split:
    """The papers' split: a user's last event is the test, the one before it the validation.

    Needs no times: order is enough. Users with fewer than `min_events` (at least 3) are trained
    on whole and not asked about.
    """
    if min_events < 3:
        raise InputError(
            f"min_events = {min_events}; wanted at least 3, one each for train, validation and test"
        )
    starts, ends = sequences.offsets[:-1], sequences.offsets[1:]
    asked = sequences.lengths >= min_events
    if not asked.any():
        raise InputError(
            f"no user has {min_events} events, so nobody can be asked about",
            where="split leave-one-out",
            next="collect more events per user",
        )
    known = np.where(asked, ends - 2, ends)
    (rows,) = np.nonzero(asked)
    some = sequences.take(rows)
    last = some.offsets[1:]
    return Split(
        by="leave_one_out",
        train=_present(sequences.slice_events(starts, known)),
        validation=examples(some, last - 2, last - 1),
        test=examples(some, last - 1, last),
    )


def examples(sequences: Sequences, at: Ints, until: Ints, *, repeats: bool = True) -> Examples:
    """Ask about each user's flat rows at[u]:until[u], knowing the rows before at[u].

    Targets are distinct, in order of first appearance. Users with nothing to ask are left out.

    Args:
        at, until: (U,) flat rows, offsets[u] <= at[u] <= until[u] <= offsets[u + 1].
        repeats: False drops targets that the history already holds.
    """
    asked = sequences.slice_events(at, until)
    user = np.repeat(np.arange(len(sequences), dtype=np.int64), asked.lengths)
    width = int(sequences.items.max(initial=0)) + 1
    key = user * width + asked.items
    _, first = np.unique(key, return_index=True)
    keep = np.zeros(len(key), dtype=np.bool_)
    keep[first] = True
    known = sequences.slice_events(sequences.offsets[:-1], at)
    if not repeats:
        owner = np.repeat(np.arange(len(sequences), dtype=np.int64), known.lengths)
        keep &= ~np.isin(key, owner * width + known.items)
    count = np.bincount(user[keep], minlength=len(sequences))
    (rows,) = np.nonzero(count)
    return Examples(
        histories=known.take(rows),
        target_offsets=np.concatenate([[0], np.cumsum(count[rows])]).astype(np.int64),
        target_items=asked.items[keep],
    )


def sample(some: Examples, count: int, seed: int) -> Examples:
    """At most `count` of the examples, drawn without replacement, in their old order."""
    if count >= len(some):
        return some
    rows = np.sort(np.random.default_rng(seed).choice(len(some), size=count, replace=False))
    return take(some, rows)


def take(some: Examples, rows: npt.NDArray[np.integer[Any]]) -> Examples:
    """The examples at `rows`, in that order."""
    lengths = np.diff(some.target_offsets)[rows]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    flat = np.arange(offsets[-1]) + np.repeat(
        some.target_offsets[:-1][rows] - offsets[:-1], lengths
    )
    return Examples(some.histories.take(rows), offsets, some.target_items[flat])


def _cut(ordered: Ints, share: float, older: int) -> int:
    """The instant from which the newest `share` of the ordered times begins.

    At least `older` distinct instants are left before it, for what stands there.
    """
    instants = np.unique(ordered)
    if len(instants) <= older:
        raise InputError(
            f"{len(ordered):,} events stand at {len(instants)} instants; wanted at least {older + 1}, "
            "one each for train, validation and test",
            where="split by time",
            next='collect events over a longer time, or set by = "leave_one_out" under [split]',
        )
    at = ordered[min(int(np.floor(len(ordered) * (1 - share))), len(ordered) - 1)]
    return int(max(at, instants[older]))


def _count_before(sequences: Sequences, instant: int) -> Ints:
    """(U,) events of each user before `instant`."""
    before: Ints = np.zeros(len(sequences.times) + 1, dtype=np.int64)
    np.cumsum(sequences.times < instant, out=before[1:])
    return before[sequences.offsets[1:]] - before[sequences.offsets[:-1]]


def _present(sequences: Sequences) -> Sequences:
    (rows,) = np.nonzero(sequences.lengths)
    return sequences if len(rows) == len(sequences) else sequences.take(rows)


def _in_order(sequences: Sequences) -> None:
    """InputError where a user's events are not oldest first."""
    falls = np.diff(sequences.times) < 0
    inner = sequences.offsets[1:-1]
    falls[inner[(inner > 0) & (inner < len(sequences.times))] - 1] = False
    if falls.any():
        row = int(np.searchsorted(sequences.offsets, np.argmax(falls), side="right")) - 1
        raise InputError(
            "events are not oldest first",
            where=f"user {sequences.users[row]!r}",
            next="sort events by user and time before packing them",
        )
