from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from shopkeeper.assets import contracts

NOW = datetime(2026, 2, 1, tzinfo=UTC)

Rows = Callable[..., pl.DataFrame]


def _raw(table: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    names = contracts.built_in(table).names
    schema: dict[str, Any] = dict.fromkeys([*names, "source", "file"], pl.String)
    schema |= {"line": pl.Int64, "seq": pl.Int64}
    full = [
        {**dict.fromkeys(schema), "source": table, "file": f"{table}.csv", "line": n + 2, "seq": n}
        | row
        for n, row in enumerate(rows)
    ]
    return pl.DataFrame(full, schema=schema, orient="row")


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def events() -> Rows:
    """events({"dwell_ms": "-1"}, …): raw events of user u1 viewing i1, a minute apart."""

    def make(*changes: dict[str, Any]) -> pl.DataFrame:
        rows = [
            {
                "event_id": f"e{n}",
                "user_id": "u1",
                "item_id": "i1",
                "kind": "view",
                "ts": f"2026-01-01T{n // 60:02}:{n % 60:02}:00.000000Z",
                **change,
            }
            for n, change in enumerate(changes)
        ]
        return _raw("events", rows)

    return make


@pytest.fixture
def items() -> Rows:
    """items({"price_minor": "100"}, …): raw rows of items i0, i1, …"""

    def make(*changes: dict[str, Any]) -> pl.DataFrame:
        return _raw("items", [{"item_id": f"i{n}", **change} for n, change in enumerate(changes)])

    return make


@pytest.fixture
def raw() -> Callable[[str, list[dict[str, Any]]], pl.DataFrame]:
    """raw("users", [{…}, …]): any table's raw rows."""
    return _raw
