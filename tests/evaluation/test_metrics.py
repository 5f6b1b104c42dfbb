"""Every metric against a slow, plain reference that is written from the definitions alone."""

import math
from collections import Counter

import numpy as np
import pytest

from shopkeeper.errors import InputError
from shopkeeper.evaluation import metrics
from shopkeeper.evaluation.metrics import gini, measure, weighted
from shopkeeper.features.items import ItemTable
from shopkeeper.features.sequences import Vocabulary
from shopkeeper.models.protocol import top

KS = (1, 2, 5)


def tagged(tags: list[set[int]]) -> ItemTable:
    flat = [tag for one in tags for tag in sorted(one)]
    return ItemTable(
        vocabulary=Vocabulary([str(item) for item in range(len(tags))]),
        tag_offsets=np.cumsum([0, *(len(one) for one in tags)]).astype(np.int64),
        tags=np.array(flat, dtype=np.int32),
        tag_names=[f"tag{code}" for code in range(max(flat, default=-1) + 1)],
        numbers=np.zeros((len(tags), 0), dtype=np.float32),
        number_names=[],
        text=[""] * len(tags),
    )


# ---- the slow reference: plain loops over plain lists -------------------------------------------


def honest_order(scores: list[float], targets: list[int]) -> list[int]:
    """Best first; of equal scores, targets last, then lower index first; -inf is not listed."""
    listed = [item for item, score in enumerate(scores) if score > -math.inf]
    return sorted(listed, key=lambda item: (-scores[item], item in targets, item))


def slow_example(scores: list[float], targets: list[int], relevant: list[int], k: int) -> dict:
    """`targets` order the ties, `relevant` (a part of them) count."""
    best = honest_order(scores, targets)[:k]
    hit_ranks = [rank for rank, item in enumerate(best, start=1) if item in relevant]
    hits = len(hit_ranks)
    dcg = sum(1 / math.log2(rank + 1) for rank in hit_ranks)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(relevant), k) + 1))
    precision, recall = hits / k, hits / len(relevant)
    average = sum(sum(1 for r in hit_ranks if r <= rank) / rank for rank in hit_ranks)
    return {
        f"HR@{k}": float(hits > 0),
        f"NDCG@{k}": dcg / ideal,
        f"MRR@{k}": 1 / hit_ranks[0] if hits else 0.0,
        f"MAP@{k}": average / min(len(relevant), k),
        f"recall@{k}": recall,
        f"precision@{k}": precision,
        f"f1@{k}": 2 * precision * recall / (precision + recall) if hits else 0.0,
    }


def mean_of(rows: list[dict]) -> dict:
    return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}


def slow_top(scores: list[float], k: int) -> list[int]:
    listed = [item for item, score in enumerate(scores) if score > -math.inf]
    return sorted(listed, key=lambda item: (-scores[item], item))[:k]


def slow_lists(lists: list[list[int]], items: int, counts: list[int], tags: list[set[int]]) -> dict:
    shown = [item for one in lists for item in one]
    exposure = Counter(shown)
    amounts = [exposure[item] for item in range(items)]
    spread = sum(abs(a - b) for a in amounts for b in amounts)
    mass = sum(counts) + items
    novelty = [math.log(mass / (counts[item] + 1)) / math.log(mass) for item in shown]
    diversities = []
    for one in lists:
        have = [tags[item] for item in one if tags[item]]
        pairs = [(a, b) for row, a in enumerate(have) for b in have[row + 1 :]]
        if pairs:
            diversities.append(1 - sum(len(a & b) / len(a | b) for a, b in pairs) / len(pairs))
    made = {
        "coverage": len(exposure) / items,
        "gini": spread / (2 * items * sum(amounts)),
        "novelty": sum(novelty) / len(novelty),
    }
    if diversities and 2 * len(diversities) >= len(lists):
        made["diversity"] = sum(diversities) / len(diversities)
    return made


def slow_weighted(truth: list[int], predicted: list[int]) -> dict:
    recall = f1 = 0.0
    for item in set(truth):
        support = truth.count(item)
        right = sum(1 for t, p in zip(truth, predicted, strict=True) if t == p == item)
        precision = right / predicted.count(item) if predicted.count(item) else 0.0
        own = right / support
        recall += support / len(truth) * own
        if precision + own:
            f1 += support / len(truth) * 2 * precision * own / (precision + own)
    return {"recall_weighted": recall, "f1_weighted": f1}


def slow_measure(matrix, asked, exclude_seen, counts, tags) -> tuple[dict, dict]:
    items = len(matrix[0])
    masked = [
        [
            -math.inf if exclude_seen and item in history else float(score)
            for item, score in enumerate(row)
        ]
        for row, (history, _) in zip(matrix, asked, strict=True)
    ]
    rows, truth, predicted = [], [], []
    for scores, (_, targets) in zip(masked, asked, strict=True):
        row: dict = {}
        for k in KS:
            row |= slow_example(scores, targets, targets, k)
        order = honest_order(scores, [targets[0]])
        truth.append(targets[0])
        predicted.append(order[0] if order else -1)
        row["accuracy"] = float(predicted[-1] == truth[-1])
        rows.append(row)
    made = mean_of(rows) | slow_weighted(truth, predicted)
    for k in KS:
        lists = [slow_top(scores, k) for scores in masked]
        of_lists = slow_lists(lists, items, counts, tags)
        made |= {f"{key}@{k}": value for key, value in of_lists.items()}
    order = sorted(range(items), key=lambda item: (-counts[item], item))
    head = {item for item in order[: math.ceil(0.2 * items)] if counts[item] > 0}
    belongs = {
        "targets_seen": lambda item, history: item in history,
        "targets_unseen": lambda item, history: item not in history,
        "items_head": lambda item, history: item in head,
        "items_tail": lambda item, history: item not in head,
        "items_cold": lambda item, history: counts[item] == 0,
    }
    groups: dict = {}
    for name, inside in belongs.items():
        found, count = [], 0
        for scores, (history, targets) in zip(masked, asked, strict=True):
            part = [item for item in targets if inside(item, history)]
            count += len(part)
            if part:
                one: dict = {}
                for k in KS:
                    one |= slow_example(scores, targets, part, k)
                found.append(one)
        groups[name] = {"count": count}
        if found:
            groups[name] |= mean_of(found) | {"users": len(found)}
    for name, is_new in (("users_new", True), ("users_returning", False)):
        part = [row for row, (history, _) in enumerate(asked) if (not history) == is_new]
        groups[name] = {"count": len(part)}
        if part:
            groups[name] |= mean_of([rows[row] for row in part])
            groups[name] |= slow_weighted([truth[r] for r in part], [predicted[r] for r in part])
    return made, groups


@pytest.mark.parametrize("exclude_seen", [False, True])
@pytest.mark.parametrize("levels", [2, 4, 1000])  # few levels: many ties
@pytest.mark.parametrize("seed", range(8))
def test_every_metric_equals_the_plain_reference(
    ask, fixed, monkeypatch, seed: int, levels: int, exclude_seen: bool
) -> None:
    monkeypatch.setattr(metrics, "MAX_CHUNK", 7)  # several chunks, the last one short
    rng = np.random.default_rng([seed, levels])
    users, items = int(rng.integers(1, 40)), int(rng.integers(2, 12))
    asked = []
    for _ in range(users):
        history = rng.integers(0, items, rng.integers(0, 5)).tolist()
        targets = rng.choice(items, rng.integers(1, min(items, 5) + 1), replace=False).tolist()
        asked.append((history, targets))
    matrix = rng.integers(0, levels, (users, items)).astype(np.float32)
    matrix[rng.random((users, items)) < 0.1] = -np.inf
    matrix[:, 0] = np.maximum(matrix[:, 0], 0)  # something is always listed
    counts = rng.integers(0, 5, items).tolist()
    tags = [set(rng.integers(0, 4, rng.integers(0, 4)).tolist()) for _ in range(items)]
    if not exclude_seen or any(0 not in history for history, _ in asked):
        made = measure(
            fixed(matrix),
            ask(asked),
            KS,
            exclude_seen=exclude_seen,
            counts=counts,
            items=tagged(tags),
        )
        wanted, groups = slow_measure(matrix, asked, exclude_seen, counts, tags)
        assert made.metrics == pytest.approx(wanted, abs=1e-6)
        assert set(made.groups) == set(groups)
        for name, values in groups.items():
            assert made.groups[name] == pytest.approx(values, abs=1e-6), name


def test_a_model_that_scores_everything_equal_scores_nothing(ask, fixed) -> None:
    asked = [
        ([], [0]),
        ([], [1]),
        ([], [0, 1]),
    ]  # item 0 is what ties to the lower index would give
    made = measure(fixed(np.zeros((3, 50))), ask(asked), (1, 10), exclude_seen=False)
    assert made.metrics["HR@10"] == 0
    assert made.metrics["accuracy"] == made.metrics["f1_weighted"] == 0


def test_a_hit_is_always_in_the_list_that_is_served(ask, fixed) -> None:
    rng = np.random.default_rng(1)
    matrix = rng.integers(0, 12, (200, 30)).astype(np.float32)
    targets = rng.integers(0, 30, 200)
    made = measure(fixed(matrix), ask([([], [t]) for t in targets]), (5,), exclude_seen=False)
    served, _ = top(matrix, 5)
    hit = made.per_user["HR@5"] > 0
    assert hit.any()
    assert all(target in row for target, row in zip(targets[hit], served[hit], strict=True))


def test_excluded_seen_items_are_misses_and_make_room(ask, fixed) -> None:
    matrix = np.array([[3.0, 2.0, 1.0]])
    asked = ask([([0], [0, 1])])
    kept = measure(fixed(matrix), asked, (1,), exclude_seen=False)
    excluded = measure(fixed(matrix), asked, (1,), exclude_seen=True)
    assert (kept.metrics["recall@1"], kept.exclude_seen) == (0.5, False)
    assert kept.groups["targets_seen"]["HR@1"] == 1
    assert excluded.groups["targets_seen"]["HR@1"] == 0
    assert excluded.groups["targets_unseen"]["HR@1"] == 1


def test_scores_are_left_as_the_model_gave_them(ask, fixed) -> None:
    given = np.ones((1, 4), dtype=np.float32)
    measure(lambda histories: given, ask([([2], [1])]), (1,), exclude_seen=True)
    assert (given == 1).all()


def test_chunks_do_not_change_the_result(ask, fixed, monkeypatch) -> None:
    rng = np.random.default_rng(3)
    matrix = rng.integers(0, 9, (64, 20)).astype(np.float32)
    asked = ask([([int(a)], [int(b)]) for a, b in rng.integers(0, 20, (64, 2))])
    whole = measure(fixed(matrix), asked, exclude_seen=False, counts=np.arange(20))
    monkeypatch.setattr(metrics, "MATRIX_BYTES", 4 * 20 * 3)  # three users at a time
    parts = measure(fixed(matrix), asked, exclude_seen=False, counts=np.arange(20))
    assert parts.metrics == whole.metrics
    assert parts.groups == whole.groups


def test_a_chunk_is_never_larger_than_the_matrix_limit(ask, monkeypatch) -> None:
    monkeypatch.setattr(metrics, "MATRIX_BYTES", 4 * 1000 * 8)
    asked = ask([([], [0])] * 50)
    sizes = []

    def score(histories):
        sizes.append(len(histories))
        return np.zeros((len(histories), 1000), dtype=np.float32)

    measure(score, asked, exclude_seen=False)
    assert max(sizes) == 8
    assert sum(sizes) == 50


def test_nan_scores_are_refused_and_the_example_is_named(ask, fixed) -> None:
    matrix = np.zeros((3, 4))
    matrix[2, 1] = np.nan
    with pytest.raises(InputError, match="NaN for example 2"):
        measure(fixed(matrix), ask([([], [0])] * 3), exclude_seen=False)


@pytest.mark.parametrize(
    ("asked", "ks", "text"),
    [
        ([], (1,), "no examples"),
        ([([], [0])], (0,), "at least 1"),
        ([([], [0, 0])], (1,), "stands twice"),
        ([([], [0]), ([], [])], (1,), "example 1 has no target"),
        ([([], [9])], (1,), "outside the catalogue of 4"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_the_reason(ask, fixed, asked, ks, text) -> None:
    with pytest.raises(InputError, match=text):
        measure(fixed(np.zeros((2, 4))), ask(asked), ks, exclude_seen=False)


def test_weighted_metrics_by_hand() -> None:
    # item 0: support 3, predicted 2, right 2 -> recall 2/3, F1 4/5; item 1: support 1, predicted 1, wrong
    made = weighted(np.array([0, 0, 0, 1], np.int32), np.array([0, 0, 1, -1], np.int32))
    assert made["recall_weighted"] == pytest.approx(3 / 4 * 2 / 3)
    assert made["f1_weighted"] == pytest.approx(3 / 4 * 4 / 5)


def test_weighted_recall_is_accuracy(ask, fixed) -> None:
    rng = np.random.default_rng(5)
    asked = ask([([], [int(t)]) for t in rng.integers(0, 6, 80)])
    made = measure(fixed(rng.random((80, 6))), asked, (1,), exclude_seen=False)
    assert made.metrics["recall_weighted"] == pytest.approx(made.metrics["accuracy"])


def test_gini_is_zero_when_all_are_shown_alike_and_near_one_when_one_has_all() -> None:
    assert gini([5, 5, 5, 5]) == 0
    assert gini([0, 0, 0, 9]) == pytest.approx(3 / 4)
    assert gini([0, 0]) == 0
