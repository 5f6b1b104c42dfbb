"""Quarantine as work: repaired by rule, replayed, undone; every row accounted for."""

import pytest

from shopkeeper.errors import InputError, NotFound
from shopkeeper.shop import Shop


@pytest.fixture
def shop(folder):
    with Shop.open(folder) as opened:
        yield opened


def counts(shop: Shop) -> tuple[int, int, int]:
    notes = shop.assets.current("quality.events").notes
    assert notes["rows"] == notes["clean"] + notes["merged"] + notes["quarantined"]
    return notes["rows"], notes["clean"], notes["quarantined"]


def test_a_repair_is_tried_kept_replayed_and_taken_back(shop) -> None:
    rows, clean, bad = counts(shop)
    told = shop.quarantine_repair(
        "events", "impossible:price_minor", "price_minor=", why="the till sent NaN", by="ada"
    )
    (example,) = told["examples"]
    assert (example["before"], example["after"]) == (
        {"price_minor": "NaN"}, {"price_minor": None},
    )  # fmt: skip
    digest = shop.assets.current("clean.events").digest
    replayed = shop.quarantine_replay("events", "impossible:price_minor")
    assert replayed == {"replayed": 1, "clean": 1, "merged": 0, "still": 0}
    assert counts(shop) == (rows, clean + 1, bad - 1)
    (kept,) = shop.quarantine_repairs("events")
    assert (kept["why"], kept["by"], kept["repaired"]) == ("the till sent NaN", "ada", 1)

    repaired = shop.assets.current("clean.events").digest
    shop.run(["clean.events"], force=True)  # from raw again: the same
    assert shop.assets.current("clean.events").digest == repaired != digest

    shop.quarantine_undo("events", told["repair"], why="it does not any more", by="bob")
    shop.quarantine_replay("events")
    assert shop.assets.current("clean.events").digest == digest
    assert counts(shop) == (rows, clean, bad)


def test_a_replay_finds_what_came_to_be_known_meanwhile(shop, folder) -> None:
    bad = shop.quarantine_replay("events", "reference:item_id")
    assert bad == {"replayed": 1, "clean": 0, "merged": 0, "still": 1}
    with (folder / "raw" / "items.csv").open("a", encoding="utf-8") as file:
        file.write("nowhere,Here after all,,,Lighting,L,100,1,,\n")
    shop.run(["collect.items", "clean.items"])
    assert shop.quarantine_replay("events", "reference:item_id")["clean"] == 1


def test_values_of_people_are_hidden_where_a_repair_shows_what_it_does(shop) -> None:
    told = shop.quarantine_try("events", "future:ts", "ts=2026-03-01T00:00:00.000000Z")
    assert told["examples"][0]["before"] == {"ts": "•••"}
    assert shop.quarantine_repairs() == []


def test_what_cannot_be_repaired_is_told(shop) -> None:
    with pytest.raises(NotFound, match=r"in quarantine under 'range:ts'; there is future:ts, imp"):
        shop.quarantine_repair("events", "range:ts", "ts=", why="so")
    with pytest.raises(InputError, match="images are files"):
        shop.quarantine_repair("images", "x", "format=png", why="so")
    with pytest.raises(InputError, match="no reason given"):
        shop.quarantine_repair("events", "future:ts", "ts=")
    with pytest.raises(NotFound, match="no table 'evnts'"):
        shop.quarantine_repair("evnts", "x", "ts=", why="so")
