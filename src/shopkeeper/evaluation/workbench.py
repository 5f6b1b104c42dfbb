"""What is done with a shop's trained models when asked for: card, export, compression, tuning."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from shopkeeper.assets.durable import make_folder, write_bytes
from shopkeeper.assets.store import Assets
from shopkeeper.engine.steps import Context, Step
from shopkeeper.errors import InputError, NotReady
from shopkeeper.evaluation import tuning
from shopkeeper.evaluation.benchmarks import protocol
from shopkeeper.evaluation.compression import compress
from shopkeeper.evaluation.trial import (
    FEATURES,
    RUN_CARD,
    asset_name,
    excludes_seen,
    split_of,
)
from shopkeeper.features.build import item_table
from shopkeeper.features.build import sequences as packed
from shopkeeper.features.sequences import Examples
from shopkeeper.features.steps import items_as_of, load
from shopkeeper.governance.access import OWNER
from shopkeeper.models import registry
from shopkeeper.models.export import Bits, Runner, to_onnx
from shopkeeper.models.protocol import Progress, no_progress
from shopkeeper.models.sequential import SequenceModel
from shopkeeper.words import KIND_CODES, Purpose

PARITY = 1e-3  # largest difference of a score between PyTorch and the exported floats
PROBES = 64  # histories that both are asked about


def compression(name: str) -> Step:
    """Every smaller form of a trained model, measured; no part of the loop."""
    needs = (*FEATURES, f"models.{name}", f"evaluations.{name}")
    return Step(
        f"compress.{name}", needs, (f"reports.compression_{name}",), partial(compress, name=name),
        lambda s, _: {"features": s.features, "split": s.split, "training": s.training}, needs=needs,
    )  # fmt: skip


def read_compression(assets: Assets, name: str) -> list[dict[str, Any]]:
    """The rows that `compress` measured."""
    folder = assets.folder(f"reports.compression_{name}", by=OWNER, purpose=Purpose.ANALYSE)
    told: list[dict[str, Any]] = json.loads((folder / "compression.json").read_text("utf-8"))
    return told


def card(assets: Assets, name: str) -> dict[str, Any]:
    """The run card of a trained model. NotReady: it was trained before there were cards."""
    folder = assets.folder(f"evaluations.{name}", by=OWNER, purpose=Purpose.ANALYSE)
    if not (folder / RUN_CARD).exists():
        raise NotReady(
            "this model has no run card yet",
            where=f"models.{name}",
            next=f"train it again: shopkeeper train {name} --force",
        )
    told: dict[str, Any] = json.loads((folder / RUN_CARD).read_text(encoding="utf-8"))
    return {**told, "version": assets.current(f"models.{name}").id}


def export(assets: Assets, workspace: Path, name: str, out: Path, bits: Bits) -> dict[str, Any]:
    """Write the model that serves as `out`/model.onnx, with what it takes and gives in model.json.

    Returns:
        {"model", "version", "bits", "files", "bytes", "largest_difference", "same_first"}: of the scores
        beside PyTorch's, and the share of histories whose first item is the same.
    Raises:
        InputError: the model cannot be exported, or its floats answer otherwise than PyTorch.
    """
    folder = assets.folder(f"models.{name}", by=OWNER, purpose=Purpose.TRAIN)
    model = registry.load(folder, workspace)
    if not isinstance(model, SequenceModel):
        to_onnx(model)  # says why not
        raise InputError(f"{name} is no network over behaviour sequences", where="export")
    of_items, of_users = (assets.read(one, by=OWNER, purpose=Purpose.TRAIN) for one in FEATURES)
    vocabulary = item_table(of_items).vocabulary
    sequences = packed(of_users.sort("user_id"), vocabulary)
    histories = sequences.take(np.arange(len(sequences))[-PROBES:])
    wanted = model.scores(histories)
    graph = to_onnx(model, bits, model.feeds(histories))
    model.runner = Runner(graph)
    found = model.scores(histories)
    apart = float(np.abs(found - wanted).max(initial=0.0))
    if bits == "float" and apart > PARITY:
        raise InputError(
            f"ONNX Runtime's scores differ from PyTorch's by {apart:.2g}; wanted at most {PARITY:g}",
            where=f"export {name}",
            next="report this with the versions of torch and onnxruntime",
        )
    make_folder(out)
    write_bytes(out / "model.onnx", graph)
    first = np.argmax(found, axis=1) == np.argmax(wanted, axis=1)
    told = {
        "model": name,
        "version": assets.current(f"models.{name}").id,
        "bits": bits,
        "bytes": len(graph),
        "largest_difference": apart,
        "same_first": float(first.mean()) if len(first) else 1.0,
    }
    about = {
        **told,
        "inputs": {
            "items": "(users, length) int64: rows of vocabulary.json, oldest event first",
            "kinds": "(users, length) int64: codes of kinds of events, see `kind_codes`",
            "dwell": "(users, length) float32: log(1 + seconds), 0 where unknown",
            "gaps": "(users, length) int64: floor(log(1 + seconds since the event before)), at most 19",
            "newest": "(users,) int64: place of each history's newest event",
        },
        "output": "logits, (users, items) float32: higher is better; what serving adds (the local rule, "
        "exclusions) is not in it",
        "length": {"least": 2, "most": model.config.max_length, "of_one_event": "write it twice, newest 0"},
        "kind_codes": dict(KIND_CODES),
    }  # fmt: skip
    write_bytes(out / "model.json", (json.dumps(about, indent=1) + "\n").encode())
    ids = json.dumps(vocabulary.ids, ensure_ascii=False)
    write_bytes(out / "vocabulary.json", ids.encode())
    return {**told, "files": [str(out / one) for one in ("model.onnx", "model.json", "vocabulary.json")]}  # fmt: skip


def tuned(
    context: Context, spelling: str, space: Sequence[str], method: tuning.Method, trials: int,
    minutes: float, workers: int, ray: str | None,
) -> None:  # fmt: skip
    """The step: search the settings of a model on the shop's validation -> reports.tuning_<model>."""
    run, settings, name = context.run, context.settings, asset_name(spelling)
    sequences, _ = load(run)
    split = split_of(settings, sequences)
    width, seen = settings.features.max_length, excludes_seen(settings, split.by)
    known, _ = items_as_of(run, split.validation_from)
    some = split.validation
    if not len(some):
        raise InputError("there is no validation to search on", where="tune", next="shopkeeper run")
    validation = Examples(some.histories.last(width), some.target_offsets, some.target_items)
    one = tuning.Search(
        model=spelling,
        train=split.train.last(width),
        items=known,
        validation=validation,
        exclude_seen=seen,
        folder=str(context.assets.root / "tuning" / f"{name}-{method}"),
        space=dict(tuning.space_of(spelling, space)),
        method=method,
        trials=trials,
        seed=settings.training.seed,
        threads=1 if workers > 1 else settings.training.threads,
        settings=settings.training.model_dump(),
        workspace=str(context.folder),
        minutes=minutes,
    )
    told = tuning.search(one, workers=workers, ray=ray, progress=context.progress)
    run.files(
        f"reports.tuning_{name}",
        lambda folder: write_bytes(folder / tuning.LOG, json.dumps(told, indent=1).encode()),
        kind="report",
        description=f"settings of {name} tried on validation",
        notes={"best": told["best"], "trials": len(told["trials"])},
    )
    run.note("trials", len(told["trials"]))
    run.note("best", told["best"])


def tuning_step(
    spelling: str, *, space: Sequence[str], method: tuning.Method, trials: int,
    minutes: float, workers: int, ray: str | None,
) -> Step:  # fmt: skip
    """A search for the settings of `spelling`; no part of the loop."""
    told = {"space": list(space), "method": method, "trials": trials}
    return Step(
        f"tune.{asset_name(spelling)}", FEATURES, (f"reports.tuning_{asset_name(spelling)}",),
        partial(tuned, spelling=spelling, space=space, method=method, trials=trials, minutes=minutes, workers=workers, ray=ray),
        lambda s, _: {**told, "features": s.features, "split": s.split, "training": s.training},
        needs=FEATURES,
    )  # fmt: skip


def read_tuning(assets: Assets, name: str) -> dict[str, Any]:
    """The newest trial log of a model."""
    folder = assets.folder(f"reports.tuning_{name}", by=OWNER, purpose=Purpose.ANALYSE)
    told: dict[str, Any] = json.loads((folder / tuning.LOG).read_text(encoding="utf-8"))
    return told


def tune_benchmark(
    name: str, data: Path, model: str, folder: Path, *, space: Sequence[str] = (),
    method: tuning.Method = "tpe", trials: int = 20, minutes: float = 0.0, workers: int = 1,
    ray: str | None = None, seed: int = 42, progress: Progress = no_progress,
) -> dict[str, Any]:  # fmt: skip
    """Search on a public benchmark's validation; its test is not looked at. The log is in `folder`."""
    how = protocol(name)
    cut = how.read(data)
    one = tuning.Search(
        model=model,
        train=cut.train,
        items=cut.items,
        validation=cut.validation,
        exclude_seen=how.exclude_seen,
        folder=str(folder),
        space=dict(tuning.space_of(model, space)),
        method=method,
        trials=trials,
        seed=seed,
        primary=how.primary,
        k=how.k,
        settings=dict(how.settings),
        minutes=minutes,
    )
    return tuning.search(one, workers=workers, ray=ray, progress=progress)
