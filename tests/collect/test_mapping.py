"""A source's own columns into canonical ones, by shop.toml and without."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shopkeeper.collect.mapping import attributes, line_id, plan
from shopkeeper.collect.sources import find_sources
from shopkeeper.config import Settings, Source, When
from shopkeeper.errors import InputError


def _map(source: Source, columns: dict[str, list[Any]], settings: Settings | None = None) -> Any:
    frame = pl.DataFrame({name: pl.Series(v, dtype=pl.String) for name, v in columns.items()})
    frame = frame.with_columns(line=pl.int_range(2, frame.height + 2))
    names = [name for name in frame.columns if name != "line"]
    return plan(source, settings or Settings(), "f.csv", names).apply(frame)


def _events(**keys: Any) -> Source:
    return Source(table="events", path="f.csv", **keys)


def test_real_trade_data_is_mapped_by_shop_toml_alone() -> None:
    """The columns of Online Retail II: cancellations, local time, pounds."""
    source = _events(
        columns={
            "user_id": "CustomerID",
            "item_id": "StockCode",
            "ts": "InvoiceDate",
            "price_minor": "UnitPrice",
            "quantity": "Quantity",
        },
        units={"price_minor": "major"},
        timezone="Europe/London",
        constants={"kind": "purchase"},
        when=(When(column="InvoiceNo", starts_with="C", set={"kind": "return"}),),
    )
    made = _map(
        source,
        {
            "InvoiceNo": ["489434", "C489449"],
            "StockCode": ["85048", "22087"],
            "Quantity": ["12", "-6"],
            "InvoiceDate": ["2010-07-01 07:45:00", "2009-12-01 10:33:00"],
            "UnitPrice": ["6.95", "NaN"],
            "CustomerID": ["13085", None],
        },
    )
    names = ("user_id", "item_id", "kind", "ts", "price_minor", "quantity")
    assert made.select(names).rows() == [
        ("13085", "85048", "purchase", "2010-07-01T06:45:00.000000Z", "695", "12"),
        (None, "22087", "return", "2009-12-01T10:33:00.000000Z", "NaN", "-6"),
    ]


def test_units_become_minor_units_and_milliseconds_and_rubbish_stays() -> None:
    source = _events(units={"price_minor": "major", "dwell_ms": "s"})
    made = _map(
        source,
        {
            "user_id": ["u"] * 5,
            "item_id": ["i"] * 5,
            "price_minor": ["19.99", "0.285", "-1", "1,299", None],
            "dwell_ms": ["1.5", "0", "-2", "x", "inf"],
        },
    )
    assert made["price_minor"].to_list() == ["1999", "28", "-100", "1,299", None]
    assert made["dwell_ms"].to_list() == ["1500", "0", "-2000", "x", "inf"]


def test_a_currency_without_minor_units_is_not_multiplied() -> None:
    source = Source(table="items", path="f.csv", units={"price_minor": "major"})
    yen = Settings(currency="JPY", minor_units=1)
    assert _map(source, {"item_id": ["i"], "price_minor": ["120"]}, yen)["price_minor"][0] == "120"


def test_kinds_are_mapped_by_the_shop_first_then_by_what_they_plainly_are() -> None:
    source = _events(kinds={"9": "purchase", "click": "impression"})
    kinds = ["9", "click", "PV", "View", "fav", "shrug", None]
    made = _map(source, {"user_id": ["u"] * 7, "item_id": ["i"] * 7, "kind": kinds})
    wanted = ["purchase", "impression", "view", "view", "favorite", "shrug", "view"]
    assert made["kind"].to_list() == wanted


@pytest.mark.parametrize(
    ("rule", "hits"),
    [
        ({"starts_with": "C"}, [True, False, False, False]),
        ({"equals": "5"}, [False, True, False, False]),
        ({"below": 5}, [False, False, True, False]),
    ],
)
def test_a_when_rule_sets_columns_where_its_column_matches(
    rule: dict[str, Any], hits: list[bool]
) -> None:
    source = _events(when=(When(column="mark", set={"kind": "return", "channel": "shop"}, **rule),))
    marks = ["C1", "5", "-4.5", None]
    made = _map(source, {"user_id": ["u"] * 4, "item_id": ["i"] * 4, "mark": marks})
    assert made["kind"].to_list() == ["return" if hit else "view" for hit in hits]
    assert made["channel"].to_list() == ["shop" if hit else None for hit in hits]


def test_a_rule_that_sets_nothing_takes_a_value_away() -> None:
    rule = When(column="price", below=0.01, set={"title": ""})
    source = Source(table="items", path="f", when=(rule,))
    made = _map(source, {"item_id": ["a", "b"], "title": ["damaged", "Lamp"], "price": ["0", "2"]})
    assert made["title"].to_list() == [None, "Lamp"]


def test_other_names_are_taken_only_where_they_can_mean_one_thing() -> None:
    made = _map(_events(), {"User ID": ["u"], "itemId": ["i"], "time": ["1709281800"]})
    assert made.select("user_id", "item_id", "ts").row(0) == (
        "u",
        "i",
        "2024-03-01T08:30:00.000000Z",
    )
    both = _map(_events(), {"user_id": ["u"], "uid": ["other"], "item_id": ["i"]})
    assert both["user_id"].item() == "u"
    with pytest.raises(InputError, match="no column 'user_id'"):
        _map(_events(), {"uid": ["u"], "customer_id": ["c"], "item_id": ["i"]})


def test_a_price_is_in_major_units_and_price_minor_in_minor_ones() -> None:
    source = Source(table="items", path="f.csv")
    assert _map(source, {"item_id": ["i"], "price": ["12.5"]})["price_minor"].item() == "1250"
    assert _map(source, {"item_id": ["i"], "price_minor": ["12"]})["price_minor"].item() == "12"


@pytest.mark.parametrize(
    ("how", "price"),
    [
        ({}, ["1999", "2000"]),
        ({"columns": {"price_minor": "Price"}}, ["1999", "2000"]),
        ({"columns": {"price_minor": "Price"}, "units": {"price_minor": "minor"}}, ["19.99", "20"]),
        ({"columns": {"price_minor": "cents"}}, ["7", "8"]),
    ],
)
def test_naming_a_column_does_not_change_its_unit(how: dict[str, Any], price: list[str]) -> None:
    frame = pl.DataFrame(
        {
            "user_id": ["u", "u"],
            "item_id": ["i", "i"],
            "Price": ["19.99", "20"],
            "cents": ["7", "8"],
        }
    ).with_columns(line=pl.int_range(2))
    source = Source(table="events", path="x", **how)
    columns = [name for name in frame.columns if name != "line"]
    made = plan(source, Settings(), "x", columns).apply(frame)
    assert made["price_minor"].to_list() == price


def test_a_named_column_that_is_not_there_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError) as error:
        _map(_events(columns={"user_id": "CustomerId"}), {"CustomerID": ["u"], "item_id": ["i"]})
    assert "f.csv: no column 'CustomerId', which shop.toml names in columns.user_id" in str(
        error.value
    )
    assert "nearest: 'CustomerID'" in str(error.value)


def test_an_unknown_canonical_name_in_shop_toml_is_an_error_that_names_the_nearest(
    tmp_path: Path,
) -> None:
    settings = Settings(sources=(_events(columns={"user": "uid"}),))
    with pytest.raises(InputError, match=r"columns names 'user', .*did you mean 'user_id'"):
        find_sources(settings, tmp_path)


def test_event_ids_repeat_for_source_file_and_line_and_differ_otherwise() -> None:
    lines = pl.DataFrame({"line": [2, 3, 10**9]})
    made = [
        lines.select(line_id(*who)).to_series().to_list()
        for who in (("s", "f"), ("s", "g"), ("t", "f"))
    ]
    assert made[0] == lines.select(line_id("s", "f")).to_series().to_list()
    assert len({one for ids in made for one in ids}) == 9
    assert all(len(one) == 32 and set(one) <= set("0123456789abcdef") for one in made[0])
    assert made[0][1].endswith("00003")


def test_columns_nobody_maps_become_attributes_and_keep_their_nature() -> None:
    values = {
        "number": ["1.5", "-3", "1e-3", "007", "NaN", ".5"],
        "list": ["[1, 2.5]", "[0.1 -2. 3]", "[]", '["red","blue"]', "[NaN]", "[1,"],
        'a "name"': ['say "hi"', "tab\there", "back\\slash", "line\nbreak", "bell\x07", "灯"],
    }
    made = attributes(pl.DataFrame(values)).to_list()
    assert [json.loads(one) for one in made] == [
        {"number": 1.5, "list": [1, 2.5], 'a "name"': 'say "hi"'},
        {"number": -3, "list": [0.1, -2.0, 3], 'a "name"': "tab\there"},
        {"number": 0.001, "list": [], 'a "name"': "back\\slash"},
        {"number": "007", "list": ["red", "blue"], 'a "name"': "line\nbreak"},
        {"number": "NaN", "list": "[NaN]", 'a "name"': "bell\x07"},
        {"number": ".5", "list": "[1,", 'a "name"': "灯"},
    ]
    none = attributes(
        pl.DataFrame({"a": [None, "x"], "b": [None, None]}, schema={"a": pl.String, "b": pl.String})
    )
    assert none.to_list() == [None, '{"a":"x"}']


def test_attributes_are_only_those_that_shop_toml_lists() -> None:
    orders = {"item_id": ["i"], "colour": ["red"], "invoice": ["7"]}
    kept = _map(Source(table="items", path="f", attributes=("colour",)), orders)
    assert kept["attributes"].item() == '{"colour":"red"}'
    assert _map(Source(table="items", path="f", attributes=()), orders)["attributes"].item() is None
    with pytest.raises(InputError, match=r"no column 'color', which shop.toml names in attributes"):
        _map(Source(table="items", path="f", attributes=("color",)), orders)


def test_unmapped_columns_of_events_are_left_aside() -> None:
    made = _map(_events(), {"user_id": ["u"], "item_id": ["i"], "weather": ["rain"]})
    assert "weather" not in made.columns
    assert "attributes" not in made.columns


def test_constants_stand_in_for_columns_the_file_lacks() -> None:
    made = _map(
        _events(constants={"channel": "shop", "kind": "purchase"}),
        {"user_id": ["u"], "item_id": ["i"]},
    )
    assert made.select("channel", "kind").row(0) == ("shop", "purchase")


def test_all_missing_columns_are_named_at_once_each_with_a_guess_of_its_own() -> None:
    with pytest.raises(InputError) as told:
        plan(Source(table="events", path="f.csv"), Settings(), "f.csv", ["visitor", "thing", "ts"])
    assert "no column 'user_id' and no column 'item_id', which events need" in str(told.value)
    assert 'columns = { user_id = "visitor", item_id = "thing" }' in str(told.value)


def test_a_column_that_nothing_resembles_is_not_said_to_be_an_id() -> None:
    with pytest.raises(InputError) as told:
        plan(Source(table="knowledge", path="f.csv"), Settings(), "f.csv", ["id", "body_text"])
    assert 'columns = { title = "…" }' in told.value.next
