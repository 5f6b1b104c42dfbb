"""The sealed truth, and the users that answer a served list."""

from pathlib import Path

import numpy as np
import pytest

from shopkeeper.demo import simulate_clicks, truth
from shopkeeper.demo.truth import Truth


@pytest.fixture(scope="module")
def known(small: Path) -> Truth:
    return truth.load(small / "truth")


def test_the_truth_lies_outside_of_what_the_shop_hands_over(small: Path) -> None:
    assert not list((small / "raw").rglob("*truth*"))
    assert "truth" not in (small / "shop.toml").read_text(encoding="utf-8")


def test_a_user_opens_and_buys_more_from_a_list_of_what_he_likes(known: Truth) -> None:
    rng = np.random.default_rng(4)
    items = list(known.items)
    views = {"liked": 0, "random": 0}
    bought = {"liked": 0, "random": 0}
    for user in list(known.users)[:150]:
        wish = known.wish[known.users[user]]
        rows = np.concatenate([known.rows_of[known.goods[good]] for good in np.argsort(-wish)[:4]])
        liking = known.liking(user)
        liked = [items[row] for row in rows[np.argsort(-liking[rows])][:8]]
        drawn = [items[row] for row in rng.choice(len(items), 8, replace=False)]
        for name, shown in (("liked", liked), ("random", drawn)):
            acts = [act["kind"] for act in simulate_clicks(known, user, shown, rng)]
            views[name] += acts.count("view")
            bought[name] += acts.count("purchase")
    assert views["liked"] > 3 * views["random"] > 0
    assert bought["liked"] > 3 * bought["random"]


def test_the_same_dice_give_the_same_acts_and_views_carry_their_place(known: Truth) -> None:
    user = next(iter(known.users))
    shown = list(known.items)[:30]
    first, second = (
        simulate_clicks(known, user, shown, np.random.default_rng(9)) for _ in range(2)
    )
    assert first == second
    for act in first:
        if act["kind"] in ("impression", "view"):
            assert shown[act["position"] - 1] == act["item_id"]


def test_an_item_the_truth_does_not_know_is_at_most_seen(known: Truth) -> None:
    user = next(iter(known.users))
    acts = simulate_clicks(known, user, ["nobody knows"] * 20, np.random.default_rng(2))
    assert {act["kind"] for act in acts} == {"impression"}
