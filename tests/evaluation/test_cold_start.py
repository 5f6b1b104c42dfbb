import numpy as np
import pytest

from shopkeeper.errors import InputError
from shopkeeper.evaluation.cold_start import score_new, take_out
from shopkeeper.features.sequences import Floats, Sequences, pack


def _walks(users: int = 40, length: int = 8, items: int = 20) -> Sequences:
    rng = np.random.default_rng(0)
    return pack(
        [f"u{user}" for user in range(users)],
        np.full(users, length),
        rng.integers(0, items, users * length),
        times=1_700_000_000_000 + np.arange(users * length) * 1000,
    )


def test_nothing_of_a_new_item_is_learned_from() -> None:
    cut = take_out(_walks(), 20, share=0.2, seed=1)
    assert cut.new.sum() == 4
    for seen in (cut.train, cut.validation.histories, cut.test.histories):
        assert not cut.new[seen.items].any()
    assert not cut.new[cut.validation.target_items].any()
    assert cut.new[cut.test.target_items].all()
    assert (cut.test.histories.lengths > 0).all()


def test_a_history_is_what_came_before_the_new_item() -> None:
    flat = [0, 1, 9, 2, 9, 3, 4, 5, 6, 7, 9, 8, 8, 8]
    sparse = pack(["a", "b", "c"], [6, 5, 3], flat)
    cut = take_out(sparse, 10, share=1.0, least=3, seed=0)
    assert np.flatnonzero(cut.new).tolist() == [8, 9]
    histories = [
        cut.test.histories.items[cut.test.histories.user(row)].tolist()
        for row in range(len(cut.test))
    ]
    assert histories == [[0, 1], [4, 5, 6, 7]]  # a's second 9 is no first; c knew nothing before
    assert cut.test.target_items.tolist() == [9, 9]


def test_validation_is_not_learned_from() -> None:
    cut = take_out(_walks(), 20, share=0.2, seed=1)
    learned = {
        user: cut.train.items[cut.train.user(row)].tolist()
        for row, user in enumerate(cut.train.users)
    }
    for row, user in enumerate(cut.validation.histories.users):
        own = cut.validation.histories
        assert learned[user] == own.items[own.user(row)].tolist()


def test_new_items_are_ranked_among_each_other_and_among_all() -> None:
    cut = take_out(_walks(), 20, share=0.5, least=1, seed=1)

    def known_first(histories: Sequences) -> Floats:
        scores = np.zeros((len(histories), 20), dtype=np.float32)
        scores[:, ~cut.new] = 2.0
        return scores

    found = score_new(known_first, cut)
    assert found["chance HR@10"] == 1.0  # ten of ten new ones
    assert found["new HR@10"] == 1.0
    assert found["all HR@10"] == 0.0  # ten known ones fill the list


def test_what_knows_nothing_of_new_items_finds_what_chance_does() -> None:
    cut = take_out(_walks(400, 8, 100), 100, share=0.4, seed=1)
    found = score_new(lambda some: np.zeros((len(some), 100), dtype=np.float32), cut)
    assert cut.new.sum() == 40
    assert found["new HR@10"] == pytest.approx(found["chance HR@10"], abs=0.05)


def test_too_few_items_are_refused() -> None:
    with pytest.raises(InputError, match="too few"):
        take_out(pack(["a"], [3], [0, 1, 2]), 3)
