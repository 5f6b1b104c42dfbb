"""Items that nobody has met: recommended by what else is known of them.

A share of the items that people met is drawn and taken out of every history. What is left is learned
from, its newest events chosen on. Asked is every first event of a person with a taken-out item: the
history is what the person did before it, taken-out items left out; the item is to be found among
all that were taken out (a list of new arrivals) and among the whole catalogue.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shopkeeper.errors import InputError
from shopkeeper.evaluation.metrics import measure
from shopkeeper.evaluation.splits import leave_one_out
from shopkeeper.features.sequences import Examples, Floats, Sequences

Score = Callable[[Sequences], Floats]  # histories of B users -> (B, M)


@dataclass(frozen=True)
class ColdStart:
    """What may be learned from, and what is asked."""

    new: npt.NDArray[np.bool_]  # (M,) taken out
    train: Sequences  # nothing of a new item is in it
    validation: Examples  # likewise
    test: Examples  # every target is a new item, no history has one


def take_out(
    sequences: Sequences,
    items: int,
    *,
    share: float = 0.1,
    least: int = 5,
    most: int = 20_000,
    seed: int = 0,
) -> ColdStart:
    """Draw `share` of the items with at least `least` events; at most `most` examples, by chance.

    InputError: too few items or events for that.
    """
    counts = np.bincount(sequences.items, minlength=items)
    able = np.flatnonzero(counts >= least)
    rng = np.random.default_rng(seed)
    drawn = rng.permutation(able)[: round(share * len(able))]
    if len(drawn) < 2:
        raise InputError(f"{len(able):,} items have {least} events; too few to take some out")
    new = np.zeros(items, dtype=np.bool_)
    new[drawn] = True
    owner = np.repeat(np.arange(len(sequences)), sequences.lengths)
    is_new = new[sequences.items]
    known = _only(sequences, owner, ~is_new)
    # flat rows of first events with a new item, and how many known events of the owner came before
    so_far = np.concatenate([[0], np.cumsum(~is_new)]).astype(np.int64)
    before = so_far[:-1] - so_far[sequences.offsets[:-1]][owner]  # (N,)
    flat = np.flatnonzero(is_new & (before > 0))
    _, first = np.unique(np.stack([owner[flat], sequences.items[flat]]), axis=1, return_index=True)
    asked = np.sort(rng.permutation(flat[first])[:most])
    if not len(asked):
        raise InputError("nobody met a new item after another one; there is nothing to ask")
    whole = known.take(owner[asked])
    test = Examples(
        whole.slice_events(whole.offsets[:-1], whole.offsets[:-1] + before[asked]),
        np.arange(len(asked) + 1, dtype=np.int64),
        sequences.items[asked],
    )
    split = leave_one_out(known)
    return ColdStart(new, _without_validation(known, split.validation), split.validation, test)


def score_new(score: Score, cut: ColdStart) -> dict[str, float]:
    """HR@10 and NDCG@10 among the new items ("new ...") and the whole catalogue ("all ...").

    Items of the same score stand in an order drawn by chance: a rule that knows nothing of new items
    scores what chance does.
    """
    drawn = np.random.default_rng(0).permutation(len(cut.new))

    def among_all(histories: Sequences) -> Floats:
        order = drawn[np.argsort(-score(histories)[:, drawn], axis=1, kind="stable")]
        places = np.empty(order.shape, dtype=np.float32)
        np.put_along_axis(places, order, -np.arange(order.shape[1], dtype=np.float32)[None], axis=1)
        return places

    def among_new(histories: Sequences) -> Floats:
        return np.where(cut.new, among_all(histories), -np.inf).astype(np.float32)

    found: dict[str, float] = {}
    for name, ask in (("new", among_new), ("all", among_all)):
        metrics = measure(ask, cut.test, (10,), exclude_seen=False, groups=False).metrics
        found |= {f"{name} {key}": metrics[key] for key in ("HR@10", "NDCG@10")}
    found["chance HR@10"] = min(1.0, 10.0 / int(cut.new.sum()))
    return found


def _only(sequences: Sequences, owner: npt.NDArray[np.int64], keep: npt.NDArray[np.bool_]) -> Sequences:  # fmt: skip
    lengths = np.bincount(owner[keep], minlength=len(sequences))
    return Sequences(
        users=sequences.users,
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=sequences.items[keep],
        kinds=sequences.kinds[keep],
        times=sequences.times[keep],
        dwell=sequences.dwell[keep],
        prices=sequences.prices[keep],
    )


def _without_validation(known: Sequences, validation: Examples) -> Sequences:
    """`known`, of the people asked in validation only what came before."""
    lengths = dict(
        zip(validation.histories.users, validation.histories.lengths.tolist(), strict=True)
    )
    starts, ends = known.offsets[:-1], known.offsets[1:].copy()
    for row, user in enumerate(known.users):
        if user in lengths:
            ends[row] = starts[row] + lengths[user]
    left = known.slice_events(starts, ends)
    return left.take(np.flatnonzero(left.lengths > 0))
