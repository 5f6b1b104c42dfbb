"""Live item writes."""

from pathlib import Path

import pytest

from shopkeeper.config import Settings
from shopkeeper.errors import InputError, NotFound
from shopkeeper.search import Searcher
from shopkeeper.serving import Service


def shown(service: Service, **asked: object) -> list[str]:
    return [hit.item_id for hit in service.recommend(k=24, **asked).items]  # type: ignore[arg-type]


def test_an_item_sold_out_leaves_the_next_answer_and_a_price_shows_at_once(
    service: Service,
) -> None:
    assert "tea3" in shown(service)
    service.put_items([{"item_id": "tea3", "stock": 0, "price_minor": 77}], mode="patch")
    assert "tea3" not in shown(service)
    card = service.item("tea3")
    assert (card["price_minor"], card["stock"], card["category"]) == (77, 0, "tea")
    service.put_items([{"item_id": "tea3", "stock": 9}], mode="patch")
    assert "tea3" in shown(service)


def test_put_replaces_the_whole_card_and_patch_only_what_it_names(service: Service) -> None:
    service.put_items([{"item_id": "tea1", "attributes": {"leaf": "green"}}], mode="patch")
    assert service.item("tea1")["attributes"] == {"colour": "red", "leaf": "green"}
    service.put_items([{"item_id": "tea1", "attributes": {"colour": None}}], mode="patch")
    assert service.item("tea1")["attributes"] == {"leaf": "green"}
    service.put_items([{"item_id": "tea1", "attributes": None}], mode="patch")
    assert service.item("tea1")["attributes"] == {}
    service.put_items([{"item_id": "tea1", "title": "New"}])
    card = service.item("tea1")
    assert (card["title"], card["category"], card["attributes"]) == ("New", None, {})


def test_a_new_item_is_found_by_search_and_may_be_explored(service: Service) -> None:
    service.put_items([{"item_id": "gong", "title": "bronze gong", "category": "gong"}])
    found = service.search("gong")
    assert found.items[0].item_id == "gong"
    assert service.recommend(filters={"category": "gong"}).items[0].item_id == "gong"


def test_a_write_between_the_catalogue_and_the_search_of_one_answer_is_found_by_the_next(
    service: Service,
) -> None:
    service.search("lamp")
    with service._current() as live:
        assert live.search is not None
        service.put_items([{"item_id": "gong", "title": "bronze gong"}])  # by another worker
        live.search.search("gong", 5, page=1, filters=None, sort="relevance", boost=None)
    assert service.search("bronze gong").items[0].item_id == "gong"


def test_writes_since_the_release_are_indexed_on_opening_not_in_a_search(
    service: Service, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.put_items([{"item_id": "gong", "title": "bronze gong"}])
    other = Service.open(tmp_path, settings)

    def late(*_: object) -> None:
        raise AssertionError("indexed within a request")

    monkeypatch.setattr(Searcher, "upsert", late)
    answer = other.search("bronze gong")
    assert (answer.items[0].item_id, answer.degraded) == ("gong", False)
    other.close()


def test_a_deleted_item_is_nowhere(service: Service) -> None:
    service.delete_item("lamp2")
    assert "lamp2" not in shown(service)
    assert "lamp2" not in [hit.item_id for hit in service.search("lamp2", k=24).items]
    with pytest.raises(NotFound, match="no item 'lamp2'"):
        service.item("lamp2")
    with pytest.raises(NotFound):
        service.delete_item("lamp2")


def test_a_patch_neither_revives_nor_invents_an_item(service: Service) -> None:
    service.delete_item("tea1")
    for item in ("tea1", "ghost"):
        with pytest.raises(NotFound) as error:
            service.put_items([{"item_id": "tea2", "stock": 0}, {"item_id": item}], mode="patch")
        assert str(error.value) == f"items[1]: no item '{item}' to change; write it whole first"
        service.item_log.write([{"item_id": item, "stock": 4}], "patch")  # came in between
        with pytest.raises(NotFound):
            service.item(item)
    assert service.item("tea2")["stock"] == 3
    service.put_items([{"item_id": "tea1", "title": "New"}])
    assert service.item("tea1")["title"] == "New"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"title": "no id"}, "items[1]: no item_id"),
        ({"item_id": "a", "price_minor": -1}, "price_minor is -1, wanted a whole number >= 0"),
        ({"item_id": "a", "price_minor": float("nan")}, "price_minor is nan"),
        ({"item_id": "a", "stock": "many"}, "stock is 'many'"),
        ({"item_id": "a", "colour": "red"}, "unknown field 'colour'"),
        ({"item_id": "a", "title": 3}, "title is '3', wanted a text"),
        ({"item_id": "a", "attributes": {"x": float("inf")}}, "attributes is no JSON"),
        ({"item_id": "a", "attributes": {"x": "\ud800"}}, "attributes is no JSON"),
    ],
)
def test_a_bad_item_refuses_the_batch(
    service: Service, item: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError) as error:
        service.put_items([{"item_id": "fine"}, item])
    assert message in str(error.value)
    with pytest.raises(NotFound):
        service.item("fine")


def test_another_worker_and_a_restart_see_the_writes(
    service: Service, tmp_path: Path, settings: Settings
) -> None:
    other = Service.open(tmp_path, settings)
    service.put_items([{"item_id": "tea4", "title": "smoky tea", "stock": 0}], mode="patch")
    assert "tea4" not in shown(other)
    assert other.item("tea4")["title"] == "smoky tea"
    assert other.search("smoky").items[0].item_id == "tea4"
    other.close()
    later = Service.open(tmp_path, settings)
    assert "tea4" not in shown(later)
    assert later.search("smoky").items[0].item_id == "tea4"
    later.close()
