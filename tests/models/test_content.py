"""Items by what is known of them: those nobody has met stand where their other parts put them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from shopkeeper.errors import InputError, NotReady
from shopkeeper.features.items import ItemTable
from shopkeeper.features.sequences import Sequences, Vocabulary
from shopkeeper.models.content import Told, words_of
from shopkeeper.models.fusion import Fusion
from shopkeeper.models.image_cnn import ImageCnn
from shopkeeper.models.protocol import TrainingData

Circle = Callable[..., TrainingData]
Ask = Callable[..., Sequences]
NAMES = ("red lamp", "red mug", "blue lamp", "blue mug", "oak lamp", "oak mug")


@pytest.fixture
def longer(circle: Circle) -> TrainingData:
    """The circle, with time to learn it by other parts than ids."""
    data = circle()
    return replace(data, settings=data.settings | {"max_epochs": 60})


@pytest.fixture
def with_a_twin(longer: TrainingData) -> TrainingData:
    """The circle, and a seventh item that nobody met: in text, tags and picture like the fourth."""
    data = longer
    twin = [0, 1, 2, 3, 4, 5, 3]
    text = [NAMES[n] for n in twin]
    items = ItemTable(
        vocabulary=Vocabulary([f"item-{n}" for n in range(7)]),
        tag_offsets=np.arange(8, dtype=np.int64),
        tags=np.array(twin, dtype=np.int32),
        tag_names=[f"kind={n}" for n in range(6)],
        numbers=np.zeros((7, 0), dtype=np.float32),
        number_names=[],
        text=text,
        images=np.eye(6, 8, dtype=np.float32)[twin],
    )
    return replace(data, items=items)


def _place(scores: np.ndarray, item: int) -> int:
    return int((scores > scores[item]).sum()) + 1


@pytest.mark.parametrize(
    "more",
    [{"parts": ["text"]}, {"parts": ["attributes"]}, {"parts": ["image"]}, {}, {"full_items": 2}],
)
def test_an_item_nobody_met_stands_beside_its_twin(
    with_a_twin: TrainingData, ask: Ask, more: dict[str, object]
) -> None:
    options = with_a_twin.settings["options"]
    own = options["fusion"] | more
    settings = with_a_twin.settings | {"options": options | {"fusion": own}}
    model = Fusion()
    model.fit(replace(with_a_twin, settings=settings))
    scores = model.scores(ask([1, 2], [4, 5]))
    assert _place(scores[0], 3) <= 2
    assert _place(scores[0], 6) <= 2  # as likely next as the one it is like
    assert _place(scores[1], 6) > 2
    assert model.card["without_events"] == 1


def test_an_item_known_by_nothing_but_its_id_stands_in_the_middle(
    with_a_twin: TrainingData, ask: Ask
) -> None:
    options = with_a_twin.settings["options"]
    own = options["fusion"] | {"parts": ["id"]}
    model = Fusion()
    model.fit(
        replace(with_a_twin, settings=with_a_twin.settings | {"options": options | {"fusion": own}})
    )
    scores = model.scores(ask([1, 2]))
    assert np.isfinite(scores).all()
    assert _place(scores[0], 6) > 1


def test_image_cnn_wants_pictures(circle: Circle) -> None:
    data = circle()
    bare = replace(data.items, images=np.zeros((6, 8), dtype=np.float32))
    with pytest.raises(NotReady, match="no item has a picture"):
        ImageCnn().fit(replace(data, items=bare))


def test_fusion_does_without_what_a_shop_has_not(longer: TrainingData, ask: Ask) -> None:
    items = replace(longer.items, images=np.zeros((0, 0), dtype=np.float32))
    model = Fusion()
    model.fit(replace(longer, items=items))
    assert int(model.scores(ask([1])).argmax()) == 2


def test_a_part_that_there_is_not_is_refused(circle: Circle) -> None:
    data = circle()
    settings = data.settings | {"options": {"fusion": {"parts": ["id", "sound"]}}}
    with pytest.raises(InputError, match="no part 'sound'"):
        Fusion().fit(replace(data, settings=settings))


def test_words_are_latin_ones_and_pairs_of_chinese_characters() -> None:
    assert words_of("Red LAMP-2 台灯架 x") == ["red", "lamp", "2", "x", "台灯", "灯架"]
    assert words_of("灯") == ["灯"]
    assert words_of("") == []


def test_words_of_one_item_alone_are_left_out_and_rare_ones_weigh_more() -> None:
    text = ["red lamp", "red hat", "lamp unique", "red red"]
    told = Told.of(text, np.ones(4, dtype=bool), most=10)
    assert told.vocabulary == 2  # red and lamp
    assert told.word_starts.tolist() == [0, 2, 3, 4]
    first = told.word_weights[:2]
    assert np.linalg.norm(first) == pytest.approx(1.0)
    words = dict(zip(told.words[:2].tolist(), first.tolist(), strict=True))
    assert words[1] > words[0]  # lamp is rarer than red
    assert Told.of(text, np.ones(4, dtype=bool), most=1).vocabulary == 1
