"""Landing: rows are added once, or all of them replaced; a run that was killed changes neither."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shopkeeper.assets.store import Run
from shopkeeper.collect.land import mapping_digest
from shopkeeper.config import Settings, Source
from shopkeeper.errors import InputError
from shopkeeper.governance.access import OWNER
from shopkeeper.shop import Shop
from shopkeeper.words import Purpose

TOML = 'buckets = 2\n[[sources]]\ntable = "events"\npath = "e-*.csv"\n'
FILES, LINES = 3, 20

Collect = Callable[..., pl.DataFrame]


def part(folder: Path, number: int) -> Path:
    """A file of LINES events."""
    path = folder / f"e-{number}.csv"
    lines = (f"u{n % 5},i1,view,2026-01-0{number + 1}T00:00:{n:02d}Z\n" for n in range(LINES))
    path.write_text("user_id,item_id,kind,ts\n" + "".join(lines))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.toml").write_text(TOML)
    for number in range(FILES):
        part(tmp_path, number)
    return tmp_path


@pytest.fixture
def collected(folder: Path) -> Collect:
    """Collect, and read raw.events."""

    def run(**how: Any) -> pl.DataFrame:
        with Shop.open(folder) as shop:
            shop.run(["collect"], **how)
            return shop.assets.read("raw.events", by=OWNER, purpose=Purpose.AUDIT)

    return run


@pytest.fixture
def killed(collected: Collect, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Collect, and be stopped behind the second file."""

    def run(**how: Any) -> None:
        saved = []
        checkpoint = Run.checkpoint

        def stop(run: Run) -> None:
            checkpoint(run)
            saved.append(run)
            if len(saved) == FILES - 1:
                raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(Run, "checkpoint", stop)
            with pytest.raises(KeyboardInterrupt):
                collected(**how)

    return run


def lines_of(raw: pl.DataFrame) -> set[tuple[str, int]]:
    assert raw["seq"].sort().to_list() == list(range(raw.height))
    return set(raw.select("file", "line").rows())


def test_a_user_id_with_blanks_around_lies_with_the_other_rows_of_its_user(
    folder: Path, collected: Collect
) -> None:
    (folder / "e-0.csv").write_text("user_id,item_id\n" + "u1,i1\n u1,i2\nu1 ,i3\n\tu1,i4\n")
    collected()
    with Shop.open(folder) as shop:
        parts = [
            shop.assets.read("raw.events", by=OWNER, purpose=Purpose.AUDIT, buckets=[n])["user_id"]
            for n in range(2)
        ]
    assert sorted(part.str.strip_chars().is_in(["u1"]).sum() for part in parts)[0] == 0


def test_a_forced_run_that_was_stopped_goes_on_as_a_replacement(
    folder: Path, collected: Collect, killed: Callable[..., None]
) -> None:
    whole = lines_of(collected())
    with (folder / "e-0.csv").open("a") as file:
        file.write("u1,i2,view,2026-03-01T00:00:00Z\n")
    collected()  # what a second reading gives is cut into other data files than the first
    killed(force=True)
    raw = collected()
    assert raw.height == FILES * LINES + 1
    assert lines_of(raw) == whole | {("e-0.csv", LINES + 2)}
    assert collected().height == raw.height


def test_a_file_that_is_gone_stops_a_new_reading_until_its_rows_are_given_up(
    folder: Path, collected: Collect, killed: Callable[..., None]
) -> None:
    whole = lines_of(collected())
    (folder / "e-0.csv").unlink()
    part(folder, FILES)
    assert len(lines_of(collected())) == len(whole) + LINES  # archived: its rows stay
    (folder / "shop.toml").write_text(TOML + 'timezone = "Asia/Tokyo"\n')
    for _ in range(2):
        with pytest.raises(
            InputError,
            match=r"raw.events changed.* but e-0.csv can not: .*give their rows up with: "
            r"shopkeeper run collect.events --force",
        ):
            collected()
    killed(force=True)
    assert {file for file, _ in lines_of(collected())} == {"e-1.csv", "e-2.csv", "e-3.csv"}


def test_a_source_that_is_skipped_or_taken_away_gives_its_rows_up_only_by_force(
    folder: Path, collected: Collect
) -> None:
    (folder / "items.csv").write_text("item_id\ni1\n")
    items = '[[sources]]\ntable = "items"\npath = "items.csv"\n'
    (folder / "more.csv").write_text("item_id\ni2\n")
    more = '[[sources]]\ntable = "items"\npath = "more.csv"\n'
    (folder / "shop.toml").write_text(TOML + items + more)
    collected()
    (folder / "shop.toml").write_text(TOML + items + more + "skip = true\n")
    with pytest.raises(InputError, match=r"but more.csv can not"):
        collected()
    (folder / "shop.toml").write_text(TOML + items.replace("items.csv", "*.csv") + "skip = true\n")
    collected()
    with Shop.open(folder) as shop:
        assert shop.assets.current("raw.items").rows == 2
    collected(force=True)
    with Shop.open(folder) as shop:
        assert shop.assets.current("raw.items").rows == 0
    (folder / "shop.toml").write_text(TOML + items + more)
    collected()
    with Shop.open(folder) as shop:
        assert shop.assets.current("raw.items").rows == 2


def test_a_key_that_nobody_set_changes_no_mapping() -> None:
    class Later(Source):
        new_in_an_upgrade: str = "as it always was"

    one = Source(table="events", path="x")
    two = Later(table="events", path="x", encoding="utf-8")
    assert mapping_digest([one], Settings()) == mapping_digest([two], Settings())
    other = Source(table="events", path="x", units={"ts": "s"})
    assert mapping_digest([one], Settings()) != mapping_digest([other], Settings())


def test_a_mapping_changed_to_and_fro_between_stopped_runs_doubles_nothing(
    folder: Path, collected: Collect, killed: Callable[..., None]
) -> None:
    whole = lines_of(collected())
    for zone in ("Asia/Tokyo", "UTC", "Asia/Tokyo"):
        (folder / "shop.toml").write_text(f'timezone = "{zone}"\n' + TOML)
        killed()
    assert lines_of(collected()) == whole
