from pathlib import Path

import pytest

from shopkeeper.errors import InputError, NotFound, NotReady
from shopkeeper.models import registry
from shopkeeper.models.popularity import Popularity


def test_a_built_in_name_is_its_class() -> None:
    assert registry.resolve("popularity") is Popularity


def test_an_unknown_name_lists_the_known_and_the_nearest() -> None:
    with pytest.raises(NotFound) as caught:
        registry.resolve("transfomer")
    assert (
        "known: popularity, item_knn, sequence_knn, ease, transformer, rnn, sequence_cnn, gcn"
        in str(caught.value)
    )
    assert "did you mean 'transformer'?" in str(caught.value)


def test_a_missing_module_says_where_to_put_it() -> None:
    with pytest.raises(NotFound, match=r"no module 'nowhere_at_all'.*beside shop\.toml"):
        registry.resolve("nowhere_at_all:Model")


def test_a_module_without_the_class_names_the_classes_it_has(tmp_path: Path) -> None:
    (tmp_path / "mine_without.py").write_text("class Other: pass\n", encoding="utf-8")
    with pytest.raises(NotFound, match="no class 'Model'; it has: Other"):
        registry.resolve("mine_without:Model", tmp_path)


def test_a_class_that_lacks_methods_is_refused_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "mine_half.py").write_text(
        "class Half:\n    name = 'half'\n    def fit(self, data): ...\n", encoding="utf-8"
    )
    with pytest.raises(InputError, match="lacks scores, predict, save, load"):
        registry.resolve("mine_half:Half", tmp_path)


def test_a_folder_without_a_model_says_how_to_train_one(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="shopkeeper train"):
        registry.load(tmp_path)


def test_damaged_weights_are_an_input_error_not_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text('{"model": "popularity", "name": "popularity"}')
    (tmp_path / "about.json").write_text("{}")
    (tmp_path / "weights.safetensors").write_bytes(b"not safetensors at all")
    with pytest.raises(InputError, match=r"damaged.*train --force"):
        registry.load(tmp_path)
