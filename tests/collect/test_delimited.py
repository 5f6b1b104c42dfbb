"""CSV as it is met: quotes, line breaks, ragged lines; each against a hand-made answer."""

import csv
import io
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shopkeeper.collect import text
from shopkeeper.collect.delimited import DelimitedParser
from shopkeeper.collect.text import Lines
from shopkeeper.config import Source
from shopkeeper.errors import InputError


def _parse(data: str, columns: int, final: bool = True) -> Any:
    names = tuple(f"c{n}" for n in range(columns))
    return DelimitedParser(names, ",")(Lines(data.encode(), 2, final))


def _rules(parsed: Any) -> list[tuple[int, str]]:
    return [(reject.line, reject.rule) for reject in parsed.rejects]


def test_a_regular_block_keeps_every_field_and_its_line() -> None:
    parsed = _parse("a,b,c\nd,,f\r\n,,\n", 3)
    assert parsed.frame.rows() == [
        ("a", "b", "c", 2),
        ("d", None, "f", 3),
        (None, None, None, 4),
    ]


def test_ragged_lines_are_rejected_with_line_reason_and_text() -> None:
    parsed = _parse("a,b\nc\nd,e,f\ng,h\n", 2)
    assert parsed.frame.rows() == [("a", "b", 2), ("g", "h", 5)]
    assert [tuple(reject) for reject in parsed.rejects] == [
        (3, "too_few_fields", "1 fields where the header names 2", "c"),
        (4, "too_many_fields", "3 fields where the header names 2", "d,e,f"),
    ]


def test_a_short_and_a_long_line_do_not_make_up_for_each_other() -> None:
    parsed = _parse("a,b,c\nd,e\nf,g,h,i\n", 3)
    assert parsed.frame.height == 1
    assert _rules(parsed) == [(3, "too_few_fields"), (4, "too_many_fields")]


def test_quotes_hold_delimiters_line_breaks_and_quotes() -> None:
    parsed = _parse('"a,1","b\n""2"""\n"",x\n', 2)
    assert parsed.frame.rows() == [("a,1", 'b\n"2"', 2), (None, "x", 4)]
    assert not parsed.rejects


def test_a_quote_within_a_field_is_a_sign_like_any_other() -> None:
    parsed = _parse('5" screen,a\n7" and 9",b\nx,c\n', 2)
    assert parsed.frame.rows() == [('5" screen', "a", 2), ('7" and 9"', "b", 3), ("x", "c", 4)]


def test_a_quote_never_closed_costs_one_line_and_not_the_file() -> None:
    parsed = _parse('a,"b\nc,d\ne,f\n', 2)
    assert parsed.frame.rows() == [("c", "d", 3), ("e", "f", 4)]
    assert _rules(parsed) == [(2, "unclosed_quote")]


def test_an_open_quote_at_the_end_of_a_block_waits_for_the_next() -> None:
    parsed = _parse('a,b\nc,"d\n', 2, final=False)
    assert (parsed.used, parsed.frame.height, parsed.rejects) == (4, 1, [])


def test_text_behind_a_closing_quote_is_rejected() -> None:
    assert _rules(_parse('"a" b,c\nd,e\n', 2)) == [(2, "text_after_quote")]


def test_blank_lines_are_no_rows_and_keep_the_count() -> None:
    assert _parse("a,b\n\n\r\nc,d\n", 2).frame.rows() == [("a", "b", 2), ("c", "d", 5)]
    assert _parse("a\n\nb\n", 1).frame.rows() == [("a", 2), ("b", 4)]


def test_a_line_with_nul_bytes_is_rejected() -> None:
    parsed = _parse("a,b\nc,\0\0\ne,f\n", 2)
    assert parsed.frame.height == 2
    assert _rules(parsed) == [(3, "nul_byte")]


@pytest.mark.parametrize("seed", range(15))
def test_what_a_csv_writer_writes_comes_back_whatever_the_block_and_the_restart(
    seed: int, tmp_path: Path, collect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(seed)
    signs = ["a", "b", "7", " ", ",", '"', "\n", "灯", "é", ";"]
    rows = [
        ["u" + "".join(draw.choices(signs, k=draw.randrange(6))), f"i{n}", draw.choice(["", "q"])]
        for n in range(draw.randrange(1, 60))
    ]
    out = io.StringIO()
    quoting = draw.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    writer = csv.writer(out, lineterminator=draw.choice(["\n", "\r\n"]), quoting=quoting)
    writer.writerows([["user_id", "item_id", "query"], *rows])
    path = tmp_path / "events.csv"
    path.write_bytes(out.getvalue().encode())
    monkeypatch.setattr(text, "BLOCK", draw.randrange(3, 200))
    source = Source(table="events", path=path.name)
    got = collect(source, tmp_path)
    wanted = [(user, item, query or None) for user, item, query in rows]
    assert got.rejects.is_empty()
    assert got.frame.select("user_id", "item_id", "query").rows() == wanted
    cut = draw.randrange(len(got.batches))
    monkeypatch.setattr(text, "BLOCK", draw.randrange(3, 200))
    rest = collect(source, tmp_path, {path.name: got.batches[cut].position})
    frames = [batch.frame for batch in got.batches[: cut + 1]]
    assert pl.concat([*frames, *([rest.frame] if rest.batches else [])]).equals(got.frame)


@pytest.mark.parametrize("seed", range(15))
def test_every_line_of_rubbish_is_either_a_row_or_a_reject(
    seed: int, tmp_path: Path, collect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(seed)
    signs = [b"a", b"b", b",", b'"', b"\n", b"\r\n", b"\0", "灯".encode(), b"\xff", b" "]
    body = b"".join(draw.choices(signs, weights=[9, 9, 9, 3, 9, 1, 1, 2, 1, 2], k=400))
    (tmp_path / "events.csv").write_bytes(b"user_id,item_id\n" + body)
    source = Source(table="events", path="events.csv", encoding="latin-1")
    whole = collect(source, tmp_path)
    monkeypatch.setattr(text, "BLOCK", draw.randrange(1, 60))
    small = collect(source, tmp_path)
    assert small.frame.equals(whole.frame)
    assert small.rejects.equals(whole.rejects)
    told = [
        (line, u or "", i or "") for u, i, line in whole.frame["user_id", "item_id", "line"].rows()
    ]
    told += [(line, raw, "") for line, raw in whole.rejects["line", "raw"].rows()]
    covered = {line + n for line, a, b in told for n in range(1 + (a + b).count("\n"))}
    lines = body.decode("latin-1").split("\n")
    assert {n for n, line in enumerate(lines, start=2) if line.strip("\r")} <= covered


def test_a_one_column_file_with_another_delimiter_says_which_to_write(
    tmp_path: Path, collect: Any
) -> None:
    (tmp_path / "events.csv").write_text("user_id;item_id\nu;i\n")
    with pytest.raises(InputError) as error:
        collect(Source(table="events", path="events.csv"), tmp_path)
    assert 'delimiter = ";"' in error.value.next


def test_a_file_without_header_is_read_when_shop_toml_names_its_columns(
    tmp_path: Path, collect: Any
) -> None:
    (tmp_path / "events.csv").write_text("1,2268318,pv,1511544070\n2,5,buy,1511561733\n")
    plain = Source(table="events", path="events.csv")
    with pytest.raises(InputError, match="the first line looks like data") as error:
        collect(plain, tmp_path)
    assert "header = [" in error.value.next
    named = Source(table="events", path="events.csv", header=("user_id", "item_id", "kind", "ts"))
    assert collect(named, tmp_path).frame.select("item_id", "kind", "ts", "line").rows() == [
        ("2268318", "view", "2017-11-24T17:21:10.000000Z", 1),
        ("5", "purchase", "2017-11-24T22:15:33.000000Z", 2),
    ]
