"""Days, files and buckets that are made anew come to what a full run comes to."""

from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from shopkeeper import backfill
from shopkeeper.cli import app
from shopkeeper.errors import InputError, NotFound
from shopkeeper.shop import Shop

TOML = """
buckets = 4
[[sources]]
table = "events"
path = "raw/events/*.csv"
[clean]
add_from_rows = {}
"""
STEPS = ["collect", "clean", "features"]
TABLES = ("raw.events", "unread.events", "clean.events", "quarantine.events", "quality.events", "features.sequences")  # fmt: skip
DAY = 48


def day(folder: Path, number: int, *, price: str = "500", rows: int = DAY, users: int = 24) -> None:
    """The file of one day; one of its lines cannot be read and one breaks a rule."""
    lines = [
        f"u{n % users},i{n % 7},purchase,2026-03-{number:02d}T{n % 24:02d}:00:{n:02d}Z,{price}"
        for n in range(rows)
    ]
    lines[3] = lines[3].replace("purchase", "dance")
    lines.insert(5, "too,few")
    path = folder / "raw" / "events" / f"2026-03-{number:02d}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("user_id,item_id,kind,ts,price_minor\n" + "\n".join(lines) + "\n", "utf-8")


def shop(folder: Path, least: int = 0) -> Path:
    folder.mkdir()
    (folder / "shop.toml").write_text(TOML.format(least), "utf-8")
    for number in (1, 2, 3):
        day(folder, number)
    return folder


def run(folder: Path) -> None:
    with Shop.open(folder) as opened:
        opened.run(STEPS)


def digests(folder: Path) -> dict[str, str]:
    with Shop.open(folder) as opened:
        return {name: opened.assets.current(name).digest for name in TABLES}


def rows(folder: Path, name: str) -> pl.DataFrame:
    with Shop.open(folder) as opened:
        return opened.sql(f"SELECT * FROM {name}").frame


def march(number: int) -> date:
    return date(2026, 3, number)


def again(folder: Path, **how: Any) -> dict[str, Any]:
    with Shop.open(folder) as opened:
        return backfill.of_files(opened, **how)


@pytest.mark.parametrize("least", [0, 10**9])
def test_a_repaired_day_leaves_the_digests_of_a_full_run(tmp_path: Path, least: int) -> None:
    mended, whole = shop(tmp_path / "mended", least), shop(tmp_path / "whole", least)
    run(mended)
    before = digests(mended)
    for folder in (mended, whole):
        day(folder, 2, price="700")
    with Shop.open(mended) as opened, pytest.raises(InputError, match="count events"):
        opened.run(["collect"])
    plan = again(mended, first=march(2), dry_run=True)
    assert [(f["file"][-14:], f["rows"], f["rows_in_days"], f["state"]) for f in plan["files"]] == [
        ("2026-03-02.csv", DAY, DAY, "changed")
    ]
    assert plan["steps"][0] == "collect.events"
    assert digests(mended) == before
    told = again(mended, first=march(2), last=march(2))
    assert told["run"]["assets"]["raw.events"]["rows"] == 3 * DAY
    run(whole)
    assert digests(mended) == digests(whole)
    with Shop.open(mended) as opened:
        record = opened.assets.catalog.runs(step="collect.events", limit=1)[0]
        assert record["parameters"]["days"] == ["2026-03-02", "2026-03-02"]
        made = opened.assets.catalog.made_from(opened.assets.current("clean.events").id)
        assert "raw.events@2" in made
        states = {row["step"]: row["state"] for row in opened.status()["steps"]}
    assert states["clean.events"] == states["features.sequences"] == "fresh"
    run(mended)
    assert digests(mended) == digests(whole)


def test_a_repair_of_few_users_leaves_the_other_buckets_as_they_are(tmp_path: Path) -> None:
    mended, whole = shop(tmp_path / "mended"), shop(tmp_path / "whole")
    for folder in (mended, whole):
        day(folder, 2, users=1)
    run(mended)
    for folder in (mended, whole):
        day(folder, 2, users=1, price="700")
    again(mended, first=march(2))
    run(whole)
    assert digests(mended) == digests(whole)
    with Shop.open(mended) as opened:
        record = opened.assets.catalog.runs(step="clean.events", limit=1)[0]
    assert record["notes"]["buckets_anew"] == 1


@pytest.mark.parametrize("count", [DAY - 20, DAY + 20])
def test_a_file_with_fewer_or_more_rows_leaves_the_rows_of_a_full_run_and_later_ones_come_after(
    tmp_path: Path, count: int
) -> None:
    mended, whole = shop(tmp_path / "mended"), shop(tmp_path / "whole")
    run(mended)
    for folder in (mended, whole):
        day(folder, 2, rows=count)
    again(mended, files=["raw/events/2026-03-02.csv"])
    for folder in (mended, whole):
        day(folder, 4)
        run(folder)
    for name in ("raw.events", "clean.events", "quarantine.events", "unread.events"):
        a, b = (rows(folder, name).drop("seq", strict=False) for folder in (mended, whole))
        assert a.sort(a.columns).equals(b.sort(b.columns)), name
    seq = rows(mended, "raw.events")["seq"]
    assert seq.n_unique() == len(seq)


def test_what_cannot_be_read_again_changes_nothing(tmp_path: Path) -> None:
    folder = shop(tmp_path / "shop")
    run(folder)
    before = digests(folder)
    with pytest.raises(NotFound, match="no file gave events of 2026-04-01"):
        again(folder, first=march(1).replace(month=4))
    with pytest.raises(NotFound, match=r"no event came from 'other\.csv'"):
        again(folder, files=["other.csv"])
    (folder / "raw" / "events" / "2026-03-01.csv").unlink()
    with pytest.raises(InputError, match="cannot be read again"):
        again(folder, first=march(1), last=march(2))
    with Shop.open(folder) as opened, pytest.raises(InputError, match="no bucket 4"):
        backfill.of_buckets(opened, [4])
    assert digests(folder) == before


@pytest.mark.parametrize("least", [0, 10**9])
def test_lost_buckets_come_back_with_the_same_digests(tmp_path: Path, least: int) -> None:
    folder = shop(tmp_path / "shop", least)
    run(folder)
    before = digests(folder)
    lost = [
        next((folder / "store" / "lake").glob(f"{table}/bucket={bucket}/*.parquet"))
        for table, bucket in (("clean/events", 1), ("features/sequences", 2))
    ]
    for path in lost:
        path.unlink()
    with Shop.open(folder) as opened:
        plan = backfill.of_buckets(opened, [1, 2], dry_run=True)
        assert sum(len(one["damaged"]) for one in plan["tables"]) == 2
        backfill.of_buckets(opened, [1, 2])
        after = backfill.of_buckets(opened, [1, 2], dry_run=True)
        assert not any(one["damaged"] for one in after["tables"])
    assert digests(folder) == before
    assert all(path.exists() for path in lost)


def test_the_command_tells_the_plan_and_what_was_made(tmp_path: Path) -> None:
    folder = shop(tmp_path / "shop")
    run(folder)
    day(folder, 2, price="700")
    call = ["backfill", "--shop", str(folder)]
    told = CliRunner().invoke(app, [*call, "--from", "2026-03-02", "--dry-run"])
    assert told.exit_code == 0, told.output
    assert "2026-03-02.csv" in told.output.replace("\n", "")
    assert "nothing was changed" in told.output
    told = CliRunner().invoke(app, [*call, "--buckets", "1,3"])
    assert told.exit_code == 0, told.output
    assert "nothing else than was there" in told.output
    told = CliRunner().invoke(app, [*call, "--from", "2026-03-02"])
    assert "raw.events@2" in told.output
    for wrong in (["--from", "March"], ["--buckets", "x"], []):
        assert isinstance(CliRunner().invoke(app, [*call, *wrong]).exception, InputError)
