"""What runs, in which order, and what is skipped."""

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shopkeeper import pipeline
from shopkeeper.assets.provenance import sources
from shopkeeper.assets.store import Assets
from shopkeeper.config import Settings
from shopkeeper.engine.steps import Context, Step, run_steps, select
from shopkeeper.errors import InputError

RAN: list[str] = []


def make(context: Context) -> None:
    RAN.append(context.step)
    context.run.table("raw.events").put(pl.DataFrame({"n": [1, 2]}))


def double(context: Context) -> None:
    RAN.append(context.step)
    table = context.run.read("raw.events").select(pl.col("n") * 2)
    context.run.table("clean.events").put(table)


def fail(context: Context) -> None:
    raise RuntimeError("no luck")


COLLECT = Step("collect.events", (), ("raw.events",), make)
CLEAN = Step(
    "clean.events", ("raw.events",), ("clean.events",), double,
    lambda settings, folder: {"name": settings.name}, needs=("raw.events",),
)  # fmt: skip


@pytest.fixture
def assets(tmp_path: Path) -> Assets:
    RAN.clear()
    return Assets(tmp_path, buckets=1)


def states(assets: Assets, steps: list[Step], settings: Settings | None = None, force: bool = False) -> list[str]:  # fmt: skip
    done = run_steps(steps, assets.root.parent, settings or Settings(), assets, force=force)
    return [outcome.state for outcome in done]


def test_a_step_runs_once_and_again_only_when_something_changed(assets: Assets) -> None:
    assert states(assets, [COLLECT, CLEAN]) == ["done", "done"]
    assert states(assets, [COLLECT, CLEAN]) == ["fresh", "fresh"]
    assert states(assets, [COLLECT, CLEAN], Settings(name="other")) == ["fresh", "done"]
    assert states(assets, [CLEAN], force=True) == ["done"]


def test_the_number_of_buckets_is_that_of_the_first_run(assets: Assets) -> None:
    assert states(assets, [COLLECT], Settings(buckets=2)) == ["done"]
    for other in (1, 16):
        with pytest.raises(
            InputError,
            match=rf"buckets = {other}, but this workspace began with 2.*write buckets = 2, or",
        ):
            states(assets, [COLLECT], Settings(buckets=other))
    assert states(assets, [COLLECT], Settings(buckets=2)) == ["fresh"]


def test_without_what_it_needs_a_step_is_idle(assets: Assets) -> None:
    assert states(assets, [CLEAN]) == ["idle"]
    assert RAN == []


def test_the_first_failure_stops_and_what_was_done_stays_done(assets: Assets) -> None:
    broken = Step("clean.broken", ("raw.events",), (), fail)
    with pytest.raises(RuntimeError, match="no luck"):
        run_steps([COLLECT, broken, CLEAN], assets.root.parent, Settings(), assets)
    assert RAN == ["collect.events"]
    assert states(assets, [COLLECT, CLEAN]) == ["fresh", "done"]


def test_steps_are_chosen_by_name_or_group_in_their_own_order() -> None:
    assert select([COLLECT, CLEAN], ["clean", "collect.events"]) == [COLLECT, CLEAN]
    with pytest.raises(InputError, match=r"no step 'clan'; known: clean, clean\.events"):
        select([COLLECT, CLEAN], ["clan"])


def test_a_steps_code_is_all_that_its_work_imports_but_what_carries_the_data() -> None:
    code = {step.name: set(sources(_work(step).__module__)) for step in pipeline.steps(Settings())}
    assert {"clean/bots.py", "clean/rules.json", "words.py"} <= code["clean.events"]
    assert "assets/contracts/events.odcs.yaml" in code["clean.events"]
    assert {"features/build.py", "words.py"} <= code["features.items"]
    assert {"evaluation/leaderboard.py", "models/ease.py", "training/trainer.py"} <= code[
        "train.ease"
    ]
    assert {"features/build.py", "search/tokens.py"} <= code["index.search"]
    assert {"recommend/rank.py", "evaluation/metrics.py", "features/build.py"} <= code["release"]
    for name, files in code.items():
        assert not files & {"assets/store.py", "engine/steps.py", "shop.py", "cli.py"}, name
    assert "models/ease.py" not in code["features.items"]


@pytest.mark.slow
def test_what_a_steps_work_really_imports_is_its_code() -> None:
    """Python's own word on it: what is loaded after importing the work and nothing else."""
    ask = "import sys, importlib; importlib.import_module({!r}); print(*sys.modules)"
    for module in sorted({_work(step).__module__ for step in pipeline.steps(Settings())}):
        told = subprocess.run(
            [sys.executable, "-c", ask.format(module)], capture_output=True, text=True, check=True
        )
        loaded = {name for name in told.stdout.split() if name.startswith("shopkeeper.")}
        ground = ("alike", "assets", "engine", "governance", "config", "errors")
        wanted = {name for name in loaded if name.split(".")[1] not in ground}
        known = {file.removesuffix(".py").removesuffix("/__init__") for file in sources(module)}
        assert {name.partition(".")[2].replace(".", "/") for name in wanted} <= known, module


def _work(step: Step) -> Any:
    return step.work.func if isinstance(step.work, partial) else step.work
