"""Broken stores are told with the next step, and the next step mends them."""

from pathlib import Path

import pytest

from shopkeeper.errors import InputError, NotReady
from shopkeeper.models import registry
from shopkeeper.shop import Shop


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.toml").write_text('models = ["popularity"]\nbuckets = 2\n')
    lines = [f"u{n % 7},i{n % 5}" for n in range(70)]
    (tmp_path / "user_behavior.csv").write_text("\n".join(["user_id,item_id", *lines]) + "\n")
    (tmp_path / "item_data.csv").write_text("item_id\ni0\ni1\ni2\ni3\ni4\n")
    with Shop.open(tmp_path) as shop:
        shop.run()
    return tmp_path


def test_a_damaged_data_file_is_named_and_made_anew(folder: Path) -> None:
    damaged = next((folder / "store" / "lake" / "clean" / "events").rglob("*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:30])
    with Shop.open(folder) as shop:
        with pytest.raises(NotReady, match=r"is damaged: it has 30 bytes.*shopkeeper run --force"):
            shop.preview("clean.events")
        shop.run(force=True)
        assert len(shop.preview("clean.events", 100)["rows"]) == 70


def test_an_unreadable_pointer_is_told_and_mended(folder: Path) -> None:
    pointer = folder / "store" / "releases" / "current.json"
    pointer.write_text("{")
    with Shop.open(folder) as shop, pytest.raises(NotReady, match=r"delete this file, then"):
        shop.service.recommend(user_id="u1")
    pointer.unlink()
    with Shop.open(folder) as shop:
        shop.run(["release"], force=True)
        assert shop.service.recommend(user_id="u1", k=3).items


def test_a_users_model_that_is_no_python_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "brokenmodel.py").write_text("class Mine:\n    def (\n")
    with pytest.raises(
        InputError, match=r"brokenmodel\.py:2: the module of model .* no valid Python"
    ):
        registry.resolve("brokenmodel:Mine", tmp_path)
