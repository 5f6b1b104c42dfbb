from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shopkeeper.errors import InputError
from shopkeeper.evaluation.leaderboard import validator
from shopkeeper.evaluation.splits import Split, leave_one_out
from shopkeeper.features.items import bare
from shopkeeper.features.sequences import Floats, Sequences, pack
from shopkeeper.models.ensemble import Ensemble
from shopkeeper.models.options import as_chosen
from shopkeeper.models.popularity import Popularity
from shopkeeper.models.protocol import TrainingData

ITEMS, USERS = 40, 400


class Knows:
    """Says what comes next to the users of one half, and nothing to the others."""

    name = "knows"

    def __init__(self, half: int) -> None:
        self.card: dict[str, Any] = {"parameters": 0}
        self.half = half
        self.shares = np.full(ITEMS, 1 / ITEMS, dtype=np.float32)

    def fit(self, data: TrainingData) -> None: ...

    def scores(self, histories: Sequences) -> Floats:
        out = np.zeros((len(histories), ITEMS), dtype=np.float32)
        for row in range(len(histories)):
            own = histories.items[histories.user(row)]
            if len(own) and own[-1] % 2 == self.half:
                out[row, (own[-1] + 1) % ITEMS] = 5.0
        return out

    def predict(self, histories: Sequences, items: Any) -> Floats:
        return self.scores(histories)[np.arange(len(items)), items]


@pytest.fixture(scope="module")
def split() -> Split:
    starts = np.random.default_rng(3).integers(0, ITEMS, USERS)
    walked = (starts[:, None] + np.arange(5)) % ITEMS
    return leave_one_out(pack([f"u{n}" for n in range(USERS)], [5] * USERS, walked.ravel()))


def _data(split: Split, **members: Callable[[], Any]) -> TrainingData:
    return TrainingData(
        sequences=split.train,
        items=bare([str(n) for n in range(ITEMS)]),
        validate=validator(split.validation, exclude_seen=True),
        validation=split.validation,
        members=members,
    )


def test_members_that_know_different_users_are_blended_and_better_than_each(split: Split) -> None:
    data = _data(split, even=lambda: Knows(0), odd=lambda: Knows(1))
    blend = Ensemble()
    blend.fit(data)
    assert data.validate is not None
    reached = data.validate(blend)["NDCG@10"]
    assert reached > 0.95
    assert reached > 1.5 * max(data.validate(Knows(half))["NDCG@10"] for half in (0, 1))
    assert {voice.name for voice in blend.voices} == {"even", "odd"}


def test_a_blend_that_wins_nothing_is_its_best_member_bit_for_bit(split: Split) -> None:
    popular = Popularity()
    data = _data(split, popular=lambda: popular, noise=lambda: Knows(7))
    popular.fit(data)
    blend = Ensemble()
    blend.fit(data)
    (voice,) = blend.voices
    histories = split.test.histories
    assert blend.scores(histories).tobytes() == voice.model.scores(histories).tobytes()


def test_what_validation_chose_is_repeated_without_it(split: Split) -> None:
    data = _data(split, even=lambda: Knows(0), odd=lambda: Knows(1))
    first, again = Ensemble(), Ensemble()
    first.fit(data)
    settings = as_chosen({}, "ensemble", first.card)
    again.fit(replace(data, settings=settings, validate=None, validation=None))
    histories = split.test.histories
    assert again.scores(histories).tobytes() == first.scores(histories).tobytes()


def test_an_ensemble_is_no_member_of_itself_and_needs_as_many_weights_as_members(
    split: Split,
) -> None:
    for options, told in (
        ({"members": ("ensemble",)}, "cannot be a member of itself"),
        ({"members": ("ease",), "weights": (1.0,)}, "weights, sharpness, mix and logarithm"),
    ):
        with pytest.raises(InputError, match=told):
            Ensemble().fit(replace(_data(split), settings={"options": {"ensemble": options}}))
