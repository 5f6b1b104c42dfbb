"""One small marketplace for all tests that only read it."""

from pathlib import Path

import polars as pl
import pytest

from shopkeeper import demo


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "shop"
    demo.write(folder, users=400, items=300, days=30, seed=5)
    return folder


@pytest.fixture(scope="session")
def dirt(small: Path) -> pl.DataFrame:
    return pl.read_parquet(small / "truth" / "dirt.parquet")
