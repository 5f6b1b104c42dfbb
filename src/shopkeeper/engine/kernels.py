"""Kernels and drivers: the same work on one bucket, wherever it is done.

A kernel is a function at the top of a module, `kernel(shared, task) -> result`: `shared` is what all
tasks need (a contract, settings, an instant, small tables), a task is one user-hash bucket. Its result
depends on these two alone, so tables come out with the same digests whatever the driver, the number
of workers and the retries. Kernels write data files (`assets.parts`) and return what is small.

A driver runs a kernel over tasks and gives the results in the order of the tasks. It holds no more
than a few at a time, and a worker that dies costs only the task it was at.
"""

import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from shopkeeper.assets.parts import Rows
from shopkeeper.config import Settings
from shopkeeper.errors import SourceError

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")
Kernel = Callable[[S, T], R]

TRIES = 3  # of one task, before the fault is looked for in the task
AHEAD = 2  # tasks a worker that may be done before the one that is waited for


@dataclass(frozen=True)
class BucketTask:
    """One bucket of what a step reads."""

    bucket: int
    inputs: Mapping[str, Rows]  # asset -> its rows of this bucket


@dataclass(frozen=True)
class Done(Generic[R]):
    """What became of one task."""

    value: R
    cpu_seconds: float = 0.0  # of another process; what this one used is counted here anyway
    peak_rss_mb: float = 0.0  # of that process, so far
    tries: int = 1


class Driver(Protocol):
    """Runs kernels."""

    name: str  # "local" | "ray"
    workers: int  # tasks worked on at a time

    def map(self, kernel: Kernel[S, T, R], shared: S, tasks: Iterable[T]) -> Iterator[Done[R]]:
        """`kernel(shared, task)` of every task, in their order; tasks are taken as they are needed.

        What a kernel raises is raised here. SourceError: a task was tried TRIES times, and each time
        its worker died.
        """

    def close(self) -> None:
        """Let the workers go."""


class InProcess:
    """One worker: this process. Nothing is started and nothing is copied."""

    name = "local"
    workers = 1

    def map(self, kernel: Kernel[S, T, R], shared: S, tasks: Iterable[T]) -> Iterator[Done[R]]:
        return (Done(kernel(shared, task)) for task in tasks)

    def close(self) -> None:
        pass


def open_driver(settings: Settings, root: Path) -> Driver:
    """The driver that shop.toml asks for; workers start when there is something to do.

    Args:
        root: the workspace's store, which workers on other machines must find at the same path.
    """
    if settings.engine != "local":
        from shopkeeper.engine.ray import RayDriver

        return RayDriver(settings.engine, settings.workers, root)
    if settings.workers == 1:
        return InProcess()
    from shopkeeper.engine.local import LocalDriver

    return LocalDriver(settings.workers)


def attempt(kernel: Kernel[Any, Any, R], shared: Any, task: Any) -> Done[R]:
    """Do one task in a process of its own account."""
    before = time.process_time()
    value = kernel(shared, task)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Done(value, time.process_time() - before, peak)


def threads(workers: int) -> int:
    """Polars threads of each of `workers` processes on this machine."""
    return max(1, len(os.sched_getaffinity(0)) // workers)


def given_up(task: Any, how: str) -> SourceError:
    """The error of a task whose workers all died."""
    bucket = getattr(task, "bucket", None)
    what = "a task" if bucket is None else f"bucket {bucket}"
    return SourceError(
        f"the worker at {what} died {TRIES} times ({how})",
        where="engine",
        next="it may have run out of memory: lower `workers`, or begin a workspace with more `buckets`",
    )
