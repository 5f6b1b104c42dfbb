"""Counts of what the service did, for /metrics and for rolling back by itself."""

import threading
from collections import Counter
from typing import Any

# upper bounds of latency buckets, seconds
BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Counters:
    """Named counts and latency histograms; safe to share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._times: dict[str, list[int]] = {}
        self._sums: Counter[str] = Counter()

    def add(self, name: str, by: int = 1) -> None:
        """Count `name` up."""
        with self._lock:
            self._counts[name] += by

    def took(self, name: str, seconds: float) -> None:
        """Note that one `name` took so long."""
        at = len(BOUNDS)
        for n, bound in enumerate(BOUNDS):
            if seconds <= bound:
                at = n
                break
        with self._lock:
            self._times.setdefault(name, [0] * (len(BOUNDS) + 1))[at] += 1
            self._sums[name] += seconds  # type: ignore[assignment]

    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    def as_dict(self) -> dict[str, Any]:
        """{"counts": {name: n}, "latency": {name: {"bounds", "counts", "sum", "count"}}}.

        counts[i] is the number within bounds[i] (not cumulative); the last is beyond them all.
        """
        with self._lock:
            return {
                "counts": dict(sorted(self._counts.items())),
                "latency": {
                    name: {
                        "bounds": list(BOUNDS),
                        "counts": list(counts),
                        "sum": float(self._sums[name]),
                        "count": sum(counts),
                    }
                    for name, counts in sorted(self._times.items())
                },
            }
