import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

from shopkeeper.assets import contracts
from shopkeeper.clean import (
    Cleaned,
    clean_images,
    clean_items,
    clean_shops,
    clean_users,
)

Rows = Callable[..., pl.DataFrame]
Raw = Callable[[str, list[dict[str, Any]]], pl.DataFrame]


def test_the_newest_known_value_of_each_field_wins_and_older_rows_are_merged(
    items: Rows, now: datetime
) -> None:
    raw = items(
        {"item_id": "a", "title": "Lamp", "price_minor": "300", "updated_at": "2026-01-02T00:00:00.0Z"},
        {"item_id": "a", "title": "Old lamp", "brand": "Acme", "updated_at": "2026-01-01T00:00:00.0Z"},
        {"item_id": "b", "title": "Bed"},
        {"item_id": "a", "stock": "4", "price_minor": "1"},  # no time: older than any that has one
    )  # fmt: skip
    cleaned = clean_items(raw, now=now)
    told = cleaned.clean.select("item_id", "title", "brand", "price_minor", "stock", "line").rows()
    assert told == [("a", "Lamp", "Acme", 300, 4, 2), ("b", "Bed", None, None, None, 4)]
    assert cleaned.merged == 2
    older = cleaned.checks.filter(pl.col("rule") == "older:item_id").row(0, named=True)
    assert (older["level"], older["count"]) == ("PASS", 2)  # history is no fault


def test_without_times_what_arrived_last_is_newest(items: Rows, now: datetime) -> None:
    raw = items({"item_id": "a", "title": "one"}, {"item_id": "a", "title": "two"})
    assert clean_items(raw.reverse(), now=now).clean["title"].to_list() == ["two"]


def test_a_state_said_twice_leaves_the_first_row_where_it_stands(
    items: Rows, now: datetime
) -> None:
    raw = items({"item_id": "a", "title": "x"}, {"item_id": "a", "title": "x"})
    cleaned = clean_items(raw, now=now)
    assert (cleaned.merged, cleaned.clean["line"].to_list()) == (1, [2])
    twice = cleaned.checks.filter(pl.col("rule") == "duplicate:item_id").row(0, named=True)
    assert (twice["level"], twice["count"]) == ("WARN", 1)


def test_a_state_that_came_back_is_the_newest(items: Rows, now: datetime) -> None:
    raw = items(*({"item_id": "a", "title": title} for title in ("x", "y", "x")))
    assert clean_items(raw, now=now).clean["title"].to_list() == ["x"]


def test_attributes_of_several_rows_are_joined_key_by_key(items: Rows, now: datetime) -> None:
    raw = items(
        {"item_id": "a", "attributes": '{"colour": "red", "size": 3}'},
        {"item_id": "a", "attributes": '{"colour": "blue", "weight": [1, 2]}'},
        {"item_id": "a", "attributes": None},
    )
    found = clean_items(raw, now=now).clean["attributes"].item()
    assert json.loads(found) == {"colour": "blue", "size": 3, "weight": [1, 2]}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"item_id": None}, "required:item_id"),
        ({"price_minor": "-1"}, "range:price_minor"),
        ({"price_minor": "nan"}, "impossible:price_minor"),
        ({"price_minor": "cheap"}, "type:price_minor"),
        ({"price_minor": "100000001"}, "outlier:price_minor"),
        ({"attributes": "[1]"}, "type:attributes"),
        ({"attributes": '{"a": '}, "type:attributes"),
        ({"updated_at": "2027-01-01T00:00:00.0Z"}, "future:updated_at"),
    ],
)
def test_what_an_item_cannot_be_is_quarantined(
    items: Rows, now: datetime, change: dict[str, Any], rule: str
) -> None:
    cleaned = clean_items(items({}, change), now=now)
    assert cleaned.quarantine["rule"].to_list() == [rule]
    assert cleaned.clean["item_id"].to_list() == ["i0"]


def test_oversold_stock_is_none_and_counted(items: Rows, now: datetime) -> None:
    cleaned = clean_items(items({"stock": "-3"}), now=now)
    assert (cleaned.clean["stock"].to_list(), cleaned.repaired) == ([0], {"range:stock": 1})


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("true", True), ("1", True), ("Yes", True), ("是", True),
        ("false", False), ("0", False), ("off", False), ("否", False), (None, None), ("", None),
    ],
)  # fmt: skip
def test_consent_is_read_in_the_usual_spellings(
    raw: Raw, now: datetime, said: str | None, meant: bool | None
) -> None:
    cleaned = clean_users(raw("users", [{"user_id": "u", "personalisation": said}]), now=now)
    assert cleaned.clean["personalisation"].to_list() == [meant]
    assert cleaned.repaired == {}


def test_a_consent_nobody_can_read_is_no_consent(raw: Raw, now: datetime) -> None:
    cleaned = clean_users(raw("users", [{"user_id": "u", "personalisation": "??"}]), now=now)
    assert cleaned.clean["personalisation"].to_list() == [False]
    assert cleaned.repaired == {"type:personalisation": 1}


def test_a_rating_off_the_scale_is_unknown(raw: Raw, now: datetime) -> None:
    cleaned = clean_shops(raw("shops", [{"shop_id": "s", "rating": "-2"}]), now=now)
    assert (cleaned.clean["rating"].to_list(), cleaned.repaired) == ([None], {"range:rating": 1})


def test_images_keep_their_bytes_and_a_file_stands_once(raw: Raw) -> None:
    rows = [
        {"item_id": "a", "file_path": "a.jpg", "width": "8", "height": "8"},
        {"item_id": "a", "file_path": "a.jpg", "width": "8", "height": "8"},
        {"item_id": "a", "file_path": "b.jpg", "width": "0", "height": "8"},
    ]
    frame = raw("images", rows).with_columns(content=pl.Series([b"1", b"1", b"2"]))
    cleaned = clean_images(frame)
    assert cleaned.clean["content"].to_list() == [b"1"]
    assert (cleaned.merged, cleaned.quarantine["rule"].to_list()) == (1, ["range:width"])


WORDS = (
    None, "", " ", "null", "NaN", "-1", "0", "3.0", "1e400", "9" * 40, "true", "??", "{}", "[]", "{",
    '{"a": NaN}', '{"a": 1, "a": 2}', "2026-01-01T00:00:00.000000Z", "0000-00-00", "昨天", "i1", "\x00",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("table", ["items", "users", "shops", "images"])
def test_whatever_stands_in_the_cells_nothing_raises_and_every_row_is_accounted_for(
    raw: Raw, now: datetime, table: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    names = contracts.built_in(table).names
    rows = [
        {
            name: WORDS[word]
            for name, word in zip(names, rng.integers(0, len(WORDS), len(names)), strict=True)
        }
        for _ in range(200)
    ]
    frame = raw(table, rows)
    clean: dict[str, Callable[[pl.DataFrame], Cleaned]] = {
        "items": lambda f: clean_items(f, now=now, shops=pl.Series(["i1"])),
        "users": lambda f: clean_users(f, now=now),
        "shops": clean_shops,
        "images": clean_images,
    }
    first = clean[table](frame)
    assert frame.height == first.clean.height + first.merged + first.quarantine.height
    key = {"items": "item_id", "users": "user_id", "shops": "shop_id", "images": "file_path"}[table]
    assert first.clean[key].is_unique().all()
    assert first.clean[key].null_count() == 0
    again = clean[table](frame.sample(fraction=1.0, shuffle=True, seed=1))
    assert again.clean.equals(first.clean)
    assert (again.merged, again.repaired) == (first.merged, first.repaired)
