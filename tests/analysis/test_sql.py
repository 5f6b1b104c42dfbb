"""SQL over assets: what is answered, what is refused, and how a mistake is told."""

import csv
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shopkeeper.analysis.sql import Limits, query
from shopkeeper.assets.store import Assets
from shopkeeper.errors import Denied, InputError, NotFound
from shopkeeper.governance.access import OWNER, Principal


def ask(assets: Assets, sql: str, **limits: Any) -> list[tuple[Any, ...]]:
    return query(assets, sql, by=OWNER, limits=Limits(**limits)).frame.rows()


def test_tables_are_assets_and_their_versions(assets: Assets) -> None:
    assert ask(assets, "SELECT count(*) FROM clean.events") == [(4,)]
    assert ask(assets, 'SELECT count(*) FROM "clean.events@1"') == [(3,)]
    assert ask(assets, 'SELECT count(*) FROM clean."events@2"') == [(4,)]
    joined = query(
        assets,
        "SELECT title, sum(price_minor) AS paid FROM clean.events JOIN clean.items USING (item_id) "
        "GROUP BY title ORDER BY paid DESC;",
        by=OWNER,
    )
    assert joined.frame.rows() == [("Tent", 250), ("Lamp 台灯", 200)]
    assert joined.types == ("VARCHAR", "HUGEINT")
    assert joined.read == ("clean.events@2", "clean.items@1")


def test_only_named_assets_and_columns_are_handed_out(
    assets: Assets, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    columns: list[list[str]] = []
    rows = assets.rows
    monkeypatch.setattr(assets, "rows", lambda name, **how: read.append(name) or rows(name, **how))
    select = pl.LazyFrame.select

    def watched(rows: pl.LazyFrame, *named: Any, **more: Any) -> pl.LazyFrame:
        columns.append(list(named[0]))
        return select(rows, *named, **more)

    monkeypatch.setattr(pl.LazyFrame, "select", watched)
    ask(
        assets,
        "WITH clicks AS (SELECT kind AS k FROM clean.events) SELECT k, count(*) FROM clicks GROUP BY ALL",
    )
    assert read == ["clean.events"]
    assert columns[-1] == ["kind"]
    for sql in (
        "SELECT * FROM clean.events",
        "SELECT e FROM clean.events e",
        "SELECT 1 FROM clean.events NATURAL JOIN clean.items",
        "DESCRIBE clean.events",
        "SELECT min(COLUMNS('.*')) FROM clean.events",
    ):
        columns.clear()
        ask(assets, sql)
        assert all(len(named) > 2 for named in columns), sql  # never less than all of them  # fmt: skip


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_parquet('https://example.com/x.parquet')",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM duckdb_settings()",
        "SELECT * FROM query('SELECT 1')",
        "COPY (SELECT 1) TO '/tmp/out.csv'",
        "COPY clean.events FROM '/etc/passwd'",
        "EXPORT DATABASE '/tmp/out'",
        "ATTACH '/tmp/x.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "RESET memory_limit",
        "PRAGMA threads = 8",
        "CALL pragma_version()",
        "CREATE TABLE t AS SELECT 1",
        "INSERT INTO clean.events SELECT 1",
        "DELETE FROM clean.events",
        "DROP VIEW clean.events",
        "SELECT 1; SELECT 2",
        "SELECT 1; SET threads = 9",
        "",
    ],
)
def test_what_is_not_one_select_over_assets_is_refused(assets: Assets, sql: str) -> None:
    with pytest.raises(InputError) as told:
        ask(assets, sql)
    assert told.value.next
    assert told.value.where.startswith("SQL")


def test_duckdb_itself_is_shut_even_where_our_own_checks_are_not(
    assets: Assets, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shopkeeper.analysis import sql as module

    monkeypatch.setattr(module, "FUNCTIONS", ("read_csv", "read_text", "glob"))
    for function in module.FUNCTIONS:
        with pytest.raises(InputError, match="disabled by configuration"):
            ask(assets, f"SELECT * FROM {function}('/etc/passwd')")


def test_a_mistake_is_told_with_its_place_and_the_nearest_name(assets: Assets) -> None:
    told = {
        "SELECT user_id,\n  knd FROM clean.events": "SQL line 2, column 3: Referenced column \"knd\" not found in FROM clause; did you mean 'kind'?",
        "SELECT e.itemid FROM clean.events e": "did you mean 'item_id'?",
        "SELECT '台灯', knd FROM clean.events": "SQL line 1, column 14: ",
        "SELEC 1": 'SQL line 1, column 1: syntax error at or near "SELEC"',
        "SELECT 1 FROM clean.event": "SQL: no asset 'clean.event'; did you mean clean.events?",
        "SELECT 1 FROM events": "no asset 'events'; did you mean clean.events?",
        "SELECT\nCAST('x' AS INT)": "SQL line 2, column 1: Could not convert string 'x' to INT32",
        "SELECT foo(kind) FROM clean.events": "SQL line 1, column 8: Scalar Function with name foo does not exist",
        "SELECT kind, count(*) FROM clean.events": "must appear in the GROUP BY clause",
        "SELECT zzz FROM clean.items": "columns: item_id, tags, title",
    }
    for sql, message in told.items():
        with pytest.raises(InputError) as error:
            ask(assets, sql)
        assert message in str(error.value), sql
    with pytest.raises(NotFound, match=r"clean\.events has no version 9; it has \[2, 1\]"):
        ask(assets, 'SELECT 1 FROM "clean.events@9"')


def test_reading_needs_the_right_to_read(assets: Assets) -> None:
    with pytest.raises(Denied, match=r"guest may not read clean\.events for analyse"):
        query(assets, "SELECT 1 FROM clean.events", by=Principal("guest"))


def test_rows_time_and_memory_have_limits_that_are_said(assets: Assets) -> None:
    cut = query(assets, "SELECT * FROM range(100)", by=OWNER, limits=Limits(rows=7))
    assert (cut.frame.height, cut.cut) == (7, True)
    assert "there are more: raise the limit" in cut.text()
    assert not query(assets, "SELECT * FROM range(7)", by=OWNER, limits=Limits(rows=7)).cut
    slow = "SELECT count(*) FROM range(100000000) a, range(1000) b WHERE a.range * b.range % 7 = 3"
    with pytest.raises(InputError, match=r"took longer than 0\.3 s and was stopped; narrow it"):
        ask(assets, slow, seconds=0.3)
    large = "SELECT range, array_agg(repeat('x', 1000) || range) FROM range(1000000) GROUP BY range"
    with pytest.raises(InputError, match="needs more than 50 MB; group or filter earlier"):
        ask(assets, large, memory_mb=50)


def test_what_people_type_is_ended_where_duckdb_does_not_hear_its_own_limits(
    assets: Assets, monkeypatch: pytest.MonkeyPatch
) -> None:
    def apart(sql: str, **limits: Any) -> Any:
        return query(assets, sql, by=OWNER, limits=Limits(**limits), apart=True)

    told = apart("SELECT title, count(*) AS n FROM clean.items GROUP BY title ORDER BY title")
    assert told.frame.height == 2
    assert told.read == ("clean.items@1",)
    with pytest.raises(InputError, match=r"line 1, column 8: .*did you mean 'kind'\?"):
        apart("SELECT kond FROM clean.events")
    with pytest.raises(InputError, match="needs more than 450 MB; group or filter earlier"):
        apart("SELECT list_sum(range(300000000))", memory_mb=50, spare_mb=400)
    monkeypatch.setattr("shopkeeper.analysis.sql.START", 0.5)
    with pytest.raises(InputError, match=r"took longer than 0\.1 s and was stopped"):
        apart("SELECT length(repeat('x', 3000000000))", seconds=0.1, spare_mb=8_000)


def test_an_answer_too_big_to_go_out_is_refused_before_it_is_copied(assets: Assets) -> None:
    with pytest.raises(InputError, match="the answer has 3 MB, at most 2 may go out"):
        ask(assets, "SELECT repeat('a', 3000000) FROM clean.items LIMIT 1", answer_mb=2)
    with pytest.raises(InputError, match="needs more than 64 MB"):
        ask(assets, "SELECT repeat('a', 1000000) FROM range(200)", memory_mb=64)


def test_days_are_those_of_the_shop(assets: Assets) -> None:
    late = "SELECT TIMESTAMPTZ '2026-01-01 20:00:00+00'::DATE::VARCHAR AS day"
    assert ask(assets, late) == [("2026-01-01",)]
    assert query(assets, late, by=OWNER, timezone="Asia/Shanghai").frame.item() == "2026-01-02"


def test_columns_of_one_name_and_odd_types_come_through(assets: Assets) -> None:
    sql = "SELECT 1 AS a, 2 AS a, INTERVAL 1 DAY AS i, 'ab'::BLOB AS b, NULL AS n, tags FROM clean.items -- all"
    found = query(assets, sql, by=OWNER)
    assert found.frame.columns == ["a", "a_2", "i", "b", "n", "tags"]
    assert found.as_dict()["rows"][0] == {"a": 1, "a_2": 2, "i": "1 day", "b": "6162", "n": None, "tags": ["a"]}  # fmt: skip
    assert found.as_dict()["columns"][2] == {"name": "i", "type": "INTERVAL"}


def test_an_answer_is_written_as_its_suffix_says(assets: Assets, tmp_path: Path) -> None:
    found = query(assets, "SELECT kind, count(*) AS n, list(user_id ORDER BY user_id) AS who FROM clean.events GROUP BY kind ORDER BY n", by=OWNER)  # fmt: skip
    for suffix in ("csv", "parquet", "json", "jsonl", "svg"):
        found.write(tmp_path / f"out.{suffix}")
    rows = list(csv.reader((tmp_path / "out.csv").read_text("utf-8").splitlines()))
    assert rows[1] == ["purchase", "1", '["a"]']
    assert pl.read_parquet(tmp_path / "out.parquet").equals(found.frame)
    assert json.loads((tmp_path / "out.json").read_text("utf-8"))["row_count"] == 2
    assert pl.read_ndjson(tmp_path / "out.jsonl")["n"].to_list() == [1, 3]
    assert "purchase" in (tmp_path / "out.svg").read_text("utf-8")
    with pytest.raises(InputError, match=r"cannot write \.doc; name a file that ends in \.csv"):
        found.write(tmp_path / "out.doc")
    assert not list(tmp_path.glob(".out*"))
