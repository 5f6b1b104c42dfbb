"""What only the simulation knows, saved beside the raw files, and what its users would do next.

Tests and benchmarks read it; the product never does.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from shopkeeper.demo.behaviour import POSITION, Market, Users
from shopkeeper.demo.catalogue import Array, Ints, item_id
from shopkeeper.demo.goods import BRANDS, COLOURS, GOODS, STYLES


@dataclass(frozen=True)
class Truth:
    """Tastes of N users and traits of M items."""

    users: dict[str, int]  # id -> row
    items: dict[str, int]  # id -> row
    taste: Array  # (N, TASTE_WIDTH)
    wish: Array  # (N, goods)
    traits: Array  # (M, TASTE_WIDTH)
    quality: Array  # (M,)
    good: list[str]  # (M,) name of each item's good
    rows_of: dict[str, Ints]  # good -> its items
    goods: list[str]  # columns of `wish`
    leads_to: dict[str, list[str]]  # good -> goods wanted after it was bought, likeliest first

    def liking(self, user_id: str) -> Array:
        """(M,) how much the user likes each item of a good he or she wants."""
        liked: Array = self.traits @ self.taste[self.users[user_id]] + self.quality
        return liked


def save(folder: Path, market: Market, users: Users, seed: int) -> None:
    """Write users.parquet, items.parquet and truth.json."""
    catalogue = market.catalogue
    pl.DataFrame({"user_id": users.ids, "taste": users.taste, "wish": users.wish}).write_parquet(
        folder / "users.parquet"
    )
    pl.DataFrame(
        {
            "item_id": [item_id(row) for row in range(len(catalogue.good))],
            "good": [GOODS[row].name for row in catalogue.good],
            "style": [STYLES[row][0] for row in catalogue.style],
            "brand": [BRANDS[row][0] for row in catalogue.brand],
            "colour": [COLOURS[row].name for row in catalogue.colour],
            "quality": catalogue.quality,
            "fame": catalogue.fame,
            "launched_day": catalogue.launched,
            "traits": catalogue.traits,
        }
    ).write_parquet(folder / "items.parquet")
    about = {
        "seed": seed,
        "days": market.days,
        "goods": [good.name for good in GOODS],
        "leads_to": {good.name: list(good.leads_to) for good in GOODS},
        "again_days": {good.name: good.again_days for good in GOODS if good.again_days},
    }
    (folder / "truth.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def load(folder: Path) -> Truth:
    """Read the truth/ folder of a demo marketplace."""
    users = pl.read_parquet(folder / "users.parquet")
    items = pl.read_parquet(folder / "items.parquet")
    about = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    return Truth(
        users={name: row for row, name in enumerate(users["user_id"])},
        items={name: row for row, name in enumerate(items["item_id"])},
        taste=users["taste"].to_numpy(),
        wish=users["wish"].to_numpy(),
        traits=items["traits"].to_numpy(),
        quality=items["quality"].to_numpy(),
        good=items["good"].to_list(),
        rows_of={
            name: np.flatnonzero((items["good"] == name).to_numpy()) for name in about["goods"]
        },
        goods=about["goods"],
        leads_to=about["leads_to"],
    )


def simulate_clicks(
    truth: Truth, user_id: str, shown_items: list[str], rng: np.random.Generator
) -> list[dict[str, Any]]:
    """What a simulated user does with a served list: events in order, without ids and times.

    The list is read from the top, each place less often. An item is opened when its good is wanted
    and it fits the taste; what is liked most may be put into the cart and bought.
    """
    user = truth.users[user_id]
    liking = truth.liking(user_id)
    wanted = dict(zip(truth.goods, truth.wish[user], strict=True))
    events: list[dict[str, Any]] = []
    for position, shown in enumerate(shown_items, start=1):
        if rng.random() > POSITION[min(position, len(POSITION)) - 1]:
            continue
        events.append({"kind": "impression", "item_id": shown, "position": position})
        row = truth.items.get(shown)
        if row is None:
            continue
        best = float(liking[truth.rows_of[truth.good[row]]].max())
        joy = float(liking[row]) - best  # 0: could not be better
        chance = min(1.0, 25 * wanted[truth.good[row]]) * math.exp(0.5 * joy)
        if rng.random() > chance:
            continue
        dwell = int(1000 * min(rng.lognormal(3.6 + 0.28 * max(joy, -4.0), 0.6), 1500.0))
        events.append({"kind": "view", "item_id": shown, "position": position, "dwell_ms": dwell})
        if rng.random() < 0.4 * math.exp(0.45 * joy):
            events.append({"kind": "cart", "item_id": shown, "quantity": 1})
            if rng.random() < 0.6:
                events.append({"kind": "purchase", "item_id": shown, "quantity": 1})
    return events
