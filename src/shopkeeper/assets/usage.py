"""Who read what, for what, how often; and what an asset costs.

Reads are counted at the one read path and kept in memory for a minute, so that reading does not write.
A process that is killed loses the counts of its last minute, never a read. Only names of principals and
steps are kept, never whose rows were read.
"""

import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from shopkeeper.assets.catalog import Catalog, now
from shopkeeper.assets.schema import run_outputs, runs, usage, versions

FLUSH_SECONDS = 60.0
DAYS = 30  # a read counts so long
HISTORY = 50  # versions that are told


class Reads:
    """Reads not written to the catalogue yet."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._counts: Counter[tuple[str, str, str, str]] = Counter()
        self._last: dict[tuple[str, str, str, str], str] = {}
        self._lock = threading.Lock()
        self._flushed = time.monotonic()

    def note(self, asset: str, who: str, purpose: str) -> None:
        """Count one read; now and then write what was counted, beside the reader."""
        at = now()
        key = (asset, at[:10], who, purpose)
        with self._lock:
            self._counts[key] += 1
            self._last[key] = at
            due = time.monotonic() - self._flushed > FLUSH_SECONDS
            if due:
                self._flushed = time.monotonic()
        if due:
            threading.Thread(target=self.flush, daemon=True).start()

    def flush(self) -> None:
        """Write what was counted; where the catalogue takes nothing now, keep it for later."""
        with self._lock:
            counts, last = self._counts, self._last
            self._counts, self._last = Counter(), {}
        if not counts:
            return
        try:
            with self._catalog.write() as connection:
                for key, reads in sorted(counts.items()):
                    _add(connection, key, reads, last[key])
        except sa.exc.SQLAlchemyError:  # a disk that is full or may not be written
            with self._lock:
                self._counts.update(counts)
                self._last = last | self._last


def _add(connection: sa.Connection, key: tuple[str, str, str, str], reads: int, at: str) -> None:
    names = ("asset", "day", "who", "purpose")
    values = dict(zip(names, key, strict=True))
    here = sa.and_(*(usage.c[name] == value for name, value in values.items()))
    more = usage.update().where(here).values(reads=usage.c.reads + reads, last_at=at)
    if not connection.execute(more).rowcount:
        connection.execute(usage.insert().values(**values, reads=reads, last_at=at))


def used(catalog: Catalog, name: str) -> dict[str, Any]:
    """Who read an asset in the last DAYS days.

    Returns:
        {"asset", "reads_30d", "readers": [{"who", "purpose", "reads", "last_at"}], "popularity"};
        popularity is the share of assets that are read no more than this one, 0 where nobody does.
    """
    since = (datetime.now(UTC) - timedelta(days=DAYS)).date().isoformat()
    readers = (
        sa.select(
            usage.c.who,
            usage.c.purpose,
            sa.func.sum(usage.c.reads).label("reads"),
            sa.func.max(usage.c.last_at).label("last_at"),
        )
        .where(usage.c.asset == name, usage.c.day >= since)
        .group_by(usage.c.who, usage.c.purpose)
    )
    each = sa.select(usage.c.asset, sa.func.sum(usage.c.reads).label("reads"))
    each_asset = each.where(usage.c.day >= since).group_by(usage.c.asset).subquery()
    with catalog.reader.connect() as connection:
        told = [
            {**row, "reads": int(row["reads"])} for row in connection.execute(readers).mappings()
        ]
        reads = sum(one["reads"] for one in told)
        less = sa.select(sa.func.count()).where(each_asset.c.reads <= reads)
        total = connection.execute(sa.select(sa.func.count()).select_from(each_asset)).scalar() or 0
        share = (connection.execute(less).scalar() or 0) / total if reads and total else 0.0
    told.sort(key=lambda one: (-one["reads"], one["who"], one["purpose"]))
    return {"asset": name, "reads_30d": reads, "readers": told, "popularity": round(share, 3)}


def cost(catalog: Catalog, name: str) -> dict[str, Any]:
    """What making an asset took, and what it holds on disk.

    A run that made several assets counts for each by its share: one of n.

    Returns:
        {"asset", "cpu_seconds", "seconds", "peak_rss_mb", "bytes", "runs", "history": [{"version",
        "at", "step", "outcome", "cpu_seconds", "seconds", "peak_rss_mb", "assets", "rows",
        "bytes"}]}; history newest first, one entry a run; bytes in all: of versions that are kept.
    """
    made = run_outputs.alias("made")
    n = (
        sa.select(sa.func.count())
        .where(made.c.run_id == run_outputs.c.run_id)
        .scalar_subquery()
        .label("assets")
    )
    query = (
        sa.select(
            versions.c.id.label("version"), versions.c.rows, versions.c.bytes,
            runs.c.step, runs.c.outcome, runs.c.started_at.label("at"),
            runs.c.seconds, runs.c.cpu_seconds, runs.c.peak_rss_mb, n,
        )
        .join_from(versions, run_outputs, run_outputs.c.version_id == versions.c.id)
        .join(runs, runs.c.id == run_outputs.c.run_id)
        .where(versions.c.asset == name, catalog._visible(versions))
        .order_by(runs.c.started_at.desc())
    )  # fmt: skip
    kept = sa.select(sa.func.sum(versions.c.bytes)).where(
        versions.c.asset == name, versions.c.removed_at.is_(None), catalog._visible(versions)
    )
    with catalog.reader.connect() as connection:
        history = [dict(row) for row in connection.execute(query).mappings()]
        held = connection.execute(kept).scalar() or 0
    return {
        "asset": name,
        "cpu_seconds": round(sum((r["cpu_seconds"] or 0) / r["assets"] for r in history), 3),
        "seconds": round(sum((r["seconds"] or 0) / r["assets"] for r in history), 3),
        "peak_rss_mb": max((r["peak_rss_mb"] or 0 for r in history), default=0),
        "bytes": int(held),
        "runs": len(history),
        "history": history[:HISTORY],
    }
