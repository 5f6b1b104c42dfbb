"""Promises of a whole table, measured on tables whose figures can be counted by hand."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from shopkeeper.assets.contracts.dataset import DatasetRule
from shopkeeper.clean import quality
from shopkeeper.clean.quality import Before, Finding, divergence, frame_of, measure

NOW = datetime(2026, 2, 1, tzinfo=UTC)


def rule(kind, *columns: str, operator: str = "mustBe", bounds=(0,), **more) -> DatasetRule:
    name = ":".join([kind, *columns])
    return DatasetRule(name, kind, columns, more.pop("severity", "error"), operator, bounds, **more)


def one(asked: DatasetRule, frame: pl.DataFrame, **more) -> Finding:
    (found,) = measure([asked], frame.lazy(), now=NOW, **more)
    return found


def before(*frames: pl.DataFrame) -> list[Before]:
    return [Before(f"t@{n}", frame.height, frame.lazy) for n, frame in enumerate(frames)]


def test_rows_beyond_the_first_of_a_key_are_counted_and_no_key_is_no_key(monkeypatch) -> None:
    frame = pl.DataFrame({"a": ["x", "x", "x", None, None], "b": [1, 1, 2, 1, 1]})
    assert one(rule("unique", "a"), frame).value == 2
    assert one(rule("unique", "a", "b"), frame).value == 1
    monkeypatch.setattr(quality, "HASHED", 2)  # in three passes
    assert one(rule("unique", "a"), frame).value == 2


def test_shares_are_of_all_rows() -> None:
    frame = pl.DataFrame({"a": ["x", None, "", "N/A"]})
    assert one(rule("nulls", "a"), frame).value == 1
    assert one(rule("nulls", "a", percent=True), frame).value == 25.0
    assert one(rule("missing", "a", missing=(None, "", "N/A")), frame).value == 3


def test_volume_is_compared_with_the_middle_of_the_versions_before() -> None:
    asked = rule("volume", operator="mustBeBetween", bounds=(-20, math.inf), versions=3)
    frame = pl.DataFrame({"a": range(70)})
    sizes = [pl.DataFrame({"a": range(n)}) for n in (100, 1000, 90)]
    found = one(asked, frame, before=before(*sizes))
    assert (found.value, found.level) == (-30.0, "FAIL")
    assert one(asked, pl.DataFrame({"a": range(81)}), before=before(*sizes)).level == "PASS"


def test_the_first_version_has_nothing_to_be_compared_with() -> None:
    asked = rule("volume", operator="mustBeBetween", bounds=(-20, 20))
    found = one(asked, pl.DataFrame({"a": [1]}))
    assert (found.level, found.value, found.said) == ("PASS", None, "nothing to compare with yet")


def test_age_is_that_of_the_newest_row() -> None:
    frame = pl.DataFrame({"ts": [NOW - timedelta(hours=h) for h in (30, 5)]})
    asked = rule("freshness", "ts", operator="mustBeLessOrEqualTo", bounds=(4,), severity="warning")
    found = one(asked, frame)
    assert (found.value, found.level, found.said) == (
        5.0,
        "WARN",
        "5 hours, wanted at most 4 hours",
    )


@pytest.mark.parametrize("measured", ["psi", "js"])
def test_a_shifted_column_drifts_and_a_resampled_one_does_not(measured: str) -> None:
    draw = np.random.default_rng(7)
    old = pl.DataFrame({"price": draw.lognormal(7, 1, 20_000)})
    most = {"psi": 0.1, "js": 0.01}[measured]
    asked = rule("drift", "price", operator="mustBeLessOrEqualTo", bounds=(most,), measure=measured)
    same = one(asked, pl.DataFrame({"price": draw.lognormal(7, 1, 5_000)}), before=before(old))
    moved = one(asked, pl.DataFrame({"price": draw.lognormal(7.5, 1, 5_000)}), before=before(old))
    assert (same.level, moved.level) == ("PASS", "FAIL")


def test_words_drift_by_their_shares_as_counted_by_hand() -> None:
    old = pl.DataFrame({"kind": ["view"] * 150 + ["cart"] * 50})
    new = pl.DataFrame({"kind": ["view"] * 50 + ["cart"] * 50})
    asked = rule("drift", "kind", operator="mustBeLessOrEqualTo", bounds=(0.25,), measure="psi")
    by_hand = (0.5 - 0.75) * math.log(0.5 / 0.75) + (0.5 - 0.25) * math.log(0.5 / 0.25)
    assert one(asked, new, before=before(old)).value == pytest.approx(by_hand)


def test_a_word_that_came_or_a_null_that_came_is_drift() -> None:
    old = pl.DataFrame({"kind": ["view"] * 200, "n": [1] * 200})
    new = pl.DataFrame({"kind": ["view"] * 100 + [None] * 100, "n": [1] * 100 + [None] * 100})
    for column in ("kind", "n"):
        asked = rule("drift", column, operator="mustBeLessOrEqualTo", bounds=(1,), measure="psi")
        assert one(asked, new, before=before(old)).level == "FAIL"


def test_the_divergences_are_those_of_the_textbook() -> None:
    assert divergence("js", {"a": 1}, {"b": 1}) == pytest.approx(1.0)
    assert divergence("js", {"a": 1, "b": 1}, {"a": 3, "b": 3}) == 0
    assert divergence("psi", {"a": 1, "b": 1}, {"a": 1, "b": 1}) == 0


def test_few_rows_say_nothing_of_a_distribution() -> None:
    few = pl.DataFrame({"n": [1, 2, 3]})
    asked = rule("drift", "n", operator="mustBeLessOrEqualTo", bounds=(0,), measure="psi")
    assert one(asked, pl.DataFrame({"n": [9, 9, 9]}), before=before(few)).value is None


def test_sql_answers_one_value_and_a_text_of_it_is_not_repeated() -> None:
    asked = rule("sql", query="SELECT …")
    frame = pl.DataFrame({"a": range(10)})
    found = one(asked, frame, ask=lambda rule: 3)
    assert (found.level, found.count, found.said) == ("FAIL", 3, "3, wanted 0")
    secret = one(asked, frame, ask=lambda rule: "ada@example.com")
    assert secret.level == "FAIL"
    assert "ada" not in secret.said


def test_findings_are_rows_of_the_quality_table() -> None:
    found = one(rule("unique", "a"), pl.DataFrame({"a": [1, 1]}))
    assert frame_of([found], "clean.t").row(0) == (
        "clean.t", "unique:a", "a", "FAIL", 1, 2, "1, wanted 0", 1.0,
    )  # fmt: skip
