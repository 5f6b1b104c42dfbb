"""What profiles of columns cost beside the cleaning that they are made in.

    shopkeeper demo /tmp/demo && shopkeeper run --shop /tmp/demo
    python benchmarks/profiles.py /tmp/demo

A copy of the shop cleans its tables again, in this process, and the CPU time spent in
`assets.profile` is measured inside that of the steps.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shopkeeper.assets import parts, profile
from shopkeeper.shop import Shop

STEPS = ("clean.events", "clean.items", "clean.shops", "clean.users", "clean.images")


class Timed:
    """CPU seconds spent in some functions, whoever calls them."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def of(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            start = time.process_time()
            try:
                return work(*arguments, **named)
            finally:
                self.seconds += time.process_time() - start

        return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shop", type=Path, help="a shop that has run")
    parser.add_argument("--times", type=int, default=5)
    args = parser.parse_args()
    spent = Timed()
    parts.profile_part = spent.of(parts.profile_part)  # type: ignore[assignment]
    profile.merge_parts = spent.of(profile.merge_parts)  # type: ignore[assignment]
    profile.finish = spent.of(profile.finish)  # type: ignore[assignment]
    took: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "shop"
        shutil.copytree(args.shop, copy)
        with Shop.open(copy) as shop:
            for _ in range(args.times + 1):  # the first one warms up
                for step in STEPS:
                    spent.seconds, start = 0.0, time.process_time()
                    shop.run([step], force=True)
                    cpu = time.process_time() - start
                    if spent.seconds:
                        took.setdefault(step, []).append((cpu, spent.seconds))
    told = {}
    for step, runs in took.items():
        cpu, own = (statistics.median(one) for one in zip(*runs[1:], strict=True))
        told[step] = {
            "cpu_s": round(cpu, 3), "profile_cpu_s": round(own, 3), "share": round(own / cpu, 3),
        }  # fmt: skip
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
