"""A breaking change of a contract stops the run before its first step, unless it is meant."""

import pytest

from shopkeeper.errors import InputError, NotFound
from shopkeeper.shop import Shop

HEAD = "apiVersion: v3.1.0\nkind: DataContract\nid: mine\nversion: {}\nstatus: active\nname: items\nschema:\n  - name: items\n    properties:\n"
PRICE = "      - {{name: price_minor, logicalType: integer, logicalTypeOptions: {{minimum: 0, maximum: {}}}}}\n"


def own(folder, maximum: int, version: str = "1.0.0") -> None:
    (folder / "contracts").mkdir(exist_ok=True)
    text = HEAD.format(version) + PRICE.format(maximum)
    (folder / "contracts" / "items.odcs.yaml").write_text(text, "utf-8")


def test_a_breaking_change_stops_with_the_difference_and_goes_through_when_meant(folder) -> None:
    with Shop.open(folder) as shop:
        shop.run(["clean.items"])
        own(folder, 5000)
        before = shop.assets.current("clean.items").id
        with pytest.raises(InputError) as caught:
            shop.run(["clean.items"])
        assert "items: price_minor maximum – → 5000" in str(caught.value)
        assert "--accept-change, or raise the contract's version to 2.0.0" in str(caught.value)
        assert shop.assets.current("clean.items").id == before
        told = shop.run(["clean.items"], accept_change=True)
        assert told["contracts"][0]["accepted"]
        assert shop.assets.current("clean.items").rows < 48
        assert shop.run(["clean.items"])["contracts"] == []  # it is what holds now


def test_a_higher_major_version_says_that_it_is_meant(folder) -> None:
    with Shop.open(folder) as shop:
        shop.run(["clean.items"])
        own(folder, 5000, "2.0.0")
        assert shop.run(["clean.items"])["contracts"][0]["to"] == "2.0.0"


def test_a_harmless_change_is_told_and_goes_through(folder) -> None:
    own(folder, 5000)
    with Shop.open(folder) as shop:
        shop.run(["clean.items"], accept_change=True)
        own(folder, 9_000_000)
        (told,) = shop.run(["clean.items"])["contracts"]
        assert [(one["change"], one["breaking"]) for one in told["changes"]] == [("maximum", False)]


def test_contracts_are_compared_as_they_are_and_were(folder) -> None:
    with Shop.open(folder) as shop:
        shop.run(["clean.items"])
        own(folder, 5000)
        shop.run(["clean.items"], accept_change=True)
        number = shop.assets.current("clean.items").number

        def changes(a: str, b: str) -> list[str]:
            return [one["change"] for one in shop.contract_diff(a, b)]

        file = str(folder / "contracts" / "items.odcs.yaml")
        assert "maximum" in changes("items@built-in", "items")
        assert "maximum" in changes("items@built-in", file)
        assert changes("items", file) == []
        assert changes(f"clean.items@{number}", "items") == []
        with pytest.raises(NotFound, match="no contract 'nowhere'"):
            shop.contract_diff("nowhere", "items")
