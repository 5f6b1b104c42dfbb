"""Precision, recall and cost of identity stitching on planted truth (demo/people.py).

    python benchmarks/identity.py --users 100000 --seed 101 --seed 102 --seed 103

The rule and the population were made on other seeds (1 and 2) than those reported.
"""

import argparse
import resource
import time

import polars as pl

from shopkeeper.clean import identity
from shopkeeper.config import IdentitySettings
from shopkeeper.demo import people


def measure(users: int, seed: int, chinese: bool) -> dict[str, float]:
    """Stitch one population; the figures of it."""
    made = people.make(users, seed, people.HAN if chinese else people.SYLLABLES)
    settings = IdentitySettings.model_validate({"keys": people.KEYS})
    frame = made.users.with_columns(
        source=pl.lit("users.csv"), file=pl.lit("users.csv"), line=pl.int_range(2, pl.len() + 2)
    )
    started, cpu = time.perf_counter(), time.process_time()
    found = identity.stitch(identity.key_values(frame, settings.keys, "users"), settings)
    seconds, spent = time.perf_counter() - started, time.process_time() - cpu
    outcomes = dict(found.links.unique(["a", "b"]).group_by("outcome").len().iter_rows())
    return {
        "seed": seed,
        "users": made.users.height,
        **people.judge(dict(found.persons.iter_rows()), made.person),
        "vetoed": outcomes.get("vetoed", 0),
        "values_too_common": found.shared,
        "seconds": seconds,
        "cpu_seconds": spent,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--seed", type=int, action="append")
    parser.add_argument("--chinese", action="store_true", help="names of Chinese characters")
    asked = parser.parse_args()
    rows = [measure(asked.users, seed, asked.chinese) for seed in asked.seed or [101]]
    with pl.Config(tbl_cols=-1, tbl_width_chars=160, float_precision=4):
        print(pl.DataFrame(rows))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:,.0f} MB, making the people included")


if __name__ == "__main__":
    main()
