from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shopkeeper.training.trainer import Plan, Report, share_of_rate, train

Rows = tuple[Tensor, Tensor]
TRUE = torch.tensor([[1.0, -2.0, 0.5]])


def _batches(rng: np.random.Generator) -> Iterator[Rows]:
    for _ in range(8):
        x = torch.from_numpy(rng.normal(size=(16, 3)).astype(np.float32))
        yield x, x @ TRUE.T


class Stop(Exception):
    pass


def _learn(
    folder: Path | None = None,
    *,
    plan: Plan | None = None,
    stop_after: int = 0,
    seed: int = 3,
    fingerprint: str = "a",
    scores: list[float] | None = None,
) -> tuple[nn.Module, Report]:
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.1), nn.Linear(8, 1))

    def loss(batch: Rows, generator: torch.Generator) -> Tensor:
        x, y = batch
        noise = torch.randn(y.shape, generator=generator) * 0.01
        return ((module(x) - y - noise) ** 2).mean()

    def progress(done: float, total: float, text: str) -> None:
        if stop_after and done > stop_after:
            raise Stop

    given = iter(scores or [])
    report = train(
        module,
        _batches,
        loss,
        plan or Plan(max_epochs=6, average=0.9, warmup_steps=4, learning_rate=0.01),
        seed=seed,
        validate=(lambda: {"NDCG@10": next(given)}) if scores else None,
        checkpoint=folder,
        fingerprint=fingerprint,
        progress=progress,
        name="line",
    )
    return module, report


def _bytes(module: nn.Module) -> list[bytes]:
    return [v.numpy().tobytes() for v in module.state_dict().values()]


def test_learning_makes_the_loss_smaller() -> None:
    _, report = _learn()
    losses = [row["loss"] for row in report.curve]
    assert losses[-1] < losses[0] / 2
    assert report.stopped == "max_epochs = 6 reached"


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    assert _bytes(_learn()[0]) == _bytes(_learn()[0])
    assert _bytes(_learn()[0]) != _bytes(_learn(seed=4)[0])


def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    whole, _ = _learn()
    with pytest.raises(Stop):
        _learn(tmp_path, stop_after=3)
    resumed, report = _learn(tmp_path)
    assert [row["epoch"] for row in report.curve] == [1, 2, 3, 4, 5, 6]
    assert _bytes(resumed) == _bytes(whole)


def test_a_checkpoint_of_other_data_or_settings_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        _learn(tmp_path, stop_after=3, fingerprint="a")
    other, _ = _learn(tmp_path, fingerprint="b")
    assert _bytes(other) == _bytes(_learn()[0])


@pytest.mark.parametrize("damaged", ["state.json", "epoch-6.safetensors"])
def test_a_checkpoint_that_cannot_be_read_is_none(tmp_path: Path, damaged: str) -> None:
    whole, _ = _learn(tmp_path)
    (tmp_path / damaged).write_bytes(b"")
    again, report = _learn(tmp_path)
    assert [row["epoch"] for row in report.curve] == [1, 2, 3, 4, 5, 6]
    assert _bytes(again) == _bytes(whole)


def test_only_safetensors_and_json_are_kept_as_checkpoints(tmp_path: Path) -> None:
    _learn(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "epoch-6.safetensors",
        "state.json",
    ]


def test_learning_stops_after_patience_and_keeps_the_best_epoch() -> None:
    plan = Plan(max_epochs=20, patience=2)
    best, report = _learn(plan=plan, scores=[0.1, 0.3, 0.2, 0.3, 0.9])
    assert report.best_epoch == 2
    assert len(report.curve) == 4
    assert report.stopped == "no better NDCG@10 in 2 validations"
    two, _ = _learn(plan=Plan(max_epochs=2))
    assert _bytes(best) == _bytes(two)


def test_epochs_between_validations_do_not_count_as_worse() -> None:
    plan = Plan(max_epochs=9, patience=1, validate_every=3, validate_from=3)
    _, report = _learn(plan=plan, scores=[0.1, 0.2, 0.3])
    assert report.best_epoch == 9
    assert [row["epoch"] for row in report.curve if "NDCG@10" in row] == [3, 6, 9]


def test_a_cosine_schedule_slows_down_to_the_end() -> None:
    plan = Plan(max_epochs=4, schedule="cosine", learning_rate=0.02, warmup_steps=1)
    rates = [plan.learning_rate * share_of_rate(plan, epoch) for epoch in (1, 2, 3, 4)]
    assert rates[0] == pytest.approx(0.02)
    assert rates == sorted(rates, reverse=True)
    assert 0.0 < rates[3] < 0.004
    assert share_of_rate(Plan(), 9) == 1.0


def test_decoupled_decay_shrinks_weights_that_no_gradient_asks_for() -> None:
    plan = Plan(max_epochs=6, learning_rate=0.01, warmup_steps=1)
    plain, _ = _learn(plan=plan)
    decayed, _ = _learn(plan=replace(plan, weight_decay=5.0, decoupled=True))
    length = [sum(float(p.detach().norm()) for p in m.parameters()) for m in (plain, decayed)]
    assert length[1] < length[0]
