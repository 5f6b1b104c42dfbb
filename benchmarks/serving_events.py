"""Serving figures of one worker on a release made by serving_release.py.

    python benchmarks/serving_events.py FOLDER [--seconds 5]

Prints one JSON object: acknowledged events/s (fsynced) by batch size and threads, recommendation
latency with the cache off, event -> changed answer, and replay of the answers just logged.
"""

import argparse
import json
import shutil
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from shopkeeper import config
from shopkeeper.serving import Service
from shopkeeper.serving.events import EventLog
from shopkeeper.serving.replay import check


def percentiles(times: list[float]) -> dict[str, float]:
    """Milliseconds."""
    values = np.percentile(np.array(times) * 1000, [50, 99, 100])
    names = ("p50_ms", "p99_ms", "max_ms")
    return {name: round(float(v), 3) for name, v in zip(names, values, strict=True)}


def acknowledged(folder: Path, threads: int, batch: int, seconds: float) -> dict[str, float]:
    """Events/s that threads get acknowledged, and how long a call takes."""
    log = EventLog(folder / f"{threads}-{batch}.db")
    times: list[float] = []
    end = time.perf_counter() + seconds

    def send(thread: int) -> None:
        n = 0
        while time.perf_counter() < end:
            events = [
                {
                    "user_id": f"user{(thread * 7919 + n * 31 + m) % 20_000}",
                    "item_id": f"item{m:06}",
                    "kind": "view",
                    "dwell_ms": 1000,
                    "ts": "2026-03-01T10:00:00Z",
                }
                for m in range(batch)
            ]
            began = time.perf_counter()
            log.record(events)
            times.append(time.perf_counter() - began)
            n += 1

    began, cpu = time.perf_counter(), time.process_time()
    senders = [threading.Thread(target=send, args=(t,)) for t in range(threads)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    count = len(times) * batch
    log.close()
    return {
        "events_per_s": round(count / took),
        "cpu_us_per_event": round(cpu / count * 1e6, 1),
        **percentiles(times),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0)
    asked = parser.parse_args()
    told: dict[str, object] = {}
    scratch = Path(tempfile.mkdtemp(dir=asked.folder))
    for threads, batch in ((1, 1), (8, 1), (1, 1000), (4, 1000), (8, 128)):
        told[f"events, {threads} threads, batches of {batch}"] = acknowledged(
            scratch, threads, batch, asked.seconds
        )
    shutil.rmtree(scratch)
    settings = config.load(asked.folder)
    settings = settings.model_copy(
        update={"serving": settings.serving.model_copy(update={"cache_answers": 0})}
    )
    service = Service.open(asked.folder, settings)
    told["items"], told["models"] = service.health()["items"], service.health()["models"]
    draw = np.random.default_rng(1)
    users = [f"user{n}" for n in draw.integers(0, len(service._live.release.snapshot), 4000)]
    for user in users[:50]:
        service.recommend(user_id=user, k=20)
    times: list[float] = []
    degraded = 0
    cpu, end = time.process_time(), time.perf_counter() + 2 * asked.seconds
    for user in users[50:]:
        began = time.perf_counter()
        degraded += service.recommend(user_id=user, k=20).degraded
        times.append(time.perf_counter() - began)
        if time.perf_counter() > end:
            break
    told["recommend, cache off"] = {
        "answers": len(times),
        "degraded": degraded,
        "cpu_ms_per_answer": round((time.process_time() - cpu) / len(times) * 1000, 3),
        **percentiles(times),
    }
    times = []
    changed = 0
    end = time.perf_counter() + 2 * asked.seconds
    for n, user in enumerate(users):
        before = [hit.item_id for hit in service.recommend(user_id=user, k=20).items]
        began = time.perf_counter()
        service.record([{"user_id": user, "item_id": before[n % 5], "kind": "view"}])
        after = [hit.item_id for hit in service.recommend(user_id=user, k=20).items]
        times.append(time.perf_counter() - began)
        changed += after != before
        if time.perf_counter() > end:
            break
    told["event to changed answer"] = {
        "events": len(times),
        "changed": round(changed / len(times), 4),
        **percentiles(times),
    }
    service.close()
    report = check(asked.folder, settings, limit=500)
    told["replay"] = {"answers": report.answers, "equal": report.equal_scores}
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
