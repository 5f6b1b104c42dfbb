"""The loop closed: newcomers act on what is served, and what is served next fits them better.

The figures are simulated: they show that feedback arrives, not how good a model is.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest

from shopkeeper.demo import simulate_clicks, truth
from shopkeeper.shop import Shop

ROUNDS = 3
NEWCOMERS = 400


@pytest.mark.slow
def test_the_answer_after_a_click_fits_better_and_without_one_stays(
    small: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "shop"
    shutil.copytree(small, folder, ignore=shutil.ignore_patterns("truth", "images"))
    (folder / "raw/images").mkdir()
    toml = folder / "shop.toml"
    toml.write_text(
        'models = ["popularity", "item_knn"]\n'
        + toml.read_text(encoding="utf-8")
        + "\n[serving]\nexploration = 0.0\n",
        encoding="utf-8",
    )
    known = truth.load(small / "truth")
    rng = np.random.default_rng(6)
    wanted = np.zeros((NEWCOMERS, ROUNDS))  # how much of the shown list the user wants at all
    acted = np.zeros((NEWCOMERS, ROUNDS), dtype=bool)  # opened something in that round or before
    changed = np.zeros((NEWCOMERS, ROUNDS), dtype=bool)  # is the list another than the one before
    with Shop.open(folder) as shop:
        shop.run()
        for number, user in enumerate(list(known.users)[:NEWCOMERS]):
            wish = dict(zip(known.goods, known.wish[known.users[user]], strict=True))
            before: list[str] = []
            for turn in range(ROUNDS):
                answer = shop.service.recommend(user_id=f"new {user}", k=20)
                shown = [hit.item_id for hit in answer.items]
                wanted[number, turn] = sum(wish[known.good[known.items[item]]] for item in shown)
                changed[number, turn] = shown != before
                before = shown
                acts = simulate_clicks(known, user, shown, rng)
                opened = any(act["kind"] == "view" for act in acts)
                acted[number, turn] = opened or (turn > 0 and acted[number, turn - 1])
                sent = [
                    {**act, "user_id": f"new {user}", "answer_id": answer.answer_id} for act in acts
                ]
                if sent:
                    shop.service.record(sent)
    first = acted[:, 0]
    assert 100 < first.sum() < NEWCOMERS
    # who opened something sees another list at once, with more of what he or she wants
    assert changed[first, 1].mean() > 0.95
    gain = wanted[first, 1] - wanted[first, 0]
    assert gain.mean() > 2 * gain.std(ddof=1) / np.sqrt(len(gain))
    # who opened nothing, and was only shown things, sees the same list again
    still = changed[:, 1:] & ~acted[:, :-1]
    assert not still.any()
