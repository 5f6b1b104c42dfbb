"""From an answer to raw rows, and from a raw row to all it reached: held against what versions hold."""

import csv
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shopkeeper.errors import NotFound
from shopkeeper.governance.access import OWNER
from shopkeeper.shop import Shop
from shopkeeper.words import Purpose

FILE = "raw/events.csv"


def lines_of(folder: Path, user: str) -> list[int]:
    """Where a user's good events stand in the file."""
    with (folder / FILE).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    mine = [(row["ts"], n) for n, row in enumerate(rows, 2) if row["user_id"] == user]
    return [line for _, line in sorted(mine) if rows[line - 2]["event_id"][0] == "e"]


def append(folder: Path, *rows: str) -> None:
    with (folder / FILE).open("a", encoding="utf-8") as file:
        file.writelines(row + "\n" for row in rows)


def holds(shop: Shop, asset: str, line: int) -> set[str]:
    """Versions of a table that have that line of the file, by reading every one whole."""
    return {
        version.id
        for version in shop.assets.catalog.history(asset)
        if version.removed_at is None
        and shop.assets.scan(asset, by=OWNER, purpose=Purpose.AUDIT, version=version.number)
        .filter(pl.col("line") == line, pl.col("file") == FILE)
        .collect()
        .height
    }


def reached(row: dict[str, Any]) -> dict[str, str]:
    return {one["version"]: one["why"] for one in row["reached"]}


def test_an_answer_leads_to_the_raw_lines_of_its_users_events(folder: Path) -> None:
    with Shop.open(folder) as shop:
        told = shop.trace_answer(shop.service.recommend(user_id="u05").answer_id)
        events = told["input"]["events"]
        assert [event["line"] for event in events] == lines_of(folder, "u05")
        assert {event["file"] for event in events} == {FILE}
        assert {event["version"] for event in events} == {"raw.events@1"}
        assert told["input"]["verified"] is True  # their features have the digest that was logged
        assert told["snapshot"] == {
            "features.items": "features.items@1",
            "features.sequences": "features.sequences@1",
        }
        (model,) = told["models"]
        assert model["version"] == "models.item_knn@1"
        assert sorted(model["trained_on"]) == sorted(told["snapshot"].values())
        assert told["release"]["serves"]
        assert told["release"]["version"] == "releases.main@1"


def test_live_events_are_told_by_their_place_in_the_log_and_later_ones_are_left_out(
    folder: Path,
) -> None:
    with Shop.open(folder) as shop:
        shop.service.record([{"event_id": "live1", "user_id": "u05", "item_id": "i03"}])
        answer = shop.service.recommend(user_id="u05").answer_id
        shop.service.record([{"event_id": "live2", "user_id": "u05", "item_id": "i07"}])
        found = shop.trace_answer(answer)["input"]
        assert found["verified"] is True
        last = found["events"][-1]
        assert (last["file"], last["line"], last["event_id"]) == ("events.db", 1, "live1")
        assert shop.trace_event("live1")["logged"] == 1
        shop.run()  # what was live is in the lake now, and another release serves
        shop.tidy(keep_last=1, days=0)
        again = shop.trace_answer(answer)["input"]
        assert again["verified"] is True
        assert [e["line"] for e in again["events"]] == [e["line"] for e in found["events"]]
        (row,) = shop.trace_event("live1")["rows"]
        assert row["table"] == "raw.feedback"
        assert row["cleaned"][0]["state"] == "clean"
        searched = shop.service.search("lamp", user_id="u05").answer_id  # its log says no state
        lines = [e["line"] for e in shop.trace_answer(searched)["input"]["events"]]
        assert len(lines) == len(found["events"]) + 1


def test_answers_that_no_event_shaped_say_why(folder: Path) -> None:
    with Shop.open(folder) as shop:
        nobody = shop.trace_answer(shop.service.recommend().answer_id)["input"]
        assert nobody["why"] == "nobody"
        assert nobody["events"] == []
        given = shop.service.recommend(user_id="u05", history=["i01", "i02"]).answer_id
        told = shop.trace_answer(given)["input"]
        assert told["why"] == "given"
        assert told["items"] == ["i01", "i02"]
        with pytest.raises(NotFound, match="no answer 'nope'"):
            shop.trace_answer("nope")


def test_a_raw_row_leads_to_exactly_the_versions_that_hold_it(folder: Path) -> None:
    first = lines_of(folder, "u05")[0]
    with Shop.open(folder) as shop:
        append(folder, "late1,u05,i09,view,2026-03-20T10:00:00+00:00,5000,1999")
        late = len((folder / FILE).read_text().splitlines())
        shop.run()
        for line, models in ((first, {"models.item_knn@1", "models.item_knn@2"}), (late, {"models.item_knn@2"})):  # fmt: skip
            (row,) = shop.trace_row(FILE, line)["rows"]
            assert set(row["versions"]) == holds(shop, "raw.events", line)
            (cleaned,) = row["cleaned"]
            assert cleaned["state"] == "clean"
            assert set(cleaned["versions"]) == holds(shop, "clean.events", line)
            why = reached(row)
            assert {v for v in why if v.startswith("models.")} == models
            assert {v for v, how in why.items() if how == "values"} == {
                f"features.sequences@{m[-1]}" for m in models
            }
            releases = [r for r in row["reached"] if r["asset"] == "releases.main"]
            assert len(releases) == len(models)
            assert any(r["serves"] for r in releases)
        before = shop.trace_row(FILE, first)
        shop.assets.compact("raw.events")
        shop.assets.compact("clean.events")
        assert shop.trace_row(FILE, first) == before  # merged files are looked into as they are
        shop.run(["collect", "clean"], force=True)  # read anew: the same rows in the same versions
        again = shop.trace_row(FILE, first)["rows"][0]
        assert reached(again) == reached(before["rows"][0])


def test_a_quarantined_row_reaches_nothing_and_says_the_rule(folder: Path) -> None:
    with Shop.open(folder) as shop:
        (row,) = shop.trace_event("bad2")["rows"]
        (cleaned,) = row["cleaned"]
        assert (cleaned["state"], cleaned["rule"]) == ("quarantined", "reference:item_id")
        assert set(cleaned["versions"]) == holds(shop, "quarantine.events", row["line"])
        assert holds(shop, "clean.events", row["line"]) == set()
        assert row["reached"] == []


def test_a_merged_row_names_the_one_that_stands_for_it(folder: Path) -> None:
    first = lines_of(folder, "u05")[0]
    text = (folder / FILE).read_text().splitlines()[first - 1]
    with Shop.open(folder) as shop:
        append(folder, text)
        again = len((folder / FILE).read_text().splitlines())
        shop.run(["collect", "clean"])
        (row,) = shop.trace_row(FILE, again)["rows"]
        (cleaned,) = row["cleaned"]
        assert cleaned["state"] == "merged"
        assert cleaned["into"]["line"] == first
        assert row["reached"] == []


def test_a_place_with_other_contents_in_another_version_is_another_row(folder: Path) -> None:
    first = lines_of(folder, "u05")[0]
    with Shop.open(folder) as shop:
        rows = (folder / FILE).read_text().splitlines()
        rows[first - 1] = "swapped,u11,i02,view,2026-03-05T10:00:00+00:00,4000,1999"
        (folder / FILE).write_text("\n".join(rows) + "\n")
        shop.run(["collect", "clean", "features"], force=True)
        old, new = sorted(shop.trace_row(FILE, first)["rows"], key=lambda row: row["versions"])
        assert (old["versions"], new["versions"]) == (["raw.events@1"], ["raw.events@2"])
        assert new["row"]["event_id"] == "swapped"
        assert old["row"]["event_id"] != "swapped"
        assert "models.item_knn@1" in reached(old)
        assert "features.sequences@2" not in reached(old)
        assert "features.sequences@2" in reached(new)
        assert "models.item_knn@1" not in reached(new)


def test_items_are_traced_by_what_became_of_their_states(folder: Path) -> None:
    with Shop.open(folder) as shop:
        (row,) = shop.trace_row("raw/items.csv", 5)["rows"]
        assert row["table"] == "raw.items"
        assert row["row"]["item_id"] == "i03"
        assert {"clean.items@1", "features.items@1", "models.item_knn@1", "releases.main@1"} <= set(reached(row))  # fmt: skip
        shop.service.put_items([{"item_id": "i03", "stock": 1}], mode="patch")
        shop.run(["collect", "clean"])
        (write,) = shop.trace_row("items.db", 1)["rows"]
        assert write["table"] == "raw.item_writes"
        assert write["cleaned"][0]["state"] == "clean"
        assert "clean.items@2" in reached(write)
        (row,) = shop.trace_row("raw/items.csv", 5)["rows"]
        states = {one["state"]: one for one in row["cleaned"]}
        assert states["merged"]["into"]["file"] == "items.db"  # what it knew stands in that row


def test_values_of_people_are_hidden_and_an_unknown_place_is_told(folder: Path) -> None:
    with Shop.open(folder) as shop:
        answer = shop.service.recommend(user_id="u05").answer_id
        line = lines_of(folder, "u05")[0]
        ts = (folder / FILE).read_text().splitlines()[line - 1].split(",")[4][:16]
        for told in (
            shop.trace_answer(answer),
            shop.trace_row(FILE, line),
            shop.trace_event("bad1"),
        ):
            text = json.dumps(told)
            assert '"u05"' not in text
            assert ts not in text
            assert "2090" not in text
        with pytest.raises(NotFound, match=r"no row of line 99999 of 'raw/events\.csv'"):
            shop.trace_row(FILE, 99999)
        with pytest.raises(NotFound, match="no event 'nope'"):
            shop.trace_event("nope")
