from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from shopkeeper.clean import bots, clean_events
from shopkeeper.config import CleanSettings

START = datetime(2026, 1, 1, tzinfo=UTC)


def acts(user: str, seconds: Any, kind: str = "view", items: int = 10**9) -> pl.DataFrame:
    at = [START + timedelta(seconds=float(s)) for s in seconds]
    return pl.DataFrame(
        {
            "user_id": [user] * len(at),
            "item_id": [f"i{n % items}" for n in range(len(at))],
            "kind": [kind] * len(at),
            "ts": pl.Series(at, dtype=pl.Datetime("us", "UTC")),
        }
    )


def find(
    *parts: pl.DataFrame, settings: CleanSettings | None = None, catalogue: int | None = None
) -> dict[str, str]:
    events = pl.concat(parts).sort("user_id", "ts")
    found = bots.find(events, settings or CleanSettings(), catalogue)
    return dict(found.select("user_id", "rule").iter_rows())


def human(user: str, count: int, seed: int, days: int = 20) -> pl.DataFrame:
    """Sittings of a dozen acts with pauses as people make them."""
    rng = np.random.default_rng(seed)
    sittings = np.sort(rng.integers(0, days * 86_400, count // 12 + 1))
    pauses = rng.lognormal(3.0, 1.0, (len(sittings), 12))
    return acts(user, np.sort((sittings[:, None] + np.cumsum(pauses, axis=1)).ravel())[:count])


def test_more_acts_in_an_hour_than_allowed_is_a_robot_and_as_many_is_not() -> None:
    rng = np.random.default_rng(0)
    exactly, more = (np.sort(rng.uniform(0, 3599, n)) for n in (600, 601))
    assert find(acts("ok", exactly), acts("bot", more)) == {"bot": "bot:rate"}


def test_what_a_page_shows_is_not_what_its_reader_does() -> None:
    shown = acts("reader", np.linspace(0, 3000, 5000), kind="impression")
    assert find(shown, human("reader", 100, 1)) == {}


def test_clockwork_is_a_robot_also_over_many_sittings_and_with_a_little_jitter() -> None:
    rng = np.random.default_rng(2)
    sittings = [day * 86_400 + 60 * np.arange(20) for day in range(4)]
    steady = np.concatenate(sittings) + rng.normal(0, 0.3, 80)
    assert find(acts("bot", np.sort(steady))) == {"bot": "bot:regularity"}


def test_a_few_odd_pauses_do_not_hide_clockwork() -> None:
    rng = np.random.default_rng(6)
    pauses = np.where(np.arange(100) % 10 == 0, rng.uniform(30, 600, 100), rng.normal(12, 0.4, 100))
    assert find(acts("bot", np.cumsum(pauses))) == {"bot": "bot:regularity"}


def test_fewer_than_fifty_equal_pauses_prove_nothing() -> None:
    assert find(acts("u", 17.003 * np.arange(50))) == {}
    assert find(acts("u", 17.003 * np.arange(51))) == {"u": "bot:regularity"}


def test_whole_minutes_of_a_coarse_clock_are_not_regularity() -> None:
    assert find(acts("till", 60 * np.arange(200), items=50)) == {}


def test_a_finer_clock_beside_a_coarse_one_makes_nobody_a_robot() -> None:
    """Neither another user's, nor one act of their own that a finer clock told (live, say)."""
    till, live = acts("till", 60 * np.arange(200)), acts("live", [1.234])
    both = pl.concat([acts("both", 60 * np.arange(200)), acts("both", [7.891])])
    assert find(till, live, both) == {}
    assert find(till, acts("bot", 12.007 * np.arange(60))) == {"bot": "bot:regularity"}


def test_many_lines_of_one_receipt_at_one_instant_are_no_robot() -> None:
    days = np.repeat(86_400 * np.arange(10), 100)
    assert find(acts("customer", days, kind="purchase", items=40)) == {}


def test_people_are_no_robots() -> None:
    people = [human(f"p{n:03}", 400, n) for n in range(60)]
    assert find(*people) == {}


def test_too_many_different_items_in_a_day_is_a_robot_and_the_same_few_are_not() -> None:
    settings = CleanSettings(bot_items_per_day=300)
    seconds = np.sort(np.random.default_rng(4).uniform(0, 80_000, 400))
    wide, narrow = acts("wide", seconds), acts("narrow", seconds, items=50)
    assert find(wide, narrow, settings=settings) == {"wide": "bot:breadth"}


def test_without_times_only_the_whole_catalogue_gives_a_robot_away() -> None:
    eager = acts("eager", np.zeros(5000), items=900).with_columns(
        ts=pl.lit(None, pl.Datetime("us", "UTC"))
    )
    bot = acts("bot", np.zeros(1000)).with_columns(ts=pl.lit(None, pl.Datetime("us", "UTC")))
    assert find(eager, bot, catalogue=1000) == {"bot": "bot:breadth"}
    assert find(eager, bot) == {}  # nobody knows how large the shop is


def test_all_a_robot_did_goes_to_quarantine_with_what_gave_it_away(
    events: Any, now: datetime
) -> None:
    at = [f"{START + timedelta(seconds=10.007 * n):%Y-%m-%dT%H:%M:%S.%f}Z" for n in range(60)]
    bot = [{"user_id": "bot", "ts": t, "item_id": f"i{n}"} for n, t in enumerate(at)]
    shown = {"user_id": "bot", "kind": "impression"}
    cleaned = clean_events(events(*bot, shown, {"user_id": "person"}), now=now)
    assert cleaned.quarantine["rule"].unique().to_list() == ["bot:regularity"]
    assert cleaned.quarantine.height == 61
    assert cleaned.quarantine["detail"][0] == (
        "user 'bot' acted 60 times 10.0 s apart, give or take 0.0%; wanted pauses that vary by 10.0% or more"
    )
    assert cleaned.clean["user_id"].to_list() == ["person"]
