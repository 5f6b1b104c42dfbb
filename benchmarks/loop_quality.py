"""Simulated people read served lists; does quality.loop find how they read? Changes the shop: give it a copy.

    shopkeeper demo --out myshop && shopkeeper run --shop myshop
    python benchmarks/loop_quality.py myshop --answers 10000 --searches 4000

The people of the demo look at place k with a chance that only the simulation knows (`POSITION`). Told
are the curve of each surface beside it (found, its interval, and what other estimators find on the
same log), and what counting clicks by it does to popularity: the rank correlation over items of clicks
with how many would have come had every place been looked at.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import polars as pl
from scipy.stats import spearmanr

from shopkeeper.demo import truth
from shopkeeper.demo.behaviour import POSITION
from shopkeeper.demo.goods import GOODS
from shopkeeper.errors import NotReady
from shopkeeper.evaluation import examination, loop
from shopkeeper.governance.access import OWNER
from shopkeeper.serving.loop import CLICKS
from shopkeeper.shop import Shop
from shopkeeper.words import Purpose


def read_lists(shop: Shop, known: truth.Truth, answers: int, searches: int, seed: int) -> None:
    """Recommendations and searches in mixed order, and what the people do with them."""
    rng = np.random.default_rng(seed)
    users = list(known.users)
    often = 1 / np.arange(1, len(users) + 1) ** 0.8  # some come often, most seldom
    order = rng.permutation(len(users))
    names = {good.name: (good.zh, good.name) for good in GOODS}
    wanted = rng.permutation(np.repeat([False, True], [answers, searches]))
    for searched in wanted.tolist():
        user = users[order[rng.choice(len(users), p=often / often.sum())]]
        if searched:
            good = known.goods[rng.choice(len(known.goods), p=known.wish[known.users[user]])]
            query = names[good][int(rng.random() < 0.3)]
            answer = shop.service.search(query, user_id=user, k=10)
        else:
            answer = shop.service.recommend(user_id=user, k=10)
        shown = [hit.item_id for hit in answer.items]
        events = truth.simulate_clicks(known, user, shown, rng)
        if events:
            shop.service.record(
                [{**one, "user_id": user, "answer_id": answer.answer_id} for one in events]
            )
    shop.service.answers.flush()


def curves(shop: Shop, checks: list[dict[str, object]]) -> None:
    """Every curve beside the planted one."""
    read = {"by": OWNER, "purpose": Purpose.ANALYSE}
    answers = shop.assets.read("raw.answers", **read).sort("seq")
    clicks = shop.assets.read("raw.feedback", **read).filter(pl.col("kind").is_in(CLICKS))
    categories = shop.assets.read("clean.items", **read).select("item_id", "category")
    for surface in loop.SURFACES:
        some = answers.filter(pl.col("kind") == surface)
        log = examination.exposures(some, clicks, categories)
        users = some.select("answer_id", cluster="user_id")
        log = log.join(users, on="answer_id", how="left", maintain_order="left")
        others = {}
        began = time.process_time()
        for name, one, method in (
            ("harvest", log, "harvest"), ("em, no groups", log.drop("group"), "em"),
        ):  # fmt: skip
            try:
                others[name] = examination.estimate(one, method=method, draws=0)
            except NotReady as error:
                print(f"{surface}, {name}: {error.message}")
        found = next(one for one in checks if one["check"] == f"{loop.EXAMINATION}.{surface}")
        print(
            f"\n{surface}: {some.height} answers; {time.process_time() - began:.1f} s of CPU for the others"
        )
        print("| place | planted | found | 95% | " + " | ".join(others) + " | clicks a showing |")
        for place in found["detail"].get("places", []):  # type: ignore[attr-defined]
            at = place["place"]
            planted = POSITION[min(at, len(POSITION)) - 1]
            rest = " | ".join(f"{float(one.at([at])[0]):.3f}" for one in others.values())
            print(
                f"| {at} | {planted:.3f} | {place['examination']:.3f} | {place['low']:.3f}–{place['high']:.3f} | "
                f"{rest} | {place['clicks'] / place['shown']:.4f} |"
            )


def popularity(shop: Shop, known: truth.Truth) -> None:
    """What weighing by the curve does to counts of clicks on recommendations."""
    read = {"by": OWNER, "purpose": Purpose.ANALYSE}
    answers = shop.assets.read("raw.answers", **read).sort("seq")
    seen = loop.curves(shop.assets.read(loop.ASSET, **read))
    flat = answers.select("user_id", "items").explode("items")
    chance: dict[str, float] = {}
    for user, item in flat.iter_rows():
        row = known.items.get(item)
        if row is None:
            continue
        liking, good = known.liking(user), known.good[row]
        joy = float(liking[row] - liking[known.rows_of[good]].max())
        wish = float(known.wish[known.users[user], known.goods.index(good)])
        chance[item] = chance.get(item, 0.0) + min(1.0, 25 * wish) * float(np.exp(0.5 * joy))
    did = shop.assets.read("clean.events", **read).filter(
        pl.col("answer_id").is_not_null(), pl.col("kind") == "view", pl.col("item_id").is_not_null()
    )
    counted = examination.weighed(did.lazy(), answers.lazy(), seen).group_by("item_id")
    told = counted.agg(plain=pl.len(), weighed=pl.col("weight").sum()).collect()
    rows = pl.DataFrame({"item_id": list(chance), "truth": list(chance.values())})
    rows = rows.join(told, on="item_id", how="left").fill_null(0)
    for name in ("plain", "weighed"):
        right = spearmanr(rows[name], rows["truth"]).statistic
        share = (
            rows[name] / rows[name].sum() - rows["truth"] / rows["truth"].sum()
        ).abs().sum() / 2
        print(
            f"popularity, {name}: rank correlation {right:.4f}, share of clicks at the wrong item {share:.4f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shop", type=Path)
    parser.add_argument("--answers", type=int, default=10_000)
    parser.add_argument("--searches", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    known = truth.load(asked.shop / "truth")
    with Shop.open(asked.shop) as shop:
        if asked.answers or asked.searches:
            read_lists(shop, known, asked.answers, asked.searches, asked.seed)
        told = shop.run(["collect", "clean", "features", "quality.loop"])
        checks = shop.loop_quality()
        for step in told["steps"]:
            if step["step"] in ("collect.answers", "quality.loop"):
                print(f"{step['step']}: {step['seconds']:.1f} s")
        for one in checks:
            value = "–" if one["value"] is None else f"{one['value']:.4f}"
            print(f"| {one['check']} | {value} | {one['wanted']} | {one['level']} |")
        curves(shop, checks)
        popularity(shop, known)


if __name__ == "__main__":
    main()
