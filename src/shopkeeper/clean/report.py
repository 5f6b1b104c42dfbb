"""The quality report: what the checks of all buckets found, in words for people (en, zh)."""

import json
from functools import cache
from importlib import resources
from typing import Any

import polars as pl

from shopkeeper.clean.checks import CHECKS

LEVELS = ("PASS", "WARN", "FAIL")


@cache
def rule_words() -> dict[str, dict[str, dict[str, str]]]:
    """rules.json: words of rule families (the part before the colon) and of columns."""
    text = resources.files(__package__).joinpath("rules.json").read_text("utf-8")
    found: dict[str, dict[str, dict[str, str]]] = json.loads(text)
    return found


def label(rule: str, language: str = "en") -> str:
    """What a rule says, for people: label("range:price_minor", "zh") -> "价格：数值超出范围"."""
    words = rule_words()
    if rule in words["rules"]:
        return words["rules"][rule][language]
    family, _, column = rule.partition(":")
    if family == "repair":
        return (
            words["families"][family][language]
            + (" · " if language == "en" else "：")
            + label(column, language)
        )
    what = words["families"].get(family, {}).get(language, family)
    of = words["columns"].get(column, {}).get(language, column)
    return f"{of}：{what}" if language == "zh" else f"{of}: {what}"


def advice(rule: str, language: str = "en") -> str:
    """What to do about rows in quarantine under `rule`; "" for a rule that quarantines nothing."""
    words = rule_words()["next"]
    return (words.get(rule) or words.get(rule.partition(":")[0]) or {}).get(language, "")


def combine_checks(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Checks of many buckets as one frame: counts and rows added, the worst level, one example."""
    if not parts:
        return pl.DataFrame(schema=CHECKS)
    level = pl.col("level").replace_strict(
        {name: n for n, name in enumerate(LEVELS)}, return_dtype=pl.Int8
    )
    return (
        pl.concat(parts)
        .with_columns(level=level)
        .group_by("asset", "rule", "column")
        .agg(
            pl.col("level").max(),
            pl.col("count").sum(),
            pl.col("rows").sum(),
            pl.col("example").filter(pl.col("example") != "").min().fill_null(""),
            pl.col("value").max(),
        )
        .with_columns(
            level=pl.col("level").replace_strict(dict(enumerate(LEVELS)), return_dtype=pl.String)
        )
        .select(*CHECKS)
        .sort("asset", "rule")
    )


def difference(more: list[pl.DataFrame], less: pl.DataFrame) -> pl.DataFrame:
    """Checks of `more` without what `less` counted of the same rows."""
    gone = less.select("asset", "rule", "column", was="count", of="rows")
    left = combine_checks(more).join(gone, on=["asset", "rule", "column"], how="left")
    count = pl.col("count") - pl.col("was").fill_null(0)
    return left.with_columns(
        count=count,
        rows=pl.col("rows") - pl.col("of").fill_null(0),
        level=pl.when(count != 0).then("level").otherwise(pl.lit("PASS")),
        example=pl.when(count != 0).then("example").otherwise(pl.lit("")),
    ).select(*CHECKS)


def report(
    checks: pl.DataFrame,
    *,
    clean: int,
    merged: int,
    quarantined: int,
    repaired: dict[str, int] | None = None,
) -> dict[str, Any]:
    """A quality report of one asset, JSON-able; worst findings first.

    `score` is the share of rows that were fit for use: clean or merged.
    """
    rows = clean + merged + quarantined
    order = pl.col("level").replace_strict({"FAIL": 0, "WARN": 1, "PASS": 2}, return_dtype=pl.Int8)
    rules = [
        told_rule(row) for row in checks.sort(order, -pl.col("count"), "rule").iter_rows(named=True)
    ]
    told = {
        "rows": rows,
        "clean": clean,
        "merged": merged,
        "quarantined": quarantined,
        "repaired": dict(repaired or {}),
        "score": (clean + merged) / rows if rows else 1.0,
        "passed": 0,
        "warned": 0,
        "failed": 0,
        "rules": [],
    }
    add_rules(told, rules)
    return told


def told_rule(row: dict[str, Any]) -> dict[str, Any]:
    """One row of CHECKS as a report tells it, in words."""
    failed = row["level"] == "FAIL"
    return {
        **row,
        "share": row["count"] / row["rows"] if row["rows"] else 0.0,
        "label_en": label(row["rule"], "en"),
        "label_zh": label(row["rule"], "zh"),
        "next_en": advice(row["rule"], "en") if failed else "",
        "next_zh": advice(row["rule"], "zh") if failed else "",
    }


def add_rules(told: dict[str, Any], rules: list[dict[str, Any]]) -> None:
    """More rules into a report, in place; they count, and the worst stand first."""
    told["rules"] += rules
    told["rules"].sort(
        key=lambda rule: (-LEVELS.index(rule["level"]), -rule["count"], rule["rule"])
    )
    for key, level in (("passed", "PASS"), ("warned", "WARN"), ("failed", "FAIL")):
        told[key] = sum(rule["level"] == level for rule in told["rules"])


def explain(quarantine: pl.DataFrame) -> pl.DataFrame:
    """Quarantined rows by rule, most first.

    Returns:
        rule, count, share (of the quarantine), file, line and detail of the first row, next: what
        to do about it.
    """
    total = max(quarantine.height, 1)
    where = [pl.col(name).first() for name in ("file", "line") if name in quarantine.columns]
    return (
        quarantine.group_by("rule")
        .agg(pl.len().cast(pl.Int64).alias("count"), *where, pl.col("detail").first())
        .with_columns(
            share=pl.col("count") / total,
            next=pl.col("rule").map_elements(advice, return_dtype=pl.String),
        )
        .sort(["count", "rule"], descending=[True, False])
    )
