"""What every format must hold: the same rows, resumable anywhere, growing, never dropping."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from shopkeeper.collect.tables import COLUMNS
from shopkeeper.config import Source
from shopkeeper.errors import InputError

ROWS = [
    {"user_id": f"u{n % 7}", "item_id": f"item, {n % 5}", "kind": "view", "query": query}
    for n, query in enumerate(["lamp", None, '灯 "led"', None, "a\\b", "x", None] * 5)
]
MORE = [{"user_id": f"v{n}", "item_id": "late", "kind": "cart", "query": None} for n in range(9)]


class Shelf:
    """One place of rows: `put` writes them there, `source` reads them."""

    def __init__(self, source: Source, put: Callable[[list[dict[str, Any]]], None]) -> None:
        self.source, self.put = source, put


def _csv(path: Path, rows: list[dict[str, Any]]) -> None:
    def quoted(value: str | None) -> str:
        return "" if value is None else '"' + value.replace('"', '""') + '"'

    lines = [",".join(rows[0]), *(",".join(quoted(v) for v in row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n")


def _jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


@pytest.fixture(params=["csv", "jsonl", "xlsx", "parquet", "postgresql", "mariadb", "sqlite"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shelf]:
    form = request.param
    path = tmp_path / f"events.{form}"
    plain = Source(table="events", path=path.name) if form != "sqlite" else None
    if form == "csv":
        yield Shelf(plain, lambda rows: _csv(path, rows))
    elif form == "jsonl":
        yield Shelf(plain, lambda rows: _jsonl(path, rows))
    elif form == "xlsx":
        write = request.getfixturevalue("write_xlsx")
        yield Shelf(
            plain, lambda rows: write(path, [list(rows[0]), *(list(r.values()) for r in rows)])
        )
    elif form == "parquet":  # written once: what is new comes as a new file
        source = Source(table="events", path="*.parquet")

        def put(rows: list[dict[str, Any]]) -> None:
            pl.DataFrame(rows[: len(ROWS)]).write_parquet(path, row_group_size=10)
            if len(rows) > len(ROWS):
                pl.DataFrame(rows[len(ROWS) :]).write_parquet(tmp_path / "later.parquet")

        first: list[int] = []

        def once(rows: list[dict[str, Any]]) -> None:
            if not first:
                put(rows)
                first.append(1)
            elif len(rows) > len(ROWS):
                pl.DataFrame(rows[len(ROWS) :]).write_parquet(tmp_path / "later.parquet")

        yield Shelf(source, once)
    else:
        url = f"sqlite:///{path}" if form == "sqlite" else request.getfixturevalue(form)
        driven = url.replace("postgresql:", "postgresql+psycopg:").replace(
            "mysql:", "mysql+pymysql:"
        )
        engine = sa.create_engine(driven, poolclass=sa.NullPool)
        table = sa.Table(
            "behaviour",
            sa.MetaData(),
            sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
            *(sa.Column(name, sa.String(40)) for name in ROWS[0]),
        )
        table.metadata.drop_all(engine)
        table.metadata.create_all(engine)
        count = 0

        def insert(rows: list[dict[str, Any]]) -> None:
            nonlocal count
            new = [{"id": n, **row} for n, row in enumerate(rows)][count:]
            with engine.begin() as connection:
                connection.execute(table.insert(), new)
            count = len(rows)

        source = Source(
            table="events", format="sql", url=url, sql_table="behaviour", watermark="id"
        )
        yield Shelf(source, insert)


def _values(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return frame.select("user_id", "item_id", "kind", "query").to_dicts()


def test_the_same_rows_come_out_of_every_format(shelf: Shelf, tmp_path: Path, collect: Any) -> None:
    shelf.put(ROWS)
    got = collect(shelf.source, tmp_path)
    assert _values(got.frame) == ROWS
    assert got.frame.columns == [*COLUMNS["events"], "source", "file", "line"]
    assert got.frame["event_id"].str.len_chars().unique().to_list() == [32]
    assert got.frame["event_id"].n_unique() == len(ROWS)
    assert got.rejects.is_empty()


@pytest.mark.usefixtures("small_batches")
def test_a_restart_behind_any_batch_loses_and_doubles_nothing(
    shelf: Shelf, tmp_path: Path, collect: Any
) -> None:
    shelf.put(ROWS)
    whole = collect(shelf.source, tmp_path)
    assert len(whole.batches) > 5
    for cut in range(len(whole.batches) + 1):
        kept = whole.batches[:cut]
        positions = json.loads(json.dumps({b.file: b.position for b in kept}))
        rest = collect(shelf.source, tmp_path, positions)
        frames = [b.frame for b in kept] + ([rest.frame] if rest.batches else [])
        assert pl.concat(frames).equals(whole.frame)


@pytest.mark.usefixtures("small_batches")
def test_what_was_read_is_not_read_again_and_what_is_new_is(
    shelf: Shelf, tmp_path: Path, collect: Any
) -> None:
    shelf.put(ROWS)
    first = collect(shelf.source, tmp_path)
    again = collect(shelf.source, tmp_path, first.positions)
    assert sum(batch.frame.height for batch in again.batches) == 0
    shelf.put(ROWS + MORE)
    later = collect(shelf.source, tmp_path, first.positions)
    assert _values(later.frame) == MORE
    both = pl.concat([first.frame["event_id"], later.frame["event_id"]])
    assert both.n_unique() == len(ROWS + MORE)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "xlsx", "parquet"])
def test_an_empty_file_is_named_with_the_next_step(
    suffix: str, tmp_path: Path, collect: Any
) -> None:
    (tmp_path / f"events.{suffix}").write_bytes(b"")
    with pytest.raises(InputError) as error:
        collect(Source(table="events", path=f"events.{suffix}"), tmp_path)
    assert error.value.where == f"events.{suffix}"
    assert error.value.next


@pytest.mark.parametrize("suffix", ["xlsx", "parquet"])
def test_a_truncated_file_is_named_with_the_next_step(
    suffix: str, tmp_path: Path, collect: Any, write_xlsx: Any
) -> None:
    path = tmp_path / f"events.{suffix}"
    if suffix == "xlsx":
        write_xlsx(path, [list(ROWS[0]), *(list(row.values()) for row in ROWS)])
    else:
        pl.DataFrame(ROWS).write_parquet(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"not a (sound Parquet|readable Excel)") as error:
        collect(Source(table="events", path=path.name), tmp_path)
    assert error.value.where == path.name
    assert error.value.next


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "xlsx", "parquet"])
def test_a_missing_required_column_names_file_found_and_the_line_to_write(
    suffix: str, tmp_path: Path, collect: Any, write_xlsx: Any
) -> None:
    path = tmp_path / f"log.{suffix}"
    rows = [{"usr_id": "u1", "thing": "i1"}]
    if suffix == "csv":
        _csv(path, rows)
    elif suffix == "jsonl":
        _jsonl(path, rows)
    elif suffix == "xlsx":
        write_xlsx(path, [["usr_id", "thing"], ["u1", "i1"]])
    else:
        pl.DataFrame(rows).write_parquet(path)
    with pytest.raises(InputError) as error:
        collect(Source(table="events", path=path.name), tmp_path)
    said = str(error.value)
    assert said.startswith(
        f"log.{suffix}: no column 'user_id' and no column 'item_id', which events need (nearest: 'us"
    )
    assert "usr_id" in said
    assert "thing" in said
    assert 'columns = { user_id = "usr_id", item_id = "thing" }' in error.value.next


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "xlsx", "parquet"])
def test_a_rewritten_file_of_items_is_read_anew_and_one_of_events_without_ids_is_refused(
    suffix: str, tmp_path: Path, collect: Any, write_xlsx: Any
) -> None:
    path = tmp_path / f"rows.{suffix}"

    def put(user: str) -> None:
        rows = [{"user_id": user, "item_id": "i1"}, {"user_id": "u2", "item_id": "i2"}]
        if suffix == "csv":
            _csv(path, rows)
        elif suffix == "jsonl":
            _jsonl(path, rows)
        elif suffix == "xlsx":
            write_xlsx(path, [list(rows[0]), *(list(row.values()) for row in rows)])
        else:
            pl.DataFrame(rows).write_parquet(path)

    put("u1")
    items = Source(table="items", path=path.name)
    events = Source(table="events", path=path.name)
    read_items, read_events = collect(items, tmp_path), collect(events, tmp_path)
    put("another")
    assert collect(items, tmp_path, read_items.positions).frame.height == 2
    with pytest.raises(InputError, match="no event_id of their own") as error:
        collect(events, tmp_path, read_events.positions)
    assert "--force" in error.value.next
