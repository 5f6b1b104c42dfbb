"""Cost of measuring a model over the full catalogue: ours beside the plain reference of the tests.

    python benchmarks/metrics_speed.py [--users 25000 --items 100000 --reference-users 20]

The model is made up (low rank, 16 numbers a user and an item, its targets lifted), and its own time is taken off. Every
example has five seen items, which are excluded, and up to eight targets. Ours computes all metrics
and groups at K = 1, 5, 10, 20; the reference only the metrics of single users, with plain loops (its
Gini alone would take hours), and both must agree on the users that both measure. CPU seconds of
one process, one thread.
"""

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # before NumPy is imported

import argparse
import importlib.util
import json
import math
import resource
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from shopkeeper.evaluation import metrics
from shopkeeper.evaluation.splits import take
from shopkeeper.features.items import ItemTable
from shopkeeper.features.sequences import Examples, Floats, Sequences, Vocabulary, pack

REFERENCE = Path(__file__).parents[1] / "tests" / "evaluation" / "test_metrics.py"
TAGS, TAGS_PER_ITEM, SEEN, MAX_TARGETS, RANK = 500, 4, 5, 8, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--users", type=int, default=25_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--reference-users", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    rng = np.random.default_rng(told.seed)
    examples, items = make_examples(rng, told.users, told.items), make_items(rng, told.items)
    counts = rng.integers(0, 9, told.items)
    left = rng.standard_normal((told.users, RANK), np.float32)
    right = rng.standard_normal((RANK, told.items), np.float32)

    lift = rng.normal(15.0, 5.0, len(examples.target_items)).astype(np.float32)

    def score(histories: Sequences) -> Floats:
        users = [int(user) for user in histories.users]
        scores = np.asarray(left[users] @ right)
        for row, user in enumerate(users):  # the model finds some of the targets
            mine = slice(*examples.target_offsets[user : user + 2])
            scores[row, examples.target_items[mine]] += lift[mine]
        return scores

    def ours(some: Examples) -> metrics.Evaluation:
        return metrics.measure(score, some, exclude_seen=True, counts=counts, items=items)

    model, _ = timed(lambda: score_all(score, examples, told.items))
    both, found = timed(lambda: ours(examples))
    few = take(examples, np.arange(told.reference_users))
    plain = load_reference()
    slow, wanted = timed(lambda: reference(plain, score(few.histories), few))
    fast = ours(few).metrics
    apart = max(abs(fast[key] - value) for key, value in wanted.items())
    if apart > 1e-6:
        raise SystemExit(f"ours and the reference differ by {apart}")
    mine, theirs = (both - model) / told.users, slow / told.reference_users
    result = {
        "users": told.users,
        "items": told.items,
        "model_cpu_seconds": round(model, 2),
        "measure_cpu_seconds": round(both - model, 2),
        "measure_ms_per_user": round(mine * 1e3, 3),
        "reference_ms_per_user": round(theirs * 1e3, 1),
        "times_faster": round(theirs / mine),
        "NDCG@10": round(found.metrics["NDCG@10"], 4),
        "largest_difference": apart,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "score_matrix_would_be_mb": told.users * told.items * 4 // 2**20,
    }
    print(json.dumps(result, indent=1))


def make_examples(rng: np.random.Generator, users: int, items: int) -> Examples:
    counts = rng.integers(1, MAX_TARGETS + 1, users)
    targets = [rng.choice(items, count, replace=False) for count in counts]
    seen = rng.integers(0, items, SEEN * users)
    return Examples(
        pack([str(user) for user in range(users)], [SEEN] * users, seen),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.concatenate(targets).astype(np.int32),
    )


def make_items(rng: np.random.Generator, items: int) -> ItemTable:
    tags = [np.sort(rng.choice(TAGS, TAGS_PER_ITEM, replace=False)) for _ in range(items)]
    return ItemTable(
        vocabulary=Vocabulary([str(item) for item in range(items)]),
        tag_offsets=np.arange(items + 1, dtype=np.int64) * TAGS_PER_ITEM,
        tags=np.concatenate(tags).astype(np.int32),
        tag_names=[str(tag) for tag in range(TAGS)],
        numbers=np.zeros((items, 0), dtype=np.float32),
        number_names=[],
        text=[""] * items,
    )


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.process_time()
    made = work()
    return time.process_time() - began, made


def score_all(score: Callable[[Sequences], Floats], examples: Examples, items: int) -> None:
    """The model's own part of `measure`: the same chunks, nothing done with the scores."""
    step = max(1, min(metrics.MAX_CHUNK, metrics.MATRIX_BYTES // (4 * items)))
    for at in range(0, len(examples), step):
        score(examples.histories.take(np.arange(at, min(at + step, len(examples)))))


def load_reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plain_reference", REFERENCE)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{REFERENCE} is not there; run this in a checkout of the source")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def reference(plain: ModuleType, scores: Floats, some: Examples) -> dict[str, float]:
    rows = []
    for user in range(len(some)):
        mine = [float(score) for score in scores[user]]
        for item in some.histories.items[some.histories.user(user)]:
            mine[item] = -math.inf
        offsets = some.target_offsets
        targets = some.target_items[offsets[user] : offsets[user + 1]].tolist()
        row: dict[str, float] = {}
        for k in metrics.KS:
            row |= plain.slow_example(mine, targets, targets, k)
        rows.append(row)
    means: dict[str, float] = plain.mean_of(rows)
    return means


if __name__ == "__main__":
    main()
