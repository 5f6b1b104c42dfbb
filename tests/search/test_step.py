"""The index step, as a run does it."""

from pathlib import Path

from shopkeeper.shop import Shop


def test_building_the_index_tells_how_far_it_is(folder: Path) -> None:
    told: list[tuple[str, float, float, str]] = []
    with Shop.open(folder) as shop:
        shop.run(["index"], force=True, report=lambda *step: told.append(step))
    texts = [text for step, _, _, text in told if step == "index.search"]
    assert "indexing items" in texts
    assert ("index.search", 48, 48, "indexing items") in told
