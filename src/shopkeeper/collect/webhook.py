"""The durable log of a webhook's deliveries (hook:orders), every row of a body a line of it.

Deliveries are taken and written by api/hooks.py through serving/hooks.py; here is where the log lies,
what it looks like, how a run reads it, and what may go: rows that are in a version of their table,
`keep_days` after they came. Until then a changed mapping reads them anew; of those that went it keeps
what they were read as (gone.py), forced or not, since nothing could bring them back.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from shopkeeper.assets.store import Assets
from shopkeeper.collect import messages
from shopkeeper.collect.messages import Messages
from shopkeeper.collect.sources import name_of
from shopkeeper.config import Settings, Source
from shopkeeper.errors import InputError, SourceError

HOOK_LOG = Path("store", "online", "hooks.db")  # in a workspace
TOGETHER = 10_000  # rows deleted in one transaction
IDS_DAYS = 90  # a sender tries again for days, not for months
SCHEMA = """
CREATE TABLE IF NOT EXISTS deliveries (
    hook TEXT NOT NULL, delivery TEXT NOT NULL, digest BLOB NOT NULL, rows INTEGER NOT NULL,
    received INTEGER NOT NULL, PRIMARY KEY (hook, delivery)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rows (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, hook TEXT NOT NULL, delivery TEXT NOT NULL,
    value BLOB NOT NULL, received INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS rows_hook ON rows (hook, seq);
"""


def prune(
    assets: Assets, settings: Settings, folder: Path, *, days: float, dry_run: bool = False
) -> int:
    """Delete rows that came more than `days` ago and are in a committed version of every table that
    the webhook's sources fill; how many. The last row of each webhook stays: it tells how far it came.

    Ids of deliveries, by which one that comes again is known, stay IDS_DAYS, and always where no
    signed timestamp keeps old deliveries out.
    """
    path = folder / HOOK_LOG
    if not path.exists():
        return 0
    before = int((time.time() - days * 86_400) * 1e6)
    gone = 0
    # nothing is committed meanwhile, and no backup copies catalogue and log
    with assets.committing(), closing(sqlite3.connect(path, timeout=30.0)) as log:
        log.execute("PRAGMA synchronous = FULL")
        for hook, upto in _committed(assets, settings).items():
            here = "hook = :hook AND seq <= :upto AND received < :before AND seq < (SELECT max(seq) FROM rows WHERE hook = :hook)"  # fmt: skip
            told = {"hook": hook, "upto": upto, "before": before, "some": TOGETHER}
            if dry_run:
                gone += log.execute(f"SELECT count(*) FROM rows WHERE {here}", told).fetchone()[0]
                continue
            deleted = TOGETHER
            while (
                deleted == TOGETHER
            ):  # a server that takes deliveries waits no longer than for these
                with log:
                    some = f"SELECT seq FROM rows WHERE {here} ORDER BY seq LIMIT :some"
                    deleted = log.execute(f"DELETE FROM rows WHERE seq IN ({some})", told).rowcount
                gone += deleted
            if _timed(settings, hook):
                old = int((time.time() - max(days, IDS_DAYS) * 86_400) * 1e6)
                with log:
                    log.execute(
                        "DELETE FROM deliveries WHERE hook = ? AND received < ? AND NOT EXISTS "
                        "(SELECT 1 FROM rows WHERE rows.hook = deliveries.hook AND rows.delivery = deliveries.delivery "
                        "AND rows.received < ?)",
                        (hook, old, old),
                    )  # fmt: skip
    return gone


def _committed(assets: Assets, settings: Settings) -> dict[str, int]:
    """{webhook: the last row that is in a version of each table that its sources fill}."""
    found: dict[str, int] = {}
    for source in settings.sources:
        if source.format != "webhook" or source.skip:
            continue
        hook = str(source.stream)
        at = assets.catalog.committed(f"raw.{source.table}", name_of(source), f"hook:{hook}")
        upto = int(at["seq"]) if at is not None else 0
        found[hook] = min(found.get(hook, upto), upto)
    return found


def _timed(settings: Settings, hook: str) -> bool:
    """Whether an old delivery of this webhook is refused for its timestamp."""
    signatures = [
        s.signature for s in settings.sources if s.format == "webhook" and s.stream == hook
    ]
    return all(signature is not None and signature.timestamp_header for signature in signatures)


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
        oldest = self._one("SELECT min(seq) FROM rows WHERE hook = ?")
        return oldest, {"seq": max(oldest - 1, 0)}

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
