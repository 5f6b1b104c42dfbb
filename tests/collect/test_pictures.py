"""Folders of pictures."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from shopkeeper.collect import wholefiles
from shopkeeper.config import Source

IMAGES = Source(table="images", path="images")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "i3").mkdir(parents=True)
    Image.new("RGB", (8, 4), "red").save(folder / "i1.png")
    Image.new("RGB", (40, 40), "blue").save(folder / "i2.jpg")
    Image.new("RGB", (5, 5)).save(folder / "i3" / "front.webp")
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "Thumbs.db").write_bytes(b"x")
    return tmp_path


def test_pictures_belong_to_the_item_of_their_file_or_folder(shop: Path, collect: Any) -> None:
    got = collect(IMAGES, shop)
    columns = ("item_id", "file_path", "format", "width", "height", "file", "line")
    assert got.frame.sort("item_id").select(columns).rows() == [
        ("i1", "images/i1.png", "png", "8", "4", "images/i1.png", 1),
        ("i2", "images/i2.jpg", "jpeg", "40", "40", "images/i2.jpg", 1),
        ("i3", "images/i3/front.webp", "webp", "5", "5", "images/i3/front.webp", 1),
    ]
    content = dict(got.frame.select("file_path", "content").rows())
    assert content["images/i1.png"] == (shop / "images/i1.png").read_bytes()


@pytest.mark.usefixtures("small_batches")
def test_a_restart_behind_any_batch_loses_and_doubles_no_picture(shop: Path, collect: Any) -> None:
    whole = collect(IMAGES, shop)
    assert len(whole.batches) == 3
    for cut, batch in enumerate(whole.batches, start=1):
        rest = collect(IMAGES, shop, {"images": batch.position})
        ids = [b.frame["item_id"].item() for b in [*whole.batches[:cut], *rest.batches]]
        assert sorted(ids) == ["i1", "i2", "i3"]


def test_only_new_and_changed_pictures_are_read_again(shop: Path, collect: Any) -> None:
    first = collect(IMAGES, shop)
    assert not collect(IMAGES, shop, first.positions).batches
    old = shop / "elsewhere.png"
    Image.new("RGB", (3, 3)).save(old)
    os.utime(old, (1, 1))
    shutil.copy2(old, shop / "images" / "a-new-one-with-an-old-date.png")
    Image.new("RGB", (9, 9)).save(shop / "images" / "i1.png")
    later = collect(IMAGES, shop, first.positions)
    assert sorted(later.frame["item_id"]) == ["a-new-one-with-an-old-date", "i1"]


def test_a_folder_of_pictures_moved_into_place_is_read(shop: Path, collect: Any) -> None:
    staging = shop / "staging" / "i9"
    staging.mkdir(parents=True)
    Image.new("RGB", (3, 3)).save(staging / "front.png")
    Image.new("RGB", (9, 9)).save(shop / "images" / "i4.png")
    first = collect(IMAGES, shop)
    staging.rename(shop / "images" / "i9")  # the files in it keep all their times
    later = collect(IMAGES, shop, first.positions)
    assert later.frame["item_id"].to_list() == ["i9"]
    assert not collect(IMAGES, shop, later.positions).batches


def test_pictures_are_read_by_name_whenever_they_were_made(shop: Path, collect: Any) -> None:
    Image.new("RGB", (3, 3)).save(shop / "images" / "a.png")
    assert collect(IMAGES, shop).frame["item_id"].to_list() == ["a", "i1", "i2", "i3"]


@pytest.mark.parametrize(
    ("suffix", "damage", "rule"),
    [
        ("png", lambda data: data[:40], "unreadable_image"),
        ("jpg", lambda data: data[: len(data) // 2], "unreadable_image"),
        ("png", lambda data: b"", "unreadable_image"),
        ("png", lambda data: b"<html>not found</html>", "unreadable_image"),
    ],
)
def test_a_picture_that_cannot_be_opened_is_rejected_with_the_reason(
    suffix: str, damage: Any, rule: str, shop: Path, collect: Any
) -> None:
    path = shop / "images" / f"bad.{suffix}"
    Image.effect_noise((200, 200), 50).save(path)
    path.write_bytes(damage(path.read_bytes()))
    got = collect(IMAGES, shop)
    assert got.frame.height == 3
    (reject,) = got.rejects.to_dicts()
    assert (reject["file"], reject["line"], reject["rule"]) == (f"images/bad.{suffix}", 1, rule)
    assert reject["detail"]


def test_a_picture_of_too_many_pixels_or_bytes_is_rejected_unopened(
    shop: Path, collect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr(wholefiles, "BIGGEST", 60)
    got = collect(IMAGES, shop)
    assert set(got.rejects["rule"]) <= {"too_many_pixels", "too_long"}
    assert got.rejects.filter(file="images/i2.jpg")["rule"].item() == "too_long"
    monkeypatch.setattr(wholefiles, "BIGGEST", 10**6)
    again = collect(IMAGES, shop)
    assert again.rejects.select("file", "rule").rows() == [("images/i2.jpg", "too_many_pixels")]


def test_what_is_said_of_a_bad_picture_is_the_same_every_time(shop: Path, collect: Any) -> None:
    (shop / "images" / "bad.jpg").write_bytes(b"<html>404</html>")
    told = [collect(IMAGES, shop).rejects.row(0) for _ in range(2)]
    assert told[0] == told[1]
    assert "0x" not in str(told[0])


def test_a_copied_folder_brings_no_picture_and_no_unreadable_file_twice(
    shop: Path, collect: Any
) -> None:
    (shop / "images" / "i4.png").write_bytes(b"no picture")
    first = collect(IMAGES, shop)
    assert first.rejects.height == 1
    shutil.copytree(shop / "images", shop / "copy")
    shutil.rmtree(shop / "images")
    shutil.move(shop / "copy", shop / "images")
    copied = collect(IMAGES, shop, first.positions)
    assert not any(batch.frame.height or batch.rejects.height for batch in copied.batches)
    assert not collect(IMAGES, shop, copied.positions).batches  # and is known from now on
    one = shop / "images" / "i1.png"
    before = one.read_bytes()
    Image.new("RGB", (9, 9)).save(one)
    changed = collect(IMAGES, shop, copied.positions)
    assert changed.frame["item_id"].to_list() == ["i1"]
    one.write_bytes(before)  # what it was once is news again
    assert collect(IMAGES, shop, changed.positions).frame["item_id"].to_list() == ["i1"]
