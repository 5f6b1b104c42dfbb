"""How good are a model's lists? Every metric over the full catalogue, no sampled negatives.

`measure` asks a score function about examples chunk by chunk (a chunk's score matrix is at most
`MATRIX_BYTES`), so 25,000 users times 100,000 items never stand in memory together.

Per example with targets T (|T| >= 1), list L of length K, hits = |T & L[:K]|, averaged over
examples:

    HR@K         1 if hits > 0
    recall@K     hits / |T|
    precision@K  hits / K
    f1@K         2 P R / (P + R) of that example, 0 without a hit
    NDCG@K       sum over hits of 1 / log2(rank + 1), over the same sum of min(|T|, K) perfect ranks
    MRR@K        1 / rank of the first hit
    MAP@K        sum over hits of precision at that hit's rank, over min(|T|, K)

Of the top-1 prediction against the next item (the first target), items as classes, as
scikit-learn's average="weighted" does it (support_c: examples whose next item is c):

    accuracy         share of examples predicted right
    recall_weighted  sum_c support_c / E * right_c / support_c, which is equal to accuracy
    f1_weighted      sum_c support_c / E * 2 right_c / (support_c + predicted_c)

Of the lists alone:

    coverage@K   share of the catalogue that stands in any list
    gini@K       inequality of exposure over the catalogue: 0 all items shown alike, near 1 one item
    novelty@K    mean over shown items of log((N + M) / (n_i + 1)) / log(N + M), where item i has
                 n_i of N training events and M is the catalogue: 1 for never-seen items, 0 for one
                 item that has everything
    diversity@K  mean over lists of 1 - mean pairwise Jaccard similarity of the items' tags; items
                 without tags are left out, lists with fewer than two tagged items too, and where
                 that leaves less than half of the lists, there is no such figure

Ties count against the model: a target ranks behind every other item of equal score, and tied
targets rank among themselves by lower index. So a model that scores everything equal scores 0, and
a hit here is always in the list that `models.protocol.top` (ties to the lower index) would serve.
An item scored -inf is never in a list. NaN scores are refused.

Groups measure a part apart: `users_new` (empty history) and `users_returning`; `items_head` (the
fifth of the catalogue with most training events), `items_tail` (the rest), `items_cold` (no
training event); `targets_seen` (in the example's own history) and `targets_unseen`. In a group of
items only its targets count as targets, and only examples that have one are averaged.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from shopkeeper.errors import InputError
from shopkeeper.features.items import ItemTable
from shopkeeper.features.sequences import Examples, Floats, Ints, Sequences
from shopkeeper.models.protocol import Progress, no_progress, top

Score = Callable[[Sequences], Floats]  # histories -> (B, M), as Model.scores
Flags = npt.NDArray[np.bool_]

KS = (1, 5, 10, 20)
MATRIX_BYTES = 16 * 2**20  # of one chunk's score matrix
MAX_CHUNK = 1024  # examples
HEAD_SHARE = 0.2  # of the catalogue
MISSED = np.iinfo(np.int64).max  # the rank of a target that is in no list
LIST_METRICS = ("HR", "NDCG", "MRR", "MAP", "recall", "precision", "f1")


@dataclass(frozen=True)
class Evaluation:
    """What `measure` found, and under which rules."""

    metrics: dict[str, float]  # fractions
    per_user: dict[str, Floats]  # (E,) the example's own value, for intervals and differences
    groups: dict[str, dict[str, float]]  # name -> count and metrics
    examples: int
    items: int
    ks: tuple[int, ...]
    exclude_seen: bool
    seconds: float
    predicted: npt.NDArray[np.int32] = field(repr=False)  # (E,) top-1, -1 where the list is empty
    ties: str = "against the model"

    def as_dict(self) -> dict[str, Any]:
        """JSON: everything but the arrays."""
        return {
            "metrics": self.metrics,
            "groups": self.groups,
            "examples": self.examples,
            "items": self.items,
            "ks": list(self.ks),
            "exclude_seen": self.exclude_seen,
            "ties": self.ties,
            "seconds": round(self.seconds, 3),
        }


def measure(
    score: Score,
    examples: Examples,
    ks: Sequence[int] = KS,
    *,
    exclude_seen: bool,
    exclude_kinds: Sequence[int] = (),
    counts: npt.ArrayLike | None = None,
    items: ItemTable | None = None,
    groups: bool = True,
    progress: Progress = no_progress,
) -> Evaluation:
    """All metrics of a score function over all examples and the full catalogue.

    Args:
        score: histories of B users -> (B, M); `model.scores`.
        examples: E of them; a target may stand only once in an example.
        ks: list lengths, each >= 1.
        exclude_seen: True scores the items of the history -inf first, as the papers do (a target
            among them is then a miss). False for shops where people buy the same again.
        exclude_kinds: score -inf what the history has by these kinds of behaviour (codes) alone.
        counts: (M,) training events of each item; without it no novelty and no item groups.
        items: their tags; without it (or without tags) no diversity.
        groups: False skips the groups.
    Raises:
        InputError: no examples, a bad K, a repeated target, a target outside the catalogue, NaN or
            wrongly shaped scores.
    """
    began = time.perf_counter()
    ks = tuple(sorted(set(ks)))
    _check(examples, ks)
    width = max(ks)
    popularity = None if counts is None else np.asarray(counts, dtype=np.float64)
    ranks = np.full(len(examples.target_items), MISSED, dtype=np.int64)
    predicted = np.full(len(examples), -1, dtype=np.int32)
    lists = np.full((len(examples), width), -1, dtype=np.int32)
    catalogue = 0
    at, step = 0, 1
    while at < len(examples):
        end = min(at + step, len(examples))
        flat = slice(int(examples.target_offsets[at]), int(examples.target_offsets[end]))
        histories = examples.histories.take(np.arange(at, end))
        scores = _scores(score, histories, at, exclude_seen, exclude_kinds)
        catalogue = scores.shape[1]
        targets = examples.target_items[flat]
        if len(targets) and int(targets.max()) >= catalogue:
            raise InputError(
                f"target {int(targets.max())} is outside the catalogue of {catalogue:,} scored items"
            )
        owner = np.repeat(np.arange(end - at), np.diff(examples.target_offsets[at : end + 1]))
        shown, values = top(scores, width + 1)
        lists[at:end] = shown[:, :width]
        ranks[flat] = _ranks(scores, values, owner, targets)
        predicted[at:end] = _top_one(shown, values, examples.first_targets[at:end])
        at = end
        step = max(1, min(MAX_CHUNK, MATRIX_BYTES // (4 * max(catalogue, 1))))
        progress(at, len(examples), "measuring")
    ranks[ranks > width] = MISSED
    found = _Found(examples, ranks, predicted, lists, catalogue, ks)
    per_user = _per_example(ranks, examples.target_offsets, ks)
    per_user["accuracy"] = (predicted == examples.first_targets).astype(np.float32)
    metrics = {key: float(np.mean(values, dtype=np.float64)) for key, values in per_user.items()}
    metrics |= weighted(examples.first_targets, predicted)
    metrics |= _of_lists(found, popularity, items)
    return Evaluation(
        metrics=metrics,
        per_user=per_user,
        groups=_groups(found, per_user, popularity) if groups else {},
        examples=len(examples),
        items=catalogue,
        ks=ks,
        exclude_seen=exclude_seen,
        seconds=time.perf_counter() - began,
        predicted=predicted,
    )


def weighted(truth: npt.NDArray[np.int32], predicted: npt.NDArray[np.int32]) -> dict[str, float]:
    """recall_weighted and f1_weighted of top-1 predictions; formulas at the top of this file.

    Args:
        truth: (E,) the next item, E >= 1.
        predicted: (E,) the predicted one, -1 for none.
    """
    size = int(max(truth.max(), predicted.max())) + 1
    support = np.bincount(truth, minlength=size).astype(np.float64)
    guessed = np.bincount(predicted[predicted >= 0], minlength=size)
    right = np.bincount(truth[truth == predicted], minlength=size)
    share = support / len(truth)
    asked = support > 0
    recall = right[asked] / support[asked]
    f1 = 2 * right[asked] / (support[asked] + guessed[asked])
    return {
        "recall_weighted": float(share[asked] @ recall),
        "f1_weighted": float(share[asked] @ f1),
    }


def gini(exposure: npt.ArrayLike) -> float:
    """Gini coefficient of non-negative amounts: 0 where all are equal, (n - 1) / n for one has all."""
    amounts = np.sort(np.asarray(exposure, dtype=np.float64))
    if len(amounts) == 0 or amounts[-1] == 0:
        return 0.0
    n = len(amounts)
    rank = np.arange(1, n + 1)
    return float((2 * rank - n - 1) @ amounts / (n * amounts.sum()))


@dataclass(frozen=True)
class _Found:
    examples: Examples
    ranks: Ints  # (T,)
    predicted: npt.NDArray[np.int32]  # (E,)
    lists: npt.NDArray[np.int32]  # (E, max K), -1 where shorter
    catalogue: int
    ks: tuple[int, ...]


def _check(examples: Examples, ks: tuple[int, ...]) -> None:
    if len(examples) == 0:
        raise InputError(
            "there are no examples to measure on",
            next="collect more events, or split with a larger test_share",
        )
    if not ks or ks[0] < 1:
        raise InputError(f"ks = {list(ks)}; wanted list lengths of at least 1")
    lengths = np.diff(examples.target_offsets)
    if (lengths < 1).any():
        raise InputError(
            f"example {int(np.argmin(lengths))} has no target; every example needs one"
        )
    owner = np.repeat(np.arange(len(examples), dtype=np.int64), lengths)
    key = owner * (int(examples.target_items.max()) + 1) + examples.target_items
    if len(np.unique(key)) < len(key):
        raise InputError("a target stands twice in one example; targets are a set")


def _scores(
    score: Score, histories: Sequences, at: int, exclude_seen: bool, kinds: Sequence[int]
) -> Floats:
    """(B, M) scores of one chunk, seen items at -inf where they are excluded."""
    scores = np.asarray(score(histories), dtype=np.float32)
    if scores.ndim != 2 or len(scores) != len(histories):
        raise InputError(f"scores have shape {scores.shape}; wanted ({len(histories)}, items)")
    wrong = np.isnan(scores.max(axis=1, initial=-np.inf))  # a NaN makes its row's maximum NaN
    if wrong.any():
        raise InputError(
            f"the model scored NaN for example {at + int(np.argmax(wrong))}; a score is a number or -inf"
        )
    if (exclude_seen or kinds) and len(histories.items):
        scores = np.array(scores)
        rows = np.repeat(np.arange(len(histories)), histories.lengths)
        out = np.isin(histories.kinds, kinds) | exclude_seen
        scores[rows[out], histories.items[out]] = -np.inf
    return scores


def _ranks(scores: Floats, values: Floats, owner: Ints, targets: npt.NDArray[np.int32]) -> Ints:
    """(T,) rank of each target, 1 best, ties against it; MISSED where surely beyond the list.

    Args:
        scores: (B, M).
        values: (B, W) the largest scores of each row, W > the longest list, -inf where fewer.
        owner, targets: (T,) row and item of each target.
    """
    ranks = np.full(len(targets), MISSED, dtype=np.int64)
    own = scores[owner, targets]
    (near,) = np.nonzero((own >= values[owner, -1]) & ~np.isneginf(own))
    if len(near) == 0:
        return ranks
    row, item, value = owner[near], targets[near], own[near]
    at_least = (values[row] >= value[:, None]).sum(axis=1)  # complete above the last listed value
    (edge,) = np.nonzero((value == values[row, -1]) & (values.shape[1] < scores.shape[1]))
    for one in np.unique(row[edge]):
        there = edge[row[edge] == one]
        at_least[there] = np.count_nonzero(scores[one] >= values[one, -1])
    # of the targets tied with this one, those with a higher index stand behind it
    order = np.lexsort((item, value, row))
    same = (row[order][1:] == row[order][:-1]) & (value[order][1:] == value[order][:-1])
    last = np.append(~same, True)  # last of its tie group
    position = np.arange(len(order))
    group_end = np.minimum.accumulate(np.where(last, position, len(order))[::-1])[::-1]
    behind = np.empty(len(order), dtype=np.int64)
    behind[order] = group_end - position
    ranks[near] = at_least - behind
    return ranks


def _top_one(
    shown: npt.NDArray[np.int32], values: Floats, target: npt.NDArray[np.int32]
) -> npt.NDArray[np.int32]:
    """(B,) the predicted next item: the best one, and where the target ties with others, another."""
    predicted = shown[:, 0].copy()
    if shown.shape[1] > 1:
        tied = (predicted == target) & (values[:, 0] == values[:, 1]) & (shown[:, 1] >= 0)
        predicted[tied] = shown[tied, 1]
    return predicted


def _per_example(ranks: Ints, offsets: Ints, ks: tuple[int, ...]) -> dict[str, Floats]:
    """The list metrics of each example from its targets' ranks; every example has a target."""
    lengths = np.diff(offsets)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    (hit,) = np.nonzero(ranks <= max(ks))
    hit = hit[np.lexsort((ranks[hit], owner[hit]))]  # an example's hits, best rank first
    who, rank = owner[hit], ranks[hit].astype(np.float64)
    begins = np.searchsorted(who, who)
    precision_there = (np.arange(len(hit)) - begins + 1) / rank
    gain = 1 / np.log2(rank + 1)
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, max(ks) + 2)))])
    users = len(lengths)
    made: dict[str, Floats] = {}
    for k in ks:
        within = rank <= k
        mine = who[within]
        hits = _summed(mine, np.ones(len(mine)), users)
        best = np.zeros(users)
        leads = within & (np.arange(len(hit)) == begins)
        best[who[leads]] = 1 / rank[leads]
        possible = np.minimum(lengths, k)
        recall, precision = hits / lengths, hits / k
        both = np.where(hits > 0, precision + recall, 1.0)
        values = (
            (hits > 0).astype(np.float64),
            _summed(mine, gain[within], users) / ideal[possible],
            best,
            _summed(mine, precision_there[within], users) / possible,
            recall,
            precision,
            2 * precision * recall / both,
        )
        for name, value in zip(LIST_METRICS, values, strict=True):
            made[f"{name}@{k}"] = value.astype(np.float32)
    return made


def _summed(who: Ints, values: npt.NDArray[np.float64], users: int) -> npt.NDArray[np.float64]:
    """(users,) sum of the values of each."""
    return np.asarray(np.bincount(who, values, users), dtype=np.float64)


def _of_lists(
    found: _Found, counts: npt.NDArray[np.float64] | None, items: ItemTable | None
) -> dict[str, float]:
    made: dict[str, float] = {}
    if counts is not None and len(counts) != found.catalogue:
        raise InputError(
            f"counts has {len(counts):,} items, the scores {found.catalogue:,}; they must agree"
        )
    if items is not None and len(items) != found.catalogue:
        raise InputError(
            f"the item table has {len(items):,} items, the scores {found.catalogue:,}; they must agree"
        )
    for k in found.ks:
        shown = found.lists[:, :k]
        shown = shown[shown >= 0]
        exposure = np.bincount(shown, minlength=found.catalogue)
        made[f"coverage@{k}"] = float(np.count_nonzero(exposure) / found.catalogue)
        made[f"gini@{k}"] = gini(exposure)
        if counts is not None and len(shown):
            mass = counts.sum() + found.catalogue
            made[f"novelty@{k}"] = float(
                exposure @ np.log(mass / (counts + 1)) / (len(shown) * np.log(mass))
            )
    if items is not None and len(items.tags):
        made |= _diversity(found.lists, items, found.ks)
    return made


def _diversity(
    lists: npt.NDArray[np.int32], items: ItemTable, ks: tuple[int, ...]
) -> dict[str, float]:
    """diversity@K of each K >= 2."""
    per_item = np.diff(items.tag_offsets)
    total = dict.fromkeys(ks, 0.0)
    counted = dict.fromkeys(ks, 0)
    width = lists.shape[1]
    for at in range(0, len(lists), MAX_CHUNK):
        part = lists[at : at + MAX_CHUNK]
        tagged = (part >= 0) & (per_item[part] > 0)
        size = np.where(tagged, per_item[part], 0).ravel()  # (B * width,)
        starts = np.where(tagged, items.tag_offsets[part], 0).ravel()
        ends = np.cumsum(size)
        flat = np.arange(int(ends[-1])) + np.repeat(starts - (ends - size), size)
        tags = items.tags[flat].astype(np.int64)
        slot = np.repeat(np.arange(len(size)), size)
        # one column for each (list, tag), so that only items of one list meet
        _, column = np.unique((slot // width) * len(items.tag_names) + tags, return_inverse=True)
        holds = sparse.csr_array(
            (np.ones(len(slot), dtype=np.int64), (slot, column)),
            shape=(len(size), int(column.max(initial=-1)) + 1),
        )
        shared = sparse.triu(holds @ holds.T, k=1, format="coo")
        first, second = shared.coords
        alike = shared.data / (size[first] + size[second] - shared.data)
        for k in ks:
            among = tagged[:, :k].sum(axis=1)
            pairs = among * (among - 1) // 2
            inside = (second % width) < k  # first < second, both of one list
            similar = np.bincount(first[inside] // width, alike[inside], minlength=len(part))
            some = pairs > 0
            total[k] += float((1 - similar[some] / pairs[some]).sum())
            counted[k] += int(some.sum())
    return {
        f"diversity@{k}": total[k] / counted[k]
        for k in ks
        if counted[k] * 2 >= len(lists) > 0 and k > 1
    }


def _groups(
    found: _Found, per_user: dict[str, Floats], counts: npt.NDArray[np.float64] | None
) -> dict[str, dict[str, float]]:
    examples = found.examples
    new = examples.histories.lengths == 0
    made = {
        "users_new": _user_group(found, per_user, new),
        "users_returning": _user_group(found, per_user, ~new),
    }
    owner = np.repeat(np.arange(len(examples), dtype=np.int64), np.diff(examples.target_offsets))
    keeper = np.repeat(np.arange(len(examples), dtype=np.int64), examples.histories.lengths)
    seen = np.isin(
        owner * found.catalogue + examples.target_items,
        keeper * found.catalogue + examples.histories.items,
    )
    parts = {"targets_seen": seen, "targets_unseen": ~seen}
    if counts is not None:
        head = np.zeros(found.catalogue, dtype=np.bool_)
        head[np.argsort(-counts, kind="stable")[: int(np.ceil(HEAD_SHARE * found.catalogue))]] = (
            True
        )
        of_head = (head & (counts > 0))[examples.target_items]
        parts |= {
            "items_head": of_head,
            "items_tail": ~of_head,
            "items_cold": counts[examples.target_items] == 0,
        }
    for name, part in parts.items():
        made[name] = _target_group(found, owner, part)
    return made


def _user_group(found: _Found, per_user: dict[str, Floats], group: Flags) -> dict[str, float]:
    count = int(group.sum())
    if count == 0:
        return {"count": 0.0}
    values = {
        key: float(np.mean(value[group], dtype=np.float64)) for key, value in per_user.items()
    }
    return {
        "count": float(count),
        **values,
        **weighted(found.examples.first_targets[group], found.predicted[group]),
    }


def _target_group(found: _Found, owner: Ints, group: Flags) -> dict[str, float]:
    """List metrics where only `group`'s targets count; `count` is of targets, `users` of examples."""
    if not group.any():
        return {"count": 0.0}
    _, lengths = np.unique(owner[group], return_counts=True)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = _per_example(found.ranks[group], offsets, found.ks)
    return {
        "count": float(group.sum()),
        "users": float(len(lengths)),
        **{key: float(np.mean(value, dtype=np.float64)) for key, value in values.items()},
    }
