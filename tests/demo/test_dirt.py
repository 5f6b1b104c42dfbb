"""The sealed list of dirt: it points at lines that hold that dirt, and at all of them."""

import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from shopkeeper.demo.dirt import OUTCOME, SHARES

Row = dict[str, str | None]


@pytest.fixture(scope="module")
def rows(small: Path) -> dict[str, dict[int, str]]:
    """file -> line -> the line as text (Parquet: its values joined by commas)."""
    found: dict[str, dict[int, str]] = {}
    for path in sorted((small / "raw").rglob("*")):
        file = path.relative_to(small).as_posix()
        if path.suffix in (".csv", ".jsonl"):
            encoding = "gb18030" if path.name == "legacy.csv" else "utf-8"
            text = path.read_bytes().decode(encoding, errors="replace")
            found[file] = dict(enumerate(text.splitlines(), start=1))
        elif path.suffix == ".parquet":
            frame = pl.read_parquet(path).with_columns(pl.all().cast(pl.String).fill_null(""))
            joined = frame.select(pl.concat_str(pl.all(), separator=","))
            found[file] = dict(enumerate(joined.to_series().to_list(), start=1))
    return found


def fields(small: Path, file: str, line: str) -> Row:
    """The named fields of a line of an event file."""
    if file.endswith(".parquet"):
        names = pl.read_parquet_schema(small / file)
    else:
        encoding = "gb18030" if file.endswith("legacy.csv") else "utf-8"
        head = (small / file).read_bytes().split(b"\n", 1)[0].decode(encoding)
        names = dict.fromkeys(head.split(","))
    chinese = {
        "会员号": "user_id", "商品编号": "item_id", "行为": "kind", "时间": "ts",
        "停留秒数": "dwell_ms", "金额": "price_minor", "件数": "quantity",
    }  # fmt: skip
    row = {
        chinese.get(name, name): value or None
        for name, value in zip(names, line.split(","), strict=True)
    }
    if row["dwell_ms"] and file.endswith("legacy.csv"):
        row["dwell_ms"] = str(1000 * float(row["dwell_ms"]))
    return row


LOOKS: dict[str, Callable[[Row], bool]] = {
    "missing_user": lambda row: row["user_id"] in (None, "null"),
    "missing_item": lambda row: row["item_id"] is None and row["kind"] not in ("search", "搜索"),
    "unknown_item": lambda row: str(row["item_id"]).startswith("G9"),
    "unknown_kind": lambda row: row["kind"] in ("hover", "悬停"),
    "negative_price": lambda row: float(row["price_minor"] or 0) < 0,
    "huge_price": lambda row: float(row["price_minor"] or 0) > 1e9,
    "nan_price": lambda row: row["price_minor"] == "NaN",
    "no_quantity": lambda row: row["quantity"] == "0",
    "future": lambda row: str(row["ts"]).startswith("20") and str(row["ts"]) > "2060",
    "unreadable_time": lambda row: row["ts"] in ("昨天", "0000-00-00 00:00:00"),
    "negative_dwell": lambda row: float(row["dwell_ms"] or 0) < 0,
    "endless_dwell": lambda row: float(row["dwell_ms"] or 0) > 8e8,
    "untidy_text": lambda row: str(row["user_id"]).endswith(" "),
    "return_below_zero": lambda row: float(row["quantity"] or 0) < 0,
}


def test_every_listed_line_holds_its_dirt_and_no_other_line_does(
    small: Path, dirt: pl.DataFrame, rows: dict[str, dict[int, str]]
) -> None:
    listed = {(file, line): kind for kind, file, line in dirt.select("kind", "file", "line").rows()}
    broken = {"too_many_fields", "too_few_fields", "bad_bytes"}
    for file, lines in rows.items():
        if "/events/" not in file:
            continue
        first = 1 if file.endswith(".parquet") else 2
        for number in range(first, len(lines) + 1):
            kind = listed.get((file, number))
            if kind in broken:
                continue
            row = fields(small, file, lines[number])
            looks = {name for name, test in LOOKS.items() if test(row)}
            if kind is not None and kind != "return_below_zero":
                looks.discard("return_below_zero")  # every return of the old system is
            assert looks == ({kind} & LOOKS.keys()), (file, number, kind, lines[number])


def test_broken_lines_are_broken_and_all_others_have_the_fields_of_the_header(
    small: Path, dirt: pl.DataFrame, rows: dict[str, dict[int, str]]
) -> None:
    listed = {(file, line): kind for kind, file, line in dirt.select("kind", "file", "line").rows()}
    for file, lines in rows.items():
        if not re.search(r"/events/.*\.csv$", file):
            continue
        wanted = lines[1].count(",")
        for number, line in lines.items():
            kind = listed.get((file, number))
            assert (line.count(",") > wanted) == (kind == "too_many_fields"), (file, number)
            assert (line.count(",") < wanted) == (kind == "too_few_fields"), (file, number)
            assert ("\ufffd" in line) == (kind == "bad_bytes"), (file, number)


def test_a_duplicate_has_its_twin_before_it(
    small: Path, dirt: pl.DataFrame, rows: dict[str, dict[int, str]]
) -> None:
    before: set[str] = set()
    twins = dirt.filter(pl.col("kind") == "exact_duplicate")
    assert twins.height >= 30
    listed = {(file, line) for file, line in twins.select("file", "line").rows()}
    for file in sorted(rows):
        if "/events/" not in file:
            continue
        for number, line in rows[file].items():
            if (file, number) in listed:
                assert line in before, (file, number)
            before.add(line)


def test_an_event_sent_again_has_a_new_id_and_comes_within_two_seconds(
    small: Path, dirt: pl.DataFrame
) -> None:
    app = pl.read_parquet(small / "raw/events/app.parquet")
    again = dirt.filter(pl.col("kind") == "resent", pl.col("file").str.ends_with(".parquet"))
    assert again.height > 10
    for line, event_id in again.select("line", "id").rows():
        row = app.row(line - 1, named=True)
        (twin,) = app.filter(pl.col("event_id") == event_id.removesuffix("r")).rows(named=True)
        assert 0 < (row["ts"] - twin["ts"]).total_seconds() < 2
        assert {**row, "event_id": "", "ts": ""} == {**twin, "event_id": "", "ts": ""}


def test_robots_are_listed_whole_and_so_are_busy_people(small: Path, dirt: pl.DataFrame) -> None:
    walked = dirt.filter(pl.col("kind").is_in(["bot_fast", "bot_regular", "busy_person"]))
    web = pl.concat(
        pl.scan_csv(
            path, infer_schema_length=0, truncate_ragged_lines=True, encoding="utf8-lossy"
        ).collect()
        for path in sorted((small / "raw/events").glob("web-*.csv"))
    )
    users = set(web.filter(pl.col("event_id").is_in(walked["id"].implode()))["user_id"])
    assert len(users) == 5 + 2
    assert set(web.filter(pl.col("user_id").is_in(list(users)))["event_id"]) == set(walked["id"])
    known = pl.read_csv(small / "raw/users.csv", infer_schema_length=0)
    assert users <= set(known["user_id"])


def test_every_kind_of_dirt_is_there_and_has_an_outcome(dirt: pl.DataFrame) -> None:
    planted = set(dirt["kind"])
    assert set(SHARES) <= planted
    assert planted == set(OUTCOME)
    for kind, outcome in dirt.select("kind", "outcome").unique().rows():
        assert OUTCOME[kind] == outcome


def test_late_events_arrive_after_later_ones(small: Path, dirt: pl.DataFrame) -> None:
    app = pl.read_parquet(small / "raw/events/app.parquet").with_row_index("row", offset=1)
    newest_before = app["ts"].cum_max().shift(1)
    late = dirt.filter(
        pl.col("kind").is_in(["late", "out_of_order"]), pl.col("file").str.ends_with(".parquet")
    )
    behind = app.with_columns(newest=newest_before).filter(
        pl.col("row").is_in(late["line"].implode())
    )
    assert (behind["ts"] <= behind["newest"]).mean() > 0.95
