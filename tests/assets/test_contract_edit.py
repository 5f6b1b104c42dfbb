"""A contract edited: mistakes by line, what a change breaks, nothing written unless it is valid."""

from pathlib import Path

import pytest

from shopkeeper.assets import contracts
from shopkeeper.assets.contracts import built_in_text, edit
from shopkeeper.errors import InputError, NotFound

SHOPS = built_in_text("shops")


def line(text: str, part: str) -> int:
    return next(n for n, one in enumerate(text.split("\n"), 1) if part in one)


def changed(
    tmp_path: Path, old: str, new: str, table: str = "shops"
) -> list[tuple[str, str, bool]]:
    text = built_in_text(table)
    assert old in text
    told = edit.check(text.replace(old, new, 1), tmp_path, table)
    assert told["valid"], told["errors"]
    return [(one["change"], one["column"], one["breaking"]) for one in told["changes"]]


def test_the_contract_as_it_is_changes_nothing(tmp_path) -> None:
    for table in contracts.TABLES:
        assert edit.check(built_in_text(table), tmp_path, table) == {
            "valid": True, "errors": [], "changes": [],
        }  # fmt: skip


def test_yaml_that_cannot_be_read_is_told_with_its_line(tmp_path) -> None:
    broken = SHOPS.replace("version: 1.0.0", "version: [1.0.0")
    told = edit.check(broken, tmp_path, "shops")
    assert not told["valid"]
    assert told["errors"][0]["where"] == f"line {line(broken, 'status:')}"
    assert "not valid YAML" in told["errors"][0]["message"]


def test_every_break_of_the_standard_is_told_with_its_line(tmp_path) -> None:
    broken = SHOPS.replace("required: true", "required: perhaps", 1).replace(
        "logicalType: object", "logicalType: 7", 1
    )
    told = edit.check(broken, tmp_path, "shops")
    where = {error["where"] for error in told["errors"]}
    assert f"line {line(broken, 'required: perhaps')}" in where
    assert f"line {line(broken, 'logicalType: 7')}" in where


def test_what_only_we_refuse_is_told_at_its_column(tmp_path) -> None:
    broken = SHOPS.replace("- name: region\n", "- name: regoin\n")
    told = edit.check(broken, tmp_path, "shops")
    assert told["errors"][0]["where"] == f"line {line(broken, 'regoin')}"
    assert "did you mean 'region'?" in told["errors"][0]["message"]


@pytest.mark.parametrize("text", ["", "[]", "7", "\x00", "name: items\n"])
def test_any_text_has_an_answer(tmp_path, text: str) -> None:
    told = edit.check(text, tmp_path, "shops")
    assert not told["valid"]
    assert told["errors"]


def test_a_stricter_promise_breaks_and_a_looser_one_does_not(tmp_path) -> None:
    name = "- name: name\n        description: Name\n        logicalType: string\n"
    required = name + "        required: true\n"
    assert changed(tmp_path, name, required) == [("required", "name", True)]
    short = "{minLength: 1, maxLength: 256}"
    assert changed(tmp_path, short, "{minLength: 1, maxLength: 25}") == [
        ("max_length", "shop_id", True)
    ]
    assert changed(tmp_path, short, "{minLength: 1, maxLength: 512}") == [
        ("max_length", "shop_id", False)
    ]
    assert changed(tmp_path, short, "{maxLength: 256}") == [("min_length", "shop_id", False)]
    assert changed(tmp_path, "version: 1.0.0", "version: 1.1.0") == [("version", None, False)]


def test_saving_keeps_the_file_before_and_the_contract_holds(tmp_path) -> None:
    first = SHOPS.replace("maxLength: 256", "maxLength: 25")
    told = edit.save(first, tmp_path, "shops")
    assert (told["path"], told["backup"]) == ("contracts/shops.odcs.yaml", None)
    assert contracts.load(tmp_path)["shops"].column("shop_id").max_length == 25
    again = edit.save(SHOPS.replace("maxLength: 256", "maxLength: 26"), tmp_path, "shops")
    assert (tmp_path / again["backup"]).read_text("utf-8") == first
    assert contracts.load(tmp_path)["shops"].column("shop_id").max_length == 26
    assert edit.document(tmp_path, "shops")["origin"] == "contracts/shops.odcs.yaml"


def test_what_is_not_valid_is_not_written(tmp_path) -> None:
    with pytest.raises(InputError, match=r"not valid: .*wanted 'shops'") as caught:
        edit.save(SHOPS.replace("name: shops", "name: shelves"), tmp_path, "shops")
    assert caught.value.where == f"line {line(SHOPS, 'name: shops')}"
    assert not (tmp_path / "contracts").exists()


@pytest.mark.parametrize("table", ["nowhere", "../shop", ""])
def test_only_known_tables_have_a_contract(tmp_path, table: str) -> None:
    with pytest.raises(NotFound, match="no contract"):
        edit.save(SHOPS, tmp_path, table)
