"""The loop with pictures: looked at once, read by two models, released, searched."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from shopkeeper.errors import NotFound, NotReady
from shopkeeper.evaluation.picture_trial import company, signals
from shopkeeper.features.items import ItemTable
from shopkeeper.features.sequences import Vocabulary, pack
from shopkeeper.shop import Shop

MORE = """
[training]
max_epochs = 2

[training.options.images]
side = 16
kept = 20
sides = [16]
stem = 8
widths = [8, 16]
epochs = 6
batch = 8
rate = 0.01
"""


@pytest.fixture(scope="module")
def pictured(ran_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictured") / "corner"
    shutil.copytree(ran_shop, folder)
    told = (folder / "shop.toml").read_text(encoding="utf-8")
    told = told.replace('["item_knn"]', '["item_knn", "image_cnn", "fusion"]')
    (folder / "shop.toml").write_text(told + MORE, encoding="utf-8")
    with Shop.open(folder) as shop:
        assert shop.run()["release"] is not None
    return folder


@pytest.fixture
def shop(pictured: Path) -> Iterator[Shop]:
    with Shop.open(pictured) as opened:
        yield opened


def _steps(told: dict[str, object]) -> dict[str, str]:
    return {step["step"]: step["state"] for step in told["steps"]}  # type: ignore[attr-defined]


def test_the_encoder_is_learned_once_and_both_models_stand_on_the_leaderboard(shop: Shop) -> None:
    told = shop.run()
    steps = _steps(told)
    assert steps["train.image_encoder"] == "fresh"
    assert steps["train.image_cnn"] == steps["train.fusion"] == "fresh"
    assert {"image_cnn", "fusion"} <= {line["model"] for line in told["leaderboard"]}


def test_a_shop_whose_models_read_no_pictures_has_no_such_step(ran_shop: Path) -> None:
    with Shop.open(ran_shop) as shop:
        assert "train.image_encoder" not in {step.name for step in shop.steps}
        with pytest.raises(NotReady, match="looked at no pictures"):
            shop.service.looks_like("i00")


def test_items_that_look_alike_are_told_by_item_and_by_picture(shop: Shop) -> None:
    beside = shop.service.looks_like("i10", 5)
    assert len(beside.items) == 5
    assert "i10" not in {hit.item_id for hit in beside.items}
    assert {hit.source for hit in beside.items} == {"looks"}
    stored = shop.image("i10")
    assert stored is not None
    found = shop.service.search_picture(stored[1], 3)
    assert found.items[0].item_id == "i10"  # its own picture
    assert found.items[0].score == pytest.approx(1.0, abs=1e-3)
    assert shop.service.trace(found.answer_id)["stage"] == "looks"
    with pytest.raises(NotFound, match="no picture"):
        shop.service.looks_like("i01")


def test_pictures_are_searched_over_http(pictured: Path, serving: Callable[..., object]) -> None:
    content = (pictured / "raw" / "images" / "i20.png").read_bytes()
    with serving(pictured) as running:  # type: ignore[attr-defined]
        found = running.http.post("/v1/search/image?k=4", content=content).json()
        assert found["items"][0]["item_id"] == "i20"
        dear = {"k": 4, "filter": "price_minor:9000..20000"}
        for hit in running.http.post("/v1/search/image", params=dear, content=content).json()[
            "items"
        ]:
            assert running.http.get(f"/v1/items/{hit['item_id']}").json()["price_minor"] >= 9000
        alike = running.http.get("/v1/items/i20/similar?by=looks&k=4").json()
        assert alike["items"][0]["reason"]["key"] == "looks"
        refused = running.http.post("/v1/search/image", content=b"<html>")
        assert refused.status_code == 422
        assert "no picture" in refused.json()["error"]["message"]
        page = running.http.get("/item/i20?lang=en").text
        assert "Looks alike" in page
        assert "Looks alike" not in running.http.get("/item/i01?lang=en").text
        page = running.http.post("/picture?lang=en", files={"picture": content}).text
        assert re.findall(r"/images/(i\d+)", page)[0] == "i20"
        assert running.http.get("/picture?lang=zh").text.count("以图搜图") >= 2
        large = running.http.post("/picture", files={"picture": b"0" * (9 << 20)})
        assert large.status_code == 413


def test_category_attributes_and_company_are_what_pictures_should_tell() -> None:
    items = ItemTable(
        vocabulary=Vocabulary([str(n) for n in range(6)]),
        tag_offsets=np.array([0, 2, 4, 5, 6, 6, 7]),
        tags=np.array([0, 2, 0, 2, 1, 1, 2], dtype=np.int32),
        tag_names=["category=hat", "category=shoe", "colour=red"],
        numbers=np.zeros((6, 0), dtype=np.float32),
        number_names=[],
        text=[""] * 6,
    )
    taken = pack(["a", "b", "c"], [2, 2, 2], [0, 1, 0, 1, 2, 3])
    told = signals(np.array([0, 2, 4, 5]), items, taken)
    assert told.categories == ["category=hat", "category=shoe"]
    assert told.category.tolist() == [0, 1, -1, -1]
    assert told.attributes.tolist() == [[1.0], [0.0], [0.0], [1.0]]
    near = company(taken, 6)
    assert near[0] @ near[1] > near[0] @ near[2]
    assert np.linalg.norm(near[2]) == pytest.approx(1.0, abs=1e-5)
    assert not near[4].any()  # of an item nobody took nothing is known
