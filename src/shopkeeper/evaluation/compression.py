"""A model made smaller: what each way costs in quality and gains in bytes and milliseconds.

    onnx        the same numbers in ONNX Runtime
    int8        8 bits, `dynamic` or `static` (models/export.py)
    magnitude   the smallest weights of every layer set to 0: no smaller a file and no faster here,
                as products of floats do not skip zeros; what it says is how much is to spare
    narrow      whole units taken out where they say least: a smaller network of the same kind
    distilled   a smaller network that learned from the events and from what the large one says

Quality is of the model that was measured, on the test that it was measured on; latency is of one
history at a time, from the history to the score of every item, on one thread.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from shopkeeper.engine.steps import Context
from shopkeeper.errors import InputError, NotReady
from shopkeeper.evaluation.leaderboard import validator
from shopkeeper.evaluation.metrics import measure
from shopkeeper.evaluation.splits import sample
from shopkeeper.evaluation.trial import MEASURED, excludes_seen, split_of
from shopkeeper.features.sequences import Examples, Sequences
from shopkeeper.features.steps import items_as_of, load
from shopkeeper.models import registry
from shopkeeper.models.export import Runner, to_onnx
from shopkeeper.models.protocol import TrainingData
from shopkeeper.models.sequential import SequenceModel

LATENCY_HISTORIES = 300
CALIBRATION_HISTORIES = 200
SPARSE = (0.3, 0.5)  # shares of weights set to 0
HEADINGS = ("form", "MB", "of its size", "p50 ms", "p99 ms", "faster", "NDCG@10", "loss", "weights")


@dataclass(frozen=True)
class Form:
    """One form of a model, measured."""

    form: str
    bytes: int
    p50_ms: float
    p99_ms: float
    metrics: dict[str, float]
    weights: int  # numbers that are not 0


def measure_forms(
    model: SequenceModel,
    test: Examples,
    *,
    exclude_seen: bool,
    learn: TrainingData | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[Form]:
    """Every form of `model`, the one it has first.

    Args:
        learn: what the model learned from; without it nothing is distilled.
        say: called with what is done next.
    """
    one_by_one = sample(test, LATENCY_HISTORIES, 1).histories
    calibrate = sample(test, CALIBRATION_HISTORIES, 2).histories
    if learn is not None:  # test histories calibrate nothing
        users = np.arange(len(learn.sequences))[-CALIBRATION_HISTORIES:]
        calibrate = learn.sequences.take(users)

    def told(form: str, one: SequenceModel, graph: bytes | None = None) -> Form:
        say(form)
        one.runner = None if graph is None else Runner(graph)
        try:
            found = measure(one.scores, test, (10,), exclude_seen=exclude_seen, groups=False)
            p50, p99 = latency(one.scores, one_by_one)
        finally:
            one.runner = None
        size = _bytes(one) if graph is None else len(graph)
        return Form(form, size, p50, p99, found.metrics, _weights(one))

    yield told("PyTorch, float32", model)
    yield told("ONNX, float32", model, to_onnx(model))
    yield told("ONNX, int8 dynamic", model, to_onnx(model, "dynamic"))
    yield told("ONNX, int8 static", model, to_onnx(model, "static", model.feeds(calibrate)))
    for share in SPARSE:
        yield told(f"magnitude, {share:.0%} of weights 0", without_small(model, share))
    narrow = narrower(model)
    if narrow is not None:
        yield told(f"narrow, {narrow[1]}", narrow[0])
        yield told(f"narrow, {narrow[1]}, int8", narrow[0], to_onnx(narrow[0], "dynamic"))
    if learn is not None:
        small = smaller_settings(model)
        say("learning from the large one")
        for form, teacher in (("distilled", model), ("as small, not distilled", None)):
            student = type(model)()
            student.fit(replace(learn, settings=small, teacher=teacher, checkpoint=None))
            size = f"width {student.config.dim}"
            yield told(f"{form}, {size}", student)
            if teacher is not None:
                yield told(f"{form}, {size}, int8", student, to_onnx(student, "dynamic"))


def latency(scores: Callable[[Sequences], Any], histories: Sequences) -> tuple[float, float]:
    """(p50, p99) milliseconds of one history at a time, on one thread, warmed up."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        parts = [histories.take(np.array([row])) for row in range(len(histories))]
        for part in parts[:20]:
            scores(part)
        took = []
        for part in parts:
            began = time.perf_counter()
            scores(part)
            took.append(1000.0 * (time.perf_counter() - began))
    finally:
        torch.set_num_threads(before)
    return float(np.quantile(took, 0.5)), float(np.quantile(took, 0.99))


def without_small(model: SequenceModel, share: float) -> SequenceModel:
    """A copy with the `share` of each layer's weights that are nearest to 0 set to 0."""
    made = copy(model)
    with torch.no_grad():
        for layer in _network(made).modules():
            for name, weight in layer.named_parameters(recurse=False):
                if weight.dim() == 2 and isinstance(layer, nn.Linear | nn.RNNBase):
                    size = weight.abs()
                    least = torch.quantile(size.flatten(), share)
                    getattr(layer, name).mul_(size > least)
    return made


def narrower(model: SequenceModel) -> tuple[SequenceModel, str] | None:
    """A copy with half of the units between two fully connected layers, those that say most kept.

    What a unit says is the length of the weights into it times the length of those out of it. None
    for a network without such layers.
    """
    wide = getattr(model.config, "wide", 0)
    pairs = [one for one in _network(model).modules() if _is_pair(one)]
    if wide < 2 or not pairs:
        return None
    made = type(model)(replace(model.config, wide=wide // 2))
    state = dict(_network(model).state_dict())
    for name, one in _network(model).named_modules():
        if not _is_pair(one):
            continue
        into, out = one.widen, one.narrow
        assert isinstance(into, nn.Linear)
        assert isinstance(out, nn.Linear)
        says = into.weight.norm(dim=1) * out.weight.norm(dim=0)
        kept = says.topk(len(says) * (wide // 2) // wide).indices.sort().values
        state[f"{name}.widen.weight"] = into.weight[kept]
        state[f"{name}.widen.bias"] = into.bias[kept]
        state[f"{name}.narrow.weight"] = out.weight[:, kept]
    _fill(made, model, state)
    return made, f"{wide // 2} times the width instead of {wide}"


def smaller_settings(model: SequenceModel) -> dict[str, Any]:
    """Half the width and, where there are several, half the layers."""
    told = {key: value for key, value in vars(model.config).items() if key != "device"}
    told["dim"] = max(8, model.config.dim // 2)
    for key in ("layers", "hidden"):
        if told.get(key, 0) > 1:
            told[key] = told[key] // 2
    if told.get("heads", 1) > told["dim"] // 8:
        told["heads"] = 1
    return {"options": {model.name: told}}


def copy(model: SequenceModel) -> SequenceModel:
    """The same model, with weights of its own."""
    made = type(model)(model.config)
    _fill(made, model, dict(_network(model).state_dict()))
    return made


def compress(context: Context, name: str) -> None:
    """The step: every form of the measured model `name` -> reports.compression_<name>."""
    run, settings = context.run, context.settings
    model = measured(context, name)
    sequences, _ = load(run)
    split = split_of(settings, sequences)
    seen, width = excludes_seen(settings, split.by), settings.features.max_length
    known, _ = items_as_of(run, split.test_from)
    test = Examples(
        split.test.histories.last(width), split.test.target_offsets, split.test.target_items
    )
    learn = TrainingData(
        sequences=split.train.last(width),
        items=known,
        seed=settings.training.seed,
        threads=settings.training.threads,
        validate=validator(split.validation, exclude_seen=seen) if len(split.validation) else None,
        progress=context.progress,
    )
    forms = []
    for form in measure_forms(
        model, test, exclude_seen=seen, learn=learn, say=partial(context.progress, 0, 0)
    ):
        forms.append(form)
    told = as_json(forms)
    run.files(
        f"reports.compression_{name}",
        lambda folder: _write(folder, told),
        kind="report",
        description=f"{name}, smaller: bytes, milliseconds, quality",
        notes={"forms": len(forms)},
    )
    run.note("forms", told)


def measured(context: Context, name: str) -> SequenceModel:
    """The model that never saw the test. InputError: it is of a kind that cannot be exported."""
    folder = context.run.folder(f"evaluations.{name}") / MEASURED
    if not folder.exists():
        if context.settings.training.refit:
            raise NotReady(
                f"the measured {name} was not kept",
                where=f"evaluations.{name}",
                next=f"train it again: shopkeeper train {name} --force",
            )
        folder = context.run.folder(f"models.{name}")
    model = registry.load(folder, context.folder)
    if not isinstance(model, SequenceModel):
        raise InputError(
            f"{name} is no network over behaviour sequences",
            where="compress",
            next="there are: transformer, rnn, sequence_cnn",
        )
    return model


def as_json(forms: list[Form]) -> list[dict[str, Any]]:
    """Rows of the table, each beside the first."""
    first = forms[0]
    return [
        {
            "form": one.form,
            "bytes": one.bytes,
            "share_of_size": round(one.bytes / first.bytes, 4),
            "p50_ms": round(one.p50_ms, 3),
            "p99_ms": round(one.p99_ms, 3),
            "times_faster": round(first.p50_ms / one.p50_ms, 2),
            "NDCG@10": round(one.metrics["NDCG@10"], 6),
            "loss": round(1.0 - one.metrics["NDCG@10"] / first.metrics["NDCG@10"], 5),
            "weights": one.weights,
        }
        for one in forms
    ]


def table(told: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Rows of text under HEADINGS."""
    return [
        [
            row["form"],
            f"{row['bytes'] / 1e6:.2f}",
            f"{row['share_of_size']:.0%}",
            f"{row['p50_ms']:.2f}",
            f"{row['p99_ms']:.2f}",
            f"{row['times_faster']:.1f}x",
            f"{row['NDCG@10']:.4f}",
            f"{row['loss']:+.1%}",
            f"{row['weights']:,}",
        ]
        for row in told
    ]


def _write(folder: Path, told: list[dict[str, Any]]) -> None:
    import json

    text = json.dumps(told, indent=1)
    (folder / "compression.json").write_text(text + "\n", encoding="utf-8")


def _fill(made: SequenceModel, model: SequenceModel, state: dict[str, torch.Tensor]) -> None:
    """Give `made` the weights `state` and everything else that `model` has."""
    made.take_network(state, model)


def _network(model: SequenceModel) -> nn.Module:
    if model.network is None:
        raise RuntimeError("fit or load the model first")
    return model.network


def _is_pair(module: nn.Module) -> bool:
    return isinstance(getattr(module, "widen", None), nn.Linear) and isinstance(
        getattr(module, "narrow", None), nn.Linear
    )


def _bytes(model: SequenceModel) -> int:
    """Of the network's weights, as safetensors keep them."""
    return sum(4 * one.numel() for one in _network(model).parameters())


def _weights(model: SequenceModel) -> int:
    return sum(int((one != 0).sum()) for one in _network(model).parameters())
