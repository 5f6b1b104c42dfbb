"""The durable log of a webhook's deliveries (hook:orders), every row of a body a line of it.

Deliveries are taken and written by api/hooks.py through serving/hooks.py; here is where the log lies,
what it looks like, and how a run reads it. It is never emptied: under a changed mapping it is read
anew from the first delivery on.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from shopkeeper.collect import messages
from shopkeeper.collect.messages import Messages
from shopkeeper.collect.sources import name_of
from shopkeeper.config import Source
from shopkeeper.errors import InputError, SourceError

HOOK_LOG = Path("store", "online", "hooks.db")  # in a workspace
SCHEMA = """
CREATE TABLE IF NOT EXISTS deliveries (
    hook TEXT NOT NULL, delivery TEXT NOT NULL, digest BLOB NOT NULL, rows INTEGER NOT NULL,
    received INTEGER NOT NULL, PRIMARY KEY (hook, delivery)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rows (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, hook TEXT NOT NULL, delivery TEXT NOT NULL,
    value BLOB NOT NULL, received INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS rows_hook ON rows (hook, seq);
"""


@contextmanager
def open_log(source: Source, folder: Path) -> Iterator["Deliveries"]:
    """The log of a source's webhook. SourceError: the file cannot be read."""
    path = folder / HOOK_LOG
    if not path.exists():
        yield Deliveries(None, str(source.stream), f"source {name_of(source)!r}")
        return
    try:
        with closing(sqlite3.connect(path, timeout=30.0)) as log:
            log.execute("PRAGMA query_only = ON")
            yield Deliveries(log, str(source.stream), f"source {name_of(source)!r}")
    except sqlite3.Error as error:
        raise SourceError(
            f"the log of deliveries cannot be read: {error}",
            where=str(path),
            next="bring it back from a backup: shopkeeper restore",
        ) from error


class Deliveries:
    """The rows that one webhook delivered, as streams.Stream."""

    def __init__(self, log: sqlite3.Connection | None, hook: str, where: str) -> None:
        self.log, self.hook, self.where = log, hook, where

    def parts(self) -> list[str]:
        return [f"hook:{self.hook}"]

    def first(self, part: str) -> tuple[int, dict[str, Any]]:
        return 0, {"seq": 0}

    def read(self, part: str, position: dict[str, Any] | None) -> Iterator[Messages]:
        """Up to the newest row of now."""
        after = int(position["seq"]) if position else 0
        newest = self._one("SELECT max(seq) FROM rows WHERE hook = ?")
        if newest < after:
            raise InputError(
                f"read up to row {after:,}, but the log ends at {newest:,}: it was put aside or brought "
                "back from an older backup",
                where=f"{self.where}, {HOOK_LOG}",
                next='bring back the log, or give the block another `name = "…"`',
            )
        done, total = 0, newest - after
        while after < newest:
            assert self.log is not None
            found = self.log.execute(
                "SELECT seq, value, delivery, received FROM rows "
                "WHERE hook = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
                (self.hook, after, newest, messages.TOGETHER),
            ).fetchall()
            lines, values, ids, received = zip(*found, strict=True)
            start, after = after, lines[-1]
            done += after - start
            about = {"@id": ids, "@timestamp": [str(at // 1000) for at in received]}
            yield Messages(lines, values, {"seq": after}, done, total, about)

    def _one(self, query: str) -> int:
        if self.log is None:
            return 0
        return int(self.log.execute(query, (self.hook,)).fetchone()[0] or 0)
