"""The index step, as a run does it."""

from pathlib import Path

from shopkeeper.search.step import OF_ITEMS
from shopkeeper.shop import Shop


def test_building_the_index_tells_how_far_it_is(folder: Path) -> None:
    told: list[tuple[str, float, float, str]] = []
    with Shop.open(folder) as shop:
        shop.run(["index"], force=True, report=lambda *step: told.append(step))
    texts = [text for step, _, _, text in told if step == "index.search"]
    assert "indexing items" in texts
    assert ("index.search", 48, 48, "indexing items") in told


def test_an_index_is_made_of_what_is_found_and_of_nothing_else(folder: Path) -> None:
    with Shop.open(folder) as shop:
        shop.run(["index"], force=True)
        told = shop.column_lineage("indexes.search", "*", depth=1, rows=True)["edges"]
        edges = {tuple(edge["from"]): edge["how"] for edge in told}
        of_items = {name for table, name in edges if table == "clean.items"}
        there = shop.assets.current("clean.items").schema
        assert of_items == {name for name in OF_ITEMS if name in there}
        assert "line" in there  # where a row stood is in no index
        assert edges["clean.events", "query"] == "computed"
        assert ("clean.events", "position") not in edges  # nobody has told what is looked at
        assert edges["features.items", "item_id"] == "rows"
