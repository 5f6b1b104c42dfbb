import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shopkeeper.errors import InputError, NotFound
from shopkeeper.features.pictures import square, write_vectors
from shopkeeper.models.image_encoder import Config, ImageEncoder, Signals
from shopkeeper.search.looks import Looks

COLOURS = {"poppy": "red", "rose": "crimson", "sky": "blue", "sea": "navy", "unknown": "lime"}
INDEX = {"sea": 0, "bare": 1, "sky": 2, "rose": 3, "poppy": 4}


def _picture(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (30, 20), colour).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def looks(tmp_path_factory: pytest.TempPathFactory) -> Looks:
    folder = tmp_path_factory.mktemp("looks")
    config = Config(
        side=16, kept=16, sides=(16,), stem=8, widths=(8, 16), epochs=8, batch=8, rate=0.01
    )
    encoder = ImageEncoder(config)
    pixels = np.stack([square(_picture(colour), 16) for colour in COLOURS.values()])
    labels = np.array([0, 0, 1, 1, 2])
    many = np.concatenate([pixels] * 8)
    encoder.learn(many, Signals.of_categories(np.tile(labels, 8), ["red", "blue", "green"]))
    encoder.save(folder)
    write_vectors(folder, list(COLOURS), encoder.encode(pixels))
    return Looks(folder, INDEX)


def test_what_looks_alike_stands_nearest(looks: Looks) -> None:
    found = looks.nearest(looks.of_item(INDEX["rose"]), np.ones(5, dtype=bool), 2)
    assert [row for row, _ in found] == [INDEX["rose"], INDEX["poppy"]]
    assert found[0][1] == pytest.approx(1.0, abs=1e-5)


def test_a_picture_nobody_has_seen_is_placed_among_those_alike(looks: Looks) -> None:
    seen = looks.of_picture(_picture("darkblue"))
    found = looks.nearest(seen, np.ones(5, dtype=bool), 2)
    assert {row for row, _ in found} == {INDEX["sea"], INDEX["sky"]}


def test_a_filter_comes_first(looks: Looks) -> None:
    allowed = np.array([True, True, False, False, True])
    found = looks.nearest(looks.of_item(INDEX["rose"]), allowed, 5)
    assert [row for row, _ in found] == [INDEX["poppy"], INDEX["sea"]]
    assert looks.nearest(looks.of_item(INDEX["rose"]), allowed[:0], 5) == []


def test_an_item_without_a_picture_looks_like_nothing(looks: Looks) -> None:
    with pytest.raises(NotFound, match="no picture"):
        looks.of_item(INDEX["bare"])


def test_what_is_no_picture_is_refused(looks: Looks) -> None:
    with pytest.raises(InputError, match="no picture"):
        looks.of_picture(b"text")


def test_vectors_come_back_as_they_were_written(tmp_path: Path) -> None:
    vectors = np.eye(2, 3, dtype=np.float32)
    write_vectors(tmp_path, ["sky", "sea"], vectors)
    opened = Looks(tmp_path, INDEX)
    assert opened.of_item(INDEX["sea"]).tolist() == [0.0, 1.0, 0.0]
