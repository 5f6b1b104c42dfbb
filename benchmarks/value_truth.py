"""Planted truth for values: how often is noise called worth something, and is taste found?

    python benchmarks/value_truth.py --columns 52 --seed 77

1,000 people who each like one of eight styles and have one of two budgets; columns that say so, and
columns of items and people that are drawn at random.
"""

import argparse
import time

import numpy as np
import scipy.sparse as sp

from shopkeeper.evaluation import probe
from shopkeeper.evaluation.probe import Column
from shopkeeper.evaluation.splits import time_split
from shopkeeper.evaluation.value import Bench, Protocol, gained
from shopkeeper.features.sequences import pack

ITEMS, USERS, STYLES, EVENTS = 240, 1_000, 8, 12
TOGETHER = 13  # noise columns fitted at a time


def market(rng: np.random.Generator) -> tuple[Protocol, list[Column]]:
    """The people's protocol, and the two columns that tell their taste."""
    style, dear = rng.integers(0, STYLES, ITEMS), rng.random(ITEMS) < 0.5
    rich, likes = rng.random(USERS) < 0.5, rng.integers(0, STYLES, USERS)
    items = []
    for user in range(USERS):
        liked = np.flatnonzero((style == likes[user]) & (dear == rich[user]))
        own = rng.random(EVENTS) < 0.4
        items.append(np.where(own, rng.choice(liked, EVENTS), rng.integers(0, ITEMS, EVENTS)))
    times = np.sort(rng.integers(0, 10**9, (USERS, EVENTS)), axis=1)
    names = [f"u{n}" for n in range(USERS)]
    sequences = pack(names, [EVENTS] * USERS, np.concatenate(items), times=times.ravel())
    split = time_split(sequences)
    money = sp.csr_array((len(split.test), ITEMS))
    ids = [f"i{n}" for n in range(ITEMS)]
    protocol = Protocol(split, split.validation, split.test, ids, False, money, 1)
    told = probe.labels(range(ITEMS), [f"s{s}" for s in style], ITEMS)
    budget = {name: str(value) for name, value in zip(names, rich, strict=True)}
    columns = [
        Column("items", "style", labels=told, few=True),
        Column("users", "budget", segments=budget),
    ]
    return protocol, columns


def noise(rng: np.random.Generator, number: int) -> Column:
    """A number of items, a label of items, or a kind of people; at random."""
    if number % 3 == 0:
        return Column("noise", f"number {number}", numbers=rng.normal(size=ITEMS))
    values = rng.integers(0, int(rng.integers(2, 40)), ITEMS)
    if number % 3 == 1:
        told = probe.labels(range(ITEMS), [f"v{v}" for v in values], ITEMS)
        return Column("noise", f"label {number}", labels=told, few=True)
    kinds = rng.integers(0, int(rng.integers(2, 8)), USERS)
    return Column(
        "noise", f"people {number}", segments={f"u{n}": str(k) for n, k in enumerate(kinds)}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--columns", type=int, default=52)
    parser.add_argument("--seed", type=int, default=77)
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed)
    protocol, planted = market(rng)
    random = [noise(rng, n) for n in range(asked.columns)]
    above = below = 0
    gains, began = [], time.process_time()
    for at in range(0, len(random), TOGETHER):
        some = random[at : at + TOGETHER]
        bench = Bench(protocol, [*planted, *some], seeds=3)
        whole = bench.whole["NDCG@10"]
        for place in range(len(planted) if at else 0, len(planted) + len(some)):
            found = gained(whole, bench.without([place])["NDCG@10"], confidence=0.95)
            if place < len(planted):
                name = planted[place].name
                print(f"{name}: {found.gain:+.4f} [{found.low:+.4f}, {found.high:+.4f}]")
            else:
                gains.append(found.gain)
                above += found.low > 0
                below += found.high < 0
    print(
        f"{len(random)} columns of noise: mean {np.mean(gains):+.5f}, above 0: {above}, below 0: "
        f"{below}; with everything {whole.mean():.4f}; {time.process_time() - began:.0f} s of CPU"
    )


if __name__ == "__main__":
    main()
