import pytest

from shopkeeper.console.filters import parse_filters
from shopkeeper.errors import InputError


def test_only_prices_have_ranges() -> None:
    assert parse_filters(["brand:1..2", "category:..7", "price:..500"]) == {
        "brand": "1..2",
        "category": "..7",
        "price": {"max": 500},
    }
    assert parse_filters(["brand:1..2", "brand:3"]) == {"brand": ["1..2", "3"]}
    with pytest.raises(InputError, match="two filters on 'price_minor', one of them a range"):
        parse_filters(["price_minor:1..2", "price_minor:3..4"])


@pytest.mark.parametrize("asked", ["price_minor:1..99999999999999999999", "price_minor:5"])
def test_a_price_that_cannot_be_is_told_by_both_kinds_of_answer(served, asked: str) -> None:
    for address in ("/v1/recommendations?", "/v1/search?q=lamp&"):
        response = served.http.get(f"{address}filter={asked}")
        assert response.status_code == 422, address
        assert "price_minor" in response.json()["error"]["message"]


def test_a_name_that_looks_like_a_range_filters_both_kinds_of_answer(served) -> None:
    for address in ("/v1/recommendations?", "/v1/search?q=lamp&"):
        response = served.http.get(f"{address}filter=brand:1..2")
        assert (response.status_code, response.json()["items"]) == (200, [])
