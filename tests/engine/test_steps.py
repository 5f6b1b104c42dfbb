"""What runs, in which order, and what is skipped."""

from pathlib import Path

import polars as pl
import pytest

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


COLLECT = Step("collect.events", (), ("raw.events",), ("words.py",), make)
CLEAN = Step(
    "clean.events", ("raw.events",), ("clean.events",), ("words.py",), double,
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


def test_without_what_it_needs_a_step_is_idle(assets: Assets) -> None:
    assert states(assets, [CLEAN]) == ["idle"]
    assert RAN == []


def test_the_first_failure_stops_and_what_was_done_stays_done(assets: Assets) -> None:
    broken = Step("clean.broken", ("raw.events",), (), ("words.py",), fail)
    with pytest.raises(RuntimeError, match="no luck"):
        run_steps([COLLECT, broken, CLEAN], assets.root.parent, Settings(), assets)
    assert RAN == ["collect.events"]
    assert states(assets, [COLLECT, CLEAN]) == ["fresh", "done"]


def test_steps_are_chosen_by_name_or_group_in_their_own_order() -> None:
    assert select([COLLECT, CLEAN], ["clean", "collect.events"]) == [COLLECT, CLEAN]
    with pytest.raises(InputError, match=r"no step 'clan'; known: clean, clean\.events"):
        select([COLLECT, CLEAN], ["clan"])
