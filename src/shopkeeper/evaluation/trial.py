"""One model's trial: fit on the past, measure on what came after, then fit on everything to serve.

features -> models.<name> (what a release serves) and evaluations.<name> (what the leaderboard
compares; also the model's own best lists, from which the release learns how to fuse models).
"""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shopkeeper.config import Settings
from shopkeeper.engine.steps import Context
from shopkeeper.errors import InputError
from shopkeeper.evaluation.cards import Cost, run_card
from shopkeeper.evaluation.leaderboard import FLOORS, entry, validator
from shopkeeper.evaluation.metrics import Evaluation, measure
from shopkeeper.evaluation.splits import Split, leave_one_out, sample, time_split
from shopkeeper.features.items import ItemTable
from shopkeeper.features.sequences import NO_TIME, Examples, Sequences
from shopkeeper.features.steps import items_as_of, load
from shopkeeper.features.ties import ties_as_of
from shopkeeper.models import registry
from shopkeeper.models.options import as_chosen
from shopkeeper.models.protocol import Model, TrainingData, no_progress, rank
from shopkeeper.training.crew import together

MEASURED = (
    "measured"  # folder of an evaluation: the model that never saw the test, where another serves
)
RUN_CARD = "run_card.json"  # beside the evaluation: a model is its weights, whatever they cost
FEATURES = ("features.items", "features.sequences")
LIST_LENGTH = 100  # of the lists kept for fusing
FUSED_EXAMPLES = 3_000


def split_of(settings: Settings, sequences: Sequences) -> Split:
    """The shop's primary split."""
    by = settings.split.by
    if by == "auto":
        by = "leave_one_out" if (sequences.times == NO_TIME).any() else "time"
    if by == "leave_one_out":
        return leave_one_out(sequences)
    return time_split(
        sequences,
        settings.split.test_share,
        settings.split.validation_share,
        repeats=not excludes_seen(settings, by),
    )


def excludes_seen(settings: Settings, by: str) -> bool:
    """Whether the items of the history are no candidates in the test."""
    if settings.split.exclude_seen is not None:
        return settings.split.exclude_seen
    return by == "leave_one_out"


def asset_name(spelling: str) -> str:
    """ "popularity" -> "popularity"; "mypkg.mymodel:Model" -> "mypkg_mymodel_Model"."""
    return spelling.replace(".", "_").replace(":", "_")


def run_trial(context: Context, spelling: str) -> None:
    """Train, measure and refit the model called `spelling`."""
    settings, run = context.settings, context.run
    name = asset_name(spelling)
    kind = registry.resolve(spelling, context.folder)
    sequences, items = load(run)
    if not len(sequences.items):
        raise InputError(
            "no event is left to learn from: none is clean, names an item and is of a kind that "
            "[features] kinds lists",
            where=name,
            next="see why: shopkeeper quarantine ls",
        )
    split = split_of(settings, sequences)
    seen = excludes_seen(settings, split.by)
    width = settings.features.max_length
    validation, test = (_shorten(part, width) for part in (split.validation, split.test))
    options = settings.training.model_dump()
    checkpoints = context.assets.root / "checkpoints" / name
    checkpoints.mkdir(parents=True, exist_ok=True)

    started, cost = time.monotonic(), Cost()
    measured = kind()
    known, dated = items_as_of(run, split.test_from)
    past = TrainingData(
        sequences=split.train.last(width),
        items=known,
        seed=settings.training.seed,
        threads=settings.training.threads,
        settings=options,
        validate=validator(validation, exclude_seen=seen) if len(validation) else None,
        validation=validation if len(validation) else None,
        exclude_seen=seen,
        ties=ties_as_of(run, split.test_from) if registry.reads_ties(spelling) else None,
        checkpoint=checkpoints,
        progress=context.progress,
    )
    past = replace(past, members=_members(context, name, served=False, past=past))
    fit_together(measured, past, settings.training.workers, spelling, context.folder)
    seconds, paid = time.monotonic() - started, cost.told()
    counts = np.bincount(split.train.items, minlength=len(items))
    evaluation = measure(
        measured.scores, test, exclude_seen=seen, counts=counts, items=items,
        progress=context.progress,
    )  # fmt: skip
    served = measured
    if settings.training.refit:
        served = kind()
        everything = TrainingData(
            sequences=sequences.last(width),
            items=items,
            seed=settings.training.seed,
            threads=settings.training.threads,
            settings=_as_chosen(options, name, measured.card),
            members=_members(context, name, served=True),
            ties=ties_as_of(run, None) if registry.reads_ties(spelling) else None,
            progress=context.progress,
        )
        fit_together(served, everything, settings.training.workers, spelling, context.folder)
    lists = {
        f"{part}_lists": _lists(measured, some, seen)
        for part, some in (("validation", sample(validation, FUSED_EXAMPLES, 0)), ("test", test))
    }
    about = {
        "model": name,
        "train_seconds": round(seconds, 3),
        "split": split.card(),
        "item_attributes": dated,
        "evaluation": evaluation.as_dict(),
        "card": measured.card,
        "refit_on_everything": served is not measured,
    }
    told = run_card(
        name,
        evaluation=evaluation,
        card=measured.card,
        split=split.card(),
        versions={one: context.assets.current(one).id for one in FEATURES},
        cost=paid,
        attributes=dated,
        refit=served is not measured,
        seed=settings.training.seed,
    )
    run.files(
        f"models.{name}",
        lambda folder: _save_model(served, folder),
        kind="model",
        description=f"{name}, fitted on {'all events' if settings.training.refit else 'the past'}",
        notes={"metrics": evaluation.metrics, "train_seconds": seconds},
    )
    run.files(
        f"evaluations.{name}",
        lambda folder: _save_evaluation(
            folder,
            about,
            evaluation,
            lists,
            None if name in FLOORS or served is measured else measured,
            told,
        ),
        kind="report",
        description=f"how {name} did on the split by {split.by}",
        notes={"metrics": evaluation.metrics},
    )
    run.note("metrics", {key: evaluation.metrics[key] for key in ("HR@10", "NDCG@10")})


def _members(
    context: Context, name: str, *, served: bool, past: TrainingData | None = None
) -> dict[str, Callable[[], Model]]:
    """The shop's other models for one that is made of them: as they serve, or as they were measured.

    A floor's measured model is not kept; it is fitted again on the same `past`, which gives the same.
    """
    if not registry.takes_members(name):
        return {}
    run = context.run
    found: dict[str, Callable[[], Model]] = {}
    for spelling in context.settings.models:
        other = asset_name(spelling)
        if registry.takes_members(spelling) or not run.has(f"models.{other}"):
            continue
        kept = run.folder(f"evaluations.{other}") / MEASURED
        if served or not context.settings.training.refit:
            found[other] = partial(registry.load, run.folder(f"models.{other}"), context.folder)
        elif kept.exists():
            found[other] = partial(registry.load, kept, context.folder)
        elif past is not None:
            found[other] = partial(_fit_again, spelling, context.folder, past)
    return found


def fit_together(
    model: Model, data: TrainingData, workers: int, spelling: str, folder: Path
) -> None:
    """`model.fit(data)`, its steps shared by `workers` processes where it learns by gradients.

    Rules, blends and what is chosen after learning are this process's work alone.
    """
    if workers <= 1 or "accumulate" not in _options_of(model):
        model.fit(data)
        return
    bare = replace(data, validate=None, members={}, progress=no_progress)
    work = partial(_fit_elsewhere, spelling, folder, bare, data.validate is not None)
    together(workers, work, lambda: model.fit(data))


def _fit_elsewhere(spelling: str, folder: Path, data: TrainingData, validated: bool) -> None:
    """A worker's part: the same fit; worker 0 validates for all."""
    validate = _nothing if validated else None
    registry.resolve(spelling, folder)().fit(replace(data, validate=validate))


def _nothing(model: Model) -> dict[str, float]:
    return {}


def _options_of(model: Model) -> dict[str, Any]:
    config = getattr(model, "config", None)
    return dict(getattr(config, "__dict__", {}))


def _fit_again(spelling: str, folder: Path, past: TrainingData) -> Model:
    model = registry.resolve(spelling, folder)()
    model.fit(replace(past, checkpoint=None))
    return model


def _as_chosen(options: dict[str, Any], model: str, card: dict[str, Any]) -> dict[str, Any]:
    """The [training] settings under which a fit without validation repeats the one with it."""
    more: dict[str, Any] = {key: card[key] for key in ("local", "repeat") if key in card}
    return as_chosen(_for_epochs(options, model, card.get("best_epoch")), model, more)


def _for_epochs(options: dict[str, Any], model: str, epochs: int | None) -> dict[str, Any]:
    """The [training] settings with `epochs` as the bound, wherever it was given."""
    if not epochs:
        return options
    own = options.get("options", {}).get(model, {})
    if "max_epochs" in own:
        of_models = {**options["options"], model: {**own, "max_epochs": epochs}}
        return {**options, "options": of_models}
    return {**options, "max_epochs": epochs}


def read_evaluation(folder: Path) -> tuple[dict[str, Any], Evaluation, dict[str, Any]]:
    """What `run_trial` saved: the facts, the evaluation, and the lists by part."""
    about = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    told = about["evaluation"]
    with np.load(folder / "per_user.npz", allow_pickle=False) as stored:
        per_user = {key: stored[key] for key in stored.files}
    with np.load(folder / "lists.npz", allow_pickle=False) as stored:
        lists = {key: stored[key] for key in stored.files}
    evaluation = Evaluation(
        metrics=told["metrics"],
        per_user={key: value for key, value in per_user.items() if key != "predicted"},
        groups=told["groups"],
        examples=told["examples"],
        items=told["items"],
        ks=tuple(told["ks"]),
        exclude_seen=told["exclude_seen"],
        seconds=told["seconds"],
        predicted=per_user["predicted"],
    )
    return about, evaluation, lists


def line(about: dict[str, Any], evaluation: Evaluation) -> Any:
    """The leaderboard entry of a trial."""
    return entry(about["model"], evaluation, about["train_seconds"])


def fused_evaluation(
    test: Examples, ranking: npt.NDArray[np.int32], items: ItemTable, counts: npt.NDArray[np.int64],
    *, exclude_seen: bool,
) -> Evaluation:  # fmt: skip
    """Measure given lists (E, K) as if they were a model's."""
    row = {user: place for place, user in enumerate(test.histories.users)}
    places = -np.arange(1, ranking.shape[1] + 1, dtype=np.float32)

    def score(histories: Sequences) -> npt.NDArray[np.float32]:
        scores = np.full((len(histories), len(items)), -np.inf, dtype=np.float32)
        for place, user in enumerate(histories.users):
            listed = ranking[row[user]]
            scores[place, listed[listed >= 0]] = places[listed >= 0]
        return scores

    return measure(score, test, exclude_seen=exclude_seen, counts=counts, items=items)


def _shorten(some: Examples, width: int) -> Examples:
    return Examples(some.histories.last(width), some.target_offsets, some.target_items)


def _lists(model: Model, some: Examples, exclude_seen: bool) -> npt.NDArray[np.int32]:
    found = [np.zeros((0, LIST_LENGTH), dtype=np.int32)]
    for at in range(0, len(some), 256):
        part = some.histories.take(np.arange(at, min(at + 256, len(some))))
        exclude = [part.items[part.user(row)] for row in range(len(part))] if exclude_seen else None
        found.append(rank(model, part, LIST_LENGTH, exclude=exclude)[0])
    return np.concatenate(found)


def _save_model(model: Model, folder: Path) -> None:
    registry.save(model, folder)
    text = json.dumps(model.card, indent=1, ensure_ascii=False, default=str)
    (folder / "card.json").write_text(text + "\n", encoding="utf-8")


def _save_evaluation(
    folder: Path,
    about: dict[str, Any],
    evaluation: Evaluation,
    lists: dict[str, Any],
    model: Model | None,
    run_card: dict[str, Any],
) -> None:
    if model is not None:
        (folder / MEASURED).mkdir()
        _save_model(model, folder / MEASURED)
    text = json.dumps(about, indent=1, ensure_ascii=False, default=str)
    (folder / "evaluation.json").write_text(text + "\n", encoding="utf-8")
    text = json.dumps(run_card, indent=1, ensure_ascii=False, default=str)
    (folder / RUN_CARD).write_text(text + "\n", encoding="utf-8")
    np.savez(folder / "per_user.npz", predicted=evaluation.predicted, **evaluation.per_user)  # type: ignore[arg-type]
    np.savez(folder / "lists.npz", **lists)
