"""Times as shops write them; every expected instant can be worked out by hand."""

import random
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from shopkeeper.collect.times import INSTANT, canonical, spelled


def _read(text: str | None, unit: str | None = None, timezone: str = "UTC") -> str | None:
    return canonical(pl.Series([text], dtype=pl.String), unit, timezone).item()


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("2024-03-01 08:30:00", None),
        ("2024-03-01T08:30:00", None),
        ("2024-03-01T08:30:00Z", None),
        ("2024-03-01T16:30:00+08:00", None),
        ("2024-03-01 16:30:00+0800", None),
        ("2024-03-01T08:30:00.000", None),
        ("2024-03-01 08:30", None),
        ("2024/03/01 08:30:00", None),
        ("1709281800", None),
        ("1709281800000", None),
        ("1709281800000000", None),
        ("1709281800", "s"),
        ("1709281800.0", "s"),
        ("1709281800000", "ms"),
        ("1709281800000000", "us"),
        ("01.03.2024 08.30", "%d.%m.%Y %H.%M"),
        ("2024-03-01 08:30:00", "iso"),
    ],
)
def test_one_instant_in_every_spelling(text: str, unit: str | None) -> None:
    assert _read(text, unit) == "2024-03-01T08:30:00.000000Z"


def test_fractions_and_days_keep_their_precision() -> None:
    assert _read("2024-03-01 08:30:00.123456") == "2024-03-01T08:30:00.123456Z"
    assert _read("1709281800.25", "s") == "2024-03-01T08:30:00.250000Z"
    assert _read("2024-03-01") == "2024-03-01T00:00:00.000000Z"
    assert _read("20240301", "%Y%m%d") == "2024-03-01T00:00:00.000000Z"


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("soon", None),
        ("2024-13-01", None),
        ("NaN", "s"),
        ("1709281800", "iso"),
        ("", None),
        ("9" * 19, "s"),
    ],
)
def test_what_is_no_time_stays_as_it_was(text: str, unit: str | None) -> None:
    assert _read(text, unit) == text


def test_a_column_may_mix_spellings() -> None:
    mixed = ["2024-03-01 08:30:00", None, "1709281800", "later", "2024-03-01T10:30:00+02:00"]
    made = canonical(pl.Series(mixed), None, "UTC").to_list()
    assert made == ["2024-03-01T08:30:00.000000Z", None, made[0], "later", made[0]]


def test_a_time_without_offset_is_in_the_zone_of_the_source() -> None:
    assert _read("2024-03-01 16:30:00", None, "Asia/Shanghai") == "2024-03-01T08:30:00.000000Z"
    assert (
        _read("2024-03-01T16:30:00+00:00", None, "Asia/Shanghai") == "2024-03-01T16:30:00.000000Z"
    )
    assert _read("2024-03-01", None, "Asia/Shanghai") == "2024-02-29T16:00:00.000000Z"


def test_the_hour_a_clock_repeats_is_read_as_its_first_occurrence() -> None:
    # Berlin, 27 October 2024: 02:30 is 00:30 UTC (summer time) and 01:30 UTC (winter time)
    assert _read("2024-10-27 02:30:00", None, "Europe/Berlin") == "2024-10-27T00:30:00.000000Z"


def test_an_hour_a_clock_skips_is_read_with_the_offset_before() -> None:
    # Berlin, 31 March 2024: after 01:59:59 (+01) comes 03:00 (+02); 02:30 at +01 is 01:30 UTC
    assert _read("2024-03-31 02:30:00", None, "Europe/Berlin") == "2024-03-31T01:30:00.000000Z"


def test_spelling_an_instant_equals_formatting_it() -> None:
    draw = random.Random(5)
    start = datetime(1960, 1, 1, tzinfo=UTC)
    instants = [start + timedelta(microseconds=draw.randrange(4 * 10**15)) for _ in range(500)]
    made = spelled(pl.Series([*instants, None], dtype=INSTANT))
    wanted = [f"{i:%Y-%m-%dT%H:%M:%S.%f}Z" for i in instants]
    assert made.to_list() == [*wanted, None]
