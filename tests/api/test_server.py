"""The real server process: started, asked, stopped."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from shopkeeper.api.server import check_port, serve
from shopkeeper.errors import InputError


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    folder: Path, workers: int
) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client, Path]]:
    port = free_port()
    code = (
        "import sys; from pathlib import Path; from shopkeeper.api.server import serve; "
        "serve(Path(sys.argv[1]), port=int(sys.argv[2]), workers=int(sys.argv[3]))"
    )
    log = folder.parent / f"server-{port}.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(folder), str(port), str(workers)],
            stdout=out,
            stderr=out,
            start_new_session=True,  # so that its workers can be ended with it
        )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as http:
        try:
            until = time.monotonic() + 90
            while time.monotonic() < until:
                try:
                    if http.get("/readyz").status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.1)
                assert process.poll() is None, log.read_text()
            else:
                pytest.fail(f"the server did not come up: {log.read_text()}")
            yield process, http, log
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_a_taken_port_is_said_before_anything_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--port {port + 1}"):
            check_port("127.0.0.1", port)


def test_an_address_this_machine_does_not_have_is_said() -> None:
    with pytest.raises(InputError, match=r"127\.0\.0\.1 always works"):
        check_port("192.0.2.1", free_port())
    with pytest.raises(InputError, match="no such address"):
        check_port("no.such.host.invalid", free_port())


def test_no_key_no_server_for_the_network(folder) -> None:
    with pytest.raises(InputError, match="shopkeeper clients add NAME"):
        serve(folder, host="0.0.0.0", port=free_port())


@pytest.mark.slow
def test_sigterm_lets_requests_under_way_finish_and_loses_no_acknowledged_event(folder) -> None:
    with running(folder, 1) as (process, http, log):
        acknowledged = 0
        refused = 0
        for n in range(900):
            if n == 30:
                process.send_signal(signal.SIGTERM)
            if refused:
                break
            try:
                event = {"event_id": f"t{n}", "user_id": "u", "item_id": "i00", "kind": "view"}
                acknowledged += http.post("/v1/events", json=event).status_code == 202
            except httpx.TransportError:
                refused += 1
        assert process.wait(timeout=30) in (0, -signal.SIGTERM)
        assert "Traceback" not in log.read_text()
    assert acknowledged >= 30
    assert refused > 0
    with running(folder, 1) as (_, http, _):
        events = [
            {"event_id": f"t{n}", "user_id": "u", "item_id": "i00", "kind": "view"}
            for n in range(acknowledged)
        ]
        told = http.post("/v1/events", json={"events": events}).json()
    assert told == {
        "accepted": 0,
        "duplicates": acknowledged,
        "event_ids": [f"t{n}" for n in range(acknowledged)],
    }


@pytest.mark.slow
def test_two_workers_answer_for_each_other(folder) -> None:
    """An event taken by one worker changes the answers of both; their counts add up."""
    with running(folder, 2) as (process, http, _log):
        seen: set[int] = set()
        until = time.monotonic() + 60
        while len(seen) < 2 and time.monotonic() < until:
            # a new connection each, so that both workers are asked once both are up
            told = http.get("/v1/counters", headers={"connection": "close"})
            seen.add(told.json()["worker"])
        assert len(seen) == 2
        for item in ("i02", "i06"):
            event = {"user_id": "w", "item_id": item, "kind": "purchase"}
            assert http.post("/v1/events", json=event).status_code == 202
        for _ in range(20):
            answer = http.get("/v1/recommendations?user_id=w&k=10", headers={"connection": "close"})
            shown = [hit["item_id"] for hit in answer.json()["items"]]
            assert "i02" not in shown
            assert "i06" not in shown
        text = http.get("/metrics").text
        assert 'shopkeeper_events_total{outcome="accepted"} 2.0' in text
        assert 'shopkeeper_answers_total{degraded="false",kind="recommend"} 20.0' in text
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) in (0, -signal.SIGTERM)
