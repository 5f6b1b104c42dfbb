"""Models side by side, with how sure we are.

Every number stands with an interval over users, and every model with its paired difference to the
best floor: the same users, model minus floor, so that what is hard for both cancels out. A model
is better only where that interval lies above 0.

Up to `BOOTSTRAP_USERS` examples the interval is a percentile bootstrap over examples (seeded, the
same draws for all models); above, the mean is normal enough and the standard error is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from shopkeeper.errors import InputError, NotReady
from shopkeeper.evaluation.metrics import Evaluation, measure
from shopkeeper.evaluation.splits import sample
from shopkeeper.features.sequences import Examples
from shopkeeper.models.protocol import Model, Validate

BOOTSTRAP_USERS = 20_000
DRAWS = 1_000
CONFIDENCE = 0.95
Z = 1.959963984540054  # of 95%

FLOORS = ("popularity", "item_knn", "sequence_knn", "ease")
PRIMARY = "NDCG@10"
VALIDATION_EXAMPLES = 5_000
VALIDATED = ("NDCG", "HR", "MRR")  # of lists
TOP_ONE = ("accuracy", "recall_weighted", "f1_weighted")


@dataclass(frozen=True)
class Interval:
    """A mean over users and its 95% confidence interval."""

    mean: float
    low: float
    high: float
    method: str  # "bootstrap" or "normal"


@dataclass(frozen=True)
class Entry:
    """One line of the leaderboard."""

    model: str
    evaluation: Evaluation
    train_seconds: float
    is_floor: bool


def entry(model: str, evaluation: Evaluation, train_seconds: float) -> Entry:
    """A line for a model; the built-in simple rules are the floors."""
    return Entry(model, evaluation, train_seconds, model in FLOORS)


def interval(values: npt.ArrayLike, *, seed: int = 0, draws: int = DRAWS) -> Interval:
    """The mean of a per-example metric with its 95% interval. (E,), E >= 1."""
    exact = np.asarray(values, dtype=np.float64)
    mean = float(exact.mean())
    if len(exact) > BOOTSTRAP_USERS:
        half = Z * float(exact.std(ddof=1)) / np.sqrt(len(exact))
        return Interval(mean, mean - half, mean + half, "normal")
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(_resampled_means(exact, seed, draws), [tail, 1 - tail])
    return Interval(mean, float(low), float(high), "bootstrap")


def difference(
    values: npt.ArrayLike, floor: npt.ArrayLike, *, seed: int = 0, draws: int = DRAWS
) -> Interval:
    """The paired difference values - floor over the same examples, in the same order."""
    own, other = np.asarray(values, np.float64), np.asarray(floor, np.float64)
    if len(own) != len(other):
        raise InputError(
            f"{len(own):,} examples against {len(other):,}; a paired difference needs the same ones"
        )
    return interval(own - other, seed=seed, draws=draws)


def leaderboard(entries: Sequence[Entry], *, primary: str = PRIMARY, seed: int = 0) -> pl.DataFrame:
    """One row a model, best primary metric first (ties by name).

    Columns: model, is_floor, every metric, `primary` (its name), ci_low, ci_high, ci_method,
    against (the best floor; null in its own row and where there is none), diff, diff_low,
    diff_high, better (diff_low > 0), train_seconds, users.

    Raises:
        NotReady: no entries. InputError: a model twice, no per-example values of `primary`, or evaluations
            under different rules (examples, ks, exclude_seen).
    """
    _comparable(entries, primary)
    ranked = sorted(entries, key=lambda one: (-one.evaluation.metrics[primary], one.model))
    floor = next((one for one in ranked if one.is_floor), None)
    keys = list(dict.fromkeys(key for one in ranked for key in one.evaluation.metrics))
    rows = []
    for one in ranked:
        values = one.evaluation.per_user[primary]
        own = interval(values, seed=seed)
        beside: Interval | None = None
        if floor is not None and floor is not one:
            beside = difference(values, floor.evaluation.per_user[primary], seed=seed)
        rows.append(
            {
                "model": one.model,
                "is_floor": one.is_floor,
                **{key: one.evaluation.metrics.get(key) for key in keys},
                "primary": primary,
                "ci_low": own.low,
                "ci_high": own.high,
                "ci_method": own.method,
                "against": floor.model if beside and floor else None,
                "diff": beside.mean if beside else None,
                "diff_low": beside.low if beside else None,
                "diff_high": beside.high if beside else None,
                "better": beside.low > 0 if beside else None,
                "train_seconds": one.train_seconds,
                "users": one.evaluation.examples,
            }
        )
    texts = dict.fromkeys(("model", "primary", "ci_method", "against"), pl.String)
    others = {"is_floor": pl.Boolean, "better": pl.Boolean, "users": pl.Int64}
    numbers = dict.fromkeys(
        (*keys, "ci_low", "ci_high", "diff", "diff_low", "diff_high", "train_seconds"), pl.Float64
    )
    return pl.DataFrame(rows, schema_overrides={**texts, **others, **numbers})


RESERVED = (
    "model", "is_floor", "primary", "ci_low", "ci_high", "ci_method", "against", "diff", "diff_low",
    "diff_high", "better", "train_seconds", "users",
)  # fmt: skip


def as_json(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """The leaderboard as `run --json` prints it: model, metrics, train_seconds, and the intervals."""
    return [
        {
            "model": row["model"],
            "metrics": {
                key: value
                for key, value in row.items()
                if key not in RESERVED and value is not None
            },
            "train_seconds": row["train_seconds"],
            "is_floor": row["is_floor"],
            "primary": row["primary"],
            "ci": [row["ci_low"], row["ci_high"]],
            "ci_method": row["ci_method"],
            "difference": None
            if row["against"] is None
            else {
                "against": row["against"],
                "mean": row["diff"],
                "ci": [row["diff_low"], row["diff_high"]],
                "better": row["better"],
            },
            "users": row["users"],
        }
        for row in frame.to_dicts()
    ]


HEADINGS = {
    "en": {"model": "model (· floor)", "ci": "95%", "diff": "vs floor", "train": "train s"},
    "zh": {"model": "模型（· 基线）", "ci": "95%", "diff": "比基线", "train": "训练秒"},
}
SHOWN = ("NDCG@10", "HR@10", "accuracy")  # what fits into 80 columns; the report holds all


def table(
    frame: pl.DataFrame, metrics: Sequence[str] = SHOWN, lang: str = "en"
) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of text, for a terminal of 80 columns.

    Floors carry a dot. The difference to the best floor is marked ▲ or ▼ where its whole interval
    lies on that side of 0; unmarked, it may be chance.
    """
    words = HEADINGS[lang]
    primary = frame["primary"][0]
    others = [key for key in metrics if key != primary and key in frame.columns]
    headings = [words["model"], primary, words["ci"], *others, words["diff"], words["train"]]
    rows = []
    for row in frame.to_dicts():
        beside = "–"
        if row["against"] is not None:
            mark = "▲" if row["diff_low"] > 0 else "▼" if row["diff_high"] < 0 else ""
            beside = f"{row['diff']:+.4f}{mark}"
        rows.append(
            [
                f"{row['model']} ·" if row["is_floor"] else row["model"],
                f"{row[primary]:.4f}",
                f"{row['ci_low']:.4f}–{row['ci_high']:.4f}",
                *("–" if row[key] is None else f"{row[key]:.4f}" for key in others),
                beside,
                f"{row['train_seconds']:.1f}",
            ]
        )
    return headings, rows


def validator(
    examples: Examples,
    *,
    exclude_seen: bool,
    exclude_kinds: Sequence[int] = (),
    sample_size: int = VALIDATION_EXAMPLES,
    seed: int = 0,
    k: int = 10,
) -> Validate:
    """A cheap measure for every epoch on at most `sample_size` examples, always the same.

    For `TrainingData.validate`; lists of `k` only, no groups.
    """
    asked = sample(examples, sample_size, seed)

    def validate(model: Model) -> dict[str, float]:
        found = measure(
            model.scores, asked, (k,), exclude_seen=exclude_seen, exclude_kinds=exclude_kinds,
            groups=False,
        )  # fmt: skip
        keys = (*(f"{name}@{k}" for name in VALIDATED), *TOP_ONE)
        return {key: found.metrics[key] for key in keys}

    return validate


def _resampled_means(
    values: npt.NDArray[np.float64], seed: int, draws: int
) -> npt.NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    for draw in range(draws):
        means[draw] = values[rng.integers(0, len(values), len(values))].mean()
    return means


def _comparable(entries: Sequence[Entry], primary: str) -> None:
    if not entries:
        raise NotReady(
            "there is no model to compare, as none has events to learn from",
            next="put user_behavior.csv into raw/, or name your file by a [[sources]] block in "
            "shop.toml, then: shopkeeper run",
        )
    names = [one.model for one in entries]
    if len(set(names)) < len(names):
        raise InputError(f"a model stands twice in the leaderboard: {sorted(names)}")
    first = entries[0].evaluation
    if primary not in first.per_user:
        raise InputError(
            f"{primary!r} is no metric of single users; known: {', '.join(sorted(first.per_user))}"
        )
    rules = {
        (one.evaluation.examples, one.evaluation.ks, one.evaluation.exclude_seen) for one in entries
    }
    if len(rules) > 1:
        raise InputError(
            f"models were measured under different rules (examples, ks, exclude_seen): {sorted(rules)}"
        )
