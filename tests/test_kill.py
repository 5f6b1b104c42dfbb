"""kill -9 at any moment: the loop resumes, no row is lost and none doubled, and the result is the
same to the last byte as that of an undisturbed run."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from shopkeeper.assets.store import Assets
from shopkeeper.governance.access import OWNER
from shopkeeper.words import Purpose

KILLS = 50

# collect, clean and features as the pipeline has them, without what takes long to import
CHILD = """
import os
import signal
import sys
from functools import partial
from pathlib import Path
from shopkeeper import config
from shopkeeper.assets.lake import TableStore
from shopkeeper.assets.parts import Place
from shopkeeper.assets.store import Assets, Run, TableWriter
from shopkeeper.clean import apply, arrivals
from shopkeeper.collect import read, text
from shopkeeper.collect.land import land
from shopkeeper.engine.steps import Step, run_steps
from shopkeeper.features.steps import make_items, make_sequences

PLACES = {"checkpoint": Run, "finish": Run, "put": TableWriter, "write": Place, "commit": TableStore}


def strike(step, place, when, call):
    # kill -9 in `step`, just before or after its call-th `place`
    called, begin, real = [], Run.start, getattr(PLACES[place], place)

    def start(run):
        if run.step == step:
            setattr(PLACES[place], place, counted)
        return begin(run)

    def counted(*arguments, **more):
        called.append(place)
        if when == "before" and len(called) == int(call):
            os.kill(os.getpid(), signal.SIGKILL)
        done = real(*arguments, **more)
        if when == "after" and len(called) == int(call):
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    Run.start = start


folder = Path(sys.argv[1])
steps = [
    Step("collect.events", (), (), partial(land, table="events"), outside=True),
    Step("collect.items", (), (), partial(land, table="items"), outside=True),
    Step("clean.items", ("raw.items",), (), apply.items_step),
    Step("clean.events", ("raw.events", "clean.items", "quarantine.items"), (), arrivals.events_step),
    Step("features.items", ("clean.items", "clean.events"), (), make_items),
    Step("features.sequences", ("clean.events",), (), make_sequences),
]
if sys.argv[2:]:
    strike(*sys.argv[2:])
print("ready", flush=True)
run_steps(steps, folder, config.load(folder), Assets(folder, buckets=4))
"""
ASSETS = (
    "raw.events", "raw.items", "clean.items", "quality.items", "clean.events", "quarantine.events",
    "quality.events", "features.items", "features.sequences",
)  # fmt: skip
FILES = 30


def write_shop(folder: Path) -> int:
    """A shop of many small files, so that there are many moments in between."""
    dice = random.Random(3)
    (folder / "raw").mkdir(parents=True)
    (folder / "shop.toml").write_text(
        'buckets = 4\n[[sources]]\ntable = "events"\npath = "raw/part-*.csv"\n'
        '[[sources]]\ntable = "items"\npath = "raw/items.csv"\n'
    )
    rows = 0
    for part in range(FILES):
        lines = ["user_id,item_id,ts"]
        for n in range(40):
            item = f"i{dice.randrange(20)}" if n % 13 else ""
            lines.append(
                f"u{dice.randrange(30)},{item},2026-01-{part % 28 + 1:02d}T{n // 2 % 24:02d}:{part:02d}:{n:02d}Z"
            )
            rows += 1
        (folder / "raw" / f"part-{part}.csv").write_text("\n".join(lines) + "\n")
    (folder / "raw" / "items.csv").write_text(
        "item_id\n" + "\n".join(f"i{n}" for n in range(20)) + "\n"
    )
    return rows


def start(folder: Path, *strike: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "POLARS_MAX_THREADS": "2"}
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(folder), *strike],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == "ready\n"
    return child


def digests(folder: Path) -> dict[str, str]:
    assets = Assets(folder, buckets=4)
    found = {name: assets.current(name).digest for name in ASSETS}
    assets.close()
    return found


@pytest.mark.slow
def test_killed_at_fifty_random_moments_it_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    undisturbed, folder = tmp_path / "undisturbed", tmp_path / "killed"
    write_shop(undisturbed)
    child = start(undisturbed)
    began = time.monotonic()
    assert child.wait(timeout=120) == 0
    whole = time.monotonic() - began
    rows = write_shop(folder)
    dice = random.Random(11)
    killed = 0
    while killed < KILLS:
        child = start(folder)
        time.sleep(dice.uniform(0.0, whole * 0.5))
        if child.poll() is not None:  # it was done before we struck: take one result away
            add_day(folder, killed)
            add_day(undisturbed, killed)
            rows += 1
            continue
        os.kill(child.pid, signal.SIGKILL)
        child.wait(timeout=60)
        killed += 1
    for place in (folder, undisturbed):
        child = start(place)
        assert child.wait(timeout=120) == 0
    # a grown file is one more chunk, so its rows may be cut into data files at other places
    assets = {place: Assets(place, buckets=4) for place in (folder, undisturbed)}
    for name in ASSETS:
        frames = [opened.read(name, by=OWNER, purpose=Purpose.AUDIT) for opened in assets.values()]
        keys = [c for c in frames[0].columns if not frames[0].schema[c].is_nested() and c != "seq"]
        left, right = (frame.select(keys).sort(keys) for frame in frames)
        assert left.equals(right), name
    raw = assets[folder].read("raw.events", by=OWNER, purpose=Purpose.AUDIT)
    assert raw.height == rows
    assert raw.select(pl.struct("file", "line").n_unique()).item() == rows
    clean = assets[folder].current("clean.events").rows or 0
    quarantined = assets[folder].current("quarantine.events").rows or 0
    merged = assets[folder].current("quality.events").notes["merged"]
    assert clean + merged + quarantined == rows


def add_day(folder: Path, number: int) -> None:
    """One more event, so that there is work again."""
    with (folder / "raw" / "part-0.csv").open("a") as file:
        file.write(f"u1,i1,2026-02-{number % 28 + 1:02d}T00:{number:02d}:00Z\n")


# while a step writes, when all is written, between the tables' commit and the catalogue's, after it
WRITING = ("put after 1", "finish before 1", "commit after 1", "finish after 1")
READING = ("put after 3", "checkpoint before 2", "checkpoint after 5", "finish before 1", "commit after 1", "finish after 1")  # fmt: skip
STRIKES = {
    "collect.events": READING,
    "collect.items": ("put after 3", "checkpoint before 1", "checkpoint after 1", *WRITING[1:]),
    "clean.items": ("write after 1", *WRITING),
    "clean.events": (
        "write after 5",
        "put after 1",
        "finish before 1",
        "commit after 2",
        "finish after 1",
    ),
    "features.items": WRITING,
    "features.sequences": ("write after 3", *WRITING[1:]),
}


@pytest.mark.slow
def test_a_kill_at_every_point_of_every_step_leaves_the_same_digests(tmp_path: Path) -> None:
    """With nothing added: byte for byte."""
    undisturbed, folder = tmp_path / "undisturbed", tmp_path / "killed"
    for place in (undisturbed, folder):
        write_shop(place)
    assert start(undisturbed).wait(timeout=120) == 0
    for step, points in STRIKES.items():
        for point in points:
            code = start(folder, step, *point.split()).wait(timeout=120)
            assert code == -signal.SIGKILL, f"{step}: no {point}"
    assert start(folder).wait(timeout=120) == 0
    assert digests(folder) == digests(undisturbed)
