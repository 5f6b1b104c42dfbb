import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shopkeeper.errors import InputError, NotFound
from shopkeeper.evaluation.picture_benchmark import alike, benchmark, class_metrics

SMALL = {
    "options": {
        "images": {
            "side": 16, "kept": 16, "sides": [16], "stem": 8, "widths": [8, 16], "epochs": 12,
            "batch": 16, "rate": 0.01,
        }
    }
}  # fmt: skip


def _draw(folder: Path, parts: dict[str, int]) -> None:
    rng = np.random.default_rng(0)
    for part, count in parts.items():
        for label, colour in (("hat", (220, 40, 40)), ("shoe", (40, 40, 220))):
            (folder / part / label).mkdir(parents=True)
            for row in range(count):
                noise = rng.integers(-30, 30, (20, 20, 3))
                pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / part / label / f"{row}.jpg")


def test_it_learns_from_train_and_is_scored_on_validation(tmp_path: Path) -> None:
    _draw(tmp_path, {"train": 24, "validation": 6})
    told = benchmark(tmp_path, settings=SMALL)
    assert told["scored_on"] == "validation, 12 pictures"
    assert told["learned_from"] == "48 pictures of 2 classes"
    assert told["metrics"]["accuracy"] > 0.9
    assert told["metrics"]["precision@10"] > 0.9
    assert told["published"] == {}  # of another data set nothing is quoted
    assert told["epochs"] == 12


def test_a_test_is_scored_where_there_is_one(tmp_path: Path) -> None:
    _draw(tmp_path / "drawn", {"train": 8, "validation": 2, "test": 3})
    (tmp_path / "data").mkdir()
    with zipfile.ZipFile(tmp_path / "data" / "all.zip", "w") as packed:
        for path in (tmp_path / "drawn").rglob("*.jpg"):
            packed.write(path, path.relative_to(tmp_path / "drawn"))
    told = benchmark(tmp_path / "data", settings=SMALL)
    assert told["scored_on"] == "test, 6 pictures"
    assert told["learned_from"] == "20 pictures of 2 classes"


def test_a_folder_of_another_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="train/CLASS"):
        benchmark(tmp_path)
    with pytest.raises(NotFound, match="no such folder"):
        benchmark(tmp_path / "nowhere")
    with pytest.raises(NotFound, match="no model 'rnn'"):
        benchmark(tmp_path, "rnn")


def test_metrics_of_classes_count_each_class_by_its_size() -> None:
    true, told = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    found = class_metrics(told, true)
    assert found["accuracy"] == 0.75
    assert found["recall_weighted"] == 0.75
    assert found["f1_weighted"] == pytest.approx((3 * 0.8 + 1 * 2 / 3) / 4)


def test_precision_counts_the_nearest_of_the_same_class() -> None:
    gallery = np.array([[1, 0], [0.8, 0.6], [0, 1]], dtype=np.float32)
    found = alike(gallery[:1], np.array([5]), gallery, np.array([7, 5, 5]), (1, 2))
    assert found == {"precision@1": 0.0, "precision@2": 0.5}
