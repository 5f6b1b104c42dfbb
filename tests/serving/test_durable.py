"""What all durable files share: one writer, a few readers."""

import os
import threading
import time
from pathlib import Path

import pytest

from shopkeeper.errors import SourceError
from shopkeeper.serving.durable import READERS, DurableFile

SCHEMA = "CREATE TABLE IF NOT EXISTS t (n INTEGER);"
SLOW = (
    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 200000) "
    "SELECT max(n) FROM c"
)


def descriptors(path: Path) -> int:
    """Of this process, on a database and what belongs to it."""
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            count += os.readlink(link).startswith(str(path))
        except OSError:  # the listing's own
            continue
    return count


def at_once(file: DurableFile, sql: str, times: int) -> list[object]:
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(file.query(sql)[0][0])) for _ in range(times)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_threads_come_and_go_and_descriptors_do_not_grow(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with DurableFile(path, SCHEMA) as file:
        file.write(lambda writer: writer.execute("INSERT INTO t VALUES (7)"))
        for _ in range(3):
            assert at_once(file, "SELECT n FROM t", 40) == [7] * 40
        assert at_once(file, SLOW, 3 * READERS) == [200_000] * 3 * READERS
        assert descriptors(path) <= 3 * (READERS + 1)  # the file, its log, its index of the log
    assert descriptors(path) == 0


def test_closing_lets_queries_under_way_end_and_refuses_later_ones(tmp_path: Path) -> None:
    file = DurableFile(tmp_path / "a.db", SCHEMA)
    found: list[object] = []
    asks = threading.Thread(target=lambda: found.append(file.query(SLOW)[0][0]))
    asks.start()
    while file._turns._value == READERS and asks.is_alive():
        time.sleep(0.0005)
    file.close()
    asks.join()
    assert found == [200_000]
    with pytest.raises(SourceError, match="the log is closed"):
        file.query("SELECT n FROM t")
