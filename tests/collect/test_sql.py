"""Tables of real database servers."""

import socket
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from shopkeeper.config import Source
from shopkeeper.errors import InputError, SourceError

DRIVEN = {"postgresql:": "postgresql+psycopg:", "mysql:": "mysql+pymysql:"}


def _run(url: str, *statements: str) -> None:
    for plain, driven in DRIVEN.items():
        url = url.replace(plain, driven)
    with sa.create_engine(url, poolclass=sa.NullPool).begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def test_every_type_of_postgresql_becomes_its_plain_text(
    postgresql: str, tmp_path: Path, collect: Any
) -> None:
    _run(
        postgresql,
        "drop table if exists goods",
        "create table goods (item_id bigint, title text, price numeric(10,2), weight float8, "
        "tags int[], more jsonb, sold boolean, updated_at timestamptz)",
        "insert into goods values (9007199254740993, '台灯', 12.50, 3, '{1,2}', "
        """'{"colour": "red"}', true, '2024-03-01 16:30+08'), (2, '', null, 0.25, null, null, null, null)""",
    )
    source = Source(table="items", format="sql", url=postgresql, sql_table="public.goods")
    rows = (
        collect(source, tmp_path)
        .frame.select("item_id", "title", "price_minor", "updated_at", "attributes")
        .rows()
    )
    assert rows == [
        (
            "9007199254740993",
            "台灯",
            "1250",
            "2024-03-01T08:30:00.000000Z",
            '{"weight":3,"tags":[1, 2],"more":{"colour": "red"},"sold":"true"}',
        ),
        ("2", None, None, None, '{"weight":0.25}'),
    ]


@pytest.mark.parametrize("server", ["postgresql", "mariadb"])
def test_without_watermark_a_table_is_read_again_only_when_its_content_changed(
    server: str, request: pytest.FixtureRequest, tmp_path: Path, collect: Any
) -> None:
    url = request.getfixturevalue(server)
    _run(url, "drop table if exists wares", "create table wares (item_id int, title varchar(20))")
    _run(url, "insert into wares values (1, 'lamp'), (2, 'sofa')")
    source = Source(table="items", format="sql", url=url, sql_table="wares")
    first = collect(source, tmp_path)
    assert sorted(first.frame["title"]) == ["lamp", "sofa"]
    assert not collect(source, tmp_path, first.positions).batches
    _run(url, "update wares set title = 'desk' where item_id = 1")
    later = collect(source, tmp_path, first.positions)
    assert sorted(later.frame["title"]) == ["desk", "sofa"]


@pytest.mark.parametrize("server", ["postgresql", "mariadb"])
@pytest.mark.usefixtures("small_batches")
def test_late_rows_of_the_last_instant_are_read_and_none_twice(
    server: str, request: pytest.FixtureRequest, tmp_path: Path, collect: Any
) -> None:
    url = request.getfixturevalue(server)
    _run(
        url,
        "drop table if exists clicks",
        "create table clicks (u int, item_id int, at timestamp(6) null)",
    )
    _run(
        url,
        *(
            f"insert into clicks values ({n}, {n % 2}, '2024-03-01 10:00:0{n // 4}')"
            for n in range(10)
        ),
    )
    source = Source(
        table="events", format="sql", url=url, sql_table="clicks", watermark="at",
        columns={"user_id": "u", "ts": "at"},
    )  # fmt: skip
    first = collect(source, tmp_path)
    assert sorted(first.frame["user_id"].cast(int)) == list(range(10))
    _run(
        url,
        "insert into clicks values (77, 1, '2024-03-01 10:00:02'), (9, 1, '2024-03-01 10:00:02')",
    )
    later = collect(source, tmp_path, first.positions)
    assert sorted(later.frame["user_id"]) == ["77", "9"]
    for cut, batch in enumerate(first.batches, start=1):
        rest = collect(source, tmp_path, {batch.file: batch.position})
        ids = [u for b in [*first.batches[:cut], *rest.batches] for u in b.frame["user_id"]]
        assert sorted(map(int, ids)) == sorted([*range(10), 77, 9])


@pytest.mark.parametrize("server", ["postgresql", "mariadb"])
@pytest.mark.usefixtures("small_batches")
def test_rows_committed_late_within_the_overlap_are_read_and_none_twice(
    server: str, request: pytest.FixtureRequest, tmp_path: Path, collect: Any
) -> None:
    url = request.getfixturevalue(server)
    _run(
        url,
        "drop table if exists clicks",
        "create table clicks (u int, item_id int, at timestamp(6) null)",
    )

    def insert(user: int, second: int) -> None:
        _run(url, f"insert into clicks values ({user}, 1, '2024-03-01 10:00:{second:02d}')")

    for n in range(10):
        insert(n, 10 + n)
    source = Source(
        table="events", format="sql", url=url, sql_table="clicks", watermark="at", overlap=5,
        columns={"user_id": "u", "ts": "at"},
    )  # fmt: skip
    first = collect(source, tmp_path)
    assert not collect(source, tmp_path, first.positions).batches
    insert(70, 15)  # late, within 5 s of the newest, 19
    insert(9, 18)  # late; another row than that of 9 at 19
    insert(71, 13)  # too late
    insert(72, 25)
    second = collect(source, tmp_path, first.positions)
    assert sorted(second.frame["user_id"]) == ["70", "72", "9"]
    insert(73, 21)
    insert(74, 19)  # before 25 - 5
    third = collect(source, tmp_path, second.positions)
    assert third.frame["user_id"].to_list() == ["73"]
    for cut, batch in enumerate(first.batches, start=1):
        rest = collect(source, tmp_path, {batch.file: batch.position})
        ids = [int(u) for b in [*first.batches[:cut], *rest.batches] for u in b.frame["user_id"]]
        assert len(ids) == len(set(ids)) + 1  # 9 clicked twice
        assert set(range(10)) | {72, 73} <= set(ids)


def test_an_overlap_of_text_is_refused(postgresql: str, tmp_path: Path, collect: Any) -> None:
    _run(postgresql, "drop table if exists named", "create table named (user_id int, item_id text)")
    _run(postgresql, "alter table named alter item_id set not null")
    _run(postgresql, "insert into named values (1, 'a')")
    source = Source(
        table="events",
        format="sql",
        url=postgresql,
        sql_table="named",
        watermark="item_id",
        overlap=1,
    )
    with pytest.raises(InputError, match="needs a watermark of times or numbers"):
        collect(source, tmp_path)
    with pytest.raises(ValueError, match="how far before the `watermark`"):
        Source(table="events", format="sql", url=postgresql, sql_table="named", overlap=1)


def test_a_null_watermark_is_refused(postgresql: str, tmp_path: Path, collect: Any) -> None:
    _run(
        postgresql,
        "drop table if exists gaps",
        "create table gaps (user_id int, item_id int, at timestamp)",
    )
    _run(postgresql, "insert into gaps values (1, 1, null)")
    source = Source(table="events", format="sql", url=postgresql, sql_table="gaps", watermark="at")
    with pytest.raises(InputError, match="'at' is null in 1 rows"):
        collect(source, tmp_path)


def test_events_without_watermark_or_id_are_refused(
    postgresql: str, tmp_path: Path, collect: Any
) -> None:
    _run(postgresql, "drop table if exists seen", "create table seen (user_id int, item_id int)")
    source = Source(table="events", format="sql", url=postgresql, sql_table="seen")
    with pytest.raises(InputError, match="neither an event_id nor a `watermark`"):
        collect(source, tmp_path)


def test_the_password_comes_from_the_environment_and_is_never_told(
    postgresql: str, tmp_path: Path, collect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(postgresql, "drop table if exists seen", "create table seen (user_id int, item_id int)")
    url = postgresql.replace("s3cr3t", "${SHOP_DB}")
    source = Source(table="users", format="sql", url=url, sql_table="seen")
    monkeypatch.delenv("SHOP_DB", raising=False)
    with pytest.raises(InputError, match=r"SHOP_DB.* not set"):
        collect(source, tmp_path)
    monkeypatch.setenv("SHOP_DB", "wrong/p@ss word")
    with pytest.raises(SourceError, match="password authentication failed") as error:
        collect(source, tmp_path)
    assert not error.value.retryable
    assert "wrong" not in str(error.value)
    monkeypatch.setenv("SHOP_DB", "s3cr3t")
    collect(source, tmp_path)


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_a_server_that_does_not_answer_may_answer_later(
    scheme: str, tmp_path: Path, collect: Any
) -> None:
    pytest.importorskip("psycopg")
    pytest.importorskip("pymysql")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"{scheme}://shop:s3cr3t@127.0.0.1:{closed.getsockname()[1]}/shop"
        source = Source(table="items", format="sql", url=url, sql_table="t")
        with pytest.raises(SourceError) as error:
            collect(source, tmp_path)
    assert error.value.retryable
    assert "s3cr3t" not in str(error.value)


def test_a_table_or_watermark_that_is_not_there_is_named(tmp_path: Path, collect: Any) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    _run(url, "create table goods (item_id int)")
    with pytest.raises(InputError, match="no table 'good'; found: goods"):
        collect(Source(table="items", format="sql", url=url, sql_table="good"), tmp_path)
    source = Source(table="items", format="sql", url=url, sql_table="goods", watermark="at")
    with pytest.raises(InputError, match="no column 'at' to be the watermark; found: item_id"):
        collect(source, tmp_path)
