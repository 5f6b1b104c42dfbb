"""What a caller of the server waits: over real HTTP, on any workspace with a release.

    python benchmarks/serving_http.py FOLDER [--workers 1 --seconds 10 --connections 1 8 64]

Starts `shopkeeper serve` on a free port and asks with wrk (Debian package `wrk`): recommendations
for users drawn at random, the same for few users (answers from the cache), search. Then event to
changed answer: look at an item of a user's list and ask until the list differs, timed from sending
the event to holding the changed answer; users who switched personalisation off are left out, since
nothing they do may change theirs. Prints JSON; nothing is warmed up except one request a case.
"""

import argparse
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl

from shopkeeper.serving import releases

FEW_USERS = 200
LUA = """
local paths = {}
for line in io.lines("%s") do paths[#paths + 1] = line end
function init(args) math.randomseed(%d + os.time()) end
function request() return wrk.format("GET", paths[math.random(#paths)]) end
function done(summary, latency, requests)
  io.write(string.format(
    '\\n{"requests": %%d, "seconds": %%.3f, "p50_ms": %%.3f, "p90_ms": %%.3f, "p99_ms": %%.3f, ' ..
    '"max_ms": %%.3f, "failed": %%d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1000,
    latency:percentile(90) / 1000, latency:percentile(99) / 1000, latency.max / 1000,
    summary.errors.status + summary.errors.timeout + summary.errors.connect + summary.errors.read))
end
"""


@contextmanager
def server(folder: Path, workers: int) -> Iterator[int]:
    """The real server on a free port, for as long as the block lasts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    code = "from shopkeeper.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", "--shop", str(folder), "--port", str(port)]
    process = subprocess.Popen([*command, "--workers", str(workers)], start_new_session=True)
    try:
        for _ in range(600):
            try:
                if ask(http.client.HTTPConnection("127.0.0.1", port), "/readyz")[0] == 200:
                    break
            except OSError:
                if process.poll() is not None:
                    sys.exit("the server ended; see above")
                time.sleep(0.2)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def ask(
    connection: http.client.HTTPConnection, path: str, body: dict[str, Any] | None = None
) -> tuple[int, Any]:
    """Status and JSON of one request on a kept connection."""
    content = None if body is None else json.dumps(body)
    headers = {} if body is None else {"Content-Type": "application/json"}
    connection.request("GET" if body is None else "POST", path, content, headers)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def load(port: int, paths: list[str], connections: int, seconds: int) -> dict[str, Any]:
    """Throughput and latency of `paths` drawn at random, by wrk."""
    with tempfile.TemporaryDirectory() as folder:
        listed, script = Path(folder, "paths.txt"), Path(folder, "ask.lua")
        listed.write_text("\n".join(paths), encoding="utf-8")
        script.write_text(LUA % (listed, connections), encoding="utf-8")
        told = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script),
             f"http://127.0.0.1:{port}"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    figures: dict[str, Any] = json.loads(told.stdout.strip().splitlines()[-1])
    figures["per_second"] = round(figures["requests"] / figures.pop("seconds"), 1)
    return figures


def changed(port: int, users: list[str], times: int) -> dict[str, Any]:
    """Milliseconds from sending a view to holding a list that differs; one user a time.

    A list can stay as it was for a good reason (the item says nothing new); after a second of
    asking it counts as unchanged. Exploration alone changes about one list in fifty.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port)
    took: list[float] = []
    at_first = unchanged = 0
    for n, user in enumerate(users[:times]):
        path = f"/v1/recommendations?k=20&user_id={quote(user)}"
        before = [hit["item_id"] for hit in ask(connection, path)[1]["items"]]
        event = {"event_id": f"bench-{time.time_ns()}-{n}", "user_id": user, "item_id": before[n % 5], "kind": "view"}  # fmt: skip
        started = time.perf_counter()
        status, _ = ask(connection, "/v1/events", event)
        assert status == 202
        asked = 0
        while True:
            asked += 1
            shown = [hit["item_id"] for hit in ask(connection, path)[1]["items"]]
            seconds = time.perf_counter() - started
            if shown != before:
                took.append(seconds * 1000)
                at_first += asked == 1
                break
            if seconds > 1:
                unchanged += 1
                break
    took.sort()
    return {
        "events": len(took) + unchanged,
        "changed_in_the_next_answer": at_first,
        "unchanged": unchanged,
        "p50_ms": round(took[len(took) // 2], 2),
        "p99_ms": round(took[min(len(took) - 1, int(0.99 * len(took)))], 2),
        "max_ms": round(took[-1], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument(
        "--times", type=int, default=300, help="events timed to their changed answer"
    )
    parser.add_argument("--query", nargs="+", default=["lamp", "red", "kettle", "desk", "台灯"])
    given = parser.parse_args()
    store = given.folder / "store" / "releases"
    now = releases.pointer(store)
    if now is None:
        sys.exit("no release here; run: shopkeeper run")
    manifest = releases.Manifest.read(store / now.release)
    known = next((store / now.release).rglob("users.parquet"))
    users = pl.read_parquet(known)["user_id"].to_list()
    off = set(pl.read_parquet(store / now.release / "opted_out.parquet")["user_id"])
    random.Random(1).shuffle(users)
    told: dict[str, Any] = {
        "release": manifest.id,
        "items": manifest.items,
        "users": manifest.users,
        "models": manifest.models,
        "weights": manifest.weights,
        "workers": given.workers,
        "load_average_before": os.getloadavg()[0],
    }
    recommend = [f"/v1/recommendations?k=20&user_id={quote(user)}" for user in users]
    search = [f"/v1/search?k=20&q={quote(query)}" for query in given.query]
    cases = {
        "recommend": recommend,
        "recommend_few_users": recommend[:FEW_USERS],
        "search": search,
    }
    with server(given.folder, given.workers) as port:
        for name, paths in cases.items():
            ask(http.client.HTTPConnection("127.0.0.1", port), paths[0])
            told[name] = {
                str(connections): load(port, paths, connections, given.seconds)
                for connections in given.connections
            }
        told["event_to_changed_answer"] = changed(
            port, [user for user in users if user not in off], given.times
        )
    told["load_average_after"] = os.getloadavg()[0]
    print(json.dumps(told, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
