"""Encodings, endless lines, last lines, gzip: what all text formats share."""

import gzip
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from shopkeeper.collect import text
from shopkeeper.config import Source
from shopkeeper.errors import InputError

EVENTS = Source(table="events", path="events.csv")
CHINESE = "user_id,item_id,query\n" + "".join(f"用户{n},台灯{n},搜索 台灯\n" for n in range(20))


def _queries(got: Any) -> list[tuple[str, ...]]:
    return got.frame.select("user_id", "item_id", "query").rows()


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "gb18030", "gbk", "big5", "utf-16", "utf-16-le", "euc_jp"]
)
@pytest.mark.parametrize("block", [7, 1 << 20])
def test_every_encoding_gives_the_same_rows(
    encoding: str, block: int, tmp_path: Path, collect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "BLOCK", block)
    body = CHINESE.replace("户", "人") if encoding in ("big5", "euc_jp") else CHINESE
    body = body.replace("台灯", "商品").replace("搜索", "商品")
    (tmp_path / "events.csv").write_bytes(body.encode(encoding))
    source = EVENTS.model_copy(update={"encoding": encoding})
    got = collect(source, tmp_path)
    assert _queries(got) == [tuple(line.split(",")) for line in body.splitlines()[1:]]
    assert got.frame["line"].to_list() == list(range(2, 22))
    for batch in got.batches[::5]:
        rest = collect(source, tmp_path, {"events.csv": batch.position})
        behind = sum(b.frame.height for b in rest.batches)
        assert behind == 0 or rest.frame["line"][0] == 22 - behind


def test_a_byte_order_mark_overrules_shop_toml(tmp_path: Path, collect: Any) -> None:
    (tmp_path / "events.csv").write_bytes(CHINESE.encode("utf-8-sig"))
    got = collect(EVENTS.model_copy(update={"encoding": "gb18030"}), tmp_path)
    assert _queries(got)[0] == ("用户0", "台灯0", "搜索 台灯")


@pytest.mark.parametrize(
    ("written", "said", "hint"),
    [("gb18030", "utf-8", "gb18030"), ("big5", "utf-8", "big5"), ("utf-8", "gb18030", "utf-8")],
)
def test_the_wrong_encoding_is_named_with_the_line_to_write(
    written: str, said: str, hint: str, tmp_path: Path, collect: Any
) -> None:
    body = CHINESE.replace("户", "人").replace("灯", "中").replace("搜索", "商品")
    (tmp_path / "events.csv").write_bytes(body.encode(written))
    with pytest.raises(InputError, match=f"events.csv: this is not {said}") as error:
        collect(EVENTS.model_copy(update={"encoding": said}), tmp_path)
    assert f'encoding = "{hint}"' in error.value.next


def test_a_single_line_in_another_encoding_is_rejected_with_a_likely_one(
    tmp_path: Path, collect: Any
) -> None:
    good = [f"u{n},i{n},商品".encode() for n in range(200)]
    good[100] = "u,i,台灯".encode("gb18030")
    (tmp_path / "events.csv").write_bytes(b"user_id,item_id,query\n" + b"\n".join(good) + b"\n")
    got = collect(EVENTS, tmp_path)
    assert got.frame.height == 199
    (reject,) = got.rejects.to_dicts()
    assert (reject["file"], reject["line"], reject["rule"]) == ("events.csv", 102, "encoding")
    assert reject["detail"] == (
        "byte 7 of the line is not utf-8; the line would be readable as gb18030"
    )


def test_an_unknown_encoding_is_named(tmp_path: Path, collect: Any) -> None:
    (tmp_path / "events.csv").write_text("user_id,item_id\n")
    with pytest.raises(InputError, match="'gb18031' is no known encoding"):
        collect(EVENTS.model_copy(update={"encoding": "gb18031"}), tmp_path)


@pytest.mark.parametrize("block", [16, 100, 1000])
def test_an_endless_line_is_rejected_with_its_beginning_and_reading_goes_on(
    block: int, tmp_path: Path, collect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "BLOCK", block)
    monkeypatch.setattr(text, "LONGEST", 100)
    endless = "x" * 5000
    (tmp_path / "events.csv").write_text(f"user_id,item_id\na,1\n{endless}\nb,2\n{endless}")
    got = collect(EVENTS, tmp_path)
    assert got.frame.select("user_id", "line").rows() == [("a", 2), ("b", 4)]
    assert got.rejects.select("line", "rule").rows() == [(3, "too_long"), (5, "too_long")]
    assert all(len(raw) > 100 and endless.startswith(raw) for raw in got.rejects["raw"])
    for cut, batch in enumerate(got.batches, start=1):
        rest = collect(EVENTS, tmp_path, {"events.csv": batch.position})
        behind = sum(b.frame.height for b in got.batches[cut:])
        assert sum(b.frame.height for b in rest.batches) == behind


@pytest.mark.parametrize("block", [16, 100, 1000])
def test_an_open_quote_before_an_endless_line_costs_both_and_no_more(
    block: int, tmp_path: Path, collect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "BLOCK", block)
    monkeypatch.setattr(text, "LONGEST", 100)
    (tmp_path / "events.csv").write_text(f'user_id,item_id\na,"1\n{"x" * 5000}\nb,2\n')
    got = collect(EVENTS, tmp_path)
    assert got.frame["user_id"].to_list() == ["b"]
    assert got.rejects["rule"].to_list() == ["unclosed_quote", "too_long"]


@pytest.mark.slow
def test_a_line_of_a_gigabyte_does_not_fill_the_memory(tmp_path: Path) -> None:
    import subprocess
    import sys

    path = tmp_path / "events.csv"
    with path.open("wb") as file:
        file.write(b"user_id,item_id\na,1\n")
        for _ in range(64):
            file.write(b"x" * (1 << 24))
        file.write(b"\nb,2\n")
    program = f"""
import pathlib, resource
from shopkeeper.collect.read import read
from shopkeeper.config import Settings, Source
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
got = list(read(Source(table="events", path="events.csv"), Settings(), pathlib.Path({str(tmp_path)!r}), {{}}))
print(sum(b.frame.height for b in got), sum(b.rejects.height for b in got))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    path.unlink()
    assert told[:2] == ["2", "1"]
    assert int(told[2]) < 300  # MB beside the imports


def test_a_last_line_without_line_end_is_read(tmp_path: Path, collect: Any) -> None:
    path = tmp_path / "events.csv"
    path.write_text("user_id,item_id\na,1\nb,2")
    first = collect(EVENTS, tmp_path)
    assert first.frame["item_id"].to_list() == ["1", "2"]
    path.write_text("user_id,item_id\na,1\nb,2\nc,3\n")
    later = collect(EVENTS, tmp_path, first.positions)
    assert later.frame.select("item_id", "line").rows() == [("3", 4)]


def test_events_whose_last_line_went_on_after_it_was_read_are_refused(
    tmp_path: Path, collect: Any
) -> None:
    path = tmp_path / "events.csv"
    path.write_text("user_id,item_id\na,1\nb,2")
    first = collect(EVENTS, tmp_path)
    path.write_text("user_id,item_id\na,1\nb,23\n")
    with pytest.raises(InputError, match="line 3 was read half-written"):
        collect(EVENTS, tmp_path, first.positions)


def test_a_rejected_last_line_is_read_whole_once_it_is_complete(
    tmp_path: Path, collect: Any
) -> None:
    path = tmp_path / "events.csv"
    path.write_text("user_id,item_id\na,1\nb")
    first = collect(EVENTS, tmp_path)
    assert first.rejects["line"].to_list() == [3]
    path.write_text("user_id,item_id\na,1\nb,2\nc,3\n")
    later = collect(EVENTS, tmp_path, first.positions)
    assert later.frame.select("item_id", "line").rows() == [("2", 3), ("3", 4)]


def test_a_line_being_written_right_now_is_waited_for(
    tmp_path: Path, collect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "SETTLE", 5.0)
    path = tmp_path / "events.csv"
    path.write_text("user_id,item_id\na,1\nb,2")

    def go_on() -> None:
        time.sleep(0.2)
        with path.open("a") as file:
            file.write("34\n")

    writer = threading.Thread(target=go_on)
    writer.start()
    got = collect(EVENTS, tmp_path)
    writer.join()
    assert got.frame["item_id"].to_list() == ["1", "234"]


def test_a_touched_file_is_not_read_again(tmp_path: Path, collect: Any) -> None:
    path = tmp_path / "events.csv"
    path.write_text("user_id,item_id\na,1\n")
    first = collect(EVENTS, tmp_path)
    os.utime(path, ns=(1, 1))
    again = collect(EVENTS, tmp_path, first.positions)
    assert sum(batch.frame.height for batch in again.batches) == 0


def test_a_change_of_one_letter_in_the_middle_is_noticed(tmp_path: Path, collect: Any) -> None:
    path = tmp_path / "items.csv"
    source = Source(table="items", path="items.csv")
    path.write_text("item_id,title\na,Lamp\nb,Sofa\n")
    first = collect(source, tmp_path)
    path.write_text("item_id,title\na,Lamb\nb,Sofa\n")
    os.utime(path, ns=(1, 1))
    later = collect(source, tmp_path, first.positions)
    assert later.frame["title"].to_list() == ["Lamb", "Sofa"]


def test_gzip_is_unpacked_and_a_cut_one_is_named(tmp_path: Path, collect: Any) -> None:
    path = tmp_path / "events.csv.gz"
    source = Source(table="events", path=path.name)
    packed = gzip.compress(b"user_id,item_id\n" + b"a,1\n" * 5000)
    path.write_bytes(packed)
    assert collect(source, tmp_path).frame.height == 5000
    path.write_bytes(packed[:-20])
    with pytest.raises(InputError, match=r"events.csv.gz: the gzip file is cut off"):
        collect(source, tmp_path)


def test_old_mac_line_ends_are_line_ends(tmp_path: Path, collect: Any) -> None:
    (tmp_path / "events.csv").write_bytes(b"user_id,item_id\ra,1\rb,2\r")
    assert collect(EVENTS, tmp_path).frame["item_id"].to_list() == ["1", "2"]


@pytest.mark.parametrize(
    ("head", "what"), [(b"PK\x03\x04", "Excel workbook"), (b"PAR1", "Parquet"), (b"%PDF-", "PDF")]
)
def test_a_file_that_is_no_text_is_called_what_it_is(
    head: bytes, what: str, tmp_path: Path, collect: Any
) -> None:
    (tmp_path / "events.csv").write_bytes(head + b"\0\1\2 rubbish\n")
    with pytest.raises(InputError, match=what):
        collect(EVENTS, tmp_path)


def test_utf_16_without_mark_is_named(tmp_path: Path, collect: Any) -> None:
    (tmp_path / "events.csv").write_bytes("user_id,item_id\na,1\n".encode("utf-16-le"))
    with pytest.raises(InputError, match="NUL bytes") as error:
        collect(EVENTS, tmp_path)
    assert 'encoding = "utf-16"' in error.value.next


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, collect: Any) -> None:
    (tmp_path / "events.csv").mkdir()
    with pytest.raises(InputError, match="no file matches"):
        collect(EVENTS, tmp_path)
