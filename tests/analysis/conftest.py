from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from shopkeeper.assets.store import Assets


@pytest.fixture
def assets(tmp_path: Path) -> Iterator[Assets]:
    """clean.events in two versions (3 rows, then 4) and clean.items."""
    made = Assets(tmp_path, buckets=1)
    events = pl.DataFrame(
        {
            "user_id": ["a", "a", "b", "c"],
            "item_id": ["x", "y", "x", "x"],
            "kind": ["view", "purchase", "view", "view"],
            "price_minor": [100, 250, 100, None],
        }
    )
    for rows in (3, 4):
        with made.run("test") as run:
            run.table("clean.events").put(events.head(rows))
    with made.run("test") as run:
        run.table("clean.items").put(
            pl.DataFrame(
                {"item_id": ["x", "y"], "title": ["Lamp 台灯", "Tent"], "tags": [["a"], []]}
            )
        )
    yield made
    made.close()
