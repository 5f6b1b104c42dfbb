"""Steps: what to run, in which order, and when not to run it again.

A step names the assets it reads and makes. It is skipped when a successful run with the same inputs,
code and parameters made what is current now; its code is what its work imports.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from shopkeeper.assets.catalog import Version
from shopkeeper.assets.provenance import code_digest
from shopkeeper.assets.store import Assets, Run
from shopkeeper.config import Settings
from shopkeeper.engine.kernels import BucketTask, Driver, InProcess, Kernel, R, S, T, open_driver
from shopkeeper.errors import InputError

# called with (step, done, total, text); total 0 means "unknown"
Report = Callable[[str, float, float, str], None]


def silent(step: str, done: float, total: float, text: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Context:
    """What a step's work gets."""

    folder: Path  # the workspace
    settings: Settings
    assets: Assets
    run: Run
    report: Report
    step: str
    force: bool  # asked to redo everything, past states included
    driver: Driver = field(default_factory=InProcess)

    def each(self, kernel: Kernel[S, T, R], shared: S, tasks: Iterable[T]) -> Iterator[R]:
        """`kernel(shared, task)` of every task, in order, wherever the driver has it done.

        What workers used is counted as the run's; a task that was tried again is noted.
        """
        driver, run, again = self.driver, self.run, 0
        if driver.workers > 1 or driver.name != "local":
            run.note("driver", driver.name)
            run.note("workers", driver.workers)
        for done in driver.map(kernel, shared, tasks):
            run.used(done.cpu_seconds, done.peak_rss_mb)
            if done.tries > 1:
                again += done.tries - 1
                run.note("retried", again)
            yield done.value

    def buckets(
        self, names: Sequence[str], buckets: Iterable[int], columns: Sequence[str] | None = None
    ) -> Iterator[BucketTask]:
        """A task for each bucket, with the rows that the assets `names` have in it.

        Args:
            columns: those that the kernel needs; default: all.
        """
        for bucket in buckets:
            rows = {n: self.run.rows(n, columns=columns, buckets=[bucket]) for n in names}
            yield BucketTask(bucket, rows)

    def progress(self, done: float, total: float, text: str) -> None:
        """Tell how far this step is."""
        self.report(self.step, done, total, text)


@dataclass(frozen=True)
class Step:
    """One stage of the loop, for one asset or a few that belong together."""

    name: str  # "clean.events"; its group is what stands before the dot
    reads: tuple[str, ...]  # those that do not exist yet count as absent
    makes: tuple[str, ...]
    work: Callable[[Context], None]
    # of the workspace's settings and its other files: whatever else decides the result
    parameters: Callable[[Settings, Path], Mapping[str, Any]] = field(default=lambda s, folder: {})
    needs: tuple[str, ...] = ()  # of `reads`, those without which the step has nothing to do
    outside: bool = False  # looks at things outside the lake, so it always has to look
    # after the work and before anything of it is visible: raises where it must not become so
    check: Callable[[Context], None] | None = None
    # where the step is fresh: raises where what is current has grown too old to go on with
    watch: Callable[[Assets, Path], None] | None = None

    @property
    def group(self) -> str:
        return self.name.partition(".")[0]

    @property
    def code(self) -> str:
        """Digest of the source that decides the result."""
        work = self.work.func if isinstance(self.work, partial) else self.work
        return code_digest(work.__module__)


@dataclass(frozen=True)
class Outcome:
    """What became of a step."""

    step: str
    state: str  # done | fresh | idle (nothing to do it with)
    seconds: float
    made: tuple[Version, ...]
    notes: dict[str, Any]


def select(steps: Sequence[Step], names: Sequence[str]) -> list[Step]:
    """The steps called `names` (a step or a whole group), in their order; all without names."""
    known = {step.name for step in steps} | {step.group for step in steps}
    for name in names:
        if name not in known:
            raise InputError(f"no step {name!r}", next=f"known: {', '.join(sorted(known))}")
    return [step for step in steps if not names or step.name in names or step.group in names]


def run_steps(
    steps: Sequence[Step],
    folder: Path,
    settings: Settings,
    assets: Assets,
    *,
    force: bool = False,
    report: Report = silent,
) -> list[Outcome]:
    """Run `steps` in order, skipping the fresh ones. The first failure stops; rerun to resume.

    InputError: `buckets` is not the number that the workspace began with.
    """
    buckets = assets.catalog.fix("buckets", settings.buckets)
    if buckets != settings.buckets:
        raise InputError(
            f"buckets = {settings.buckets}, but this workspace began with {buckets}, and rows about "
            "users stand in that many parts",
            where=str(folder / "shop.toml"),
            next=f"write buckets = {buckets}, or begin a new workspace with the other number",
        )
    outcomes = []
    with closing(open_driver(settings, assets.root)) as driver:
        for step in steps:
            started = time.monotonic()
            if any(not assets.exists(name) for name in step.needs):
                outcomes.append(Outcome(step.name, "idle", 0.0, (), {}))
                continue
            parameters = dict(step.parameters(settings, folder))
            reads = [name for name in step.reads if assets.exists(name)]
            fresh = None
            if not step.outside and not force:
                fresh = assets.fresh(assets.run_key(step.name, reads, parameters, step.code))
            if fresh is not None:
                if step.watch is not None:
                    step.watch(assets, folder)
                report(step.name, 1, 1, "fresh")
                outcomes.append(Outcome(step.name, "fresh", 0.0, (), dict(fresh["notes"])))
                continue
            report(step.name, 0, 0, "")
            with assets.run(step.name, reads=reads, parameters=parameters, code=step.code) as run:
                context = Context(folder, settings, assets, run, report, step.name, force, driver)
                step.work(context)
                if step.check is not None:
                    step.check(context)
            seconds = time.monotonic() - started
            report(step.name, 1, 1, "done")
            outcomes.append(Outcome(step.name, "done", seconds, tuple(run.made), run.notes))
    return outcomes
