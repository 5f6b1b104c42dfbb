"""Every answer: a bounded cache of pages, and a log that can explain and replay what was shown."""

import base64
import json
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
import structlog

from shopkeeper.serving.durable import DurableFile
from shopkeeper.serving.events import iso

FLUSH_S = 0.1
KEEP_DAYS = 30  # answers older than this are forgotten
SWEEP_S = 3600.0
PENDING = 50_000  # answers that wait while the disk refuses; older ones are lost
TOGETHER = 500  # answers looked up in one statement
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, answer_id TEXT NOT NULL UNIQUE,
    received INTEGER NOT NULL, body TEXT NOT NULL);
"""

V = TypeVar("V")
log = structlog.get_logger()


class Cache(Generic[V]):
    """The newest `size` values by key; 0 keeps none. Keys name the state, so nothing goes stale."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Hashable, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> V | None:
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def put(self, key: Hashable, value: V) -> None:
        if self._size <= 0:
            return
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self._size:
                self._values.popitem(last=False)

    def __len__(self) -> int:
        return len(self._values)


class AnswerLog:
    """Answers as they were given. Written in batches moments later: an answer can be given again,
    so a power cut may cost the last moments' log, never an acknowledged event."""

    def __init__(self, path: Path) -> None:
        self.file = DurableFile(path, _SCHEMA, synchronous="NORMAL")
        self._pending: dict[str, tuple[int, dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="answer log", daemon=True)
        self._thread.start()

    def add(self, answer_id: str, body: dict[str, Any]) -> None:
        """Keep an answer; `find` sees it at once."""
        with self._lock:
            self._pending[answer_id] = (time.time_ns() // 1000, body)

    def find(self, answer_id: str) -> dict[str, Any] | None:
        """The body of an answer of any worker, with `received`; None for an unknown id."""
        with self._lock:
            pending = self._pending.get(answer_id)
        if pending is not None:
            return pending[1] | {"received": iso(pending[0])}
        rows = self.file.query(
            "SELECT received, body FROM answers WHERE answer_id = ?", (answer_id,)
        )
        return json.loads(rows[0][1]) | {"received": iso(rows[0][0])} if rows else None

    def read(self, after: int = 0, limit: int = 10_000) -> list[dict[str, Any]]:
        """Answers with seq > `after`, in order, each with `seq`, `answer_id`, `received`."""
        return [
            json.loads(body) | {"seq": seq, "answer_id": answer_id, "received": iso(received)}
            for seq, answer_id, received, body in self.file.query(
                "SELECT seq, answer_id, received, body FROM answers WHERE seq > ? "
                "ORDER BY seq LIMIT ?",
                (after, limit),
            )
        ]

    def shown(self, answer_ids: Sequence[str]) -> pl.DataFrame:
        """Every item of these answers: answer_id, item_id, position (from 1), propensity."""
        rows = []
        for start in range(0, len(answer_ids), TOGETHER):
            some = tuple(answer_ids[start : start + TOGETHER])
            marks = ", ".join("?" * len(some))
            sql = f"SELECT answer_id, body FROM answers WHERE answer_id IN ({marks})"
            for answer_id, text in self.file.query(sql, some):
                body = json.loads(text)
                for item, position, chance in zip(
                    body["items"], body["positions"], body["propensity"], strict=True
                ):
                    rows.append((answer_id, item, position, chance))
        schema = {
            "answer_id": pl.String,
            "item_id": pl.String,
            "position": pl.Int64,
            "propensity": pl.Float64,
        }
        return pl.DataFrame(rows, schema=schema, orient="row")

    def flush(self) -> None:
        """Write what is pending now."""
        with self._lock:
            batch = dict(self._pending)
        if not batch:
            return
        rows = []
        for answer_id, (received, body) in batch.items():
            try:
                text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
                text.encode()
            except (TypeError, ValueError) as error:  # it alone is lost
                log.error("an answer cannot be logged", answer_id=answer_id, error=str(error))
            else:
                rows.append((answer_id, received, text))

        def insert(writer: sqlite3.Connection) -> None:
            writer.executemany(
                "INSERT OR IGNORE INTO answers (answer_id, received, body) VALUES (?, ?, ?)", rows
            )

        self.file.write(insert)
        with self._lock:
            for answer_id in batch:
                self._pending.pop(answer_id, None)

    def forget(self, before_us: int) -> int:
        """Delete answers given before an instant; returns how many."""
        return self.file.write(
            lambda writer: (
                writer.execute("DELETE FROM answers WHERE received < ?", (before_us,)).rowcount
            )
        )

    def _run(self) -> None:
        swept = float("-inf")
        while not self._stop.wait(FLUSH_S):
            try:
                self.flush()
                if time.monotonic() - swept > SWEEP_S:
                    swept = time.monotonic()
                    self.forget(time.time_ns() // 1000 - KEEP_DAYS * 86_400_000_000)
            except Exception as error:  # answering goes on; the newest answers wait
                log.error("answers cannot be logged", error=f"{type(error).__name__}: {error}")
                with self._lock:
                    for answer_id in list(self._pending)[:-PENDING]:
                        del self._pending[answer_id]

    def close(self) -> None:
        """Write what is pending, then close."""
        self._stop.set()
        self._thread.join()
        self.flush()
        self.file.close()


def joined(events: pl.DataFrame, answers: AnswerLog) -> pl.DataFrame:
    """Events (text columns, as `EventLog.frame`) with the position and propensity that their answer
    gave their item, where the event does not say itself and the answer is known."""
    ids = events["answer_id"].drop_nulls().unique().sort().to_list()
    if not ids:
        return events
    said = answers.shown(ids).with_columns(pl.col("position", "propensity").cast(pl.String))
    both = events.join(
        said, on=["answer_id", "item_id"], how="left", suffix="_shown", maintain_order="left"
    )
    return both.with_columns(
        pl.coalesce(name, f"{name}_shown").alias(name) for name in ("position", "propensity")
    ).select(events.columns)


def packed(values: npt.NDArray[Any]) -> str:
    """Numbers as base64 of little-endian bytes: float32 for scores, int32 for rows; exact."""
    dtype = "<f4" if values.dtype.kind == "f" else "<i4"
    return base64.b64encode(np.ascontiguousarray(values, dtype=dtype).tobytes()).decode()


def unpacked(text: str, dtype: str) -> npt.NDArray[Any]:
    """What `packed` made; dtype "<f4" or "<i4"."""
    return np.frombuffer(base64.b64decode(text), dtype=dtype)
