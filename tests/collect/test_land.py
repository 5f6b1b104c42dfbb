"""Landing: rows are added once, or all of them replaced; a run that was killed changes neither."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shopkeeper.assets.store import Run
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


def test_a_mapping_changed_to_and_fro_between_stopped_runs_doubles_nothing(
    folder: Path, collected: Collect, killed: Callable[..., None]
) -> None:
    whole = lines_of(collected())
    for zone in ("Asia/Tokyo", "UTC", "Asia/Tokyo"):
        (folder / "shop.toml").write_text(f'timezone = "{zone}"\n' + TOML)
        killed()
    assert lines_of(collected()) == whole
