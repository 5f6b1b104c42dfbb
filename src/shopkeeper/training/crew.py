"""Several processes that learn one model together: each takes a share of every step's batches.

A step is `Plan.accumulate` batches, in one process or in several: every worker sums the gradients of
its batches, the sums are added up over the workers (gloo, on CPUs), and all take the same step. So
two workers learn what one learns, but for the order in which floats are added. Worker 0 is the
caller: it alone validates, writes checkpoints and reports; the others hear of it what was decided.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from shopkeeper.errors import SourceError

T = TypeVar("T")
WAIT_S = 60.0  # for the other workers to end


class Over(Exception):
    """Learning is over; raised in every worker but worker 0, whose model is the one that counts."""


class Crew:
    """This process among those that learn together."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank = rank
        self.size = size

    def add_up(self, module: nn.Module) -> None:
        """Replace every gradient of `module` by its sum over the workers."""
        parameters = [one for one in module.parameters() if one.requires_grad]
        for one in parameters:
            if one.grad is None:
                one.grad = torch.zeros_like(one)
        flat = torch.cat([one.grad.flatten() for one in parameters if one.grad is not None])
        dist.all_reduce(flat)
        start = 0
        for one in parameters:
            assert one.grad is not None
            one.grad.copy_(flat[start : start + one.numel()].view_as(one))
            start += one.numel()

    def told(self, value: T) -> T:
        """What worker 0 has, in every worker."""
        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0)
        found: T = box[0]
        return found


_current: Crew | None = None


def current() -> Crew | None:
    """The crew that this process belongs to now."""
    return _current


def together(size: int, elsewhere: Callable[[], Any], here: Callable[[], T]) -> T:
    """Run `here` in this process and `elsewhere` in `size` - 1 others, as one crew.

    Args:
        elsewhere: can be pickled; calls `trainer.train` with the same module, batches and seed as `here`.
    Raises:
        SourceError: a worker died.
    """
    if size <= 1:
        return here()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        others = [
            context.Process(target=_join, args=(rank, size, meeting, elsewhere), daemon=True)
            for rank in range(1, size)
        ]
        for one in others:
            one.start()
        try:
            _wait(others, meeting)
            found = _as_member(Crew(0, size), meeting, here)
            for one in others:
                one.join(WAIT_S)
        except RuntimeError as error:  # gloo's, where another worker is gone
            for one in others:
                one.join(10.0)
            if all(one.exitcode in (None, 0) for one in others):
                raise
            raise _died(others) from error
        finally:
            for one in others:
                if one.is_alive():
                    one.terminate()
        return found


def _wait(others: list[SpawnProcess], meeting: str) -> None:
    """Until all are there to meet; SourceError where one died before."""
    while not all(Path(f"{meeting}-{rank}").exists() for rank in range(1, len(others) + 1)):
        if any(one.exitcode is not None for one in others):
            raise _died(others)
        time.sleep(0.02)


def _died(others: list[SpawnProcess]) -> SourceError:
    return SourceError(
        f"a worker that learned with this one died (exit codes {[one.exitcode for one in others]})",
        where="training.workers",
        next="see above for what it said; run again, it goes on from its checkpoint",
    )


def _join(rank: int, size: int, meeting: str, work: Callable[[], Any]) -> None:
    Path(f"{meeting}-{rank}").touch()
    try:
        _as_member(Crew(rank, size), meeting, work)
    except Over:
        return


def _as_member(crew: Crew, meeting: str, work: Callable[[], T]) -> T:
    global _current
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=crew.rank, world_size=crew.size
    )
    _current = crew
    try:
        return work()
    finally:
        _current = None
        dist.destroy_process_group()
