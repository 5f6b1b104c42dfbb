"""Users and items that join after training: what a model makes of them without learning again.

A tenth of the users and a tenth of the items are taken out before a model learns. Then the graph
grows (`GraphModel.grown`): new users bring their events but for a fifth, new items bring half of
their users. Asked are the rest of the new users' items among all items, and the new items' other
users, among the new items. Beside it stand the same model learned on the grown graph, which is what
not learning again costs, and popularity there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from shopkeeper.errors import InputError
from shopkeeper.evaluation.metrics import measure
from shopkeeper.features.items import ItemTable
from shopkeeper.features.sequences import Examples, Floats, Ints, Sequences, Vocabulary
from shopkeeper.models.popularity import Popularity
from shopkeeper.models.protocol import Model, Progress, TrainingData, no_progress

SHARE = 0.1  # of users, and of items
ASKED_OF_USERS = 0.2  # of a new user's events
ASKED_OF_ITEMS = 0.5  # of a new item's events
LEAST = 5  # events of a user or item that may be new


class Grows(Model, Protocol):
    """A model that takes new users and items in without learning."""

    def grown(self, sequences: Sequences, items: ItemTable) -> Self:
        """The model on the grown graph; known items come first in `items`."""
        ...


@dataclass(frozen=True)
class Newcomers:
    """What was there, what there is now, and what is asked."""

    learned: Sequences  # known users and items alone
    known: ItemTable
    grown: Sequences
    items: ItemTable  # the known ones first
    users: Examples  # of new users
    new_items: Examples  # known users' events with new items


def newcomers(sequences: Sequences, items: ItemTable, seed: int = 7) -> Newcomers:
    """Cut `sequences`, the same way for the same seed. InputError where too few users or items have five events."""
    rng = np.random.default_rng(seed)
    counts = np.bincount(sequences.items, minlength=len(items))
    new_user, new_item = (_drawn(count, rng) for count in (sequences.lengths, counts))
    order = np.concatenate([np.flatnonzero(~new_item), np.flatnonzero(new_item)])
    place = np.empty(len(items), dtype=np.int64)
    place[order] = np.arange(len(items))
    owner = np.repeat(np.arange(len(sequences)), sequences.lengths)
    draw = rng.random(len(owner))
    of_user, of_item = new_user[owner], new_item[sequences.items]
    asked_user = of_user & ~of_item & (draw < ASKED_OF_USERS)
    asked_item = ~of_user & of_item & (draw < ASKED_OF_ITEMS)
    there = ~asked_user & ~asked_item
    moved = _with_items(sequences, place[sequences.items].astype(np.int32))
    whole = _kept(moved, there)
    table, known = _rows(items, order), int((~new_item).sum())
    return Newcomers(
        learned=_kept(moved, ~of_user & ~of_item),
        known=_rows(items, order[:known]),
        grown=whole,
        items=table,
        users=_examples(moved, whole, asked_user),
        new_items=_examples(moved, whole, asked_item),
    )


def measure_newcomers(
    kind: Callable[[], Grows],
    cut: Newcomers,
    *,
    settings: Mapping[str, Any] | None = None,
    seed: int = 1,
    k: int = 20,
    progress: Progress = no_progress,
) -> dict[str, dict[str, float]]:
    """recall@k and NDCG@k of new users and of new items, by "grown", "learned again", "popularity"."""
    chosen = dict(settings or {})
    first = kind()
    first.fit(TrainingData(cut.learned, cut.known, seed=seed, threads=1, settings=chosen, progress=progress))  # fmt: skip
    grown = first.grown(cut.grown, cut.items)
    again, popular = kind(), Popularity()
    for model in (again, popular):
        model.fit(TrainingData(cut.grown, cut.items, seed=seed, threads=1, settings=chosen))
    known = len(cut.known)

    def told(model: Model) -> dict[str, float]:
        def among_new(histories: Sequences) -> Floats:
            scores = np.array(model.scores(histories))
            scores[:, :known] = -np.inf
            return scores

        found = {}
        for part, some, score in (
            ("new users", cut.users, model.scores),
            ("new items", cut.new_items, among_new),
        ):
            metrics = measure(score, some, (k,), exclude_seen=True, groups=False).metrics
            for name in ("recall", "NDCG"):
                found[f"{name}@{k}, {part}"] = round(metrics[f"{name}@{k}"], 6)
        return found

    return {"grown": told(grown), "learned again": told(again), "popularity": told(popular)}


def _drawn(counts: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    able = np.flatnonzero(counts >= LEAST)
    if len(able) < 2 / SHARE:
        raise InputError(
            f"{len(able)} users or items have {LEAST} events; wanted at least {int(2 / SHARE)}",
            where="newcomers",
            next="collect more events first",
        )
    new = np.zeros(len(counts), dtype=bool)
    new[rng.choice(able, int(SHARE * len(able)), replace=False)] = True
    return new


def _kept(sequences: Sequences, keep: npt.NDArray[np.bool_]) -> Sequences:
    """Users who keep at least one event, with the events kept."""
    owner = np.repeat(np.arange(len(sequences)), sequences.lengths)[keep]
    lengths = np.bincount(owner, minlength=len(sequences))
    flat: Ints = np.flatnonzero(keep)
    left = Sequences(
        users=sequences.users,
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=sequences.items[flat],
        kinds=sequences.kinds[flat],
        times=sequences.times[flat],
        dwell=sequences.dwell[flat],
        prices=sequences.prices[flat],
    )
    return left.take(np.flatnonzero(lengths > 0))


def _with_items(sequences: Sequences, items: npt.NDArray[np.int32]) -> Sequences:
    return Sequences(
        sequences.users, sequences.offsets, items, sequences.kinds, sequences.times,
        sequences.dwell, sequences.prices,
    )  # fmt: skip


def _examples(sequences: Sequences, there: Sequences, asked: npt.NDArray[np.bool_]) -> Examples:
    """What is asked of each user who has a history left; an item already there is not asked for."""
    row = {user: n for n, user in enumerate(there.users)}
    owner = np.repeat(np.arange(len(sequences)), sequences.lengths)
    users, targets = [], []
    for user in np.unique(owner[asked]):
        if sequences.users[user] not in row:
            continue
        at = row[sequences.users[user]]
        own = sequences.items[sequences.user(user)][asked[sequences.user(user)]]
        own = np.setdiff1d(own, there.items[there.user(at)])
        if len(own):
            users.append(at)
            targets.append(own)
    offsets = np.concatenate([[0], np.cumsum([len(own) for own in targets])]).astype(np.int64)
    flat = np.concatenate(targets).astype(np.int32)
    return Examples(there.take(np.asarray(users, dtype=np.int64)), offsets, flat)


def _rows(items: ItemTable, rows: Ints) -> ItemTable:
    """The items at `rows`, in that order."""
    tags = [items.tags[items.tag_offsets[row] : items.tag_offsets[row + 1]] for row in rows]
    return ItemTable(
        vocabulary=Vocabulary([items.vocabulary.ids[row] for row in rows]),
        tag_offsets=np.concatenate([[0], np.cumsum([len(own) for own in tags])]).astype(np.int64),
        tags=np.concatenate(tags).astype(np.int32) if tags else items.tags[:0],
        tag_names=items.tag_names,
        numbers=items.numbers[rows],
        number_names=items.number_names,
        text=[items.text[row] for row in rows],
    )
