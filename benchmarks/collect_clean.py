"""Collect + clean of a shop's events, beside plain Polars doing the same read, checks and write.

    python benchmarks/collect_clean.py --rows 10000000
    python benchmarks/collect_clean.py --rows 100000000 --parts 100 --buckets 160 --only shopkeeper

Writes raw files (events in parts with about 1% of dirt, and an item table), then runs, each in
a process of its own: Shopkeeper's steps `collect` and `clean` (raw and clean layers on Delta,
catalogue, lineage, quarantine, quality report), and plain Polars (read as text, cast, the same
checks, one Parquet file for each of 16 buckets of users; no raw layer, no reasons, no catalogue), once
more with raw and rejected rows written as well. Prints CPU seconds, peak memory and rows kept of each,
and the ratios.
"""

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

if "shopkeeper" in sys.argv:  # that side starts as the command line does: the package before Polars
    importlib.import_module("shopkeeper")

import numpy as np
import polars as pl

PARTS = 10
BUCKETS = 16
KINDS = ("view", "cart", "favorite", "purchase")
END = datetime(2026, 3, 1, tzinfo=UTC)


def generate(
    folder: Path,
    rows: int,
    parts: int = PARTS,
    seed: int = 7,
    users: int = 0,
    days: tuple[float, float] = (-90, 0),
) -> None:
    """Events of rows/50 users over 90 days, in order of time, and 100,000 items.

    Args:
        users: others than rows/50.
        days: from when to when, beside END.
    """
    rng, prices_of = np.random.default_rng(seed), np.random.default_rng(7)
    (folder / "user_behavior").mkdir(parents=True)
    items = 100_000
    prices = prices_of.integers(100, 100_000, items)
    pl.DataFrame({"item_id": [f"i{n}" for n in range(items)], "price_minor": prices}).write_csv(
        folder / "item_data.csv"
    )
    edges = np.linspace(*(END.timestamp() + day * 86_400 for day in days), parts + 1)
    for part in range(parts):
        size = rows // parts
        item = (rng.random(size) ** 2 * items).astype(np.int64)
        at = np.sort(rng.uniform(edges[part], edges[part + 1], size)).astype(np.int64)
        frame = pl.DataFrame(
            {
                "user_id": rng.integers(0, users or max(1, rows // 50), size),
                "item_id": item,
                "kind": rng.choice(KINDS, size, p=(0.8, 0.1, 0.05, 0.05)),
                "ts": at,
                "dwell_ms": rng.lognormal(9.5, 1.0, size).astype(np.int64),
                "price_minor": prices[item],
                "dirt": rng.random(size),
            }
        )
        dirt = pl.col("dirt")
        frame = frame.select(
            pl.when(dirt < 0.001).then(None).otherwise(pl.format("u{}", "user_id")).alias("user_id"),
            pl.when(dirt.is_between(0.001, 0.002))
            .then(pl.lit("gone"))
            .otherwise(pl.format("i{}", "item_id"))
            .alias("item_id"),
            pl.when(dirt.is_between(0.002, 0.003)).then(pl.lit("shrug")).otherwise("kind").alias("kind"),
            pl.from_epoch(
                pl.when(dirt.is_between(0.003, 0.004)).then(pl.col("ts") + 10**9).otherwise("ts")
            )
            .dt.strftime("%Y-%m-%d %H:%M:%S")
            .alias("ts"),
            pl.when(dirt.is_between(0.004, 0.005)).then(-1).otherwise("dwell_ms").alias("dwell_ms"),
            pl.when(dirt.is_between(0.005, 0.006)).then(-5).otherwise("price_minor").alias("price_minor"),
        )  # fmt: skip
        twice = rng.choice(size, size // 500, replace=False)
        frame = pl.concat([frame, frame[np.sort(twice)]])
        frame.write_csv(folder / "user_behavior" / f"part-{part}.csv")


def shopkeeper(folder: Path) -> dict[str, Any]:
    from shopkeeper.shop import Shop

    with Shop.open(folder) as shop:
        shop.run(["collect", "clean"])
        versions = {name: shop.assets.current(name).rows for name in ("raw.events", "clean.events")}
    return {"rows": versions["raw.events"], "kept": versions["clean.events"]}


def collect_only(folder: Path) -> dict[str, Any]:
    from shopkeeper.collect.read import read
    from shopkeeper.collect.sources import find_sources
    from shopkeeper.config import Settings

    rows = 0
    for source in find_sources(Settings(), folder):
        if source.table == "events":
            rows += sum(batch.frame.height for batch in read(source, Settings(), folder, {}))
    return {"rows": rows, "kept": rows}


def bare_read(folder: Path) -> dict[str, Any]:
    rows = sum(
        pl.read_csv(path, infer_schema=False).height
        for path in sorted((folder / "user_behavior").glob("*.csv"))
    )
    return {"rows": rows, "kept": rows}


def plain_polars(folder: Path, all_kept: bool = False) -> dict[str, Any]:
    """What a careful script would do; it keeps the good rows and forgets the others.

    With `all_kept` it writes what Shopkeeper does, too: raw rows by bucket with where they stood, and
    the rows that broke a rule.
    """
    from shopkeeper.config import CleanSettings

    settings = CleanSettings()
    items = pl.read_csv(folder / "item_data.csv", infer_schema=False)["item_id"].unique()
    now = datetime.now(UTC)
    first = datetime.fromisoformat(settings.earliest).replace(tzinfo=UTC)
    rows, good, out = 0, [], folder / ("plain-all" if all_kept else "plain")
    out.mkdir()
    paths = sorted((folder / "user_behavior").glob("*.csv"))
    for number, path in enumerate(paths):
        raw = pl.read_csv(path, infer_schema=False)
        text = pl.col("user_id", "item_id", "kind").str.strip_chars()
        typed = raw.with_columns(
            text,
            pl.col("ts")
            .str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False)
            .dt.replace_time_zone("UTC"),
            pl.col("dwell_ms", "price_minor").cast(pl.Int64, strict=False),
            event_id=pl.format(f"{number:016x}{{}}", pl.int_range(pl.len()) + 10**15),
            seq=pl.int_range(rows, rows + raw.height),
        )
        dwell = pl.col("dwell_ms")
        typed = typed.with_columns(
            pl.when(dwell.is_between(0, settings.max_dwell_ms)).then(dwell).alias("dwell_ms")
        )
        rows += raw.height
        fit = (
            pl.col("user_id").str.len_bytes().is_between(1, 256)
            & pl.col("item_id").is_in(items.implode())
            & pl.col("kind").is_in(KINDS)
            & pl.col("ts").is_between(first, now + timedelta(minutes=settings.future_minutes))
            & pl.col("price_minor").is_between(0, settings.max_price_minor)
        )
        good.append(typed.filter(fit))
        if all_kept:
            line = pl.int_range(pl.len()) + 2
            stood = raw.with_columns(typed["event_id", "seq"], file=pl.lit(path.name), line=line)
            write_buckets(stood, out, f"raw-{number}")
            typed.filter(~fit.fill_null(False)).write_parquet(out / f"bad-{number}.parquet")
    events = pl.concat(good).sort("user_id", "ts", "seq")
    key = ("user_id", "item_id", "kind", "price_minor")
    again = events.sort(*key, "ts", "seq")
    same = pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in key)
    near = pl.col("ts") - pl.col("ts").shift(1) <= timedelta(seconds=settings.same_event_seconds)
    repeats = again.filter(same & near)["seq"]
    events = events.filter(~pl.col("seq").is_in(repeats.implode()))
    limit = settings.bot_events_per_hour
    fast = events.filter(
        (pl.col("user_id") == pl.col("user_id").shift(-limit))
        & (pl.col("ts").shift(-limit) - pl.col("ts") < timedelta(hours=1))
    )["user_id"].unique()
    pause = pl.col("ts").diff().dt.total_microseconds()
    sitting = (pl.col("user_id") == pl.col("user_id").shift(1)) & (pause < 1_800_000_000)
    pauses = events.select("user_id", pause.alias("pause"), sitting.alias("sitting")).filter(
        "sitting"
    )
    spread = pauses.group_by("user_id").agg(
        pl.len(),
        pl.col("pause").median().alias("middle"),
        (pl.col("pause").quantile(0.75) - pl.col("pause").quantile(0.25)).alias("width"),
    )
    regular = spread.filter(
        (pl.col("len") >= 50)
        & (pl.col("width") / 1.349 < settings.bot_regularity * pl.col("middle"))
    )["user_id"]
    day = pl.col("ts").dt.date()
    broad = (
        events.group_by("user_id", day)
        .agg(pl.col("item_id").n_unique())
        .filter(pl.col("item_id") > settings.bot_items_per_day)["user_id"]
    )
    robots = pl.concat([fast, regular, broad]).unique()
    theirs = pl.col("user_id").is_in(robots.implode())
    if all_kept:
        events.filter(theirs).write_parquet(out / "robots.parquet")
    events = events.filter(~theirs)
    write_buckets(events, out, "clean")
    return {"rows": rows, "kept": events.height}


def write_buckets(rows: pl.DataFrame, out: Path, name: str) -> None:
    parted = rows.with_columns(bucket=pl.col("user_id").hash(1) % BUCKETS).partition_by(
        "bucket", as_dict=True, include_key=False
    )
    for (bucket,), part in parted.items():
        part.write_parquet(out / f"{name}-{bucket}.parquet")


def plain_all_kept(folder: Path) -> dict[str, Any]:
    return plain_polars(folder, all_kept=True)


SIDES = {
    "bare read": bare_read,
    "collect only": collect_only,
    "plain polars": plain_polars,
    "the same, all kept": plain_all_kept,
    "shopkeeper": shopkeeper,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, help="work in this folder and leave it there")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--parts", type=int, default=PARTS, help="files the events lie in")
    parser.add_argument("--buckets", type=int, default=BUCKETS, help="of users")
    parser.add_argument("--only", choices=SIDES, help="leave the other sides out")
    arguments = parser.parse_args()
    if arguments.side:
        started, before = time.monotonic(), _cpu()
        told = SIDES[arguments.side](arguments.keep)
        told |= {
            "cpu_seconds": round(_cpu() - before, 2),
            "seconds": round(time.monotonic() - started, 2),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
        print(json.dumps(told))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        if not (folder / "user_behavior").exists():
            generate(folder, arguments.rows, arguments.parts)
        (folder / "shop.toml").write_text(f"buckets = {arguments.buckets}\n")
        size = sum(path.stat().st_size for path in (folder / "user_behavior").iterdir())
        print(f"{arguments.rows:,} events, {size / 1e6:,.0f} MB of CSV in {arguments.parts} files")
        sides = [arguments.only] if arguments.only else [*SIDES]
        told = {side: _measure(side, folder) for side in sides}
    print(f"{'':20}{'CPU s':>8}{'wall s':>8}{'peak MB':>9}{'rows/CPU s':>12}{'rows kept':>12}")
    for side, one in told.items():
        speed = one["rows"] / one["cpu_seconds"]
        print(
            f"{side:20}{one['cpu_seconds']:8.1f}{one['seconds']:8.1f}{one['peak_mb']:9,}"
            f"{speed:12,.0f}{one['kept']:12,}"
        )
    if arguments.only:
        return
    for side in ("plain polars", "the same, all kept"):
        ratio = told["shopkeeper"]["cpu_seconds"] / told[side]["cpu_seconds"]
        print(f"shopkeeper / {side}, CPU seconds: {ratio:.2f}")


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _measure(side: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--side", side, "--keep", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stderr}")
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


if __name__ == "__main__":
    main()
