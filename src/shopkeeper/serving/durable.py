"""A durable SQLite file: one writer thread, group commit; acknowledged means fsynced.

WAL with synchronous=FULL: COMMIT returns after the write-ahead log reached the disk. Work that
arrives while a commit is under way goes into the next one together, so an fsync is paid once a
group and not once a caller. SQLite does not sync the folder entry of a new database file; we do.
"""

import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from shopkeeper.assets.durable import make_folder, sync_folder
from shopkeeper.errors import SourceError

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]

GROUP = 256  # calls folded into one commit at most
CACHE_KB = 65_536  # of database pages the writer keeps; the default 2 MB is less than its indexes
READERS = 8  # connections that read at most; who comes while all are busy waits
CHECKPOINT_PAGES = 4000  # 16 MB of log before it is folded into the database file


class DurableFile:
    """One SQLite database, written by one thread of this process, read by any.

    Other processes may hold the same file open; SQLite's lock takes turns between their writers.

    Args:
        path: the database file; its folder is made.
        schema: statements that are safe to repeat (CREATE … IF NOT EXISTS).
        synchronous: "FULL" where an acknowledgement promises durability, else "NORMAL".
        vfs: name of a registered SQLite file layer; tests put a fault-injecting one here.
    Raises:
        SourceError: the file cannot be opened or is no database.
    """

    def __init__(
        self, path: Path, schema: str, *, synchronous: str = "FULL", vfs: str | None = None
    ) -> None:
        self.path = path
        self._vfs = vfs
        self._synchronous = synchronous
        self._readers: list[sqlite3.Connection] = []  # idle; the last one used first
        self._turns = threading.Semaphore(READERS)
        self._guard = threading.Lock()
        self._closed = False
        self._queue: queue.SimpleQueue[tuple[Work, Future[Any]] | None] = queue.SimpleQueue()
        make_folder(path.parent)
        try:
            self._writer = self._connect()
            with contextlib.closing(self._writer.cursor()) as cursor:
                cursor.execute("PRAGMA journal_mode = WAL")
                cursor.execute(f"PRAGMA synchronous = {synchronous}")
                cursor.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
                cursor.execute(f"PRAGMA cache_size = -{CACHE_KB}")
                cursor.executescript(schema)
        except sqlite3.Error as error:
            raise SourceError(
                f"cannot open the log: {error}",
                where=str(path),
                next="check free space and permissions; a damaged file can be moved aside",
            ) from error
        sync_folder(path.parent)
        self._thread = threading.Thread(target=self._run, name=f"write {path.name}", daemon=True)
        self._thread.start()

    def _connect(self) -> sqlite3.Connection:
        if self._vfs is None:
            return sqlite3.connect(
                self.path, isolation_level=None, check_same_thread=False, timeout=30.0
            )
        return sqlite3.connect(
            f"file:{self.path}?vfs={self._vfs}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=30.0,
        )

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in the writer's transaction; return its result once it is durable.

        `work` must either succeed or leave nothing behind that matters: it runs under a savepoint,
        so its own failure undoes its own writes only.
        """
        return self.submit(work).result()

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> "Future[T]":
        """Queue `work`; the future is done once it is durable."""
        future: Future[T] = Future()
        if self._closed:
            raise SourceError("the log is closed", where=str(self.path))
        self._queue.put((work, future))
        return future

    def _run(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            group = [first]
            last = False
            while len(group) < GROUP:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    last = True
                    break
                group.append(more)
            self._commit(group)
            if last:
                return

    def _commit(self, group: list[tuple[Work, Future[Any]]]) -> None:
        done: list[tuple[Future[Any], Any]] = []
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            for work, future in group:
                self._writer.execute("SAVEPOINT one")
                try:
                    result = work(self._writer)
                except sqlite3.OperationalError:
                    raise
                except Exception as error:
                    self._writer.execute("ROLLBACK TO one")
                    future.set_exception(error)
                else:
                    done.append((future, result))
                self._writer.execute("RELEASE one")
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self._writer.execute("ROLLBACK")
            failure = SourceError(
                f"not written: {error}",
                where=str(self.path),
                next="free disk space or repair the disk, then send it again (nothing is doubled)",
                retryable=True,
            )
            for _, future in group:
                if not future.done():
                    future.set_exception(failure)
            return
        for future, result in done:
            future.set_result(result)

    def query(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Rows of a SELECT over everything committed by now, by any process."""
        with self._turns:
            with self._guard:
                if self._closed:
                    raise SourceError("the log is closed", where=str(self.path))
                reader = self._readers.pop() if self._readers else None
            if reader is None:
                reader = self._connect()
                reader.execute("PRAGMA query_only = ON")
            try:
                return reader.execute(sql, parameters).fetchall()
            finally:
                with self._guard:
                    self._readers.append(reader)

    def close(self) -> None:
        """Write what is queued, then close. A second call does nothing."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
        self._queue.put(None)
        self._thread.join()
        for _ in range(READERS):  # queries under way end well
            self._turns.acquire()
        for reader in self._readers:
            reader.close()
        self._turns.release(READERS)  # who waited is told that the log is closed
        self._writer.close()

    def __enter__(self) -> "DurableFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
