"""The answer cache and the answer log."""

import time
from pathlib import Path

import numpy as np

from shopkeeper.serving.answers import AnswerLog, Cache, packed, unpacked


def test_the_cache_keeps_the_newest_used() -> None:
    cache: Cache[int] = Cache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c"), len(cache)) == (1, None, 3, 2)


def test_an_answer_is_found_at_once_and_by_other_workers_moments_later(tmp_path: Path) -> None:
    mine, other = AnswerLog(tmp_path / "a.db"), AnswerLog(tmp_path / "a.db")
    mine.add("x", {"items": ["i"]})
    found = mine.find("x")
    assert found is not None
    assert found["items"] == ["i"]
    until = time.monotonic() + 10
    while other.find("x") is None and time.monotonic() < until:
        time.sleep(0.02)
    assert other.find("x") == found
    assert [answer["answer_id"] for answer in other.read()] == ["x"]
    mine.close()
    other.close()


def test_an_answer_that_cannot_be_written_is_lost_alone(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path / "a.db")
    for name, body in (("bad", {"x": "\ud800"}), ("worse", {"x": object()}), ("good", {"x": 1})):
        log.add(name, body)
    until = time.monotonic() + 10
    while not log.read() and time.monotonic() < until:
        time.sleep(0.02)
    assert [answer["answer_id"] for answer in log.read()] == ["good"]
    assert log._thread.is_alive()
    log.add("later", {})
    log.close()
    again = AnswerLog(tmp_path / "a.db")
    assert [answer["answer_id"] for answer in again.read()] == ["good", "later"]
    again.close()


def test_answers_are_forgotten_after_their_time(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path / "a.db")
    log.add("old", {})
    log.flush()
    between = time.time_ns() // 1000 + 1
    time.sleep(0.01)
    log.add("new", {})
    log.flush()
    assert log.forget(between) == 1
    assert (log.find("old"), log.find("new") is not None) == (None, True)
    log.close()


def test_logged_scores_come_back_bit_for_bit() -> None:
    scores = np.array([0.1, -np.inf, np.nan, 1e-30], dtype=np.float32)
    back = unpacked(packed(scores), "<f4")
    assert back.tobytes() == scores.tobytes()
