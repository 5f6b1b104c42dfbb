"""Every model family on the benchmarks of its kind: runs, one at a time, and the table of them.

    python benchmarks/models.py --data DIR --out FOLDER            runs what is not there yet, then the table
    python benchmarks/models.py --data DIR --out FOLDER --only amazon_beauty/rnn --seeds 1
    python benchmarks/models.py --out FOLDER --table               the table of what is there

DIR holds one folder a benchmark, named as the benchmark. Each run is a process of its own
(`shopkeeper bench`), whose result is one JSON file in FOLDER with the machine and the versions it ran
on; a file that is there is not run again, so a stopped benchmark goes on where it was. What was
measured by other code is run again only with --again. The test is scored once a run; settings come
from validation (docs/training.md).
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

FLOORS = ("popularity", "item_knn", "sequence_knn", "ease")
PLAN: dict[str, tuple[str, ...]] = {
    "amazon_beauty": (*FLOORS, "transformer", "rnn", "sequence_cnn", "generative", "ensemble"),
    "ml1m_sequences": (*FLOORS, "transformer", "rnn", "sequence_cnn", "generative", "ensemble"),
    "diginetica_sessions": ("popularity", "item_knn", "sequence_knn", "rnn", "gtn", "transformer", "ensemble"),
    "retailrocket_sessions": ("popularity", "item_knn", "sequence_knn", "rnn", "gtn", "transformer", "ensemble"),
    "gowalla": ("popularity", "item_knn", "ease", "gcn", "gat", "gtn", "ensemble"),
    "taobao_multibehavior": ("popularity", "item_knn", "gcn", "gat", "gtn", "ensemble"),
}  # fmt: skip
SEEDS = (1, 2, 3)
LONG_S = 1800.0  # a run longer than this is not repeated with other seeds
PACKAGES = ("shopkeeper", "torch", "numpy", "scipy", "polars")
SHOWN = {
    "amazon_beauty": ("HR@10", "NDCG@10"),
    "ml1m_sequences": ("HR@10", "NDCG@10"),
    "gowalla": ("recall@20", "NDCG@20"),
    "taobao_multibehavior": ("HR@10", "NDCG@10"),
    "diginetica_sessions": ("P@20", "MRR@20"),
    "retailrocket_sessions": ("P@20", "MRR@20"),
}


def machine() -> dict[str, Any]:
    """What the figures were made on."""
    names = [line for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = [line for line in _lines("/proc/meminfo") if line.startswith("MemTotal")]
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    return {
        "processor": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": int(memory[0].split()[1]) // 1024 if memory else None,
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "commit": commit.stdout.strip() or None,
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def run(benchmark: str, model: str, seed: int, data: Path, out: Path) -> dict[str, Any] | None:
    """One run, written to its file; None where it failed (what it said is beside it)."""
    path = out / f"{benchmark}.{model}.{seed}.json"
    began = time.time()
    command = [sys.executable, "-c", "from shopkeeper.cli import main; main()", "bench", benchmark]
    command += ["--data", str(data / benchmark), "--model", model, "--seed", str(seed), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        path.with_suffix(".failed").write_text(done.stdout + done.stderr, encoding="utf-8")
        return None
    told = json.loads(done.stdout)
    told |= {"seconds": round(time.time() - began, 1), "machine": machine()}
    making = path.with_suffix(".making")
    making.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    making.replace(path)
    path.with_suffix(".failed").unlink(missing_ok=True)
    return dict(told)


def seeds_of(benchmark: str, model: str, out: Path, seeds: tuple[int, ...]) -> tuple[int, ...]:
    """Rules have no chance in them: one seed; a run that took long is not repeated."""
    if model in FLOORS:
        return seeds[:1]
    first = out / f"{benchmark}.{model}.{seeds[0]}.json"
    if first.exists() and json.loads(first.read_text())["seconds"] > LONG_S:
        return seeds[:1]
    return seeds


def table(out: Path) -> str:
    """Markdown: mean and spread over seeds of every model, beside what is published."""
    told: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for path in sorted(out.glob("*.json")):
        one = json.loads(path.read_text(encoding="utf-8"))
        told.setdefault(one["benchmark"], {}).setdefault(one["model"], []).append(one)
    parts = []
    for benchmark, models in told.items():
        shown = SHOWN.get(benchmark, ("HR@10", "NDCG@10"))
        rows = []
        for model, runs in models.items():
            values = [statistics.mean(r["metrics"][key] for r in runs) for key in shown]
            spread = [statistics.pstdev(r["metrics"][key] for r in runs) for key in shown]
            figures = " | ".join(
                f"{value:.4f}" + (f" ± {wide:.4f}" if len(runs) > 1 else "")
                for value, wide in zip(values, spread, strict=True)
            )
            cpu = statistics.mean(r["train_cpu_seconds"] for r in runs)
            rss = max(r["peak_rss_mb"] for r in runs)
            rows.append(
                (values[-1], f"| {model} | {figures} | {len(runs)} | {cpu:,.0f} | {rss:,} |")
            )
        first = next(iter(models.values()))[0]
        for name, values in first["published"].items():
            figures = " | ".join(f"{values[k]:.4f}" if k in values else "" for k in shown)
            rows.append((values.get(shown[-1], 0.0), f"| *{name}* | {figures} | | | |"))
        rows.sort(key=lambda row: -row[0])
        where = first["machine"]
        parts += [
            f"## {benchmark}",
            "",
            f"{where['processor']}, {where['cores']} cores; torch {where['packages']['torch']}; published values in italics",
            "",
            f"| model | {' | '.join(shown)} | seeds | learning, CPU s | memory, MB |",
            "|---|" + "---|" * (len(shown) + 3),
            *(text for _, text in rows),
            "",
        ]  # fmt: skip
    failed = sorted(path.stem for path in out.glob("*.failed"))
    if failed:
        parts.append("Failed: " + ", ".join(failed))
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=[], help="benchmark or benchmark/model")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--again", action="store_true", help="also what is there")
    parser.add_argument("--table", action="store_true", help="no runs")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    if not asked.table:
        if asked.data is None:
            parser.error("--data is needed to run anything")
        from shopkeeper.evaluation.benchmarks import PROTOCOLS
        from shopkeeper.models.registry import MODELS

        for place, benchmark, model in _todo(asked.only):
            if benchmark not in PROTOCOLS or model not in MODELS:
                print(f"{benchmark}/{model}: not in this version", file=sys.stderr)
                continue
            if not (asked.data / benchmark).is_dir():
                print(f"{benchmark}: no folder in {asked.data}", file=sys.stderr)
                continue
            seeds = seeds_of(benchmark, model, asked.out, tuple(asked.seeds))
            if place >= len(seeds):
                continue
            seed = seeds[place]
            path = asked.out / f"{benchmark}.{model}.{seed}.json"
            if path.exists() and not asked.again:
                continue
            told = run(benchmark, model, seed, asked.data, asked.out)
            said = "failed" if told is None else f"{told['seconds']:.0f} s"
            print(f"{benchmark}/{model} seed {seed}: {said}", file=sys.stderr)
    print(table(asked.out))


def _todo(only: list[str]) -> list[tuple[int, str, str]]:
    """(which of the seeds, benchmark, model): every first seed before any second one."""
    return [
        (place, benchmark, model)
        for place in range(len(SEEDS))
        for benchmark, models in PLAN.items()
        for model in models
        if not only or benchmark in only or f"{benchmark}/{model}" in only
    ]


if __name__ == "__main__":
    main()
