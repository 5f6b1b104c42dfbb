"""What workers learn together, beside what one learns alone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from shopkeeper.errors import InputError, SourceError
from shopkeeper.training.crew import together
from shopkeeper.training.trainer import Plan, train
from small_crew import learn

TOLERANCE = 1e-5  # floats are added in another order


@pytest.mark.slow
def test_two_workers_learn_what_one_does() -> None:
    alone = learn(2)
    both = together(2, partial(learn, 2), partial(learn, 2))
    for key, value in alone.items():
        torch.testing.assert_close(both[key], value, rtol=TOLERANCE, atol=TOLERANCE)
    assert any(not torch.equal(value, learn(1)[key]) for key, value in alone.items())


def test_batches_of_one_step_are_one_large_batch() -> None:
    def weights(accumulate: int, parts: int) -> list[bytes]:
        torch.manual_seed(1)
        module = nn.Linear(3, 1).double()

        def batches(rng: np.random.Generator) -> Iterator[Tensor]:
            yield from torch.from_numpy(rng.normal(size=(8, 3))).chunk(parts)

        def loss(x: Tensor, generator: torch.Generator) -> Tensor:
            return ((module(x) - x.sum(dim=1, keepdim=True)) ** 2).mean()

        plan = Plan(max_epochs=3, accumulate=accumulate, warmup_steps=1)
        train(module, batches, loss, plan, seed=1, progress=lambda *_: None, name="line")
        return [np.round(v.numpy(), 9).tobytes() for v in module.state_dict().values()]

    assert weights(4, 4) == weights(1, 1)


@pytest.mark.slow
def test_more_workers_than_batches_in_a_step_is_told() -> None:
    with pytest.raises(InputError, match="2 workers share the batches of a step"):
        together(2, partial(learn, 1), partial(learn, 1))


@pytest.mark.slow
def test_a_worker_that_dies_is_told() -> None:
    with pytest.raises(SourceError, match=r"died \(exit codes \[1\]\)"):
        together(2, partial(sys.exit, 1), partial(learn, 2))


@pytest.mark.slow
def test_learning_killed_by_the_system_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    kept, out = tmp_path / "kept", tmp_path / "weights.safetensors"

    def run(pause: float) -> subprocess.Popen[bytes]:
        code = (
            f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
            f"from small_crew import learn; learn(2, {str(out)!r}, {str(kept)!r}, {pause})"
        )
        return subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ))

    child, until = run(0.2), time.monotonic() + 60
    while time.monotonic() < until and not list(kept.glob("epoch-[2-7].safetensors")):
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not out.exists()
    assert run(0.0).wait() == 0
    whole = learn(2)
    for key, value in load_file(out).items():
        assert torch.equal(value, whole[key])
