"""The durable event log: what users did, on disk before it is acknowledged, each event once.

`event_id` is the idempotency key: an event sent again changes nothing. An event without one gets
one, which the receipt returns. `read` is the lake's cursor; `of` gives one user's own events.
"""

import itertools
import math
import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from shopkeeper.collect import tables
from shopkeeper.errors import InputError
from shopkeeper.serving.durable import DurableFile
from shopkeeper.words import INTEREST_KINDS, KIND_CODES, Kind

COLUMNS = tables.COLUMNS["events"]
ID_LENGTH = 256
TEXT_LENGTH = 1000
BATCH = 10_000  # events in one call at most

_TEXTS = (
    ("event_id", ID_LENGTH),
    ("user_id", ID_LENGTH),
    ("session_id", ID_LENGTH),
    ("item_id", ID_LENGTH),
    ("shop_id", ID_LENGTH),
    ("query", TEXT_LENGTH),
    ("channel", ID_LENGTH),
    ("region", ID_LENGTH),
    ("answer_id", ID_LENGTH),
)
_WHOLE = ("dwell_ms", "price_minor", "quantity", "position")
_WHOLE_LIMIT = 2**53
_KNOWN = frozenset(COLUMNS)
_NEEDS_ITEM = frozenset({kind.value for kind in INTEREST_KINDS} | {Kind.IMPRESSION.value})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST_US, _LATEST_US = -(10**15), 10**16  # 1938 to 2286: beyond it, the unit is wrong

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE, who TEXT NOT NULL,
    user_id TEXT, session_id TEXT, item_id TEXT, shop_id TEXT, kind TEXT NOT NULL,
    ts INTEGER NOT NULL, dwell_ms INTEGER, query TEXT, price_minor INTEGER, quantity INTEGER,
    channel TEXT, region TEXT, position INTEGER, answer_id TEXT, propensity REAL,
    received INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS events_who ON events (who, seq);
CREATE INDEX IF NOT EXISTS events_answer ON events (answer_id) WHERE answer_id IS NOT NULL;
"""
_STORED = ("event_id", "who", *COLUMNS[1:], "received")
_INTO = f"INSERT OR IGNORE INTO events ({', '.join(_STORED)}) VALUES "
_ONE = f"({', '.join('?' * len(_STORED))})"
TOGETHER = 64  # rows a statement: Python's lock changes hands once a statement
_INSERT_ONE = _INTO + _ONE
_INSERT_MANY = _INTO + ", ".join([_ONE] * TOGETHER)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a batch; given only after it is on disk."""

    accepted: int
    duplicates: int
    event_ids: list[str]  # of all events sent, in order, with the ids given to those without one


class Act(NamedTuple):
    """One event of a user, as the online state needs it."""

    seq: int
    ts_ms: int
    item_id: str
    kind: str
    dwell_ms: int | None
    price_minor: int | None
    quantity: int | None
    received_ms: int
    ts_us: int = 0  # of a logged event, which the lake orders by


def user_key(user_id: str) -> str:
    """Whose events: of a known user."""
    return "u" + user_id


def session_key(session_id: str) -> str:
    """Whose events: of a visitor known by the session only."""
    return "s" + session_id


def instant_us(value: object) -> int:
    """Microseconds since 1970 of an ISO-8601 text (no offset: UTC) or of a number of milliseconds.

    ValueError says what was wanted.
    """
    if isinstance(value, str):
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(
                'wanted ISO 8601 ("2026-01-31T12:00:00Z") or milliseconds since 1970'
            ) from None
        if at.tzinfo is None:
            at = at.replace(tzinfo=UTC)
        gone = at - _EPOCH
        us = (gone.days * 86_400 + gone.seconds) * 1_000_000 + gone.microseconds
        if not _EARLIEST_US < us < _LATEST_US:
            raise ValueError("wanted a time between 1939 and 2286")
        return us
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError('wanted ISO 8601 ("2026-01-31T12:00:00Z") or milliseconds since 1970')
    us = round(value * 1000)
    if not _EARLIEST_US < us < _LATEST_US:
        raise ValueError("wanted milliseconds since 1970; this is another unit")
    return us


def checked(event: Mapping[str, Any], where: str, now_us: int) -> tuple[Any, ...]:
    """One event as the row to store; InputError names the field, what was found and wanted."""
    if not isinstance(event, Mapping):
        raise InputError(f"an event is an object, found {type(event).__name__}", where=where)
    if not _KNOWN.issuperset(event):
        extra = sorted(str(key) for key in event if key not in _KNOWN)
        raise InputError(
            f"unknown field {extra[0]!r}", where=where, next=f"fields are: {', '.join(COLUMNS)}"
        )
    get = event.get
    for name, length in _TEXTS:
        value = get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            raise InputError(f"{name} is {value!r}, wanted a text", where=where)
        if not value or len(value) > length or (not value.isascii() and not _utf8(value)):
            raise InputError(
                f"{name} is {value[:40]!r} ({len(value)} characters), wanted 1 to {length} of UTF-8",
                where=where,
            )
    kind = get("kind") or Kind.VIEW.value
    if kind not in KIND_CODES:
        raise InputError(
            f"kind is {kind!r}", where=where, next=f"kinds are: {', '.join(KIND_CODES)}"
        )
    user, session, item = get("user_id"), get("session_id"), get("item_id")
    if user is not None:
        who = "u" + user
    elif session is not None:
        who = "s" + session
    else:
        raise InputError("neither user_id nor session_id", where=where, next="send one of them")
    if item is None and kind in _NEEDS_ITEM:
        raise InputError(f"a {kind} needs item_id", where=where)
    for name in _WHOLE:
        value = get(name)
        if value is not None and (
            type(value) is not int
            or (value < 0 and name != "quantity")
            or abs(value) > _WHOLE_LIMIT
        ):
            raise InputError(f"{name} is {value!r}, wanted a whole number >= 0", where=where)
    propensity = get("propensity")
    if propensity is not None and (
        isinstance(propensity, bool)
        or not isinstance(propensity, int | float)
        or not 0.0 <= propensity <= 1.0
    ):
        raise InputError(f"propensity is {propensity!r}, wanted 0 to 1", where=where)
    ts = get("ts")
    try:
        ts_us = now_us if ts is None else instant_us(ts)
    except (ValueError, OverflowError) as error:
        raise InputError(f"ts is {ts!r}: {error}", where=where) from None
    return (
        get("event_id") or f"{time.time_ns():016x}{os.urandom(8).hex()}",
        who,
        user,
        session,
        item,
        get("shop_id"),
        kind,
        ts_us,
        get("dwell_ms"),
        get("query"),
        get("price_minor"),
        get("quantity"),
        get("channel"),
        get("region"),
        get("position"),
        get("answer_id"),
        propensity,
        now_us,
    )


def _utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


class EventLog:
    """`record` returns after fsync; everything else reads what was acknowledged, by any process."""

    def __init__(self, path: Path, *, vfs: str | None = None) -> None:
        self.file = DurableFile(path, _SCHEMA, vfs=vfs)

    def record(self, events: Sequence[Mapping[str, Any]]) -> Receipt:
        """Make `events` durable, all or (when one is bad) none.

        Raises:
            InputError: names the first bad event by its position, the field and what was wanted.
            SourceError: the disk refused; nothing was acknowledged, sending again is safe.
        """
        if len(events) > BATCH:
            raise InputError(
                f"{len(events):,} events in one call", next=f"send at most {BATCH:,} at a time"
            )
        now_us = time.time_ns() // 1000
        rows = [checked(event, f"events[{n}]", now_us) for n, event in enumerate(events)]
        if not rows:
            return Receipt(0, 0, [])

        accepted = self.file.write(lambda writer: _insert(writer, rows))
        return Receipt(accepted, len(rows) - accepted, [row[0] for row in rows])

    def last(self) -> int:
        """seq of the newest event, 0 where there is none."""
        return int(self.file.query("SELECT coalesce(max(seq), 0) FROM events")[0][0])

    def read(self, after: int = 0, limit: int = 100_000) -> list[dict[str, Any]]:
        """Events with seq > `after`, in order, at most `limit`: the lake's cursor is the last seq.

        Each has `seq`, `received` and the columns of an event; ts and received are ISO-8601 UTC.
        """
        names = ("seq", *COLUMNS, "received")
        rows = self.file.query(
            f"SELECT {', '.join(names)} FROM events WHERE seq > ? ORDER BY seq LIMIT ?",
            (after, limit),
        )
        return [
            dict(zip(names, row, strict=True)) | {"ts": iso(row[7]), "received": iso(row[-1])}
            for row in rows
        ]

    def frame(self, after: int = 0, limit: int = 1_000_000) -> pl.DataFrame:
        """As `read`, as a table: seq Int64, then the columns of an event as canonical text."""
        names = ("seq", *COLUMNS)
        rows = self.file.query(
            f"SELECT {', '.join(names)} FROM events WHERE seq > ? ORDER BY seq LIMIT ?",
            (after, limit),
        )
        whole = {"seq", "ts", *_WHOLE}
        schema = {
            name: pl.Int64 if name in whole else pl.Float64 if name == "propensity" else pl.String
            for name in names
        }
        table = pl.DataFrame(rows, schema=schema, orient="row")
        ts = pl.from_epoch("ts", time_unit="us").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
        return table.with_columns(ts.alias("ts"), pl.col(*_WHOLE, "propensity").cast(pl.String))

    def of(self, key: str, after: int = 0, up_to: int | None = None) -> list[Act]:
        """Events with an item of one user or session (`user_key`, `session_key`), as they came."""
        rows = self.file.query(
            "SELECT seq, ts, item_id, kind, dwell_ms, price_minor, quantity, received FROM events "
            "WHERE who = ? AND seq > ? AND seq <= ? AND item_id IS NOT NULL ORDER BY seq",
            (key, after, _WHOLE_LIMIT if up_to is None else up_to),
        )
        return [
            Act(seq, ts // 1000, item, kind, dwell, price, quantity, received // 1000, ts)
            for seq, ts, item, kind, dwell, price, quantity, received in rows
        ]

    def version_of(self, key: str) -> int:
        """seq of the newest event of one user or session, 0 where there is none."""
        rows = self.file.query(
            "SELECT seq FROM events WHERE who = ? ORDER BY seq DESC LIMIT 1", (key,)
        )
        return int(rows[0][0]) if rows else 0

    def following(self, answer_id: str) -> list[dict[str, Any]]:
        """Events that carry `answer_id`: what became of an answer."""
        names = ("event_id", "item_id", "kind", "ts", "position")
        rows = self.file.query(
            f"SELECT {', '.join(names)} FROM events WHERE answer_id = ? ORDER BY seq", (answer_id,)
        )
        return [dict(zip(names, row, strict=True)) | {"ts": iso(row[3])} for row in rows]

    def close(self) -> None:
        """Write what is queued, then close."""
        self.file.close()


def _insert(writer: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> int:
    """Insert what is new; returns how many were."""
    new = 0
    whole = len(rows) // TOGETHER * TOGETHER
    for start in range(0, whole, TOGETHER):
        values = list(itertools.chain.from_iterable(rows[start : start + TOGETHER]))
        new += writer.execute(_INSERT_MANY, values).rowcount
    for row in rows[whole:]:
        new += writer.execute(_INSERT_ONE, row).rowcount
    return new


def iso(us: int) -> str:
    """Microseconds since 1970 as ISO-8601 UTC text with six decimals."""
    at = datetime.fromtimestamp(us // 1_000_000, tz=UTC).replace(microsecond=us % 1_000_000)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
