"""models.*, indexes.search, clean.items, clean.events -> a release, through the gate.

The release serves the fusion of its models. Weights are chosen on the validation lists of each
trial; what the gate compares is the fused list on the test split, which no model saw.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from shopkeeper.assets.store import Run
from shopkeeper.config import Settings
from shopkeeper.engine.steps import Context
from shopkeeper.errors import NotReady
from shopkeeper.evaluation.leaderboard import FLOORS
from shopkeeper.evaluation.splits import sample
from shopkeeper.evaluation.trial import (
    FUSED_EXAMPLES,
    asset_name,
    excludes_seen,
    fused_evaluation,
    read_evaluation,
    split_of,
)
from shopkeeper.features.build import known_items
from shopkeeper.features.steps import load
from shopkeeper.recommend.rank import choose_weights
from shopkeeper.serving import releases
from shopkeeper.serving.feedback import taken_up_to

FUSED = "fused"
DEPTH = 100


def publish(context: Context) -> None:
    """Build a release, ask the gate, and let it serve if it passes."""
    run, settings = context.run, context.settings
    store = context.assets.root / "releases"
    names = [name for name in map(asset_name, settings.models) if run.has(f"models.{name}")]
    trials = {name: read_evaluation(run.folder(f"evaluations.{name}")) for name in names}
    trained_on = _trained_on(context, names)
    sequences, items = load(run, trained_on)
    split = split_of(settings, sequences)
    seen = excludes_seen(settings, split.by)
    chosen = sample(split.validation, FUSED_EXAMPLES, 0)
    weights, constant, reached = choose_weights(
        {name: lists["validation_lists"] for name, (_, _, lists) in trials.items()},
        chosen.first_targets,
    )
    ranking = fuse_lists(
        {name: trials[name][2]["test_lists"] for name in weights}, weights, constant
    )
    counts = np.bincount(split.train.items, minlength=len(items))
    fused = fused_evaluation(split.test, ranking, items, counts, exclude_seen=seen)
    metrics = {name: evaluation.metrics for name, (_, evaluation, _) in trials.items()}
    metrics[FUSED] = fused.metrics
    best = best_floor(metrics, settings.gate.metric)
    if (
        best is not None
        and metrics[best][settings.gate.metric] > fused.metrics[settings.gate.metric]
    ):
        # few examples: what fused best on validation is worse than a floor, so the floor serves
        weights, metrics[FUSED] = {best: 1.0}, metrics[best]
    release = releases.build(
        store,
        models={name: run.folder(f"models.{name}") for name in names},
        item_table=items,
        items=known_items(run.read("clean.items"), items.vocabulary.ids),
        events=run.read("clean.events").sort("user_id", "ts", "seq", nulls_last=False),
        search=run.folder("indexes.search") if run.has("indexes.search") else None,
        weights=weights,
        constant=constant,
        metrics=metrics,
        versions={name: context.assets.current(name).id for name in run.reads} | trained_on,
        events_position=taken_up_to(context, "raw.feedback"),
        items_position=taken_up_to(context, "raw.item_writes"),
        history=settings.serving.history,
        opted_out=opted_out(run),
        workspace=context.folder,
    )
    decision = ask_gate(store, settings, metrics)
    serves = False
    if decision.passed:
        serves = releases.swap(store, release, reason=decision.reason, decision=decision)
    else:
        releases.log_decision(store, "refused", release, decision.reason, decision)
    releases.retain(store)
    told = {
        "release": release,
        "serves": serves,
        "gate": {"passed": decision.passed, "reason": decision.reason, "numbers": decision.numbers},
        "weights": weights,
        "constant": constant,
        "validation": reached,
        "metrics": metrics,
    }
    run.files(
        "releases.main",
        lambda folder: _write(folder, told),
        kind="release",
        description="what serves together",
        notes={key: told[key] for key in ("release", "serves", "gate", "weights")},
    )
    run.note("release", release)
    run.note("serves", serves)
    run.note("gate", decision.reason)


def best_floor(metrics: dict[str, dict[str, float]], metric: str) -> str | None:
    """The floor that is best by `metric`, or None where no floor was trained."""
    floors = [name for name in metrics if name in FLOORS]
    return max(floors, key=lambda name: metrics[name][metric], default=None)


def opted_out(run: Run) -> list[str]:
    """Users who switched personalisation off."""
    if not run.has("clean.users"):
        return []
    users = run.scan("clean.users").filter(~pl.col("personalisation").fill_null(True))
    return users.select("user_id").collect()["user_id"].to_list()


def _trained_on(context: Context, names: list[str]) -> dict[str, str]:
    """The versions of the features that all models were trained on."""
    catalog = context.assets.catalog
    found = {name: catalog.made_from(context.assets.current(f"models.{name}").id) for name in names}
    newest = max(found.values())
    if others := [name for name, versions in found.items() if versions != newest]:
        raise NotReady(
            f"models {', '.join(others)} were trained on other features than the rest",
            where="release",
            next="train all again: shopkeeper train",
        )
    return {version.rpartition("@")[0]: version for version in newest}


def ask_gate(
    store: Path, settings: Settings, metrics: dict[str, dict[str, float]]
) -> releases.Decision:
    """The decision for a release with these metrics against floors and what serves now."""
    now = releases.pointer(store)
    current = None
    if now is not None:
        current = releases.Manifest.read(store / now.release).metrics.get(FUSED)
    return releases.gate(
        metrics[FUSED],
        floors={name: values for name, values in metrics.items() if name in FLOORS},
        current=current,
        metric=settings.gate.metric,
        tolerance=settings.gate.tolerance,
    )


def fuse_lists(
    lists: dict[str, npt.NDArray[np.int32]], weights: dict[str, float], constant: float
) -> npt.NDArray[np.int32]:
    """(E, DEPTH) items by summed weight / (constant + place), places from 1; -1 where there are none.

    Ties go to the lower index.
    """
    examples = len(next(iter(lists.values())))
    result = np.full((examples, DEPTH), -1, dtype=np.int32)
    for row in range(examples):
        listed = np.concatenate([found[row] for found in lists.values()])
        gain = np.concatenate(
            [
                weights[n] / (constant + np.arange(1, found.shape[1] + 1))
                for n, found in lists.items()
            ]
        )
        items, where = np.unique(listed[listed >= 0], return_inverse=True)
        total = np.bincount(where, weights=gain[listed >= 0], minlength=len(items))
        best = np.lexsort((items, -total))[:DEPTH]
        result[row, : len(best)] = items[best]
    return result


def _write(folder: Path, told: dict[str, Any]) -> None:
    text = json.dumps(told, indent=1, ensure_ascii=False)
    (folder / "release.json").write_text(text + "\n", encoding="utf-8")
