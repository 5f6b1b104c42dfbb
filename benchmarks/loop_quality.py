"""Simulated people read served lists; does quality.loop find how they read? Changes the shop: give it a copy.

    shopkeeper demo --out myshop && shopkeeper run --shop myshop
    python benchmarks/loop_quality.py myshop --answers 10000

The people of the demo look at place k with a chance that only the simulation knows (`POSITION`).
"""

import argparse
from pathlib import Path

import numpy as np

from shopkeeper.demo import truth
from shopkeeper.demo.behaviour import POSITION
from shopkeeper.shop import Shop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shop", type=Path)
    parser.add_argument("--answers", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    known = truth.load(asked.shop / "truth")
    rng = np.random.default_rng(asked.seed)
    users = list(known.users)
    often = 1 / np.arange(1, len(users) + 1) ** 0.8  # some come often, most seldom
    order = rng.permutation(len(users))
    with Shop.open(asked.shop) as shop:
        for _ in range(asked.answers):
            user = users[order[rng.choice(len(users), p=often / often.sum())]]
            answer = shop.service.recommend(user_id=user, k=10)
            shown = [hit.item_id for hit in answer.items]
            events = truth.simulate_clicks(known, user, shown, rng)
            if events:
                shop.service.record(
                    [{**one, "user_id": user, "answer_id": answer.answer_id} for one in events]
                )
        shop.service.answers.flush()
        told = shop.run(["collect", "clean", "features", "quality.loop"])
        checks = shop.loop_quality()
    for step in told["steps"]:
        if step["step"] in ("collect.answers", "quality.loop"):
            print(f"{step['step']}: {step['seconds']:.1f} s")
    for one in checks:
        value = "–" if one["value"] is None else f"{one['value']:.4f}"
        print(f"| {one['check']} | {value} | {one['wanted']} | {one['level']} |")
    for one in checks:
        for place in one["detail"].get("places", []):
            at = POSITION[min(place["place"], len(POSITION)) - 1]
            print(
                f"| {place['place']} | {at:.3f} | {place['examination']:.3f} | "
                f"{place['low']:.3f}–{place['high']:.3f} | {place['clicks'] / place['shown']:.4f} |"
            )


if __name__ == "__main__":
    main()
