"""Online histories: snapshot and log together, with the rules of cleaning."""

from pathlib import Path

import numpy as np
import polars as pl

from shopkeeper.features.sequences import pack
from shopkeeper.serving import snapshot
from shopkeeper.serving.events import Act, EventLog
from shopkeeper.serving.state import Histories, History, Rules, digest, features, fold, given

RULES = Rules(kinds=frozenset({"view", "purchase"}), limit=5)
NOW = 1_769_860_800_000


def act(item: str, ms: int, kind: str = "view", received: int = NOW) -> Act:
    return Act(1, NOW + ms, item, kind, None, None, None, received)


def test_late_events_are_put_in_their_place() -> None:
    acts: list[Act] = []
    fold(acts, [act("a", 0), act("c", -1_000_000), act("b", -500_000)], RULES)
    assert [a.item_id for a in acts] == ["c", "b", "a"]


def test_the_same_event_again_within_two_seconds_counts_once() -> None:
    acts: list[Act] = []
    new = [act("a", 0), act("b", 500), act("a", 1999), act("a", 2001), act("a", 0, "purchase")]
    fold(acts, new, RULES)
    assert [(a.item_id, a.kind) for a in acts] == [
        ("a", "view"),
        ("a", "purchase"),
        ("b", "view"),
        ("a", "view"),
    ]


def test_events_from_the_future_and_of_no_interest_are_left_out() -> None:
    acts: list[Act] = []
    fold(acts, [act("a", 3_600_000), act("b", 0, "impression"), act("c", 500_000)], RULES)
    assert [a.item_id for a in acts] == ["c"]


def events_frame(rows: list[tuple[str, str, str, int | None, int | None]]) -> pl.DataFrame:
    frame = pl.DataFrame(
        rows,
        schema={
            "user_id": pl.String,
            "item_id": pl.String,
            "kind": pl.String,
            "ts": pl.Int64,
            "dwell_ms": pl.Int64,
        },
        orient="row",
    )
    return frame.with_columns(
        pl.from_epoch("ts", time_unit="ms").dt.replace_time_zone("UTC"),
        pl.lit(None, dtype=pl.Int64).alias("price_minor"),
        pl.lit(None, dtype=pl.Int64).alias("quantity"),
    )


def test_a_snapshot_gives_back_the_newest_events_as_they_were(tmp_path: Path) -> None:
    rows = [
        ("u", "a", "view", 1_000, 7),
        ("u", "b", "purchase", 2_000, None),
        ("u", "c", "view", 3_000, 9),
        ("v", "a", "view", None, None),
    ]
    assert snapshot.write(events_frame(rows), tmp_path, limit=2) == 2
    opened = snapshot.read(tmp_path, position=4)
    assert [(a.item_id, a.kind, a.ts_ms, a.dwell_ms) for a in opened.acts("u")] == [
        ("b", "purchase", 2_000, None),
        ("c", "view", 3_000, 9),
    ]
    assert opened.acts("v")[0].ts_ms == -1
    assert opened.acts("stranger") == []


def test_an_empty_shop_has_an_empty_snapshot(tmp_path: Path) -> None:
    assert snapshot.write(events_frame([]), tmp_path, limit=2) == 0
    assert snapshot.read(tmp_path, 0).acts("u") == []


def test_a_session_joins_the_user_who_logs_in(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    snapshot.write(events_frame([("u", "a", "view", 1_000, None)]), tmp_path / "s", 5)
    log = EventLog(tmp_path / "events.db")
    log.record([{"session_id": "s1", "item_id": "b"}])
    log.record([{"user_id": "u", "session_id": "s1", "item_id": "c"}])
    histories = Histories(log, snapshot.read(tmp_path / "s", 0), RULES)
    both = histories.of("u", "s1")
    assert [a.item_id for a in both.acts] == ["a", "b", "c"]
    assert [a.item_id for a in histories.of(None, "s1").acts] == ["b"]
    assert [a.item_id for a in histories.of("u").acts] == ["a", "c"]
    log.close()


def test_events_of_one_millisecond_are_in_the_order_they_came(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    snapshot.write(events_frame([]), tmp_path / "s", 5)
    log = EventLog(tmp_path / "events.db")
    log.record([{"session_id": "s1", "item_id": "b", "ts": 5_000}])
    log.record([{"user_id": "u", "item_id": "c", "ts": 5_000}])
    log.record([{"session_id": "s1", "item_id": "d", "ts": 5_000}])
    histories = Histories(log, snapshot.read(tmp_path / "s", 0), RULES)
    assert [a.item_id for a in histories.of("u", "s1").acts] == ["b", "c", "d"]
    log.close()


def test_events_within_a_millisecond_are_in_the_order_of_the_lake(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    snapshot.write(events_frame([]), tmp_path / "s", 5)
    log = EventLog(tmp_path / "events.db")
    for item, us in (("late", 900), ("early", 100)):
        log.record([{"user_id": "u", "item_id": item, "ts": f"2026-01-01T00:00:00.000{us}Z"}])
    histories = Histories(log, snapshot.read(tmp_path / "s", 0), RULES)
    assert [a.item_id for a in histories.of("u").acts] == ["early", "late"]
    log.close()


def test_events_that_the_snapshot_holds_are_not_counted_twice(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.db")
    log.record([{"user_id": "u", "item_id": "a"}])
    log.record([{"user_id": "u", "item_id": "b"}])
    (tmp_path / "s").mkdir()
    snapshot.write(events_frame([("u", "a", "view", 1_000, None)]), tmp_path / "s", 5)
    histories = Histories(log, snapshot.read(tmp_path / "s", position=1), RULES)
    assert [a.item_id for a in histories.of("u").acts] == ["a", "b"]
    log.close()


def test_live_features_are_those_of_training() -> None:
    acts = [
        Act(0, 1_000, "a", "view", 5_000, 120, None, 0),
        Act(0, 61_000, "new item", "view", None, None, None, 0),
        Act(0, 91_000, "b", "purchase", None, 999, 2, 0),
    ]
    live = features(acts, {"a": 0, "b": 1, "new item": 2}, 2, 50)
    trained = pack(
        [""],
        [2],
        [0, 1],
        kinds=[0, 5],
        times=[1_000, 91_000],
        dwell_ms=np.array([5_000, np.nan]),
        price_minor=np.array([120, 999]),
    )
    assert digest(live) == digest(trained)
    assert digest(live) != digest(features(acts[:1], {"a": 0}, 2, 50))


def test_just_viewed_is_what_the_newest_sitting_viewed() -> None:
    def act(item: str, ts_ms: int, kind: str = "view") -> Act:
        return Act(0, ts_ms, item, kind, None, None, None, 0)

    minute = 60_000
    acts = (act("old", 0), act("a", 100 * minute), act("b", 101 * minute, "cart"))
    acts = (*acts, act("c", 130 * minute), act("a", 131 * minute))
    assert History(acts, (0, 0)).just_viewed() == ["a", "c"]
    assert History((), (0, 0)).just_viewed() == []
    timeless = History(given([f"i{n}" for n in range(15)], "view"), (0, 0))
    assert timeless.just_viewed() == [f"i{n}" for n in range(14, 4, -1)]
