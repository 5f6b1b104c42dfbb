"""Raw files in a bucket, of moto's S3 server."""

import io
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shopkeeper.collect import remote
from shopkeeper.config import Source
from shopkeeper.errors import InputError, SourceError


def csv(*users: str) -> bytes:
    return b"user_id,item_id\n" + b"".join(f"{user},i1\n".encode() for user in users)


def parquet(*users: str) -> bytes:
    out = io.BytesIO()
    pl.DataFrame({"user_id": users, "item_id": ["i1"] * len(users)}).write_parquet(out)
    return out.getvalue()


def users(got: Any) -> list[str]:
    return got.frame["user_id"].to_list() if got.batches else []


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("s3://shop/logs", ["a", "b", "c", "d"]),
        ("s3://shop/logs/part-*.csv", ["a", "b"]),
        ("s3://shop/logs/*/x.parquet", ["d"]),
        ("s3://shop/logs/part-2.csv", ["a"]),
    ],
)
def test_a_prefix_a_pattern_and_one_object_are_read_in_the_order_of_names(
    bucket: Any, tmp_path: Path, collect: Any, path: str, wanted: list[str]
) -> None:
    bucket.put("logs/part-2.csv", csv("a"))
    bucket.put("logs/part-10.csv", csv("b"))
    bucket.put("logs/rest.jsonl", b'{"user_id": "c", "item_id": "i"}\n')
    bucket.put("logs/today/x.parquet", parquet("d"))
    bucket.put("logs/_SUCCESS", b"")
    bucket.put("logs/.part-3.csv", csv("hidden"))
    bucket.put("logsmore/part-1.csv", csv("other"))
    got = collect(Source(table="events", path=path), tmp_path)
    assert users(got) == wanted
    assert got.frame["file"].str.starts_with("s3://shop/logs/").all()
    assert not list((tmp_path / remote.SPOOL).rglob("*"))


def test_only_what_is_new_or_changed_is_fetched(
    bucket: Any, tmp_path: Path, collect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []
    spooled = remote.spooled
    monkeypatch.setattr(
        remote, "spooled", lambda one, folder: fetched.append(one.name) or spooled(one, folder)
    )
    source = Source(table="events", path="s3://shop/logs")
    bucket.put("logs/1.csv", csv("a", "b"))
    first = collect(source, tmp_path)
    assert not collect(source, tmp_path, first.positions).batches
    bucket.put("logs/2.csv", csv("c"))
    second = collect(source, tmp_path, first.positions)
    assert users(second) == ["c"]
    bucket.put("logs/1.csv", csv("a", "b", "late"))  # put anew as a whole; its head is known
    assert users(collect(source, tmp_path, second.positions)) == ["late"]
    assert fetched == [f"s3://shop/logs/{n}.csv" for n in (1, 2, 1)]
    bucket.put("logs/1.csv", csv("x", "b"))  # as long as it was, within the same second perhaps
    with pytest.raises(InputError, match="no event_id of their own"):
        collect(source, tmp_path, second.positions)


@pytest.mark.usefixtures("small_batches")
def test_a_restart_in_the_middle_of_an_object_goes_on_there(
    bucket: Any, tmp_path: Path, collect: Any
) -> None:
    names = [f"u{n:02d}" for n in range(20)]
    bucket.put("logs/1.csv", csv(*names))
    source = Source(table="events", path="s3://shop/logs/1.csv")
    whole = collect(source, tmp_path)
    assert len(whole.batches) > 3
    for cut, batch in enumerate(whole.batches, start=1):
        rest = collect(source, tmp_path, {batch.file: batch.position})
        read = [u for b in whole.batches[:cut] for u in b.frame["user_id"]]
        assert read + users(rest) == names


def test_an_object_that_changes_while_it_is_fetched_is_fetched_again_by_the_next_run(
    bucket: Any, tmp_path: Path, collect: Any
) -> None:
    bucket.put("logs/1.csv", csv("a"))
    source = Source(table="events", path="s3://shop/logs/1.csv")
    (one,) = remote.find(str(source.path), lambda _: True)
    bucket.put("logs/1.csv", csv("b"))
    with (
        pytest.raises(SourceError, match="changed while it was fetched") as error,
        remote.spooled(one, tmp_path),
    ):
        pass
    assert error.value.retryable
    assert users(collect(source, tmp_path)) == ["b"]


def test_nothing_there_no_bucket_and_pictures_say_what_to_do(
    bucket: Any, tmp_path: Path, collect: Any
) -> None:
    with pytest.raises(InputError, match=r"no object matches path = 's3://shop/nothing'"):
        collect(Source(table="events", path="s3://shop/nothing"), tmp_path)
    with pytest.raises(SourceError, match="object storage did not answer") as error:
        collect(Source(table="events", path="s3://nobodys/logs"), tmp_path)
    assert "credentials" in error.value.next
    with pytest.raises(ValueError, match="images are read from a local folder"):
        Source(table="images", path="s3://shop/pictures")
    with pytest.raises(InputError, match="cannot store at"):
        collect(Source(table="events", path="ftp://shop/logs"), tmp_path)
