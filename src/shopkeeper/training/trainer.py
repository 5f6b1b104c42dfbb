"""One loop for every model that learns by gradients: early stopping, resuming, the run's record.

Randomness of an epoch depends on (seed, epoch) alone, so a run that was killed and resumed from
its last checkpoint ends with the same weights as one that was not.
"""

import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from shopkeeper.assets.durable import write_bytes
from shopkeeper.errors import InputError
from shopkeeper.training.crew import Over, current

Batch = TypeVar("Batch")
Progress = Callable[[float, float, str], None]


@dataclass(frozen=True)
class Plan:
    """How long and how fast to learn."""

    max_epochs: int = 40
    patience: int = 4  # validations without a better one before stopping
    max_minutes: float = 60.0
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    decoupled: bool = False  # weight decay beside the gradient (AdamW) instead of in it (Adam)
    schedule: str = "constant"  # "cosine": from epoch to epoch down to nothing at `max_epochs`
    warmup_steps: int = 100
    average: float = 0.0  # decay per step of the running mean of the weights; 0: no mean
    clip: float = 5.0  # largest norm of the gradient
    accumulate: int = 1  # batches whose gradients make one step; several workers share them
    validate_every: int = 1  # epochs
    validate_from: int = 1  # the first epoch that is validated


@dataclass
class Report:
    """What happened; goes into the model's card."""

    curve: list[dict[str, Any]] = field(default_factory=list)  # per epoch: loss, metrics, seconds
    best_epoch: int = 0
    stopped: str = ""
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return {
            "curve": self.curve,
            "best_epoch": self.best_epoch,
            "stopped": self.stopped,
            "seconds": round(self.seconds, 2),
            "cpu_seconds": round(self.cpu_seconds, 2),
            "peak_rss_mb": peak_rss_mb(),
        }


def train(
    module: nn.Module,
    batches: Callable[[np.random.Generator], Iterable[Batch]],
    loss: Callable[[Batch, torch.Generator], Tensor],
    plan: Plan,
    *,
    seed: int,
    validate: Callable[[], dict[str, float]] | None = None,
    primary: str = "NDCG@10",
    checkpoint: Path | None = None,
    fingerprint: str = "",
    progress: Progress,
    name: str,
    begin: Callable[[int], None] | None = None,
) -> Report:
    """Learn until `patience` or a limit is reached; `module` ends with the best epoch's weights.

    Args:
        batches: called once an epoch with that epoch's generator.
        loss: mean loss of one batch, differentiable; gets a torch generator for its own draws.
        validate: scores `module` as it is then (in eval mode); without it the last epoch is best.
        checkpoint: folder for the state after each epoch; a run of the same `fingerprint` found
            there is resumed. None: nothing is kept.
        fingerprint: says which data and settings a checkpoint belongs to.
        begin: called with the number of each epoch, from 1, before its batches are asked for.
    """
    adam = torch.optim.AdamW if plan.decoupled else torch.optim.Adam
    optimiser = adam(
        module.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True
    )
    mean = {k: v.detach().clone() for k, v in module.state_dict().items()} if plan.average else {}
    best: dict[str, Tensor] = {}
    report = Report()
    steps = 0
    done = 0
    if checkpoint is not None and (found := _resume(checkpoint, fingerprint, module, optimiser)):
        report, steps, mean, best = found
        done = len(report.curve)
    clock, cpu = time.perf_counter() - report.seconds, time.process_time() - report.cpu_seconds
    crew = current()
    lead = crew is None or crew.rank == 0
    if crew is not None and plan.accumulate < crew.size:
        raise InputError(
            f"{crew.size} workers share the batches of a step, but accumulate = {plan.accumulate}",
            where=f"training.options.{name}",
            next=f"write accumulate = {crew.size}, or workers = 1 under [training]",
        )
    while not report.stopped:
        if done >= plan.max_epochs:
            report.stopped = f"max_epochs = {plan.max_epochs} reached"
            break
        done += 1
        numbers = np.random.default_rng([seed, done])
        torch.manual_seed(int(numbers.integers(2**62)))
        generator = torch.Generator().manual_seed(int(numbers.integers(2**62)))
        module.train()
        if begin is not None:
            begin(done)
        total, count = 0.0, 0
        began = time.process_time()
        rate = plan.learning_rate * share_of_rate(plan, done)
        for parts in _steps(batches(numbers), plan.accumulate):
            steps += 1
            for group in optimiser.param_groups:
                group["lr"] = rate * min(1.0, steps / max(1, plan.warmup_steps))
            optimiser.zero_grad(set_to_none=True)
            value = torch.zeros(())
            for place, batch in enumerate(parts):
                if crew is not None and place % crew.size != crew.rank:
                    continue
                if plan.accumulate > 1:  # draws of a batch do not depend on who learns from it
                    torch.manual_seed(hash((seed, done, count, place)) % 2**62)
                    generator.manual_seed(hash((done, seed, count, place)) % 2**62)
                own = loss(batch, generator) / len(parts)
                own.backward()  # type: ignore[no-untyped-call]
                value = value + own.detach().cpu()
            if crew is not None:
                crew.add_up(module)
            nn.utils.clip_grad_norm_(module.parameters(), plan.clip)
            optimiser.step()
            total, count = total + float(value), count + 1
            if mean:
                _average(mean, module, min(plan.average, (1.0 + steps) / (10.0 + steps)))
        learning = time.process_time() - began
        learning += report.curve[-1]["learning_cpu_seconds"] if report.curve else 0.0
        row: dict[str, Any] = {
            "epoch": done,
            "loss": round(total / max(1, count), 5),
            "learning_cpu_seconds": round(learning, 3),  # of all epochs so far, no validation
        }
        module.eval()
        due = done >= plan.validate_from and (
            (done - plan.validate_from) % plan.validate_every == 0 or done == plan.max_epochs
        )
        if validate is None or due:
            now = {k: v.detach().clone() for k, v in module.state_dict().items()} if mean else {}
            if mean:
                module.load_state_dict(mean)
            metrics = validate() if validate is not None and lead else {}
            metrics = metrics if crew is None else crew.told(metrics)
            row |= {key: round(value, 6) for key, value in metrics.items()}
            scored = [(r.get(primary, -1.0), -r["epoch"]) for r in [*report.curve, row]]
            report.best_epoch = -max(scored)[1] if validate is not None else done
            if report.best_epoch == done:
                best = {k: v.detach().clone() for k, v in module.state_dict().items()}
            if now:
                module.load_state_dict(now)
        report.seconds, report.cpu_seconds = time.perf_counter() - clock, time.process_time() - cpu
        row |= {"seconds": round(report.seconds, 2), "cpu_seconds": round(report.cpu_seconds, 2)}
        report.curve.append(row)
        said = f" {primary} {row[primary]:.4f}" if primary in row else ""
        progress(done, plan.max_epochs, f"{name}: epoch {done} loss {row['loss']:.3f}{said}")
        worse = sum(1 for r in report.curve if r["epoch"] > report.best_epoch and primary in r)
        if validate is not None and worse >= plan.patience:
            report.stopped = f"no better {primary} in {worse} validations"
        elif report.seconds > plan.max_minutes * 60.0:
            report.stopped = f"max_minutes = {plan.max_minutes} reached"
        if crew is not None:
            report.stopped = crew.told(report.stopped)
        if checkpoint is not None and lead:
            _keep(checkpoint, fingerprint, module, optimiser, report, steps, mean, best)
    if not lead:
        raise Over
    if best:
        module.load_state_dict(best)
    module.eval()
    return report


def peak_rss_mb() -> int:
    """Most memory this process has held so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak / (1024 * 1024 if sys.platform == "darwin" else 1024))


def _steps(batches: Iterable[Batch], many: int) -> Iterator[list[Batch]]:
    """`many` batches at a time; the last ones of an epoch may be fewer."""
    coming = iter(batches)
    while some := list(islice(coming, many)):
        yield some


def share_of_rate(plan: Plan, epoch: int) -> float:
    """How much of the learning rate is left in `epoch`, from 1."""
    if plan.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * (epoch - 1) / plan.max_epochs))
    return 1.0


def _average(mean: dict[str, Tensor], module: nn.Module, decay: float) -> None:
    for key, value in module.state_dict().items():
        if value.is_floating_point():
            mean[key].lerp_(value.detach(), 1.0 - decay)


def _keep(
    folder: Path,
    fingerprint: str,
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    report: Report,
    steps: int,
    mean: dict[str, Tensor],
    best: dict[str, Tensor],
) -> None:
    """Write one checkpoint beside the last one, then put it in its place by rename."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"module.{k}": v for k, v in module.state_dict().items()}
    tensors |= {f"mean.{k}": v for k, v in mean.items()} | {f"best.{k}": v for k, v in best.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{k}": v for k, v in state.items()}
    epoch = len(report.curve)
    name = f"epoch-{epoch}.safetensors"
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, folder / name)
    about = {
        "fingerprint": fingerprint,
        "weights": name,
        "steps": steps,
        "curve": report.curve,
        "best_epoch": report.best_epoch,
        "stopped": report.stopped,
        "seconds": report.seconds,
        "cpu_seconds": report.cpu_seconds,
    }
    with (folder / name).open("rb") as written:
        os.fsync(written.fileno())
    write_bytes(folder / "state.json", json.dumps(about).encode())
    for old in folder.glob("epoch-*.safetensors"):
        if old.name != name:
            old.unlink()


def _resume(
    folder: Path, fingerprint: str, module: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[Report, int, dict[str, Tensor], dict[str, Tensor]] | None:
    path = folder / "state.json"
    if not path.exists():
        return None
    try:  # what cannot be read, after a power cut say, is no checkpoint
        about = json.loads(path.read_text(encoding="utf-8"))
        if about["fingerprint"] != fingerprint:
            return None
        tensors = load_file(folder / about["weights"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return None
    module.load_state_dict(_under(tensors, "module."))
    state: dict[int, dict[str, Tensor]] = {}
    own = list(module.parameters())
    for key, value in _under(tensors, "adam.").items():
        index, _, part = key.partition(".")
        parameter = own[int(index)]
        if value.shape == parameter.shape:  # in its layout: the fused step goes by memory alone
            value = torch.empty_like(parameter, requires_grad=False).copy_(value)
        state.setdefault(int(index), {})[part] = value
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})
    report = Report(
        curve=about["curve"],
        best_epoch=about["best_epoch"],
        stopped=about["stopped"],
        seconds=about["seconds"],
        cpu_seconds=about["cpu_seconds"],
    )
    return report, about["steps"], _under(tensors, "mean."), _under(tensors, "best.")


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
