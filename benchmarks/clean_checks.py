"""Rows per CPU second of `clean_events` beside bare Polars expressions with the same checks.

    python benchmarks/clean_checks.py [--rows 10000000] [--buckets 16] [--dirt 0.01]

Both sides get the same text columns of one bucket at a time, in memory, and return typed clean rows
sorted by user, time and arrival. Bare is what a careful engineer writes by hand for one shop: trim,
cast, flags of all the same rules, filter, duplicates, robots, sort. It explains nothing: no
quarantine with reasons, no repairs one by one, no counts by rule, no contract. `_checks` is
the part that looks at single rows (trim, cast, rules, references). One JSON line.
"""

import argparse
import json
import resource
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from shopkeeper.assets import contracts
from shopkeeper.clean import clean_events
from shopkeeper.clean.events import SAME, check_rows
from shopkeeper.config import CleanSettings
from shopkeeper.words import KIND_CODES

NOW = datetime(2026, 6, 1, tzinfo=UTC)
START_US = 1_767_225_600_000_000  # 2026-01-01
DAYS = 90
ITEMS = 50_000
KINDS = np.array(["impression", "view", "search", "cart", "purchase", "favorite"])
ABOUT = ("view", "impression", "favorite", "cart", "purchase", "return", "review", "share")
TEXT = (
    "event_id", "user_id", "session_id", "item_id", "shop_id", "kind", "ts", "dwell_ms", "query",
    "price_minor", "quantity", "channel", "region", "position", "answer_id", "propensity",
)  # fmt: skip
SETTINGS = CleanSettings()


def bucket(number: int, rows: int, dirt: float) -> pl.DataFrame:
    """Raw events of 100 a user in order of arrival; `dirt`: share of rows with something wrong."""
    rng = np.random.default_rng(number)
    kind = KINDS[rng.choice(len(KINDS), rows, p=(0.45, 0.4, 0.05, 0.05, 0.03, 0.02))]
    item = rng.integers(0, ITEMS, rows)
    frame = pl.DataFrame(
        {
            "user": rng.integers(0, max(rows // 100, 1), rows),
            "item": item,
            "kind": kind,
            "at": START_US + np.sort(rng.integers(0, DAYS * 86_400_000, rows)) * 1000,
            "dwell": rng.lognormal(9.5, 1.0, rows).astype(np.int64),
            "price": 100 + item * 7 % 90_000,
            "pieces": rng.integers(1, 4, rows),
            "position": rng.integers(1, 41, rows),
            "wrong": np.where(rng.random(rows) < dirt, rng.integers(1, 8, rows), 0),
        }
    )
    bought, wrong = pl.col("kind").is_in(["cart", "purchase"]), pl.col("wrong")
    day = (pl.col("at") - START_US) // 86_400_000_000
    row = pl.int_range(pl.len())
    made = frame.select(
        event_id=pl.format("e{}-{}", pl.lit(number), row),
        user_id=pl.when(wrong != 2).then(pl.format("u{}-{}", pl.lit(number), "user")),
        session_id=pl.format("s{}-{}", "user", day),
        item_id=pl.when(pl.col("kind") != "search").then(
            pl.format("{}{}", pl.when(wrong == 3).then(pl.lit("x")).otherwise(pl.lit("i")), "item")
        ),
        shop_id=pl.format("shop{}", pl.col("item") % 100),
        kind=pl.when(wrong == 4).then(pl.col("kind").str.to_uppercase()).otherwise("kind"),
        ts=pl.from_epoch("at", "us").dt.to_string("%Y-%m-%dT%H:%M:%S%.6fZ"),
        dwell_ms=pl.when(pl.col("kind") == "view").then(
            pl.when(wrong == 5).then(-pl.col("dwell")).otherwise("dwell").cast(pl.String)
        ),
        query=pl.when(pl.col("kind") == "search").then(pl.format("lamp {}", pl.col("item") % 1000)),
        price_minor=pl.when(bought | (wrong == 6)).then(
            pl.when(wrong == 6).then(pl.lit("NaN")).otherwise(pl.col("price").cast(pl.String))
        ),
        quantity=pl.when(bought).then(pl.col("pieces").cast(pl.String)),
        channel=pl.lit("app"),
        region=pl.when(wrong == 7).then(pl.lit(" Beijing ")).otherwise(pl.lit("Beijing")),
        position=pl.when(pl.col("kind") == "impression").then(pl.col("position").cast(pl.String)),
        answer_id=pl.lit(None, pl.String),
        propensity=pl.lit(None, pl.String),
        seq=row,
        source=pl.lit("events"),
        file=pl.lit("raw/events.csv"),
        line=row + 2,
    )
    again = pl.lit(frame["wrong"] == 1)  # the line before, once more
    return made.with_columns(
        pl.when(again).then(pl.col(name).shift(1)).otherwise(name).alias(name) for name in TEXT
    )


def bare_checks(raw: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """The same checks of single rows by hand: typed rows that pass."""
    text = raw.with_columns(pl.col(TEXT).str.strip_chars())
    typed = text.with_columns(
        pl.col("ts").str.to_datetime(
            "%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us", time_zone="UTC", strict=False
        ),
        pl.col("kind").str.to_lowercase(),
        pl.col("dwell_ms", "price_minor", "quantity").cast(pl.Int64, strict=False),
        pl.col("position").cast(pl.Int32, strict=False),
        pl.col("propensity").cast(pl.Float64, strict=False),
    )
    typed = typed.with_columns(
        pl.when(pl.col("dwell_ms").is_between(0, SETTINGS.max_dwell_ms)).then(pl.col("dwell_ms")),
        pl.when(pl.col("position").is_between(0, 1_000_000)).then(pl.col("position")),
        pl.when((pl.col("propensity") > 0) & (pl.col("propensity") <= 1)).then(
            pl.col("propensity")
        ),
    )
    last = NOW + timedelta(minutes=SETTINGS.future_minutes)
    cast = ("ts", "price_minor", "quantity")
    good = [
        *(typed[name].is_null() == text[name].is_null() for name in cast),
        *(typed[name].is_not_null() for name in ("event_id", "user_id", "kind", "ts")),
        typed["kind"].is_in(list(KIND_CODES)),
        typed["item_id"].is_not_null() | ~typed["kind"].is_in(ABOUT),
        typed["item_id"].is_null() | typed["item_id"].is_in(items["item_id"].implode()),
        typed["ts"].is_between(datetime(1995, 1, 1, tzinfo=UTC), last),
        typed["price_minor"].is_null()
        | typed["price_minor"].is_between(0, SETTINGS.max_price_minor),
        typed["quantity"].is_null() | typed["quantity"].is_between(1, 10_000_000),
        *(
            typed[name].is_null() | (typed[name].str.len_bytes() <= 256)
            for name in ("event_id", "user_id", "session_id", "item_id", "shop_id", "answer_id")
        ),
    ]
    listed = typed.select("item_id").join(items, on="item_id", how="left", maintain_order="left")
    paid = typed["price_minor"] <= listed["price_minor"] * SETTINGS.max_price_ratio
    keep = paid | typed["price_minor"].is_null() | listed["price_minor"].is_null()
    for mask in good:
        keep = keep & mask
    return typed.filter(keep)


def bare_rest(rows: pl.DataFrame) -> pl.DataFrame:
    """Order, duplicates and robots by hand."""
    rows = rows.sort("user_id", "ts", "seq")
    rows = rows.filter(rows["event_id"].is_first_distinct())
    near = pl.col("ts") - pl.col("ts").shift(1).over(SAME) <= timedelta(
        seconds=SETTINGS.same_event_seconds
    )
    rows = rows.filter(~near.fill_null(False))
    acts = rows.filter(pl.col("kind") != "impression").select("user_id", "item_id", "ts")
    limit = SETTINGS.bot_events_per_hour
    fast = acts.filter(
        (pl.col("user_id") == pl.col("user_id").shift(-limit))
        & (pl.col("ts").shift(-limit) - pl.col("ts") < timedelta(hours=1))
    )
    pause = pl.col("ts").diff().dt.total_microseconds()
    sitting = (pl.col("user_id") == pl.col("user_id").shift(1)) & pause.is_between(1, 1_800_000_000)
    steady = (
        acts.select("user_id", pause=pl.when(sitting).then(pause))
        .drop_nulls("pause")
        .group_by("user_id")
        .agg(pl.len(), spread=pl.col("pause").std() / pl.col("pause").mean())
        .filter((pl.col("len") >= 50) & (pl.col("spread") < SETTINGS.bot_regularity))
    )
    robots = pl.concat([fast["user_id"], steady["user_id"]]).unique()
    return rows.filter(~pl.col("user_id").is_in(robots.implode()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--buckets", type=int, default=16)
    parser.add_argument("--dirt", type=float, default=0.01)
    args = parser.parse_args()
    ids = [f"i{n}" for n in range(ITEMS)]
    items = pl.DataFrame(
        {"item_id": ids, "price_minor": [100 + n * 7 % 90_000 for n in range(ITEMS)]}
    )
    contract = contracts.built_in("events")
    sides = ("shopkeeper", "bare", "shopkeeper_checks", "bare_checks")
    spent = dict.fromkeys(sides, 0.0)
    kept = dict.fromkeys(sides[:2], 0)
    merged = quarantined = rows = 0
    for number in range(args.buckets):
        raw = bucket(number, args.rows // args.buckets, args.dirt)
        rows += raw.height
        for side in sides if number % 2 else sides[::-1]:
            begin = time.process_time()
            if side == "shopkeeper":
                cleaned = clean_events(raw, items=items, settings=SETTINGS, now=NOW)
                kept[side] += cleaned.clean.height
                merged += cleaned.merged
                quarantined += cleaned.quarantine.height
            elif side == "bare":
                kept[side] += bare_rest(bare_checks(raw, items)).height
            elif side == "bare_checks":
                bare_checks(raw, items)
            else:
                check_rows(
                    raw, items=items, shops=None, settings=SETTINGS, now=NOW, has_time=True,
                    contract=contract,
                )  # fmt: skip
            spent[side] += time.process_time() - begin
    print(
        json.dumps(
            {
                "rows": rows,
                "buckets": args.buckets,
                "dirt": args.dirt,
                "rows_per_cpu_second": {side: round(rows / s) for side, s in spent.items()},
                "cpu_seconds": {side: round(s, 2) for side, s in spent.items()},
                "ratio_to_bare": round(spent["shopkeeper"] / spent["bare"], 2),
                "ratio_checks_only": round(spent["shopkeeper_checks"] / spent["bare_checks"], 2),
                "kept": kept,
                "merged": merged,
                "quarantined": quarantined,
                "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
                "threads": pl.thread_pool_size(),
            }
        )
    )


if __name__ == "__main__":
    main()
