"""PostgreSQL through ADBC gives what it gives through SQLAlchemy: rows, positions, chunks."""

from pathlib import Path
from typing import Any

import psycopg
import pytest

from shopkeeper.collect import adbc, sql
from shopkeeper.config import Source
from shopkeeper.errors import SourceError

pytest.importorskip("adbc_driver_postgresql", reason="ADBC's driver is not installed")

TYPES = {
    "item_id": "bigint",
    "small": "smallint",
    "whole": "integer",
    "exact": "numeric(20,8)",
    "free": "numeric",
    "title": "varchar(40)",
    "told": "text",
    "sold": "boolean",
    "day": "date",
    "at": "timestamp",
    "since": "timestamptz",
    "ratio": "double precision",
    "key": "uuid",
}
ROWS = [
    "9007199254740993, -3, 7, 12.50, 1e30, '台灯 \U0001f6d2', E'a\\nb', true, '2024-02-29', '2024-03-01 16:30', "
    "'2024-03-01 16:30+08', 3, 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",
    "2, null, null, 0.00000001, 'NaN', '', null, false, '0001-01-01', '0001-01-01 00:00:00.000001', "
    "'9999-12-31 23:59:59.999999+00', 1e-7, null",
    "3, 0, -1, 0, 0.0000000, ' x ', '', null, '9999-12-31', '1969-12-31 23:59:59.5', '1800-01-01 00:00+00', "
    "1234567890123456.5, null",
    "4, 1, 1, -0.0000001, 123456789.123456789, 'z', 'None', true, null, null, null, 'Infinity', null",
    "5, 1, 1, 1, 100, 'z', '100%', true, null, null, null, 1e16, null",
    "6, 1, 1, 1, 1, 'z', '\x1f', true, null, null, null, 9007199254740993, null",
]


@pytest.fixture
def goods(postgresql: str) -> str:
    columns = ", ".join(f"{name} {kind}" for name, kind in TYPES.items())
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute("drop table if exists goods")
        connection.execute(f"create table goods ({columns})")
        for row in ROWS:
            connection.execute(f"insert into goods values ({row})")
    return postgresql


def run(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def read(url: str, watermark: str | None, position: Any = None, **more: Any) -> list[Any]:
    """Every chunk: cells, position."""
    source = Source(
        table="items", format="sql", url=url, sql_table="goods", watermark=watermark, **more
    )
    table = sql.SqlTable(source)
    return [
        (chunk.frame.rows(), chunk.position, total)
        for chunk, total in table.read(position, list(TYPES), watermark)
    ]


def both(monkeypatch: pytest.MonkeyPatch, *args: Any, **more: Any) -> list[Any]:
    """What ADBC gives, which is what SQLAlchemy gives."""
    opened = []
    with monkeypatch.context() as patch:
        session = adbc.Reader.session
        patch.setattr(adbc.Reader, "session", lambda self: opened.append(1) or session(self))
        by_adbc = read(*args, **more)
    assert opened
    with monkeypatch.context() as patch:
        patch.setattr(adbc, "_installed", lambda: False)
        assert read(*args, **more) == by_adbc
    return by_adbc


def test_every_type_is_the_same_text_and_has_the_same_digest(
    goods: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (rows, position, total), last = both(monkeypatch, goods, None)
    assert total == len(ROWS)
    cells = [dict(zip([*TYPES, "line"], row, strict=True)) for row in rows]
    assert cells[0]["item_id"] == "9007199254740993"
    assert cells[0]["exact"] == "12.50000000"
    assert cells[0]["since"] == "2024-03-01T08:30:00+00:00"
    assert cells[1]["exact"] == "1E-8"
    assert cells[1]["title"] is None
    assert position["digest"] == last[1]["digest"]
    assert both(monkeypatch, goods, None, last[1]) == []  # nothing changed


@pytest.mark.parametrize("watermark", ["item_id", "exact", "title", "whole"])
def test_a_watermark_leaves_the_same_positions_and_reads_the_same_next(
    goods: str, monkeypatch: pytest.MonkeyPatch, watermark: str
) -> None:
    monkeypatch.setattr(sql, "ROWS", 2)
    run(goods, "update goods set whole = 0 where whole is null")
    chunks = both(monkeypatch, goods, watermark)
    assert sum(len(rows) for rows, _, _ in chunks) == len(ROWS)
    run(
        goods,
        "insert into goods values (8, 1, 9, 900000, 1, 'zz', 'later', true, null, null, null, 1, null)",
    )
    run(
        goods,
        "insert into goods (item_id, whole, exact, title) select max(item_id), max(whole), max(exact), max(title) from goods",
    )
    more = both(monkeypatch, goods, watermark, chunks[-1][1])
    assert 1 <= sum(len(rows) for rows, _, _ in more) <= 2  # as the column puts them in order
    assert both(monkeypatch, goods, watermark, more[-1][1]) == []


@pytest.mark.parametrize("watermark", ["at", "since", "day"])
def test_watermarks_of_time_with_overlap_tell_late_rows_apart(
    goods: str, monkeypatch: pytest.MonkeyPatch, watermark: str
) -> None:
    run(goods, "delete from goods where at is null or since > '9000-01-01' or day > '9000-01-01'")
    for n in range(5):
        run(
            goods,
            f"insert into goods (item_id, at, since, day) select {10 + n}, t, t, t from (select timestamp '2025-01-0{n + 1} 10:00:00.25' t) s",
        )
    chunks = both(monkeypatch, goods, watermark, overlap=86_400.0)
    run(
        goods,
        "insert into goods (item_id, at, since, day) values (20, '2025-01-04 20:00', '2025-01-04 20:00', '2025-01-04')",
    )
    more = both(monkeypatch, goods, watermark, chunks[-1][1], overlap=86_400.0)
    assert [row[0] for rows, _, _ in more for row in rows] == ["20"]


def test_what_it_cannot_give_exactly_is_left_to_sqlalchemy(
    goods: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any) -> None:
        raise AssertionError("ADBC was asked")

    monkeypatch.setattr(adbc.Reader, "session", refuse)
    with pytest.raises(AssertionError):
        read(goods, None)
    for kind in ("jsonb", "int[]", "interval", "real", "bytea", "char(4)", "inet"):
        run(goods, "alter table goods drop column told")
        run(goods, f"alter table goods add column told {kind}")
        assert len(read(goods, None)) == 2, kind
    run(goods, "alter table goods drop column told")
    run(goods, "alter table goods add column told text")
    run(goods, "delete from goods where since > '9000-01-01'")
    run(goods, "alter role current_user set timezone = 'Asia/Shanghai'")
    try:
        assert len(read(goods, None)) == 2
    finally:
        run(goods, "alter role current_user reset timezone")


def test_what_the_server_says_is_told_without_the_password(
    goods: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(goods, "update goods set day = 'infinity' where item_id = 2")
    for installed in (True, False):
        with monkeypatch.context() as patch:
            if not installed:
                patch.setattr(adbc, "_installed", lambda: False)
            with pytest.raises(SourceError, match="did not answer as it should") as told:
                read(goods, None)
        assert "s3cr3t" not in str(told.value)


def test_a_chunk_is_of_so_many_rows_whatever_the_driver_holds(
    postgresql: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run(postgresql, "drop table if exists goods")
    columns = ", ".join(f"{name} {kind}" for name, kind in TYPES.items())
    run(postgresql, f"create table goods ({columns})")
    run(
        postgresql,
        "insert into goods (item_id, title) select n, repeat('x', 30) from generate_series(1, 5000) n",
    )
    monkeypatch.setattr(sql, "ROWS", 700)
    monkeypatch.setattr(adbc, "BATCH_BYTES", 1 << 14)
    chunks = both(monkeypatch, postgresql, "item_id")
    assert [len(rows) for rows, _, _ in chunks] == [700] * 7 + [100]
