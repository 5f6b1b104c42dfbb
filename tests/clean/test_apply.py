"""The steps of cleaning: what files told and what was written live, as one."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from shopkeeper.clean import apply
from shopkeeper.governance.access import OWNER
from shopkeeper.recommend.catalogue import Catalogue
from shopkeeper.serving.items import ItemLog, Mode
from shopkeeper.serving.items import apply as serve
from shopkeeper.shop import Shop
from shopkeeper.words import Purpose

ITEMS = "item_id,title,price_minor,updated_at\n"
TOML = 'buckets = 2\n[[sources]]\ntable = "items"\npath = "items*.csv"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.toml").write_text(TOML)
    (tmp_path / "items.csv").write_text(ITEMS + "i1,Lamp,5000,2026-01-01T00:00:00Z\n")
    return tmp_path


def write(folder: Path, mode: Mode, **item: Any) -> None:
    """One live write of i1, acknowledged."""
    path = folder / "store/online/items.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    log = ItemLog(path)
    log.write([{"item_id": "i1", **item}], mode)
    log.close()


def loop(folder: Path, *names: str, force: bool = False) -> Mapping[str, tuple[str, int]]:
    """Title and price of every clean item after another run."""
    with Shop.open(folder) as shop:
        shop.run(names or ["collect", "clean"], force=force)
        items = shop.assets.read("clean.items", by=OWNER, purpose=Purpose.ANALYSE)
    return {
        item: (title, price)
        for item, title, price in items[["item_id", "title", "price_minor"]].rows()
    }


def test_a_live_patch_outlives_the_loop_until_a_later_state_comes(folder: Path) -> None:
    loop(folder)
    write(folder, "patch", price_minor=100)
    assert loop(folder) == {"i1": ("Lamp", 100)}
    (folder / "items-2.csv").write_text(ITEMS + "i1,Lamp,4000,2026-02-01T00:00:00Z\n")
    assert loop(folder) == {"i1": ("Lamp", 100)}  # arrived later, but is of before
    later = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    (folder / "items-3.csv").write_text(ITEMS + f"i1,Lamp,4500,{later}\n")
    assert loop(folder) == {"i1": ("Lamp", 4500)}


@pytest.mark.parametrize(
    "writes",
    [
        [("patch", {"price_minor": None})],
        [("patch", {"price_minor": 7}), ("patch", {"price_minor": None, "title": None})],
        [("patch", {"price_minor": None}), ("patch", {"price_minor": 9})],
        [("patch", {"attributes": {"colour": None, "leaf": "green"}})],
        [("patch", {"attributes": None}), ("patch", {"attributes": {"size": 4.0}})],
        [("patch", {"attributes": {"size": 4.0}}), ("patch", {"attributes": None})],
        [("put", {"title": "New", "stock": 1}), ("patch", {"stock": None, "brand": "Acme"})],
        [("delete", {}), ("patch", {"stock": 4})],
        [("delete", {}), ("put", {"title": "New"}), ("patch", {"stock": 4})],
        [("patch", {"item_id": "ghost", "stock": 4})],
    ],
)
def test_a_run_leaves_of_live_writes_what_the_next_answer_showed(
    folder: Path, writes: list[tuple[Mode, dict[str, Any]]]
) -> None:
    head = "item_id,title,price_minor,colour,size\n"
    (folder / "items.csv").write_text(head + "i1,Lamp,5000,red,3\ni2,Bed,1,blue,9\n")

    def cards() -> Catalogue:
        loop(folder)
        with Shop.open(folder) as shop:
            items = shop.assets.read("clean.items", by=OWNER, purpose=Purpose.ANALYSE)
        return Catalogue([], items)

    live = cards()
    for mode, item in writes:
        write(folder, mode, **item)
    log = ItemLog(folder / "store/online/items.db")
    for one in log.read():
        serve(one, live)
    log.close()
    later = cards()
    for item in ("i1", "i2", "ghost"):
        assert later.find(item) == live.find(item)


def test_a_row_without_a_time_that_arrives_after_a_patch_is_newer(folder: Path) -> None:
    loop(folder)
    write(folder, "patch", price_minor=100)
    loop(folder)
    (folder / "items-2.csv").write_text("item_id,price_minor\ni1,4000\n")
    assert loop(folder) == {"i1": ("Lamp", 4000)}


def test_what_is_said_of_a_row_is_the_same_whenever_it_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "items.csv").write_text(ITEMS + "i1,Lamp,5000,2099-01-01T00:00:00Z\ni2,,,\n")
    (folder / "events.csv").write_text("user_id,item_id,ts\nu1,i2,2099-01-01T00:00:00Z\n")
    (folder / "shop.toml").write_text(TOML + '[[sources]]\ntable = "events"\npath = "events.csv"\n')
    made = ("quarantine.events", "quality.events", "quarantine.items", "quality.items")
    told = []
    for late in (timedelta(0), timedelta(minutes=5)):

        class Clock(datetime):
            @classmethod
            def now(cls, zone: tzinfo | None = None) -> Any:
                return datetime.now(zone) + late  # noqa: B023

        monkeypatch.setattr(apply, "datetime", Clock)
        loop(folder, "collect", "clean", force=True)
        with Shop.open(folder) as shop:
            told.append([shop.assets.current(name).digest for name in made])
            assert shop.assets.current("quarantine.items").rows == 1
            assert shop.assets.current("quarantine.events").rows == 1
    assert told[0] == told[1]


def test_after_files_were_read_anew_a_later_state_is_newer_than_a_put(folder: Path) -> None:
    (folder / "items.csv").write_text("item_id,title,price_minor\ni1,Lamp,5000\n")
    for price in (5001, 5002, 5003):
        loop(folder)
        (folder / "items.csv").write_text(f"item_id,title,price_minor\ni1,Lamp,{price}\n")
    loop(folder)
    write(folder, "put", price_minor=100)
    assert loop(folder) == {"i1": (None, 100)}
    (folder / "shop.toml").write_text(TOML + 'timezone = "Asia/Tokyo"\n')
    assert loop(folder) == {"i1": (None, 100)}  # raw.items is one row now, and was four
    (folder / "items-2.csv").write_text("item_id,title,price_minor\ni1,Lamp,6000\n")
    assert loop(folder) == {"i1": ("Lamp", 6000)}


def test_events_of_an_item_whose_row_is_in_quarantine_stay(folder: Path) -> None:
    (folder / "items-2.csv").write_text(ITEMS + " i2 ,Bed,-1,2026-01-01T00:00:00Z\n")
    (folder / "shop.toml").write_text(TOML + '[[sources]]\ntable = "events"\npath = "events.csv"\n')
    (folder / "events.csv").write_text("user_id,item_id\nu1,i1\nu1,i2\n")
    assert loop(folder) == {"i1": ("Lamp", 5000)}
    with Shop.open(folder) as shop:
        events = shop.assets.read("clean.events", by=OWNER, purpose=Purpose.ANALYSE)
    assert sorted(events["item_id"]) == ["i1", "i2"]


def test_events_of_an_item_that_was_deleted_stay(folder: Path) -> None:
    (folder / "items-2.csv").write_text(ITEMS + "i2,Bed,9000,2026-01-01T00:00:00Z\n")
    (folder / "shop.toml").write_text(TOML + '[[sources]]\ntable = "events"\npath = "events.csv"\n')
    lines = (f"u{n},i{n},2026-01-0{n}T00:00:00Z\n" for n in (1, 2, 3))
    (folder / "events.csv").write_text("user_id,item_id,ts\n" + "".join(lines))
    loop(folder)
    write(folder, "delete")
    assert loop(folder) == {"i2": ("Bed", 9000)}
    with Shop.open(folder) as shop:
        events = shop.assets.read("clean.events", by=OWNER, purpose=Purpose.ANALYSE)
        assert [row["item_id"] for row in shop.quarantined_rows("events")] == ["i3"]
    assert sorted(events["item_id"]) == ["i1", "i2"]  # nobody ever spoke of i3


def test_pictures_are_cleaned_and_shown_a_few_at_a_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "images").mkdir()
    for number in range(5):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"images/i{number}.png")
    toml = TOML + '[[sources]]\ntable = "images"\npath = "images"\n'
    (folder / "shop.toml").write_text(toml)
    one = (folder / "images/i0.png").stat().st_size
    monkeypatch.setattr(apply, "PICTURE_BYTES", 2 * one)
    monkeypatch.setattr("shopkeeper.shop.CACHE_BYTES", 2 * one)
    loop(folder)
    with Shop.open(folder) as shop:
        version = shop.assets.current("clean.images")
        assert version.rows == 5
        assert version.delta_version is not None
        assert len(shop.assets._store("clean.images").files(version.delta_version)) == 3
        for number in range(5):
            path = folder / f"images/i{number}.png"
            assert shop.image(f"i{number}") == ("png", path.read_bytes())
        assert shop.image("i9") is None
        kept = [one for one in shop._pictures.values() if one]
        assert sum(len(content) for _, content in kept) <= 2 * one


def test_a_put_voids_states_of_before_whenever_they_arrive(folder: Path) -> None:
    loop(folder)
    write(folder, "put", price_minor=100)
    assert loop(folder) == {"i1": (None, 100)}
    (folder / "items-2.csv").write_text(ITEMS + "i1,Lamp,4000,2026-02-01T00:00:00Z\n")
    assert loop(folder) == {"i1": (None, 100)}
    later = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    (folder / "items-3.csv").write_text(ITEMS + f"i1,Lamp,4500,{later}\n")
    assert loop(folder) == {"i1": ("Lamp", 4500)}
