from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from shopkeeper.assets.store import Assets
from shopkeeper.features.ties import FOLLOWS, tie, ties_as_of


def _day(number: int) -> datetime:
    return datetime(2026, 1, number, tzinfo=UTC)


def _shop(folder: Path, rows: pl.DataFrame) -> Assets:
    assets = Assets(folder)
    with assets.run("clean.follows") as run:
        run.table(FOLLOWS).put(rows)
    return assets


def _pairs(assets: Assets, instant: datetime | None) -> list[tuple[str, str]]:
    with assets.run("train", reads=[FOLLOWS]) as run:
        found = ties_as_of(run, None if instant is None else int(instant.timestamp() * 1000))
    assert found is not None
    return [
        (follower, other)
        for n, follower in enumerate(found.followers)
        for other in found.followed[found.offsets[n] : found.offsets[n + 1]]
    ]


def test_ties_are_those_of_the_instant(tmp_path: Path) -> None:
    told = [
        ("a", "user", "b", None, None),
        ("a", "user", "c", _day(5), None),
        ("b", "user", "c", _day(1), _day(3)),
        ("b", "shop", None, _day(1), None),
    ]
    schema = {
        "user_id": pl.String, "kind": pl.String, "target_user_id": pl.String,
        "ts": pl.Datetime("us", "UTC"), "ended_at": pl.Datetime("us", "UTC"),
    }  # fmt: skip
    assets = _shop(tmp_path, pl.DataFrame(told, schema, orient="row"))
    assert _pairs(assets, _day(2)) == [("a", "b"), ("b", "c")]
    assert _pairs(assets, _day(4)) == [("a", "b")]
    assert _pairs(assets, None) == [("a", "b"), ("a", "c")]


def test_ties_without_times_were_always_there(tmp_path: Path) -> None:
    rows = pl.DataFrame({"user_id": ["a"], "kind": ["user"], "target_user_id": ["b"]})
    assert _pairs(_shop(tmp_path, rows), _day(1)) == [("a", "b")]


def test_a_tie_told_twice_is_one_and_nobody_follows_themselves() -> None:
    found = tie([("a", "b"), ("a", "b"), ("c", "c"), ("b", "a")])
    assert found.followers == ["a", "b"]
    assert found.followed == ["b", "a"]
    assert found.offsets.tolist() == [0, 1, 2]
