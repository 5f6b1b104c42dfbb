import itertools
from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

from shopkeeper.assets import contracts
from shopkeeper.clean import Cleaned, clean_events
from shopkeeper.config import CleanSettings

Rows = Callable[..., pl.DataFrame]


def rules(cleaned: Cleaned) -> dict[str, str]:
    return dict(cleaned.quarantine.select("event_id", "rule").iter_rows())


@pytest.mark.parametrize(
    ("change", "rule", "says"),
    [
        ({"user_id": None}, "required:user_id", "user_id is missing, wanted a value"),
        ({"user_id": "null"}, "required:user_id", "user_id is 'null', wanted a value"),
        ({"item_id": None}, "required:item_id", "item_id is missing, wanted a value where kind is"),
        ({"kind": "hover"}, "allowed:kind", "kind is 'hover', wanted one of view, impression"),
        (
            {"price_minor": "NaN"},
            "impossible:price_minor",
            "price_minor is 'NaN', wanted a number, or an empty cell where it is unknown",
        ),
        (
            {"price_minor": "12.5"},
            "type:price_minor",
            "price_minor is '12.5', wanted a whole number of minor units (fen, cents)",
        ),
        ({"price_minor": "-1"}, "range:price_minor", "price_minor is '-1', wanted at least 0"),
        ({"price_minor": "100000001"}, "outlier:price_minor", "wanted at most 100,000,000"),
        ({"dwell_ms": "long"}, "type:dwell_ms", "dwell_ms is 'long', wanted a whole number"),
        ({"ts": "昨天"}, "type:ts", "ts is '昨天', wanted a time such as 2026-01-31T08:00"),
        ({"ts": None}, "required:ts", "ts is missing, wanted a time"),
        ({"ts": "1970-01-01T00:00:00.000000Z"}, "range:ts", "wanted a time from 1995-01-01 on"),
        (
            {"ts": "2026-02-01T00:11:00.000000Z"},
            "future:ts",
            "wanted a time not after now",
        ),
        (
            {"kind": "purchase", "quantity": "0"},
            "range:quantity",
            "quantity is '0', wanted at least 1",
        ),
        ({"kind": "purchase", "quantity": "-2"}, "range:quantity", "quantity is '-2', wanted"),
        ({"item_id": "i9"}, "reference:item_id", "item_id is 'i9', wanted an item of the item"),
        ({"user_id": "u" * 300}, "length:user_id", "…', wanted at most 256 characters"),
    ],
)
def test_what_cannot_be_true_is_quarantined_whole_with_the_value_found_and_the_one_wanted(
    events: Rows, now: datetime, change: dict[str, Any], rule: str, says: str
) -> None:
    raw = events({}, change, {})
    cleaned = clean_events(raw, items=pl.Series(["i1"]), now=now)
    assert rules(cleaned) == {"e1": rule}
    assert says in cleaned.quarantine["detail"][0]
    assert cleaned.quarantine.drop("rule", "detail").equals(raw[1:2])  # as it came
    assert cleaned.clean["event_id"].to_list() == ["e0", "e2"]


@pytest.mark.parametrize(
    ("change", "column", "value", "rule"),
    [
        ({"user_id": " u1\t"}, "user_id", "u1", "blank:user_id"),
        ({"item_id": "\u3000i1\u00a0"}, "item_id", "i1", "blank:item_id"),
        ({"kind": "VIEW"}, "kind", "view", "form:kind"),
        ({"kind": "coupon-claim"}, "kind", "coupon_claim", "form:kind"),
        ({"price_minor": "300.0"}, "price_minor", 300, "form:price_minor"),
        ({"price_minor": "None"}, "price_minor", None, "missing:price_minor"),
        ({"dwell_ms": "-5"}, "dwell_ms", None, "range:dwell_ms"),
        ({"dwell_ms": "21600001"}, "dwell_ms", None, "outlier:dwell_ms"),
        ({"propensity": "1.5"}, "propensity", None, "range:propensity"),
        ({"propensity": "NaN"}, "propensity", None, "range:propensity"),
        ({"position": "-1"}, "position", None, "range:position"),
        ({"kind": "return", "quantity": "-2"}, "quantity", 2, "sign:quantity"),
        ({"quantity": "-2"}, "quantity", None, "range:quantity"),
        (
            {"ts": "2026-01-01 08:00:00+08:00"},
            "ts",
            datetime.fromisoformat("2026-01-01T00:00Z"),
            "form:ts",
        ),
    ],
)
def test_what_can_safely_be_put_right_is_and_is_counted(
    events: Rows, now: datetime, change: dict[str, Any], column: str, value: Any, rule: str
) -> None:
    cleaned = clean_events(events(change), now=now)
    assert cleaned.clean[column].to_list() == [value]
    assert cleaned.repaired == {rule: 1}
    found = cleaned.checks.filter(pl.col("rule") == rule).row(0, named=True)
    assert (found["level"], found["count"], found["column"]) == ("WARN", 1, column)


def test_all_rules_a_row_breaks_are_told_and_counted(events: Rows, now: datetime) -> None:
    cleaned = clean_events(events({"user_id": None, "price_minor": "-1"}), now=now)
    assert cleaned.quarantine["rule"].to_list() == ["required:user_id"]
    assert cleaned.quarantine["detail"].to_list() == [
        "user_id is missing, wanted a value; price_minor is '-1', wanted at least 0"
    ]
    failed = cleaned.checks.filter(pl.col("level") == "FAIL")
    assert failed["rule"].to_list() == ["range:price_minor", "required:user_id"]


def test_a_kind_that_is_about_no_item_needs_none(events: Rows, now: datetime) -> None:
    raw = events({"kind": "search", "item_id": None, "query": "lamp"})
    assert clean_events(raw, items=pl.Series(["i1"]), now=now).clean.height == 1


def test_without_an_item_table_no_item_is_unknown(events: Rows, now: datetime) -> None:
    raw = events({"item_id": "i9"})
    for items in (None, pl.Series([], dtype=pl.String)):
        assert clean_events(raw, items=items, now=now).clean.height == 1


def test_unknown_items_can_be_kept_and_are_counted(events: Rows, now: datetime) -> None:
    cleaned = clean_events(
        events({"item_id": "i9"}),
        items=pl.Series(["i1"]),
        settings=CleanSettings(unknown_items="keep"),
        now=now,
    )
    found = cleaned.checks.filter(pl.col("rule") == "reference:item_id").row(0, named=True)
    assert (cleaned.clean.height, found["level"], found["count"]) == (1, "WARN", 1)


def test_a_price_far_above_the_items_own_is_quarantined_and_far_below_is_not(
    events: Rows, now: datetime
) -> None:
    items = pl.DataFrame({"item_id": ["i1", "i2"], "price_minor": [200, 99]})
    raw = events(
        {"price_minor": "10000"},
        {"price_minor": "10001"},
        {"kind": "purchase", "price_minor": "20000", "quantity": "2"},  # the whole line, perhaps
        {"price_minor": "1"},
        {"item_id": "i2", "price_minor": "10000"},  # has no price to speak of
    )
    cleaned = clean_events(raw, items=items, now=now)
    assert rules(cleaned) == {"e1": "ratio:price_minor"}
    assert cleaned.quarantine["detail"].to_list() == [
        "price_minor is '10001', wanted at most 50 times the item's own price of 200"
    ]
    off = CleanSettings(max_price_ratio=0)
    assert clean_events(raw, items=items, now=now, settings=off).clean.height == 5


def test_the_same_id_again_is_merged_into_the_first_to_arrive(events: Rows, now: datetime) -> None:
    raw = events({"event_id": "a", "dwell_ms": "7"}, {"event_id": "a"}, {"event_id": "a"})
    cleaned = clean_events(raw.reverse(), now=now)
    assert (cleaned.merged, cleaned.clean["dwell_ms"].to_list()) == (2, [7])


def test_one_id_for_two_different_events_is_quarantined_not_merged(
    events: Rows, now: datetime
) -> None:
    raw = events({"event_id": "a"}, {"event_id": "a", "item_id": "i2"}, {"event_id": "a"})
    cleaned = clean_events(raw, now=now)
    assert cleaned.quarantine.select("rule", "line").rows() == [("unique:event_id", 3)]
    assert cleaned.quarantine["detail"].to_list() == [
        "event_id is 'a', which events.csv:2 has for another event, wanted an id of its own"
    ]
    assert (cleaned.clean.height, cleaned.merged) == (1, 1)


def test_an_id_is_that_of_one_user_whoever_else_is_in_the_bucket(
    events: Rows, now: datetime
) -> None:
    raw = events(*({"event_id": "1", "user_id": user} for user in ("a", "b", "a", "c")))
    whole = clean_events(raw, now=now)
    alone = [clean_events(raw.filter(user_id=user), now=now) for user in "abc"]
    assert whole.clean.equals(pl.concat(part.clean for part in alone))
    assert (whole.clean.height, whole.merged, whole.quarantine.height) == (3, 1, 0)
    key = [column.name for column in contracts.built_in("events").columns if column.key]
    assert whole.clean.select(key).is_unique().all()
    assert sorted(key) == ["event_id", "user_id"]


def test_the_same_event_sent_again_within_seconds_is_merged_and_later_it_is_not(
    events: Rows, now: datetime
) -> None:
    at = "2026-01-01T00:00:{}Z"
    raw = events(
        {"ts": at.format("00.000000")},
        {"ts": at.format("02.000000")},  # exactly the window: the same event
        {"ts": at.format("04.100000")},  # more than the window after: another one
        {"ts": at.format("04.200000"), "quantity": "2"},  # not the same
        {"ts": at.format("04.200000"), "item_id": "i2"},
    )
    cleaned = clean_events(raw, now=now)
    assert cleaned.clean["event_id"].to_list() == ["e0", "e2", "e3", "e4"]
    counts = dict(cleaned.checks.select("rule", "count").iter_rows())
    assert (cleaned.merged, counts["duplicate:resent"], counts["duplicate:exact"]) == (1, 1, 0)


def test_the_same_content_under_another_id_is_merged_as_exact(events: Rows, now: datetime) -> None:
    same = {"ts": "2026-01-01T00:00:00.000000Z", "dwell_ms": "40"}
    cleaned = clean_events(events(same, same), now=now)
    counts = dict(cleaned.checks.select("rule", "count").iter_rows())
    assert (cleaned.merged, counts["duplicate:exact"], counts["duplicate:resent"]) == (1, 1, 0)


def test_without_times_equal_lines_are_repeats_unless_a_dwell_was_measured(
    events: Rows, now: datetime
) -> None:
    bare, stayed = {"ts": None}, {"ts": None, "dwell_ms": "5120"}
    cleaned = clean_events(events(bare, bare, stayed, stayed), now=now, has_time=False)
    assert cleaned.clean["event_id"].to_list() == ["e0", "e1", "e2"]
    counts = dict(cleaned.checks.select("rule", "count").iter_rows())
    assert (counts["repeat:ts"], counts["duplicate:exact"]) == (1, 1)


def test_clean_rows_are_typed_and_sorted_by_user_time_and_arrival(
    events: Rows, now: datetime
) -> None:
    raw = events(
        {"user_id": "u2"},
        {"user_id": "u1", "ts": "2026-01-02T00:00:00.000000Z"},
        {"user_id": "u1", "ts": "2026-01-01T00:00:00.123456Z", "price_minor": "5"},
    )
    clean = clean_events(raw, now=now).clean
    assert clean["event_id"].to_list() == ["e2", "e1", "e0"]
    assert clean.schema == {
        **dict.fromkeys(clean.columns, pl.String),
        "ts": pl.Datetime("us", "UTC"),
        "dwell_ms": pl.Int64,
        "price_minor": pl.Int64,
        "quantity": pl.Int64,
        "position": pl.Int32,
        "propensity": pl.Float64,
        "seq": pl.Int64,
        "line": pl.Int64,
    }


def test_late_events_are_sorted_in_and_counted(events: Rows, now: datetime) -> None:
    cleaned = clean_events(events({}, {}, {"ts": "2026-01-01T00:00:30.000000Z"}), now=now)
    assert cleaned.clean["event_id"].to_list() == ["e0", "e2", "e1"]
    assert cleaned.checks.filter(pl.col("rule") == "order:ts")["count"].item() == 1


def test_no_rows_and_missing_columns_are_no_error(events: Rows, now: datetime) -> None:
    empty = clean_events(events(), now=now)
    assert (empty.clean.height, empty.quarantine.height, empty.merged) == (0, 0, 0)
    few = events({}, {}).select("event_id", "user_id", "item_id", "kind", "seq")
    cleaned = clean_events(few, now=now, has_time=False)
    assert cleaned.clean.height == 2


GARBAGE = (
    None, "", " ", "null", "NaN", "-inf", "1e400", "-0", "0", "1", "-1", "3.0", "9" * 40, "é", "\x00",
    "\ud7ff", "🛒", "view", "VIEW", "purchase", "return", "i1", "u1", "true", "[]", "{", '{"a": NaN}',
    "2026-01-01T00:00:00.000000Z", "2026-13-01T00:00:00.000000Z", "0000-00-00 00:00:00", "1e3",
    "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00.000000Z", "a" * 5000, "\u3000i1", "1,000",
)  # fmt: skip


def garbage(rng: np.random.Generator, events: Rows, rows: int) -> pl.DataFrame:
    """`rows` events of which every cell may be anything."""
    raw = events(*({} for _ in range(rows)))
    columns = [name for name in raw.columns if name not in ("source", "file", "line", "seq")]
    for name in columns:
        odd = rng.random(rows) < 0.4
        words = rng.integers(0, len(GARBAGE), rows)
        values = [GARBAGE[w] if o else v for v, w, o in zip(raw[name], words, odd, strict=True)]
        raw = raw.with_columns(pl.Series(name, values, dtype=pl.String))
    return raw


@pytest.mark.parametrize("seed", range(12))
def test_whatever_stands_in_the_cells_nothing_raises_and_every_row_is_accounted_for(
    events: Rows, now: datetime, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    raw = garbage(rng, events, int(rng.integers(1, 400)))
    for has_time, items in itertools.product((True, False), (None, pl.Series(["i1"]))):
        cleaned = clean_events(raw, items=items, now=now, has_time=has_time)
        assert raw.height == cleaned.clean.height + cleaned.merged + cleaned.quarantine.height
        seen = pl.concat([cleaned.clean["seq"], cleaned.quarantine["seq"]])
        assert seen.n_unique() == seen.len()
        assert cleaned.quarantine["rule"].null_count() == 0
        assert cleaned.quarantine["detail"].null_count() == 0
        assert cleaned.clean["user_id"].null_count() == 0


def test_the_result_does_not_depend_on_the_order_or_the_chunks_of_the_rows(
    events: Rows, now: datetime
) -> None:
    raw = garbage(np.random.default_rng(5), events, 600)
    expected = clean_events(raw, now=now)
    shuffled = raw.sample(fraction=1.0, shuffle=True, seed=3)
    chunked = pl.concat([shuffled[n::7] for n in range(7)], rechunk=False)
    for other in (shuffled, chunked, chunked.lazy()):
        found = clean_events(other, now=now)
        assert found.clean.equals(expected.clean)
        assert found.quarantine.sort("seq").equals(expected.quarantine.sort("seq"))
        assert found.merged == expected.merged
        assert found.repaired == expected.repaired
        told = ("rule", "level", "count")
        assert found.checks.select(told).equals(expected.checks.select(told))


def test_clean_rows_stay_as_they_are_when_cleaned_again(events: Rows, now: datetime) -> None:
    first = clean_events(garbage(np.random.default_rng(9), events, 500), now=now).clean
    text = first.with_columns(
        pl.col("ts").dt.to_string("%Y-%m-%dT%H:%M:%S%.6fZ"),
        pl.col("dwell_ms", "price_minor", "quantity", "position", "propensity").cast(pl.String),
    )
    again = clean_events(text, now=now, has_time=False)
    assert again.clean.equals(first)
    assert (again.merged, again.quarantine.height, again.repaired) == (0, 0, {})
