import json
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from shopkeeper import collect
from shopkeeper.assets import contracts
from shopkeeper.clean import (
    Unaccounted,
    advice,
    clean_events,
    combine_checks,
    explain,
    label,
    report,
)
from shopkeeper.clean.checks import CHECKS, open_ledger
from shopkeeper.clean.report import rule_words
from shopkeeper.words import TABLES

Rows = Callable[..., pl.DataFrame]
COLLECT = Path(collect.__file__).parent
# a rejected line's rule, as collect writes it: Reject(…, "rule", or Malformed("rule", or return "rule",
COLLECT_RULES = re.compile(r'(?:Reject\([^"()]+, |Malformed\(\s*|return )"([a-z_]+)",')


def test_every_rule_there_is_has_words_in_both_languages(events: Rows, now: datetime) -> None:
    words = rule_words()
    rules = clean_events(events({}), now=now).checks["rule"].to_list()
    rules += [rule.name for name in TABLES for rule in contracts.rules(contracts.built_in(name))]
    for rule in rules:
        family, _, column = rule.partition(":")
        for language in ("en", "zh"):
            assert rule in words["rules"] or (
                words["families"][family][language] and words["columns"][column][language]
            )
    assert label("range:price_minor", "zh") == "价格：超出范围"
    assert label("bot:rate") == "robot: too many events within an hour"


def test_lines_that_collect_cannot_read_have_words_and_advice_too() -> None:
    source = "".join(path.read_text("utf-8") for path in COLLECT.glob("*.py"))
    rules = {*COLLECT_RULES.findall(source), "too_few_fields", "too_many_fields"}
    assert len(rules) >= 8
    for rule in rules:
        assert label(rule, "en") != label(rule, "zh"), rule
        assert advice(rule), rule


def test_every_rule_that_quarantines_says_what_to_do_next(events: Rows, now: datetime) -> None:
    cleaned = clean_events(
        events({"user_id": None}, {"kind": "buy"}, {"item_id": "i9"}, {"price_minor": "x"}),
        items=pl.Series(["i1"]),
        now=now,
    )
    steps = dict(explain(cleaned.quarantine).select("rule", "next").iter_rows())
    assert steps["reference:item_id"] == (
        'add it to the table it is looked up in; items: or set unknown_items = "keep" under [clean]'
    )
    assert all(steps.values())
    for name in TABLES:
        for rule in contracts.rules(contracts.built_in(name)):
            assert advice(rule.name, "en")
            assert advice(rule.name, "zh")
    assert advice("duplicate:exact") == ""


def test_checks_of_buckets_add_up_and_the_worst_level_counts(events: Rows, now: datetime) -> None:
    good = clean_events(events({}, {}), now=now)
    bad = clean_events(events({"user_id": None}), now=now)
    both = combine_checks([good.checks, bad.checks])
    assert both.schema == pl.Schema(CHECKS)
    missing = both.filter(pl.col("rule") == "required:user_id").row(0, named=True)
    assert (missing["level"], missing["count"], missing["rows"]) == ("FAIL", 1, 3)
    assert both.filter(pl.col("count") == 0)["level"].unique().to_list() == ["PASS"]


def test_a_report_is_json_and_tells_the_worst_first(events: Rows, now: datetime) -> None:
    cleaned = clean_events(
        events({}, {"user_id": None}, {"dwell_ms": "-1"}, {"kind": "VIEW"}), now=now
    )
    told = report(
        cleaned.checks,
        clean=cleaned.clean.height,
        merged=cleaned.merged,
        quarantined=cleaned.quarantine.height,
        repaired=cleaned.repaired,
    )
    assert json.loads(json.dumps(told)) == told
    assert (told["rows"], told["clean"], told["quarantined"], told["score"]) == (4, 3, 1, 0.75)
    assert told["rules"][0]["rule"] == "required:user_id"
    assert [rule["level"] for rule in told["rules"][:3]] == ["FAIL", "WARN", "WARN"]


def test_quarantine_is_explained_by_rule_and_can_be_cleaned_again_once_put_right(
    events: Rows, now: datetime
) -> None:
    raw = events({"kind": "buy"}, {"kind": "buy"}, {"user_id": None})
    first = clean_events(raw, now=now)
    told = explain(first.quarantine)
    assert told.select("rule", "count", "line").rows() == [
        ("allowed:kind", 2, 2),
        ("required:user_id", 1, 4),
    ]
    wrong = first.quarantine.filter(pl.col("rule") == "allowed:kind").drop("rule", "detail")
    again = wrong.with_columns(kind=pl.lit("purchase"))
    assert clean_events(again, now=now).clean["kind"].to_list() == ["purchase", "purchase"]


def test_rows_that_get_lost_are_an_error(events: Rows) -> None:
    ledger = open_ledger("clean.events", events({}, {}), contracts.built_in("events"))
    with pytest.raises(Unaccounted, match=r"2 rows in, but 1 clean \+ 0 merged \+ 0 quarantined"):
        ledger.close(ledger.typed.head(1), 0)
