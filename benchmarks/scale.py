"""Processing at scale: drivers and workers, 1% more rows, concurrent writers, kills.

    python benchmarks/scale.py drivers SHOP      one process, 1 and 2 workers, Ray: digests and seconds
    python benchmarks/scale.py increment         1% new rows beside the full run
    python benchmarks/scale.py writers           8 processes, 1,000 commits on one table
    python benchmarks/scale.py kills             200 times kill -9 over collect, clean and features

SHOP is a workspace that has its raw files; a copy is run, without what it made before.
"""

import argparse
import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
GROUPS = ["collect", "clean", "features"]


def drivers(folder: Path, shop: Path, rounds: int) -> None:
    """Same digests whoever works, and how long collect, clean and features take."""
    found: dict[str, dict[str, str]] = {}
    print(f"{'':10}{'collect s':>10}{'clean + features s':>20}{'CPU s':>8}")
    for engine, workers in (("local", 1), ("local", 2), ("ray", 1), ("ray", 2)):
        name = f"{engine} {workers}"
        best: tuple[float, float, float] | None = None
        for turn in range(rounds):
            copy = folder / f"{engine}-{workers}-{turn}"
            _copy(shop, copy, f'engine = "{engine}"\nworkers = {workers}\n')
            command = [sys.executable, __file__, "one", str(copy)]
            told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])  # fmt: skip
            found[f"{name}/{turn}"] = told["digests"]
            seconds = told["collect"], told["rest"], told["cpu"]
            best = seconds if best is None or seconds[1] < best[1] else best
            shutil.rmtree(copy)
        assert best is not None
        print(f"{name:10}{best[0]:10.1f}{best[1]:20.1f}{best[2]:8.1f}", flush=True)
    first = next(iter(found.values()))
    print(f"{len(first)} assets; digests equal in all {len(found)} runs: "
          f"{all(one == first for one in found.values())}")  # fmt: skip


def one(folder: Path) -> None:
    """Run a workspace and print what came of it."""
    from shopkeeper.shop import Shop

    with Shop.open(folder) as shop:
        began, at = time.monotonic(), datetime.now(UTC).isoformat(timespec="microseconds")
        shop.run(["collect"])
        collected = time.monotonic()
        shop.run(["clean", "features"])
        done = time.monotonic()
        made = sorted({name for step in shop.steps for name in step.makes})
        current = {name: shop.assets.catalog.current(name) for name in made}
        runs = [run for run in shop.runs(limit=500) if run["started_at"] >= at]
        cpu = sum(run["cpu_seconds"] or 0 for run in runs)
        steps = {run["step"]: run["cpu_seconds"] or 0 for run in runs}
        cleaned = shop.assets.catalog.runs(step="clean.events", limit=1)[0]["notes"]
    digests = {name: version.digest for name, version in current.items() if version is not None}
    notes = {key: cleaned[key] for key in ("added", "buckets_anew") if key in cleaned}
    rows = current["clean.events"].rows if current.get("clean.events") else 0
    print(json.dumps({"collect": collected - began, "rest": done - collected, "cpu": cpu, "digests": digests,
                      "steps": steps, "rows": rows, "notes": notes}))  # fmt: skip


def _copy(shop: Path, copy: Path, keys: str) -> None:
    copy.mkdir()
    for path in shop.iterdir():
        if path.name not in ("store", "releases", "shop.toml"):
            (copy / path.name).symlink_to(path.resolve())
    toml = shop / "shop.toml"
    (copy / "shop.toml").write_text(
        keys + (toml.read_text("utf-8") if toml.exists() else ""), "utf-8"
    )


def increment(folder: Path, rows: int) -> None:
    """CPU and wall seconds of a full run, and of runs after 1% new rows came: of the next day, and of
    all the days that are there. Each run in a process of its own, without its start."""
    generate = _module("collect_clean").generate
    shop, share = folder / "shop", rows // 100
    generate(shop, rows)
    whole: dict[str, Any] = {}
    days = {"all": None, "next day": (0, 1), "the day after": (1, 2), "late": (-90, 0)}
    for turn, (name, when) in enumerate(days.items()):
        if when is not None:
            more = folder / f"more-{turn}"
            generate(more, share, 1, seed=8 + turn, users=rows // 50, days=when)
            for path in sorted((more / "user_behavior").iterdir()):
                shutil.move(path, shop / "user_behavior" / f"more-{turn}-{path.name}")
        command = [sys.executable, __file__, "one", str(shop)]
        told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])  # fmt: skip
        steps = told["steps"]
        told["collect, clean"] = sum(
            s for name, s in steps.items() if not name.startswith("features")
        )
        told["all"] = sum(steps.values())
        whole = whole or told
        said = ", ".join(f"{what} {told[what]:.2f} CPU s ({told[what] / whole[what]:.1%})" for what in ("collect, clean", "all"))  # fmt: skip
        print(f"{name:14} {told['rows']:>12,} rows  {said}  {told['notes']}", flush=True)


def writers(folder: Path, processes: int, commits: int) -> None:
    """None lost, none doubled."""
    import polars as pl

    from shopkeeper.assets.store import Assets
    from shopkeeper.governance.access import OWNER
    from shopkeeper.words import Purpose

    began = time.monotonic()
    each = commits // processes
    command = [sys.executable, __file__, "append", str(folder), "--commits", str(each)]
    running = [subprocess.Popen([*command, "--writer", str(n)]) for n in range(processes)]
    assert [process.wait() for process in running] == [0] * processes
    seconds = time.monotonic() - began
    assets = Assets(folder, buckets=4)
    got = assets.read("raw.events", by=OWNER, purpose=Purpose.ANALYSE)
    versions = len(assets.catalog.history("raw.events"))
    assets.close()
    wanted = pl.DataFrame({"user_id": [f"w{n}" for n in range(processes) for _ in range(each)],
                           "n": [n for _ in range(processes) for n in range(each)]})  # fmt: skip
    own = got.filter(pl.col("user_id") != "all").sort("user_id", "n")
    same = got.filter(pl.col("user_id") == "all").height
    print(f"{processes} writers, {commits:,} commits in {seconds:.0f} s ({commits / seconds:.1f}/s), {versions:,} versions")  # fmt: skip
    lost = wanted.join(own, on=["user_id", "n"], how="anti").height
    print(f"own rows: {own.height:,} of {wanted.height:,}, lost {lost}, doubled {own.height - own.n_unique()}; "
          f"the row that all wrote alike: {same:,} of {commits:,}")  # fmt: skip


def append(folder: Path, writer: int, commits: int) -> None:
    """One writer: each commit adds a row of its own, and one that all writers put, byte for byte."""
    import polars as pl

    from shopkeeper.assets.store import Assets

    assets = Assets(folder, buckets=4)
    for n in range(commits):
        with assets.run("append") as run:
            table = run.table("raw.events", "append")
            table.put(pl.DataFrame({"user_id": [f"w{writer}"], "n": [n]}), bucket=writer % 4)
            table.put(pl.DataFrame({"user_id": ["all"], "n": [0]}), bucket=0)
    assets.close()


def kills(folder: Path, times: int) -> None:
    """Kill a run at random moments until `times` kills are done; it ends as an undisturbed one."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    test = _module("test_kill", HERE.parent / "tests" / "test_kill.py")
    undisturbed, killed = folder / "undisturbed", folder / "killed"
    for place in (undisturbed, killed):
        test.write_shop(place)
    child = test.start(undisturbed)
    began = time.monotonic()
    assert child.wait() == 0
    whole = time.monotonic() - began
    dice, struck, days = random.Random(17), 0, 0
    while struck < times:
        child = test.start(killed)
        time.sleep(dice.uniform(0.0, whole * 0.9))
        if child.poll() is None:
            os.kill(child.pid, signal.SIGKILL)
            struck += 1
            child.wait()
        else:  # done before we struck: both shops get another day
            for place in (undisturbed, killed):
                day = place / "raw" / f"part-day-{days}.csv"
                day.write_text(f"user_id,item_id,ts\nu1,i1,2026-02-01T00:00:{days % 60:02d}Z\n")
            assert test.start(undisturbed).wait() == 0
            days += 1
    for place in (killed, undisturbed):
        assert test.start(place).wait() == 0
    equal = test.digests(killed) == test.digests(undisturbed)
    print(f"{struck} kills, {days} more days came in between; digests of {len(test.ASSETS)} assets equal: {equal}")  # fmt: skip


def _module(name: str, path: Path | None = None) -> Any:
    spec = importlib.util.spec_from_file_location(name, path or HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "what", choices=["drivers", "increment", "writers", "kills", "one", "append"]
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--writer", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--commits", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=200)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        match told.what:
            case "drivers":
                drivers(folder, told.folder, told.rounds)
            case "increment":
                increment(folder, told.rows)
            case "writers":
                writers(folder, told.writers, told.commits)
            case "kills":
                kills(folder, told.kills)
            case "one":
                one(told.folder)
            case "append":
                append(told.folder, told.writer, told.commits)


if __name__ == "__main__":
    main()
