"""Streams of a real Redis server."""

import json
from pathlib import Path
from typing import Any

import pytest

from shopkeeper.config import Source
from shopkeeper.errors import InputError, SourceError


@pytest.fixture
def source(redis_server: Any) -> Source:
    redis_server.flushall()
    port = redis_server.connection_pool.connection_kwargs["port"]
    return Source(
        table="events", format="redis", url=f"redis://127.0.0.1:{port}/0", stream="clicks"
    )


def add(redis_server: Any, user: str, id: str = "*", **more: str) -> None:
    redis_server.xadd("clicks", {"user_id": user, "item_id": "i1", **more}, id=id)


def test_flat_fields_and_a_json_field_are_rows_and_the_id_is_the_line(
    redis_server: Any, source: Source, tmp_path: Path, collect: Any
) -> None:
    add(redis_server, "a", "1795510763068-2", kind="cart")
    whole = {"user_id": "b", "item_id": "i2", "dwell_ms": 7}
    redis_server.xadd("clicks", {"json": json.dumps(whole)}, id="1795510763069-0")
    columns = {"session_id": "@id", "ts": "@timestamp"}
    mapped = source.model_copy(update={"columns": columns, "units": {"ts": "ms"}})
    got = collect(mapped, tmp_path)
    names = ("user_id", "kind", "dwell_ms", "session_id", "ts", "file", "line")
    at = "2026-11-24T08:59:23.06"
    assert got.frame.select(names).rows() == [
        ("a", "cart", None, "1795510763068-2", f"{at}8000Z", "redis:clicks", 1795510763068000002),
        ("b", "view", "7", "1795510763069-0", f"{at}9000Z", "redis:clicks", 1795510763069000000),
    ]
    assert got.frame["event_id"].n_unique() == 2


@pytest.mark.usefixtures("small_batches")
def test_only_what_is_behind_the_last_id_is_read(
    redis_server: Any, source: Source, tmp_path: Path, collect: Any
) -> None:
    for n in range(10):
        add(redis_server, f"u{n}")
    whole = collect(source, tmp_path)
    assert len(whole.batches) == 4
    for cut, batch in enumerate(whole.batches, start=1):
        rest = collect(source, tmp_path, {batch.file: batch.position})
        users = [u for b in [*whole.batches[:cut], *rest.batches] for u in b.frame["user_id"]]
        assert users == [f"u{n}" for n in range(10)]
    add(redis_server, "late")
    assert collect(source, tmp_path, whole.positions).frame["user_id"].to_list() == ["late"]


def test_entries_trimmed_before_they_were_read_are_told_and_those_read_are_not(
    redis_server: Any, source: Source, tmp_path: Path, collect: Any
) -> None:
    for n in range(4):
        add(redis_server, f"u{n}")
    first = collect(source, tmp_path)
    redis_server.xtrim("clicks", maxlen=1, approximate=False)
    assert not collect(source, tmp_path, first.positions).batches
    for n in range(4, 10):
        add(redis_server, f"u{n}")
    redis_server.xtrim("clicks", maxlen=2, approximate=False)
    later = collect(source, tmp_path, first.positions)
    assert later.frame["user_id"].to_list() == ["u8", "u9"]
    assert later.rejects.select("rule", "detail").row(0)[0] == "gap"
    assert later.rejects["detail"][0].startswith("4 entries behind id ")
    again = collect(source, tmp_path, later.positions)
    assert not again.batches
    redis_server.xtrim("clicks", maxlen=0, approximate=False)
    for n in range(3):
        add(redis_server, f"v{n}")
    redis_server.xtrim("clicks", maxlen=0, approximate=False)
    emptied = collect(source, tmp_path, later.positions)
    assert emptied.rejects["detail"][0].startswith("3 entries behind id ")
    assert not collect(source, tmp_path, emptied.positions).batches


def test_an_entry_deleted_on_purpose_is_no_gap(
    redis_server: Any, source: Source, tmp_path: Path, collect: Any
) -> None:
    ids = [redis_server.xadd("clicks", {"user_id": f"u{n}", "item_id": "i"}) for n in range(5)]
    redis_server.xdel("clicks", ids[3])
    first = collect(source, tmp_path)
    assert first.frame["user_id"].to_list() == ["u0", "u1", "u2", "u4"]
    redis_server.xtrim("clicks", maxlen=0, approximate=False)
    add(redis_server, "u5")
    later = collect(source, tmp_path, first.positions)
    assert later.frame["user_id"].to_list() == ["u5"]
    assert later.rejects.is_empty()


def test_bytes_that_are_no_text_and_odd_ids_are_put_aside(
    redis_server: Any, source: Source, tmp_path: Path, collect: Any
) -> None:
    add(redis_server, "a", "5-1")
    redis_server.xadd("clicks", {b"user_id": b"\xff\xfe", b"item_id": b"i"}, id="5-2")
    redis_server.xadd("clicks", {"json": "{oops"}, id="5-3")
    add(redis_server, "b", "5-1000000")
    got = collect(source, tmp_path)
    assert got.frame["user_id"].to_list() == ["a"]
    rules = dict(got.rejects.select("line", "rule").rows())
    assert rules == {0: "odd_id", 5000002: "encoding", 5000003: "not_json"}


def test_a_stream_made_anew_a_wrong_type_and_no_stream_say_what_to_do(
    redis_server: Any, source: Source, tmp_path: Path, collect: Any
) -> None:
    with pytest.raises(InputError, match="no stream 'clicks'"):
        collect(source, tmp_path)
    redis_server.set("clicks", "x")
    with pytest.raises(InputError, match="'clicks' is no stream but another type"):
        collect(source, tmp_path)
    redis_server.delete("clicks")
    add(redis_server, "a")
    add(redis_server, "b")
    first = collect(source, tmp_path)
    redis_server.delete("clicks")
    add(redis_server, "c")
    with pytest.raises(InputError, match="the stream was deleted and made anew since"):
        collect(source, tmp_path, first.positions)


def test_a_server_that_is_gone_or_refuses_is_told_without_its_password(
    redis_server: Any,
    source: Source,
    tmp_path: Path,
    collect: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dead = source.model_copy(update={"url": "redis://127.0.0.1:9/0"})
    with pytest.raises(SourceError, match="Redis did not answer") as error:
        collect(dead, tmp_path)
    assert error.value.retryable
    with pytest.raises(ValueError, match="`url` holds a password"):
        Source(table="events", format="redis", url="redis://:hunter2@h/0", stream="s")
    monkeypatch.setenv("SHOP_REDIS", "hunter2")
    url = str(source.url).replace("//", "//shop:${SHOP_REDIS}@")
    with pytest.raises(SourceError) as refused:
        collect(source.model_copy(update={"url": url}), tmp_path)
    assert not refused.value.retryable
    assert "hunter2" not in str(refused.value)
