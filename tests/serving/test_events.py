"""The durable event log."""

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shopkeeper.errors import InputError, SourceError
from shopkeeper.serving.events import EventLog, instant_us, user_key

EVENT = {"user_id": "u", "item_id": "i"}


@pytest.fixture
def log(tmp_path: Path):  # type: ignore[no-untyped-def]
    opened = EventLog(tmp_path / "events.db")
    yield opened
    opened.close()


def test_an_event_sent_again_changes_nothing(log: EventLog) -> None:
    first = log.record([EVENT | {"event_id": "a"}, EVENT | {"event_id": "b"}])
    again = log.record([EVENT | {"event_id": "b"}, EVENT | {"event_id": "c"}])
    within = log.record([EVENT | {"event_id": "d"}, EVENT | {"event_id": "d"}])
    assert (first.accepted, first.duplicates) == (2, 0)
    assert (again.accepted, again.duplicates) == (1, 1)
    assert (within.accepted, within.duplicates) == (1, 1)
    assert [e["event_id"] for e in log.read()] == ["a", "b", "c", "d"]


def test_an_event_without_id_and_time_gets_both_and_the_receipt_tells_the_id(log: EventLog) -> None:
    before = datetime.now(UTC).isoformat()
    receipt = log.record([EVENT, EVENT])
    assert len(set(receipt.event_ids)) == 2
    logged = log.read()
    assert [e["event_id"] for e in logged] == receipt.event_ids
    assert logged[0]["kind"] == "view"
    assert before <= logged[0]["ts"] <= datetime.now(UTC).isoformat()


def test_times_are_iso_with_any_offset_or_milliseconds(log: EventLog) -> None:
    noon = "2026-01-31T12:00:00.000000Z"
    log.record(
        [
            EVENT | {"ts": "2026-01-31T12:00:00Z"},
            EVENT | {"ts": "2026-01-31T20:00:00+08:00"},
            EVENT | {"ts": "2026-01-31T12:00:00"},
            EVENT | {"ts": 1769860800000},
        ]
    )
    assert {e["ts"] for e in log.read()} == {noon}
    assert instant_us("1969-12-31T23:59:59.500000Z") == -500_000


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"user_id": "u", "item_id": "i", "colour": 1}, "events[1]: unknown field 'colour'"),
        ({"user_id": "u", "item_id": "i", "kind": "stare"}, "kind is 'stare'; kinds are: view, "),
        ({"item_id": "i"}, "neither user_id nor session_id"),
        ({"user_id": "u"}, "a view needs item_id"),
        ({"user_id": "", "item_id": "i"}, "user_id is '' (0 characters), wanted 1 to 256"),
        ({"user_id": "u" * 257, "item_id": "i"}, "(257 characters), wanted 1 to 256"),
        ({"user_id": 7, "item_id": "i"}, "user_id is 7, wanted a text"),
        ({"user_id": "\ud800", "item_id": "i"}, "wanted 1 to 256 of UTF-8"),
        (EVENT | {"ts": "yesterday"}, "ts is 'yesterday': wanted ISO 8601"),
        (EVENT | {"ts": 10.0**18}, "wanted milliseconds since 1970; this is another unit"),
        (EVENT | {"ts": float("nan")}, "ts is nan: wanted ISO 8601"),
        (EVENT | {"ts": "0001-01-01T00:00:00+14:00"}, "wanted a time between 1939 and 2286"),
        (EVENT | {"ts": "9999-12-31T23:59:59-14:00"}, "wanted a time between 1939 and 2286"),
        (EVENT | {"ts": True}, "ts is True: wanted ISO 8601"),
        (EVENT | {"price_minor": float("nan")}, "price_minor is nan, wanted a whole number >= 0"),
        (EVENT | {"position": -1}, "position is -1, wanted a whole number >= 0"),
        (EVENT | {"dwell_ms": 2**60}, "wanted a whole number >= 0"),
        (EVENT | {"propensity": 1.5}, "propensity is 1.5, wanted 0 to 1"),
        ("view", "an event is an object, found str"),
    ],
)
def test_one_bad_event_refuses_the_batch_and_is_named(
    log: EventLog, event: object, message: str
) -> None:
    with pytest.raises(InputError) as error:
        log.record([EVENT, event])  # type: ignore[list-item]
    assert "events[1]" in str(error.value)
    assert message in str(error.value)
    assert log.read() == []


def test_a_cursor_reads_each_event_exactly_once_while_others_write(log: EventLog) -> None:
    def write(thread: int) -> None:
        for n in range(40):
            log.record([EVENT | {"event_id": f"{thread}-{n}-{m}"} for m in range(n % 90)])

    threads = [threading.Thread(target=write, args=(t,)) for t in range(4)]
    for thread in threads:
        thread.start()
    found: list[str] = []
    after = 0
    while any(t.is_alive() for t in threads) or log.last() > after:
        for event in log.read(after, limit=37):
            found.append(event["event_id"])
            after = event["seq"]
    expected = {f"{t}-{n}-{m}" for t in range(4) for n in range(40) for m in range(n % 90)}
    assert len(found) == len(expected)
    assert set(found) == expected


def test_the_table_form_holds_the_same_as_canonical_text(log: EventLog) -> None:
    log.record([EVENT | {"price_minor": 5, "propensity": 0.25, "ts": "2026-01-31T12:00:00Z"}])
    row = log.frame().row(0, named=True)
    assert row["seq"] == 1
    assert (row["ts"], row["price_minor"], row["propensity"]) == (
        "2026-01-31T12:00:00.000000Z",
        "5",
        "0.25",
    )
    assert row["dwell_ms"] is None


def test_another_process_like_handle_sees_what_was_acknowledged(
    log: EventLog, tmp_path: Path
) -> None:
    other = EventLog(tmp_path / "events.db")
    log.record([EVENT | {"event_id": "mine"}])
    assert [act.item_id for act in other.of(user_key("u"))] == ["i"]
    assert other.record([EVENT | {"event_id": "mine"}]).duplicates == 1
    other.close()


def test_a_file_that_is_no_database_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "events.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(SourceError, match=r"events\.db: cannot open the log"):
        EventLog(tmp_path / "events.db")


def test_a_closed_log_acknowledges_nothing(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.db")
    log.close()
    with pytest.raises(SourceError, match="the log is closed"):
        log.record([EVENT])
