"""What the server counts: for Prometheus at /metrics, and for the console's live numbers.

Everything hangs on a registry of its own, so two apps in one process do not mix. With several
workers, prometheus-client keeps the counts in files that all workers add to (server.py sets the
folder), and any worker answers for all of them.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from shopkeeper.serving.service import Answer

WINDOW_SECONDS = 60
Given = TypeVar("Given", bound=Answer)
_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Gauges:
    """Counts of one app. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.shared = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        self.requests = Counter(
            "shopkeeper_http_requests",
            "Requests answered, by route, method and status",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "shopkeeper_http_request_seconds",
            "Time from the first byte in to the last byte out, by route",
            ["route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "shopkeeper_http_requests_in_flight",
            "Requests being answered now",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.events = Counter(
            "shopkeeper_events",
            "Events acknowledged, new ones and those sent again",
            ["outcome"],
            registry=self.registry,
        )
        self.answers = Counter(
            "shopkeeper_answers",
            "Answers given; degraded ones came from a floor",
            ["kind", "degraded"],
            registry=self.registry,
        )
        self._lock = threading.Lock()
        self._recent: deque[tuple[int, dict[str, int], list[float]]] = deque()
        self._totals = {"events": 0, "duplicates": 0, "answers": 0, "degraded": 0, "requests": 0}
        self._errors = 0
        self.started = time.time()

    def answer(self, kind: str, ask: Callable[[], Given]) -> Given:
        """What `ask` answers, counted and timed."""
        started = time.perf_counter()
        given = ask()
        seconds = time.perf_counter() - started
        self.answers.labels(kind, str(given.degraded).lower()).inc()
        self._count(answers=1, degraded=int(given.degraded))
        with self._lock:
            taken = self._now()[2]
            if len(taken) < 1_000:  # a sample of each second is enough for a percentile
                taken.append(seconds)
        return given

    def recorded(self, accepted: int, duplicates: int) -> None:
        self.events.labels("accepted").inc(accepted)
        self.events.labels("duplicate").inc(duplicates)
        self._count(events=accepted, duplicates=duplicates)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        self.requests.labels(route, method, str(status)).inc()
        self.seconds.labels(route).observe(seconds)
        self._count(requests=1)
        with self._lock:
            self._errors += status >= 500

    def live(self) -> dict[str, Any]:
        """Totals since the start; rates, and latency of answers, over the last WINDOW_SECONDS."""
        with self._lock:
            self._now()
            recent = [(dict(counts), list(taken)) for _, counts, taken in self._recent]
            totals, errors = dict(self._totals), self._errors
        span = max(1.0, min(WINDOW_SECONDS, time.time() - self.started))
        taken = sorted(second for _, some in recent for second in some)
        return {
            "worker": os.getpid(),
            "uptime_s": round(time.time() - self.started),
            "totals": totals | {"errors": errors},
            "per_second": {
                name: round(sum(counts.get(name, 0) for counts, _ in recent) / span, 2)
                for name in ("events", "answers", "requests")
            },
            "latency_ms": {
                name: round(1000 * taken[min(len(taken) - 1, int(share * len(taken)))], 2)
                if taken
                else None
                for name, share in (("p50", 0.50), ("p99", 0.99))
            },
        }

    def text(self, more: Collector | None = None) -> bytes:
        """All counts in Prometheus' text form, those of `more` too."""
        registry = self.registry
        if self.shared:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        text = generate_latest(registry)
        if more is not None:
            extra = CollectorRegistry()
            extra.register(more)
            text += generate_latest(extra)
        return text

    def _count(self, **counts: int) -> None:
        with self._lock:
            now = self._now()[1]
            for name, count in counts.items():
                self._totals[name] += count
                now[name] = now.get(name, 0) + count

    def _now(self) -> tuple[int, dict[str, int], list[float]]:
        """This second's slot; the lock is held. Slots older than the window go."""
        second = int(time.monotonic())
        if not self._recent or self._recent[-1][0] != second:
            self._recent.append((second, {}, []))
        while self._recent[0][0] <= second - WINDOW_SECONDS:
            self._recent.popleft()
        return self._recent[-1]


class Numbers(Collector):
    """Plain numbers of a nested dict as gauges: {"cache": {"hits": 3}} -> <prefix>_cache_hits 3."""

    def __init__(self, prefix: str, values: dict[str, Any]) -> None:
        self.prefix = prefix
        self.values = values

    def collect(self) -> Iterable[Metric]:
        for name, value in sorted(_flat(self.prefix, self.values).items()):
            yield GaugeMetricFamily(name, name.replace("_", " "), value=value)


def _flat(prefix: str, values: dict[str, Any]) -> dict[str, float]:
    flat: dict[str, float] = {}
    for key, value in values.items():
        name = f"{prefix}_{''.join(c if c.isalnum() and c.isascii() else '_' for c in str(key))}"
        if isinstance(value, dict):
            flat |= _flat(name, value)
        elif isinstance(value, int | float):  # a bool is 0 or 1
            flat[name] = float(value)
    return flat
