"""Kernels that workers of other processes import: they double, fail, or die where a test wants it."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from shopkeeper.clean.apply import Settled
from shopkeeper.clean.arrivals import EventsShared, clean_events_bucket
from shopkeeper.engine.kernels import AHEAD, BucketTask
from shopkeeper.errors import InputError


def double(shared: int, task: int) -> int:
    return shared * task


def who(shared: None, task: int) -> tuple[int, str]:
    return os.getpid(), os.environ.get("POLARS_MAX_THREADS", "")


def refuse(shared: None, task: int) -> int:
    if task == 2:
        raise InputError("no such thing", where=f"task {task}", next="ask for another")
    return task


def die_once(folder: Path, task: int) -> int:
    """Task 3 dies the first time it is tried."""
    if task == 3 and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    with (folder / "tried").open("a") as file:
        file.write(f"{task}\n")
    return task * 10


def die_last(folder: Path, task: int) -> int:
    """Task 0 dies, the first time, when all that may be done ahead of it is done."""
    if task == 0 and not (folder / "died").exists():
        while not (folder / f"{2 * AHEAD}").exists():
            time.sleep(0.01)
        time.sleep(0.2)
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / f"{task}").touch()
    return task


def die(shared: None, task: int) -> int:
    if task == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def clean_and_die_once(shared: EventsShared, task: BucketTask) -> Settled:
    """The kernel of events; bucket 2 is killed when its files are written and nobody knows yet."""
    settled = clean_events_bucket(shared, task)
    marker = _scratch() / "killed"
    if task.bucket == 2 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return settled


def clean_and_lose_node(shared: EventsShared, task: BucketTask) -> Settled:
    """The kernel of events; the first bucket that comes to the doomed node waits there for its end,
    and those on the other node wait until it has come."""
    import ray

    scratch = _scratch()
    settled = clean_events_bucket(shared, task)
    node: Any = ray.get_runtime_context().get_node_id()
    if node == (scratch / "doomed").read_text():
        (scratch / "reached").touch()
        time.sleep(120)
    until = time.monotonic() + 90  # a node's first worker takes a while to start
    while not (scratch / "reached").exists() and time.monotonic() < until:
        time.sleep(0.1)
    return settled


def _scratch() -> Path:
    return Path(os.environ["SMALL_KERNELS_SCRATCH"])
