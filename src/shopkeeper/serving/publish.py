"""models.*, indexes.search, clean.items, clean.events -> a release, through the gate.

The release serves the fusion of its models. Weights are chosen on the validation lists of each
trial, and so is the floor that serves instead where fusing turns out clearly worse. What the gate
compares is the pages that people of the test split, which no model saw, would have been shown: by
the release, by each of its floors alone, and by the weights that serve now (see rehearsal.py).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from shopkeeper.assets.store import Run
from shopkeeper.clean.identity import members, persons_of
from shopkeeper.config import Settings
from shopkeeper.engine.steps import Context
from shopkeeper.errors import NotReady
from shopkeeper.evaluation import loop
from shopkeeper.evaluation.leaderboard import FLOORS
from shopkeeper.evaluation.metrics import Evaluation
from shopkeeper.evaluation.splits import sample
from shopkeeper.evaluation.trial import (
    FUSED_EXAMPLES,
    asset_name,
    excludes_seen,
    fused_evaluation,
    read_evaluation,
    split_of,
)
from shopkeeper.features.build import deleted
from shopkeeper.features.sequences import Examples
from shopkeeper.features.steps import IMAGE_ENCODER, load
from shopkeeper.features.steps import OF_EVENTS as FEATURES_OF_EVENTS
from shopkeeper.recommend.rank import choose_weights
from shopkeeper.serving import rehearsal, releases
from shopkeeper.serving.feedback import taken_up_to

FUSED = "fused"  # the fused lists of the whole test, before the rules
SHOWN = "shown"  # the pages of SHOWN_EXAMPLES people of the test, after the rules
CURRENT = "current"  # the same pages under the weights of the release that serves now
SHOWN_EXAMPLES = 1_000
DEPTH = 100
OF_EVENTS = (*FEATURES_OF_EVENTS, "quantity")  # what histories, popularity and buying again need


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
    taken = taken_up_to(context, "clean.items", "raw.item_writes")
    release = releases.build(
        store,
        models={name: run.folder(f"models.{name}") for name in names},
        item_table=items,
        items=with_deleted(run, items.vocabulary.ids, taken),
        events=loop.fair(run, run.scan("clean.events", columns=(*OF_EVENTS, *loop.PLACE)))
        .drop(loop.PLACE)
        .sort("user_id", "ts", "seq", nulls_last=False)
        .collect(),
        search=run.folder("indexes.search") if run.has("indexes.search") else None,
        looks=run.folder(IMAGE_ENCODER) if run.has(IMAGE_ENCODER) else None,
        weights=weights,
        constant=constant,
        metrics=metrics,
        versions={name: context.assets.current(name).id for name in run.reads} | trained_on,
        events_position=taken_up_to(context, "clean.events", "raw.feedback"),
        items_position=taken,
        history=settings.serving.history,
        opted_out=opted_out(run),
        persons=persons_of(run),
        workspace=context.folder,
    )
    asked = sample(split.test, SHOWN_EXAMPLES, 0)
    contenders = {FUSED: weights} | {name: {name: 1.0} for name in names if name in FLOORS}
    if now := _serving_now(store, names):
        contenders[CURRENT] = now
    with rehearsal.rehearsal(store / release, settings, context.folder) as live:
        broken = rehearsal.problems(live, asked.histories)
        rehearsal.as_of_then(live, counts)
        lists = rows_of(split.test, asked, trials)
        pages = rehearsal.shown(live, asked.histories, lists, list(contenders.values()))
    shown = {
        name: fused_evaluation(asked, page, items, counts, exclude_seen=False)
        for name, page in zip(contenders, pages, strict=True)
    }
    floor = best_floor(
        {name: lists["validation_lists"] for name, (_, _, lists) in trials.items()},
        chosen.first_targets,
    )
    if floor is not None and clearly_better(shown[floor], shown[FUSED], settings.gate.metric):
        weights, metrics[FUSED], shown[FUSED] = {floor: 1.0}, metrics[floor], shown[floor]
    metrics[SHOWN] = shown[FUSED].metrics
    releases.settle(store, release, weights=weights, metrics=metrics)
    decision = ask_gate(settings, shown, broken)
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


def best_floor(
    lists: Mapping[str, npt.NDArray[np.int32]], targets: npt.NDArray[np.int32]
) -> str | None:
    """The floor whose validation lists are best, or None where no floor was trained."""
    reached = {name: choose_weights({name: lists[name]}, targets)[2] for name in lists}
    floors = [name for name in lists if name in FLOORS]
    return max(floors, key=lambda name: reached[name], default=None)


def clearly_better(one: Evaluation, other: Evaluation, metric: str) -> bool:
    """Whether `one` is above `other` by more than chance."""
    return one.metrics[metric] > other.metrics[metric] + noise(one, other, metric)


def noise(one: Evaluation, other: Evaluation, metric: str) -> float:
    """Two standard errors of the difference between two evaluations of the same people."""
    if metric not in one.per_user:
        return 0.0
    difference = one.per_user[metric] - other.per_user[metric]
    return float(2.0 * difference.std() / np.sqrt(len(difference)))


def rows_of(test: Examples, asked: Examples, trials: Mapping[str, Any]) -> dict[str, Any]:
    """source -> its lists on the test, of the people `asked` alone, in their order."""
    row = {user: place for place, user in enumerate(test.histories.users)}
    rows = [row[user] for user in asked.histories.users]
    return {name: lists["test_lists"][rows] for name, (_, _, lists) in trials.items()}


def with_deleted(run: Run, ids: Sequence[str], taken: int) -> pl.DataFrame:
    """clean.items, `alive`, and those of `ids` that a write up to `taken` deleted, not alive."""
    items = run.read("clean.items").with_columns(alive=True)
    if not run.has("raw.item_writes"):
        return items
    writes = run.read("raw.item_writes", columns=["item_id", "mode", "seq"])
    gone = deleted(writes.filter(pl.col("seq") <= taken))
    known = pl.DataFrame({"item_id": ids}, schema={"item_id": pl.String})
    known = known.filter(pl.col("item_id").is_in(gone.implode()))
    known = known.join(items, on="item_id", how="anti").with_columns(alive=False)
    return pl.concat([items, known], how="diagonal").sort("item_id")


def opted_out(run: Run) -> list[str]:
    """Users who switched personalisation off."""
    if not run.has("clean.users"):
        return []
    users = run.scan("clean.users", columns=["user_id", "personalisation"])
    users = users.filter(~pl.col("personalisation").fill_null(True))
    told = users.select("user_id").collect()["user_id"].to_list()
    return members(persons_of(run), told)  # one no is the no of the whole person


def _trained_on(context: Context, names: list[str]) -> dict[str, str]:
    """The versions of the features that all models were trained on."""
    catalog = context.assets.catalog
    made = {name: catalog.made_from(context.assets.current(f"models.{name}").id) for name in names}
    found = {  # a model may have been made of other models as well; each of those is asked itself
        name: [version for version in versions if version.startswith("features.")]
        for name, versions in made.items()
    }
    newest = max(found.values())
    if others := [name for name, versions in found.items() if versions != newest]:
        raise NotReady(
            f"models {', '.join(others)} were trained on other features than the rest",
            where="release",
            next="train all again: shopkeeper train",
        )
    return {version.rpartition("@")[0]: version for version in newest}


def ask_gate(
    settings: Settings, shown: Mapping[str, Evaluation], broken: Sequence[str]
) -> releases.Decision:
    """The decision for a release that would show this, against its floors and what serves now."""
    metric = settings.gate.metric
    others = {name: one for name, one in shown.items() if name != FUSED}
    floors = {name: one.metrics for name, one in others.items() if name != CURRENT}
    return releases.gate(
        shown[FUSED].metrics,
        floors=floors,
        noise={name: noise(one, shown[FUSED], metric) for name, one in others.items()},
        current=others[CURRENT].metrics if CURRENT in others else None,
        metric=metric,
        tolerance=settings.gate.tolerance,
        broken=broken,
    )


def _serving_now(store: Path, names: Sequence[str]) -> dict[str, float]:
    """The weights of the release that serves, of models that the new one has as well."""
    now = releases.pointer(store)
    if now is None:
        return {}
    manifest = releases.Manifest.read(store / now.release)
    weights = manifest.weights or dict.fromkeys(manifest.models, 1.0)
    return {name: weight for name, weight in weights.items() if name in names}


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
