"""What every model promises (models/protocol.py), checked on a store with one obvious answer."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shopkeeper.features.sequences import Sequences
from shopkeeper.models import registry
from shopkeeper.models.protocol import Model, TrainingData, rank

Circle = Callable[..., TrainingData]
Ask = Callable[..., Sequences]
HISTORIES: list[list[int]] = [[0], [2, 3], [], [5, 0, 1, 2], [4], [1, 2, 3, 4, 5, 0], [3, 3]]
OWN = '''
"""A user's own model: what came last comes again one item later."""
import json
import numpy as np


class Next:
    name = "next"

    def __init__(self):
        self.card = {}

    def fit(self, data):
        self.items = len(data.items)

    def scores(self, histories):
        out = np.zeros((len(histories), self.items), dtype=np.float32)
        for row in range(len(histories)):
            own = histories.items[histories.user(row)]
            if len(own):
                out[row, (own[-1] + 1) % self.items] = 1.0
        return out

    def predict(self, histories, items):
        return self.scores(histories)[np.arange(len(items)), items]

    def save(self, folder):
        (folder / "next.json").write_text(json.dumps(self.items))

    @classmethod
    def load(cls, folder):
        model = cls()
        model.items = json.loads((folder / "next.json").read_text())
        return model
'''


@pytest.fixture(scope="module")
def own_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop_of_mine.py").write_text(OWN, encoding="utf-8")
    return folder


@pytest.fixture(scope="module", params=[*registry.MODELS, "shop_of_mine:Next"])
def kind(request: pytest.FixtureRequest, own_models: Path) -> Iterator[type[Model]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(own_models))
        yield registry.resolve(request.param)


@pytest.fixture(scope="module")
def fitted(kind: type[Model], circle: Circle) -> Model:
    model = kind()
    model.fit(circle())
    return model


def test_every_model_is_a_model(fitted: Model) -> None:
    assert isinstance(fitted, Model)


def test_the_obvious_answer_comes_first(fitted: Model, ask: Ask) -> None:
    if fitted.name == "popularity":
        pytest.skip("popularity does not look at the history")
    histories = ask([0], [5, 0, 1, 2], [4])
    seen = [np.unique(histories.items[histories.user(row)]) for row in range(3)]
    best, _ = rank(fitted, histories, 1, exclude=seen)
    if fitted.name in (
        "item_knn",
        "ease",
        "gcn",
        "gat",
    ):  # no order: any neighbour on the circle is right
        assert best[0, 0] in (1, 5)
        assert best[1, 0] in (3, 4)
        assert best[2, 0] in (3, 5)
    else:
        assert best[:, 0].tolist() == [1, 3, 5]


def test_scores_have_one_finite_float32_for_every_item(fitted: Model, ask: Ask) -> None:
    scores = fitted.scores(ask(*HISTORIES))
    assert scores.shape == (len(HISTORIES), 6)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()


def test_saved_and_loaded_it_answers_the_same_bit_for_bit(
    fitted: Model, ask: Ask, tmp_path: Path
) -> None:
    registry.save(fitted, tmp_path)
    again = registry.load(tmp_path)
    histories = ask(*HISTORIES)
    items = np.arange(len(HISTORIES), dtype=np.int32) % 6
    assert fitted.scores(histories).tobytes() == again.scores(histories).tobytes()
    assert fitted.predict(histories, items).tobytes() == again.predict(histories, items).tobytes()
    assert again.card == fitted.card


def test_only_safetensors_and_json_are_written(fitted: Model, tmp_path: Path) -> None:
    registry.save(fitted, tmp_path)
    written = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert written <= {".safetensors", ".json"}


def test_the_same_seed_gives_the_same_answers(kind: type[Model], circle: Circle, ask: Ask) -> None:
    histories = ask(*HISTORIES)
    answers = []
    for _ in range(2):
        model = kind()
        model.fit(circle(seed=7))
        answers.append(model.scores(histories))
    assert answers[0].tobytes() == answers[1].tobytes()


def test_a_batch_equals_its_rows_one_by_one(fitted: Model, ask: Ask) -> None:
    together = fitted.scores(ask(*HISTORIES))
    alone = np.concatenate([fitted.scores(ask(history)) for history in HISTORIES])
    # matrix products round differently for other shapes: the last bits of a float may differ
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)


def test_nothing_excluded_or_not_allowed_ever_returns(fitted: Model, ask: Ask) -> None:
    allowed = np.array([True, True, False, True, True, True])
    seen = [np.array(sorted(set(history)), dtype=np.int32) for history in HISTORIES]
    found, scores = rank(fitted, ask(*HISTORIES), 6, exclude=seen, allowed=allowed)
    for row, own in enumerate(seen):
        given = found[row][found[row] >= 0]
        assert not set(given) & {*own.tolist(), 2}
        assert len(given) == len({0, 1, 3, 4, 5} - set(own.tolist()))
        assert np.isneginf(scores[row][found[row] < 0]).all()


def test_an_empty_history_is_answered_with_what_is_popular(
    kind: type[Model], circle: Circle, ask: Ask
) -> None:
    data = circle()
    sequences = data.sequences
    # everybody's walk is cut to two events, but those who start at 4 keep all four: 4, 5, 0, 1
    cut = np.where(sequences.items[sequences.offsets[:-1]] == 4, 4, 2)
    starts = sequences.offsets[:-1]
    model = kind()
    model.fit(replace(data, sequences=sequences.slice_events(starts, starts + cut)))
    if model.name == "next":
        pytest.skip("a user's own model does what it likes with an empty history")
    counts = np.bincount(sequences.slice_events(starts, starts + cut).items, minlength=6)
    best, _ = rank(model, ask([]), 1)
    assert counts[best[0, 0]] == counts.max()


def test_only_rows_of_the_catalogue_are_answered(fitted: Model, ask: Ask) -> None:
    found, _ = rank(fitted, ask(*HISTORIES), 20)
    assert found.shape == (len(HISTORIES), 20)
    assert found.max() < 6
    assert (found[:, 6:] == -1).all()


def test_predictions_are_probabilities_and_prefer_the_obvious(fitted: Model, ask: Ask) -> None:
    histories = ask([0], [0], [1, 2, 3], [1, 2, 3])
    likely = fitted.predict(histories, np.array([1, 3, 4, 0], dtype=np.int32))
    assert likely.dtype == np.float32
    assert ((likely >= 0) & (likely <= 1)).all()
    if fitted.name != "popularity":
        assert likely[0] > likely[1]


def test_the_card_says_what_was_chosen(fitted: Model) -> None:
    if fitted.name == "next":
        pytest.skip("a user's own model need not write a card")
    assert fitted.card["seed"] == 1
    assert fitted.card["parameters"] > 0
    assert fitted.card["what"]
