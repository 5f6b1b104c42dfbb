"""Planted dirt, counted: recall and precision of every kind, from raw file to clean row."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from shopkeeper import config, demo
from shopkeeper.clean import (
    Cleaned,
    clean_events,
    clean_images,
    clean_items,
    clean_shops,
    clean_users,
    known_ids,
)
from shopkeeper.collect.read import read
from shopkeeper.collect.sources import find_sources

NOW = datetime(2026, 6, 1, tzinfo=UTC)

# kind of dirt -> where its rows must be: rules of quarantine; a column that was repaired; "merged";
# "unread": told by collect; "clean": odd but true, must stay
FATE: dict[str, tuple[str, ...]] = {
    "exact_duplicate": ("merged",),
    "resent": ("merged",),
    "missing_user": ("required:user_id",),
    "missing_item": ("required:item_id",),
    "unknown_item": ("reference:item_id",),
    "unknown_kind": ("allowed:kind",),
    "negative_price": ("range:price_minor",),
    "huge_price": ("outlier:price_minor",),
    "nan_price": ("impossible:price_minor",),
    "no_quantity": ("range:quantity",),
    "future": ("future:ts",),
    "unreadable_time": ("type:ts",),
    "too_many_fields": ("unread",),
    "too_few_fields": ("unread",),
    "bad_bytes": ("unread",),
    "bot_regular": ("bot:regularity",),
    "bot_fast": ("bot:rate",),
    "negative_dwell": ("repaired:dwell_ms",),
    "endless_dwell": ("repaired:dwell_ms",),
    "untidy_text": ("repaired:user_id", "repaired:item_id"),
    "return_below_zero": ("repaired:quantity",),
    "late": ("clean",),
    "out_of_order": ("clean",),
    "viewed_again": ("clean",),
    "long_stay": ("clean",),
    "busy_person": ("clean",),
    "older_state": ("merged",),
    "same_state": ("merged",),
    "item_without_id": ("required:item_id",),
    "item_negative_price": ("range:price_minor",),
    "item_nan_price": ("impossible:price_minor",),
    "negative_stock": ("repaired:stock",),
    "unreadable_consent": ("repaired:personalisation",),
    "picture_cut_off": ("unread",),
    "picture_is_text": ("unread",),
}
# Kinds that nothing in the data tells apart from honest rows in a few cases: a user may truly do
# the same thing twice within two seconds, and old files tell whole seconds only.
GOOD_ENOUGH = 0.95


@dataclass(frozen=True)
class Outcome:
    """Every collected line: table, file, line, fate (as in FATE; several joined by a blank)."""

    lines: pl.DataFrame
    dirt: pl.DataFrame  # kind, outcome, table, file, line, id


def fates(raw: pl.DataFrame, cleaned: Cleaned, table: str) -> pl.DataFrame:
    """What became of each raw row of a table."""
    where = ("file", "line")
    bad = cleaned.quarantine.select("seq", fate="rule")
    kept = cleaned.clean.join(raw, on="seq", suffix=" raw")
    texts = [name for name in cleaned.clean.columns if f"{name} raw" in kept.columns]
    changed = []
    for name in texts:
        if name in ("file", "line", "source", "attributes", "content") or table == "items_merged":
            continue
        value = pl.col(name)
        if isinstance(cleaned.clean.schema[name], pl.Datetime):
            value = value.dt.to_string("%Y-%m-%dT%H:%M:%S%.6fZ")
        elif cleaned.clean.schema[name] == pl.Float64:
            continue
        else:
            value = value.cast(pl.String)
        raw_value = pl.col(f"{name} raw").cast(pl.String)
        changed.append(
            pl.when(value.ne_missing(raw_value) & raw_value.is_not_null()).then(
                pl.lit(f"repaired:{name}")
            )
        )
    told = pl.concat_str(changed, separator=" ", ignore_nulls=True)
    good = kept.select("seq", fate=pl.when(told == "").then(pl.lit("clean")).otherwise(told))
    known = pl.concat([bad, good])
    return (
        raw.select("seq", *where)
        .join(known, on="seq", how="left")
        .select(
            table=pl.lit(table), file="file", line="line", fate=pl.col("fate").fill_null("merged")
        )
    )


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("dirt") / "shop"
    demo.write(folder, users=1500, items=600, days=30, seed=11)
    return run(folder)


def run(folder: Path) -> Outcome:
    settings = config.load(folder)
    frames: dict[str, list[pl.DataFrame]] = {}
    unread = []
    for source in find_sources(settings, folder):
        for batch in read(source, settings, folder, {}):
            frames.setdefault(source.table, []).append(batch.frame)
            unread.append(batch.rejects.with_columns(table=pl.lit(source.table)))
    raw = {
        table: pl.concat(parts, how="diagonal").with_columns(
            seq=pl.int_range(pl.len(), dtype=pl.Int64)
        )
        for table, parts in frames.items()
    }
    cleaned = {
        "shops": clean_shops(raw["shops"]),
        "items": clean_items(raw["items"], now=NOW),
        "users": clean_users(raw["users"], now=NOW),
    }
    if "images" in raw:
        cleaned["images"] = clean_images(raw["images"])
    cleaned["events"] = clean_events(raw["events"], items=known_ids(cleaned["items"]), now=NOW)
    lost = pl.concat(unread).select("table", "file", "line", fate=pl.lit("unread"))
    lines = pl.concat([*(fates(raw[table], cleaned[table], table) for table in cleaned), lost])
    return Outcome(lines, pl.read_parquet(folder / "truth" / "dirt.parquet"))


def test_each_kind_of_planted_dirt_is_found_and_little_else_is_taken_for_it(
    outcome: Outcome,
) -> None:
    assert set(outcome.dirt["kind"].unique()) <= set(FATE)
    scores = score(outcome)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=150):
        print(scores)
    weak = scores.filter((pl.col("recall") < GOOD_ENOUGH) | (pl.col("precision") < GOOD_ENOUGH))
    assert weak.rows() == []


def score(outcome: Outcome) -> pl.DataFrame:
    """kind, planted, recall, precision (of the rows with this fate, those planted so)."""
    planted = outcome.dirt.join(outcome.lines, on=["table", "file", "line"], how="left")
    rows = []
    for kind, wanted in FATE.items():
        mine = planted.filter(pl.col("kind") == kind)
        if not mine.height:
            continue
        hit = pl.col("fate").str.split(" ").list.eval(pl.element().is_in(wanted)).list.any()
        found = mine.select(hit.fill_null(False).sum()).item()
        table = mine["table"][0]
        alike = [k for k, fate in FATE.items() if set(fate) & set(wanted)]
        called = outcome.lines.filter(pl.col("table") == table).filter(hit)
        right = called.join(
            outcome.dirt.filter(pl.col("kind").is_in(alike)),
            on=["table", "file", "line"],
            how="semi",
        ).height
        precision = 1.0 if "clean" in wanted or not called.height else right / called.height
        rows.append((kind, mine.height, found / mine.height, precision))
    names = {"kind": pl.String, "planted": pl.Int64, "recall": pl.Float64, "precision": pl.Float64}
    return pl.DataFrame(rows, schema=names, orient="row").sort("kind")
