"""The fast ranker that columns are measured with: floors, plus what each column says, weighed together.

    floors    EASE, item-kNN, sequence-kNN and popularity, fitted on the past; what the user had
    columns   for every column a few numbers per (person, item): how alike the item is to the history,
              what people of the person's kind take, how high the number is and how near to the usual
    weights   one softmax over a person's candidates, fitted on the validation (convex, L-BFGS, ridge)

Linear in what columns say, so a fit takes a second and leaving a column out is a real refit. It is a
probe and no product: it learns what a column adds to behaviour, not what the best model could make
of it. Candidates are the `POOL` best of the floors, the same for all columns.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp
from scipy.optimize import minimize

from shopkeeper.features.items import bare
from shopkeeper.features.sequences import Examples, Floats, Sequences
from shopkeeper.models.ease import Ease
from shopkeeper.models.item_knn import ItemKnn
from shopkeeper.models.popularity import Popularity
from shopkeeper.models.protocol import Model, TrainingData, top
from shopkeeper.models.sequence_knn import SequenceKnn

Rows = npt.NDArray[np.int32]
Doubles = npt.NDArray[np.float64]

POOL = 200  # candidates a person
CHUNK = 256  # people scored at a time
RRF = 20.0  # of the floors' fusion into a pool
DECAY = 0.9  # weight of a history event, to the power of the number of newer ones
RIDGE = 1e-2  # on standardised numbers, beside the mean loss of a target
SEGMENT = 20  # users that a value of a user column needs, to count as a kind of people
SMOOTH = 200.0  # events of everybody that a kind of people begins with
EASE_ITEMS = 6_000  # more items and EASE, which costs their cube, is left out
WORDS = re.compile(r"[a-z0-9]+|[\u4e00-\u9fff]")


@dataclass(frozen=True)
class People:
    """E people asked about, with C candidates each."""

    histories: Sequences
    pool: Rows  # (E, C) item rows, -1 where fewer
    base: list[Floats]  # of (E, C): what the floors say
    owned: Floats  # (E, C) events of the person with the item
    targets: Floats  # (E, C) 1 where the item is a target
    ideal: Doubles  # (E,) DCG@10 of a perfect list
    asked: int  # targets of all


@dataclass(frozen=True)
class Stack:
    """The floors, fitted, and both groups of people."""

    train: Sequences
    items: int
    similar: sp.csr_array  # (M, M) of item-kNN
    fit: People
    test: People


@dataclass(frozen=True)
class Column:
    """A column of an asset, as what it says of items, people or events; exactly one of these is set."""

    asset: str
    name: str
    labels: sp.csr_array | None = None  # (M, K) which values (words) an item has
    numbers: Doubles | None = None  # (M,) NaN where unknown
    segments: Mapping[str, str] | None = None  # user -> the kind of people
    events: str | None = None  # a field of Sequences: dwell, prices
    shown: tuple[sp.csr_array, sp.csr_array] | None = None  # (E, M) for fit and test people
    few: bool = field(default=False)  # labels are few enough for each to have a popularity


def build(
    train: Sequences, fit: Examples, test: Examples, items: int, *, exclude_seen: bool, seed: int
) -> Stack:
    """Fit the floors on `train` and choose candidates for both groups of people."""
    data = TrainingData(sequences=train, items=bare([str(n) for n in range(items)]), seed=seed)
    floors: list[Model] = [ItemKnn(), SequenceKnn(), Popularity()]
    if items <= EASE_ITEMS:
        floors.append(Ease())
    for model in floors:
        model.fit(data)
    knn = floors[0]
    assert isinstance(knn, ItemKnn)
    return Stack(
        train, items, knn.similar,
        _people(floors, fit, items, exclude_seen), _people(floors, test, items, exclude_seen),
    )  # fmt: skip


def _people(floors: Sequence[Model], some: Examples, items: int, exclude_seen: bool) -> People:
    count, width = len(some), min(POOL, items)
    pool = np.full((count, width), -1, dtype=np.int32)
    base = [np.zeros((count, width), dtype=np.float32) for _ in floors]
    had = _matrix(some.histories, items, np.ones(len(some.histories.items)))
    for at in range(0, count, CHUNK):
        rows = np.arange(at, min(at + CHUNK, count))
        histories = some.histories.take(rows)
        every = [_squeezed(model.scores(histories)) for model in floors]
        fused = np.zeros_like(every[0])
        for scores in every:
            best, _ = top(scores, width)
            place = np.arange(1.0, width + 1, dtype=np.float32)
            np.add.at(fused, (np.arange(len(rows))[:, None], best), 1 / (RRF + place)[None, :])
        if exclude_seen:
            fused[had[rows].toarray() > 0] = -np.inf
        pool[rows] = top(fused, width)[0]
        for kept, scores in zip(base, every, strict=True):
            kept[rows] = np.take_along_axis(scores, np.maximum(pool[rows], 0), axis=1)
    owned = gathered(had, pool)
    recent = gathered(_matrix(some.histories, items, _fading(some.histories)), pool)
    lengths = np.diff(some.target_offsets)
    owner = np.repeat(np.arange(count), lengths)
    wanted = sp.csr_array(
        (np.ones(len(owner)), (owner, some.target_items.astype(np.int64))), shape=(count, items)
    )
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, 12)))])
    return People(
        some.histories, pool, [*base, np.log1p(owned), recent], owned, gathered(wanted, pool),
        ideal[np.minimum(lengths, 10)], int(lengths.sum()),
    )  # fmt: skip


def said(stack: Stack, column: Column) -> tuple[list[Floats], list[Floats]]:
    """What a column says of every candidate of the fit people and of the test people: lists of (E, C)."""
    if column.shown is not None:
        return tuple([np.log1p(gathered(one, people.pool))] for one, people in zip(column.shown, (stack.fit, stack.test), strict=True))  # type: ignore[return-value] # fmt: skip
    made: list[list[Floats]] = []
    for people in (stack.fit, stack.test):
        if column.labels is not None:
            made.append(_alike(stack, people, column.labels, column.few))
        elif column.numbers is not None:
            made.append(_near(stack, people, column.numbers))
        elif column.segments is not None:
            made.append(_kind(stack, people, column.segments))
        else:
            made.append(_weighed(stack, people, str(column.events)))
    return made[0], made[1]


def _alike(stack: Stack, people: People, labels: sp.csr_array, few: bool) -> list[Floats]:
    """How much the item shares with the history, with its newest event, and how wanted its value is."""
    counts = np.asarray((labels > 0).sum(axis=0)).ravel()
    rare = np.log((labels.shape[0] + 1) / (counts + 1)) + 0.1
    scaled = sp.csr_array(labels @ sp.diags_array(rare))
    size = np.sqrt(np.asarray(scaled.multiply(scaled).sum(axis=1)).ravel())
    unit = sp.csr_array(sp.diags_array(1 / np.maximum(size, 1e-9)) @ scaled).astype(np.float32)
    weight = _fading(people.histories)
    last = np.zeros(len(weight))
    last[people.histories.offsets[1:][people.histories.lengths > 0] - 1] = 1.0
    made = [
        _product(_normalised(_matrix(people.histories, stack.items, one)) @ unit, unit, people.pool)
        for one in (weight, last)
    ]
    if few:
        events = np.bincount(stack.train.items, minlength=stack.items)
        wanted = np.log((labels.T @ events + 1.0) / (counts + 1.0))
        made.append(_of_items(labels @ wanted / np.maximum(labels.sum(axis=1), 1), people.pool))
    return made


def _near(stack: Stack, people: People, numbers: Doubles) -> list[Floats]:
    """How high the item's number is, and how far from the history's usual."""
    known = ~np.isnan(numbers)
    level = np.zeros(len(numbers))
    if known.sum() > 1:
        order = np.argsort(np.argsort(numbers[known], kind="stable"), kind="stable")
        _, same = np.unique(numbers[known], return_inverse=True)
        mean = np.bincount(same, order) / np.bincount(same)
        level[known] = mean[same] / (known.sum() - 1) * 2 - 1  # ranks, -1 lowest, 1 highest
    asked = _matrix(people.histories, stack.items, _fading(people.histories))
    weight = asked @ known.astype(np.float64)
    usual = np.where(weight > 0, (asked @ (level * known)) / np.maximum(weight, 1e-9), np.nan)
    mine, there = level[np.maximum(people.pool, 0)], known[np.maximum(people.pool, 0)]
    apart = np.where(there & ~np.isnan(usual)[:, None], np.abs(mine - usual[:, None]), 0.5)
    return [(mine * there).astype(np.float32), apart.astype(np.float32)]


def _kind(stack: Stack, people: People, segments: Mapping[str, str]) -> list[Floats]:
    """How much more than everybody people of this kind take the item; the person's own past left out."""
    users: dict[str, int] = {}
    for user in stack.train.users:
        if (value := segments.get(user)) is not None:
            users[value] = users.get(value, 0) + 1
    codes = {value: code for code, value in enumerate(sorted(v for v, n in users.items() if n >= SEGMENT))}  # fmt: skip
    none = len(codes)
    of_train = np.array([codes.get(segments.get(user, ""), none) for user in stack.train.users])
    row = np.repeat(of_train, stack.train.lengths)
    taken = np.zeros((none + 1, stack.items))
    np.add.at(taken, (row, stack.train.items), 1.0)
    share = (np.bincount(stack.train.items, minlength=stack.items) + 1.0) / (len(stack.train.items) + stack.items)  # fmt: skip
    of_people = np.array([codes.get(segments.get(user, ""), none) for user in people.histories.users])  # fmt: skip
    pool = np.maximum(people.pool, 0)
    own = np.minimum(people.owned, taken[of_people[:, None], pool])
    rest = np.maximum(taken.sum(axis=1)[of_people] - people.owned.sum(axis=1), 0.0)[:, None]
    usual = share[pool]
    lift = np.log(
        (taken[of_people[:, None], pool] - own + SMOOTH * usual) / (rest + SMOOTH) / usual
    )
    lift[of_people == none] = 0.0
    return [lift.astype(np.float32)]


def _weighed(stack: Stack, people: People, name: str) -> list[Floats]:
    """What a number of events says: its mean by item, and neighbours of what had more of it."""
    values = np.asarray(getattr(stack.train, name), dtype=np.float64)
    known = values > 0
    count = np.bincount(stack.train.items[known], minlength=stack.items)
    total = np.bincount(stack.train.items[known], values[known], stack.items)
    overall = float(values[known].mean()) if known.any() else 0.0
    mean = (total + 5 * overall) / (count + 5)
    own = np.asarray(getattr(people.histories, name), dtype=np.float64)
    above = np.where(own > 0, own - mean[people.histories.items], 0.0)
    asked = _matrix(people.histories, stack.items, _fading(people.histories) * above)
    more = _product(asked.astype(np.float32), sp.csr_array(stack.similar.T), people.pool)
    return [*_near(stack, people, np.where(count > 0, mean, np.nan)), more]


@dataclass(frozen=True)
class Fitted:
    """Weights of a fit, in the order of the features."""

    weights: Doubles
    scale: Doubles


def fit(
    features: Sequence[Floats], people: People, weight: Doubles, start: Doubles | None = None
) -> Fitted:
    """Weights that make the targets of `people` most likely among their candidates.

    Args:
        features: F of (E, C).
        weight: (E,) how often each person counts.
    """
    kept = (people.targets.sum(axis=1) > 0) & (weight > 0)
    scale = np.array([max(float(one[kept].std()), 1e-6) for one in features])
    x = np.stack([one[kept] / s for one, s in zip(features, scale, strict=True)], axis=2)
    x -= x.mean(axis=1, keepdims=True)
    gone = people.pool[kept] < 0
    aim = people.targets[kept] * weight[kept, None]
    total = max(float(aim.sum()), 1.0)
    each = aim.sum(axis=1, keepdims=True)

    def loss(w: Doubles) -> tuple[float, Doubles]:
        logits = x @ w.astype(np.float32)
        logits[gone] = -np.inf
        highest = logits.max(axis=1, keepdims=True)
        odds = np.exp(logits - highest)
        norm = odds.sum(axis=1, keepdims=True)
        likely = logits - highest - np.log(norm)
        value = -float((aim * np.where(gone, 0.0, likely)).sum()) / total
        slope = np.einsum("ec,ecf->f", (odds / norm) * each - aim, x) / total
        return value + RIDGE * float(w @ w), slope.astype(np.float64) + 2 * RIDGE * w

    begin = np.zeros(len(features)) if start is None else start
    found = minimize(
        loss, begin, jac=True, method="L-BFGS-B", options={"maxiter": 40, "ftol": 1e-7}
    )
    return Fitted(found.x, scale)


def scores(features: Sequence[Floats], fitted: Fitted, people: People) -> Floats:
    """(E, C) of the candidates; -inf where there is none."""
    total = np.zeros(people.pool.shape)
    for one, weight, scale in zip(features, fitted.weights, fitted.scale, strict=True):
        total += (weight / scale) * one
    return np.where(people.pool < 0, -np.inf, total).astype(np.float32)


def results(scored: Floats, people: People, money: Floats) -> tuple[Doubles, Doubles]:
    """Per person NDCG@10, and the money of the purchases that stand among the first 10.

    Args:
        money: (E, C) what the person paid for the item in the test.
    """
    best, _ = top(scored, 10)
    there = best >= 0
    place = np.maximum(best, 0)
    gain = 1 / np.log2(np.arange(2, 2 + best.shape[1]))
    hits = np.take_along_axis(people.targets, place, axis=1) * there
    paid = np.take_along_axis(money, place, axis=1) * there
    return (hits @ gain) / people.ideal, paid.sum(axis=1).astype(np.float64)


def words(texts: Sequence[str]) -> sp.csr_array:
    """(M, K) words of Latin letters and pairs of Chinese characters that at least two texts have."""
    rows: list[int] = []
    found: list[str] = []
    for row, text in enumerate(texts):
        parts = WORDS.findall((text or "").lower())
        pairs = [a + b for a, b in itertools.pairwise(parts) if len(a) == len(b) == 1]
        told = {part for part in parts if len(part) > 1} | set(pairs)
        rows += [row] * len(told)
        found += sorted(told)
    return labels(rows, found, len(texts))


def labels(rows: Sequence[int], values: Sequence[str], items: int) -> sp.csr_array:
    """(items, K) from (row, value) pairs; a value that one row alone has tells nothing of others."""
    frame = pl.DataFrame(
        {"row": rows, "value": values}, schema={"row": pl.Int64, "value": pl.String}
    )
    frame = frame.unique().filter(pl.len().over("value") > 1)
    code = (frame["value"].rank("dense") - 1).to_numpy().astype(np.int64)
    size = int(code.max()) + 1 if len(code) else 1
    parts = (np.ones(len(code)), (frame["row"].to_numpy(), code))
    return sp.csr_array(sp.coo_array(parts, shape=(items, size)))


def _squeezed(values: Floats) -> Floats:
    """EASE's scores are near-linear in probability, the others are logs: all become logs."""
    return values if values.min() < -1 else np.log(np.maximum(values, 0.0) + 1e-3)


def _fading(some: Sequences) -> Doubles:
    ends = np.repeat(some.offsets[1:], some.lengths)
    return np.power(DECAY, (ends - 1 - np.arange(len(some.items))).astype(np.float64))


def _matrix(some: Sequences, items: int, weight: Doubles) -> sp.csr_array:
    """(E, M) sums of the weights of each person's events."""
    owner = np.repeat(np.arange(len(some)), some.lengths)
    parts = (weight, (owner, some.items.astype(np.int64)))
    return sp.csr_array(sp.coo_array(parts, shape=(len(some), items)))


def _normalised(matrix: sp.csr_array) -> sp.csr_array:
    total = np.asarray(matrix.sum(axis=1)).ravel()
    return sp.csr_array(sp.diags_array(1 / np.maximum(total, 1e-9)) @ matrix)


def gathered(matrix: sp.csr_array, pool: Rows) -> Floats:
    """(E, C) entries of an (E, M) matrix at the candidates."""
    out = np.empty(pool.shape, dtype=np.float32)
    for at in range(0, len(pool), CHUNK):
        part = slice(at, at + CHUNK)
        dense = matrix[part].toarray()
        out[part] = np.take_along_axis(dense, np.maximum(pool[part], 0), axis=1)
    return np.where(pool < 0, np.float32(0), out)


def _product(profiles: sp.csr_array, unit: sp.csr_array, pool: Rows) -> Floats:
    """(E, C) of profiles (E, K) times the candidates' rows of `unit` (M, K)."""
    out = np.empty(pool.shape, dtype=np.float32)
    turned = sp.csr_array(unit.T)
    for at in range(0, len(pool), CHUNK):
        part = slice(at, at + CHUNK)
        dense = (sp.csr_array(profiles[part]) @ turned).toarray()
        out[part] = np.take_along_axis(dense, np.maximum(pool[part], 0), axis=1)
    return out


def _of_items(values: npt.ArrayLike, pool: Rows) -> Floats:
    return np.asarray(values, dtype=np.float32)[np.maximum(pool, 0)]
