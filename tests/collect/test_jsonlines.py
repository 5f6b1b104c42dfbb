"""JSON Lines as they are met: mixed types, nesting, keys that come and go, bad lines."""

import json
from pathlib import Path
from typing import Any

import pytest

from shopkeeper.collect import text
from shopkeeper.config import Source
from shopkeeper.errors import InputError

EVENTS = Source(table="events", path="events.jsonl")
ITEMS = Source(table="items", path="items.jsonl")


def test_values_of_any_type_become_text_and_nested_ones_json(tmp_path: Path, collect: Any) -> None:
    (tmp_path / "items.jsonl").write_text(
        '{"item_id": 7, "title": "灯", "size": [1, 2], "more": {"a": 1}}\n'
        '{"item_id": "x", "title": "", "size": "big", "more": {"b": [2]}}\n'
        '{"item_id": 12345678901234567890, "size": 1.50, "fresh": true}\n'
    )
    got = collect(ITEMS, tmp_path)
    assert got.frame.select("item_id", "title", "attributes").rows() == [
        ("7", "灯", '{"more":{"a": 1},"size":[1, 2]}'),
        ("x", None, '{"more":{"b": [2]},"size":"big"}'),
        ("12345678901234567890", None, '{"fresh":"true","size":1.5}'),
    ]


@pytest.mark.parametrize("number", ["7", "10000000000000000000000000000001.5"])
def test_a_key_called_line_is_not_lost(tmp_path: Path, collect: Any, number: str) -> None:
    (tmp_path / "items.jsonl").write_text(
        f'{{"item_id": "x", "line": "red"}}\n{{"item_id": "y", "line": {number}}}\n'
    )
    got = collect(ITEMS, tmp_path)
    assert got.frame["line"].to_list() == [1, 2]
    assert got.frame["attributes"][0] == '{"line_":"red"}'
    assert "line_" in json.loads(got.frame["attributes"][1])


def test_a_line_that_is_no_object_is_rejected_and_the_others_stay(
    tmp_path: Path, collect: Any
) -> None:
    good = '{"user_id": "u", "item_id": "i"}'
    lines = [good, "{oops", "", "[1, 2]", '{"user_id": NaN}', good, '"text"', "{}\0"]
    (tmp_path / "events.jsonl").write_text("\n".join(lines) + "\n")
    got = collect(EVENTS, tmp_path)
    assert got.frame["line"].to_list() == [1, 6]
    assert got.rejects.select("line", "rule").rows() == [
        (2, "not_json"),
        (4, "not_an_object"),
        (5, "not_json"),
        (7, "not_an_object"),
        (8, "nul_byte"),
    ]
    assert got.rejects["raw"][0] == "{oops"


@pytest.mark.parametrize("block", [30, 1 << 20])
def test_keys_may_come_late_and_go(
    block: int, tmp_path: Path, collect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "BLOCK", block)
    (tmp_path / "events.jsonl").write_text(
        '{"user_id": "u", "item_id": "i"}\n{"user_id": "v"}\n'
        '{"item_id": "k", "user_id": "w", "time": 1709281800}\n{"kind": "cart"}\n'
    )
    rows = collect(EVENTS, tmp_path).frame.select("user_id", "item_id", "kind", "ts").rows()
    assert rows == [
        ("u", "i", "view", None),
        ("v", None, "view", None),
        ("w", "k", "view", "2024-03-01T08:30:00.000000Z"),
        (None, None, "cart", None),
    ]


def test_a_json_array_says_how_to_make_lines_of_it(tmp_path: Path, collect: Any) -> None:
    (tmp_path / "events.jsonl").write_text('[\n {"user_id": "u", "item_id": "i"}\n]\n')
    with pytest.raises(InputError) as error:
        collect(EVENTS, tmp_path)
    assert "jq -c '.[]'" in error.value.next
