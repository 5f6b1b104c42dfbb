"""Charts of tables: what is drawn for which columns."""

from datetime import date
from xml.etree import ElementTree

import polars as pl
import pytest

from shopkeeper.analysis.chart import LINES, chart
from shopkeeper.errors import InputError

SVG = "{http://www.w3.org/2000/svg}"
DAYS = [date(2026, 1, 1), date(2026, 1, 2)]


def drawn(frame: pl.DataFrame) -> ElementTree.Element:
    return ElementTree.fromstring(chart(frame))


def test_words_become_bars_as_long_as_their_numbers() -> None:
    svg = drawn(pl.DataFrame({"kind": ["view", "a<b&c"], "n": [100, 25]}))
    bars = [rect for rect in svg.iter(f"{SVG}rect") if rect.find(f"{SVG}title") is not None]
    assert [float(bar.attrib["width"]) for bar in bars] == [640.0, 160.0]
    assert bars[1].find(f"{SVG}title").text == "a<b&c, n: 25"  # type: ignore[union-attr]


def test_days_become_a_line_a_column_and_gaps_stay_out() -> None:
    svg = drawn(pl.DataFrame({"day": DAYS, "views": [5, 10], "bought": [None, 4]}))
    lines = [line.attrib["points"] for line in svg.iter(f"{SVG}polyline")]
    assert lines == ["70.0,188.0 710.0,58.0", "710.0,214.0"]


def test_a_second_column_of_words_names_the_lines_and_too_many_are_said() -> None:
    many = [(day, f"c{n}", n) for day in DAYS for n in range(9)]
    text = chart(pl.DataFrame(many, schema=["day", "channel", "users"], orient="row"))
    assert text.count("<polyline") == LINES
    assert "(3 more not drawn)" in text
    table = pl.DataFrame(many, schema=["day", "channel", "users"], orient="row")
    svg = ElementTree.fromstring(chart(table, "每天", "还有 {count} 条未画出"))
    assert svg.findtext(f"{SVG}title") == "每天"
    said = [text for text in svg.iter(f"{SVG}text") if text.text == "(还有 3 条未画出)"]
    assert 0 < float(said[0].attrib["x"]) < float(svg.attrib["width"]) - 13 * 8


def test_long_names_of_lines_make_the_picture_wider() -> None:
    days = [(day, f"{'a long name ' * 2}{n}", n) for day in DAYS for n in range(9)]
    svg = drawn(pl.DataFrame(days, schema=["day", "channel", "users"], orient="row"))
    last = max(float(text.attrib["x"]) for text in svg.iter(f"{SVG}text"))
    assert float(svg.attrib["width"]) > last


def test_without_numbers_there_is_nothing_to_draw() -> None:
    with pytest.raises(InputError, match="no column of numbers beside the first column"):
        chart(pl.DataFrame({"n": [1, 2]}))
