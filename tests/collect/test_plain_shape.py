"""The two files a newcomer has, as they are."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shopkeeper.collect.sources import find_sources
from shopkeeper.config import Settings
from shopkeeper.errors import InputError

BEHAVIOR = "user_id,item_id\nu1,i1\nu1,i2\nu2,i1\nu3,i3\n"
ITEMS = 'item_id,item_feature\ni1,0.5\ni2,"[0.1, 2, -3e-2]"\ni3,7\n'


@pytest.mark.parametrize("place", ["", "raw"])
def test_two_plain_files_need_no_mapping(place: str, tmp_path: Path, collect: Any) -> None:
    base = tmp_path / place
    base.mkdir(exist_ok=True)
    (base / "user_behavior.csv").write_text(BEHAVIOR)
    (base / "item_data.csv").write_text(ITEMS)
    events, items = find_sources(Settings(), tmp_path)
    got = collect(events, tmp_path)
    assert got.frame.select("user_id", "item_id", "kind", "ts", "line").rows() == [
        ("u1", "i1", "view", None, 2),
        ("u1", "i2", "view", None, 3),
        ("u2", "i1", "view", None, 4),
        ("u3", "i3", "view", None, 5),
    ]
    assert collect(items, tmp_path).frame.select("item_id", "attributes").rows() == [
        ("i1", '{"item_feature":0.5}'),
        ("i2", '{"item_feature":[0.1, 2, -0.03]}'),
        ("i3", '{"item_feature":7}'),
    ]


@pytest.mark.parametrize("suffix", ["xlsx", "parquet", "jsonl", "tsv"])
def test_the_plain_shape_comes_in_every_format(
    suffix: str, tmp_path: Path, collect: Any, write_xlsx: Any
) -> None:
    path = tmp_path / f"user_behavior.{suffix}"
    frame = pl.DataFrame({"user_id": [1, 2], "item_id": ["a", "b"]})
    if suffix == "xlsx":
        write_xlsx(path, [frame.columns, *frame.rows()])
    elif suffix == "parquet":
        frame.write_parquet(path)
    elif suffix == "jsonl":
        frame.write_ndjson(path)
    else:
        frame.write_csv(path, separator="\t")
    (source,) = find_sources(Settings(), tmp_path)
    assert collect(source, tmp_path).frame.select("user_id", "item_id").rows() == [
        ("1", "a"),
        ("2", "b"),
    ]


def test_a_folder_of_parts_is_read_in_the_order_of_their_numbers(
    tmp_path: Path, collect: Any
) -> None:
    folder = tmp_path / "raw" / "user_behavior"
    folder.mkdir(parents=True)
    for part in (1, 2, 10):
        (folder / f"part-{part}.csv").write_text(f"user_id,item_id\nu,{part}\n")
    (folder / "part-11.csv").write_text("")  # a part nobody had rows for
    (folder / ".part-3.csv.swp").write_text("not ours")
    (source,) = find_sources(Settings(), tmp_path)
    assert collect(source, tmp_path).frame["item_id"].to_list() == ["1", "2", "10"]


def test_users_shops_and_pictures_are_found_by_their_names(tmp_path: Path) -> None:
    for name in ("user_behavior.csv", "items.jsonl", "users.csv", "shops.xlsx"):
        (tmp_path / name).write_text("x")
    (tmp_path / "images").mkdir()
    found = {source.table: source.path for source in find_sources(Settings(), tmp_path)}
    assert found == {
        "events": "user_behavior.csv",
        "items": "items.jsonl",
        "users": "users.csv",
        "shops": "shops.xlsx",
        "images": "images",
    }


def test_nothing_to_read_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("x")
    with pytest.raises(InputError, match=r"looked for user_behavior.csv .*; found log.txt"):
        find_sources(Settings(), tmp_path)


def test_two_files_for_one_place_are_not_guessed_between(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("x")
    (tmp_path / "items.xlsx").write_text("x")
    with pytest.raises(InputError, match=r"items.csv and items.xlsx could both"):
        find_sources(Settings(), tmp_path)
