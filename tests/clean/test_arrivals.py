"""Cleaning what is new beside what is there comes to the same rows as cleaning all of it."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shopkeeper.governance.access import OWNER
from shopkeeper.shop import Shop
from shopkeeper.words import Purpose

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
ITEMS = [f"i{n}" for n in range(40)]
STEPS = ["collect", "clean.items", "clean.events"]
TOML = "buckets = 4\n[clean]\nadd_from_rows = {}\nbot_events_per_hour = 30\n"


def write_items(folder: Path, prices: dict[str, int]) -> None:
    rows = [
        {"item_id": name, "title": name, "price_minor": price} for name, price in prices.items()
    ]
    (folder / "raw").mkdir(exist_ok=True)
    pl.DataFrame(rows).write_csv(folder / "raw" / "item_data.csv")


def write_day(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    columns = [
        "event_id",
        "user_id",
        "item_id",
        "kind",
        "ts",
        "dwell_ms",
        "price_minor",
        "quantity",
    ]
    frame = pl.DataFrame(
        [{c: row.get(c) for c in columns} for row in rows], infer_schema_length=None
    )
    (folder / "raw" / "user_behavior").mkdir(exist_ok=True)
    frame.write_csv(folder / "raw" / "user_behavior" / f"day-{name}.csv")


def event(user: str, item: str, at: float, **more: Any) -> dict[str, Any]:
    """`at` in seconds after BEGIN."""
    ts = (BEGIN + timedelta(seconds=at)).isoformat()
    return {"user_id": user, "item_id": item, "kind": "view", "ts": ts} | more


def some_events(dice: random.Random, first: float, last: float, count: int) -> list[dict[str, Any]]:
    """Of forty users: dirty, doubled, with and without ids."""
    rows = []
    for _ in range(count):
        row = event(f"u{dice.randrange(40)}", dice.choice(ITEMS), dice.uniform(first, last))
        if dice.random() < 0.3:
            row["event_id"] = f"e{dice.randrange(3 * count)}"
        if dice.random() < 0.3:
            row |= {
                "kind": "purchase",
                "price_minor": dice.choice([90, 500, 99_000, -5]),
                "quantity": 1,
            }
        if dice.random() < 0.03:
            row["item_id"] = "gone"
        if dice.random() < 0.03:
            row["user_id"] = " u1 "
        if dice.random() < 0.02:
            row["ts"] = "soon"
        rows.append(row)
        while dice.random() < 0.1:  # sent again, perhaps seconds later, perhaps under another id
            again = dict(row)
            again["ts"] = (
                row["ts"] if dice.random() < 0.5 else _later(row["ts"], dice.uniform(0, 3))
            )
            rows.append(again)
    dice.shuffle(rows)
    return rows


def _later(ts: str, seconds: float) -> str:
    return (
        ts
        if ts == "soon"
        else (datetime.fromisoformat(ts) + timedelta(seconds=seconds)).isoformat()
    )


def robot(user: str, first: float, count: int) -> list[dict[str, Any]]:
    return [event(user, ITEMS[n % len(ITEMS)], first + 60 * n) for n in range(count)]


def new_shop(folder: Path, least: int = 0) -> Path:
    folder.mkdir()
    (folder / "shop.toml").write_text(TOML.format(least), "utf-8")
    write_items(folder, dict.fromkeys(ITEMS, 500))
    return folder


def run(folder: Path) -> dict[str, Any]:
    with Shop.open(folder) as shop:
        shop.run(STEPS)
        done = shop.assets.catalog.runs(step="clean.events", limit=1)[0]
        notes: dict[str, Any] = done["notes"]
    return notes


def state(folder: Path) -> dict[str, Any]:
    """Which rows are where, and what was counted; reasons as of when a row came, late rows: not."""
    with Shop.open(folder) as shop:
        read = {
            name: shop.assets.read(f"{name}.events", by=OWNER, purpose=Purpose.OPERATE)
            for name in ("clean", "quarantine", "quality")
        }
        profile = shop.profile("clean.events")
    names = sorted(read["clean"].columns)
    counts = read["quality"].filter(pl.col("rule") != "order:ts").sort("rule")
    return {
        "clean": read["clean"].select(names).sort("seq").rows(),
        "quarantine": read["quarantine"].sort("seq").drop("detail").rows(),
        "counts": counts.select("rule", "level", "count", "rows").rows(),
        "profile": [
            (c["column"], c["nulls"], c["distinct"], c["min"], c["max"]) for c in profile["columns"]
        ],
    }


def both(folder: Path) -> tuple[Path, Path]:
    """A shop that adds, and one that cleans all anew."""
    return new_shop(folder / "adds"), new_shop(folder / "anew", 10**12)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_days_that_are_added_one_by_one_come_to_the_rows_of_cleaning_all(
    tmp_path: Path, seed: int
) -> None:
    dice, shops = random.Random(seed), both(tmp_path)
    day = 86_400.0
    days = [some_events(dice, 0, day, 300)]
    days += [
        some_events(dice, 0.9 * day * n, day * (n + 1), 40) for n in (1, 2)
    ]  # the last two late
    days += [some_events(dice, 0, 4 * day, 40)]  # and one of all days
    for n, rows in enumerate(days):
        for folder in shops:
            write_day(folder, f"{n}", rows)
        notes = [run(folder) for folder in shops]
        assert ("added" in notes[0]) == (n > 0)
        assert "added" not in notes[1]
        assert state(shops[0]) == state(shops[1])


def test_an_event_that_comes_again_in_a_later_file_is_one_event(tmp_path: Path) -> None:
    shops, dice = both(tmp_path), random.Random(9)
    day = 86_400
    first = [
        *some_events(dice, 0, day, 100),
        event("a", "i1", day - 1.0),  # sent again past midnight
        event("b", "i1", day - 3.0),  # again and again: the second was merged, the third is new
        event("b", "i1", day - 1.2),
        event("c", "i2", 50.0, event_id="c1"),
        event("c", "i2", 51.0, event_id="c2"),  # merged, and its id comes again
        event("d", "i3", 60.0, event_id="d1"),
    ]
    then = [
        event("a", "i1", day + 0.5),
        event("b", "i1", day + 0.7),
        event("c", "i2", day + 900.0, event_id="c2"),
        event("d", "i4", day + 900.0, event_id="d1"),  # of another item: no repeat
        event("e", "i4", day + 900.0, event_id="d1"),  # of another user: an event of its own
    ]
    for folder in shops:
        write_day(folder, "0", first)
        run(folder)
        write_day(folder, "1", then)
    notes = [run(folder) for folder in shops]
    assert notes[0]["added"] == 5
    assert "buckets_anew" not in notes[0]
    assert state(shops[0]) == state(shops[1])
    added = [row for row in state(shops[0])["clean"] if row[5] == "i4" and "e" in row[-1]]
    assert len(added) == 1


def test_rows_of_a_robot_leave_when_a_new_row_betrays_it(tmp_path: Path) -> None:
    shops, dice = both(tmp_path), random.Random(4)
    crowd = some_events(dice, 0, 86_400, 200)
    for folder in shops:
        write_day(folder, "0", [*crowd, *robot("r1", 0, 25), *robot("r2", 0, 60)])
        run(folder)
        write_day(
            folder, "1", [*robot("r1", 10, 12), *robot("r2", 9_000, 5), *robot("u1", 9_000, 3)]
        )
    notes = [run(folder) for folder in shops]
    assert notes[0]["buckets_anew"] == 1  # that of r1; r2 was a robot before
    assert state(shops[0]) == state(shops[1])


def test_old_rows_are_judged_again_when_their_item_changes(tmp_path: Path) -> None:
    shops, dice = both(tmp_path), random.Random(5)
    rows = some_events(dice, 0, 86_400, 200)
    bought = {"kind": "purchase", "price_minor": 9_000, "quantity": 1}
    rows += [event("u2", "late", 500), event("u3", "i7", 600, **bought)]
    for folder in shops:
        write_day(folder, "0", rows)
        run(folder)
        prices = {**dict.fromkeys(ITEMS, 500), "late": 100, "i7": 100_00, "i9": 501}
        write_items(folder, prices)
    assert "added" in next(iter([run(folder) for folder in shops]))
    assert state(shops[0]) == state(shops[1])
    for folder in shops:
        write_items(
            folder, {name: price for name, price in prices.items() if name != "i3"} | {"i7": 100}
        )
    notes = [run(folder) for folder in shops]
    assert "buckets_anew" in notes[0]
    assert state(shops[0]) == state(shops[1])


def test_robots_merged_rows_and_rows_of_several_faults_follow_an_item_that_changes(
    tmp_path: Path,
) -> None:
    shops = both(tmp_path)
    bought = {"kind": "purchase", "quantity": 1}
    rows = [
        *robot("r1", 0, 28),
        *(event("r1", "i7", 3 * n, price_minor=9_000, **bought) for n in range(5)),
        event("m", "i7", 10, event_id="m1", price_minor=600, **bought),
        event("m", "i7", 20, event_id="m1", price_minor=20_000, **bought),
        event("f", "late", 30, price_minor=-5, **bought),
        *some_events(random.Random(10), 0, 86_400, 100),
    ]
    for folder in shops:
        write_day(folder, "0", rows)
        run(folder)
        write_items(folder, {**dict.fromkeys(ITEMS, 500), "i7": 100, "late": 500})
        write_day(folder, "1", [event("n", "i1", 90_000, ts="2026-03-02T01:00:00,5Z")])
    notes = [run(folder) for folder in shops]
    assert "added" in notes[0]
    assert state(shops[0]) == state(shops[1])


def test_what_was_to_come_is_taken_in_when_its_time_has_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shopkeeper.clean import arrivals

    class Clock(datetime):
        at = BEGIN + timedelta(days=2)

        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return cls.at

    monkeypatch.setattr(arrivals, "datetime", Clock)
    shops = both(tmp_path)
    rows = [*some_events(random.Random(6), 0, 86_400, 100), event("u5", "i5", 3 * 86_400)]
    for folder in shops:
        write_day(folder, "0", rows)
        run(folder)
    Clock.at = BEGIN + timedelta(days=4)
    for folder in shops:
        write_day(folder, "1", [event("u6", "i6", 3.5 * 86_400)])
    assert next(iter([run(folder) for folder in shops]))["buckets_anew"] == 1
    assert state(shops[0]) == state(shops[1])
    with Shop.open(shops[0]) as shop:
        clean = shop.assets.read("clean.events", by=OWNER, purpose=Purpose.OPERATE)
    assert clean.filter(pl.col("ts") > BEGIN + timedelta(days=2))["user_id"].sort().to_list() == [
        "u5",
        "u6",
    ]


def test_a_bucket_to_which_much_was_added_is_cleaned_anew_and_lies_in_order(tmp_path: Path) -> None:
    folder, dice = new_shop(tmp_path / "shop"), random.Random(7)
    anew = 0
    for n in range(8):
        write_day(folder, f"{n}", some_events(dice, 86_400 * n, 86_400 * (n + 1), 100))
        anew += run(folder).get("buckets_anew", 0)
    assert anew >= 2
    with Shop.open(folder) as shop:
        for bucket in range(4):
            rows = shop.assets.rows(
                "clean.events", by=OWNER, purpose=Purpose.OPERATE, buckets=[bucket]
            )
            assert len(rows.files) < 8
            for path in rows.files:
                part = pl.read_parquet(rows.root / path.path)
                assert part.select("user_id", "ts", "seq").equals(
                    part.select("user_id", "ts", "seq").sort("user_id", "ts", "seq")
                )


def test_compaction_and_other_settings_are_no_reason_to_add_wrongly(tmp_path: Path) -> None:
    shops, dice = both(tmp_path), random.Random(8)
    days = [some_events(dice, 86_400 * n, 86_400 * (n + 1), 100) for n in range(4)]
    for n, rows in enumerate(days):
        for folder in shops:
            write_day(folder, f"{n}", rows)
        if n == 2:  # data files of what was collected and cleaned are merged in between
            with Shop.open(shops[0]) as shop:
                for name in ("raw.events", "clean.events", "quarantine.events"):
                    shop.assets.compact(name)
        if n == 3:
            for folder, least in zip(shops, (0, 10**12), strict=True):
                (folder / "shop.toml").write_text(TOML.format(least) + "max_price_minor = 400\n")
        notes = [run(folder) for folder in shops]
        assert ("added" in notes[0]) == (n in (1, 2))  # another rule: all is judged anew
        assert state(shops[0]) == state(shops[1])
