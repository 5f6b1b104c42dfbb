"""Under a changed mapping all is read anew; what a stream gave up since is kept as it was read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shopkeeper.governance.access import OWNER
from shopkeeper.shop import Shop
from shopkeeper.words import Purpose

TOML = """
buckets = 2
[[sources]]
table = "events"
format = "redis"
url = "redis://127.0.0.1:{port}/0"
stream = "clicks"
{more}
"""

Raw = Callable[..., tuple[pl.DataFrame, pl.DataFrame]]


@pytest.fixture
def raw(redis_server: Any, tmp_path: Path) -> Raw:
    """Collect under one more line of shop.toml; raw and unread events."""
    redis_server.flushall()
    port = redis_server.connection_pool.connection_kwargs["port"]

    def run(more: str = "", **how: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
        (tmp_path / "shop.toml").write_text(TOML.format(port=port, more=more))
        with Shop.open(tmp_path) as shop:
            shop.run(["collect"], **how)
            names = ("raw.events", "unread.events")
            rows, unread = (shop.assets.read(n, by=OWNER, purpose=Purpose.AUDIT) for n in names)
            return rows.sort("seq"), unread

    return run


def add(redis_server: Any, *users: str) -> None:
    for user in users:
        redis_server.xadd("clicks", {"user_id": user, "item_id": "i", "n": "7"})


def test_rows_whose_entries_are_gone_stay_and_the_rest_is_mapped_anew(
    redis_server: Any, raw: Raw
) -> None:
    add(redis_server, "a", "b", "c")
    redis_server.xadd("clicks", {"json": "{oops"})
    first, _ = raw()
    add(redis_server, "d", "e")
    raw()
    redis_server.xtrim("clicks", maxlen=1, approximate=False)
    rows, unread = raw('columns = { quantity = "n" }')
    assert rows.select("user_id", "quantity").rows() == [
        ("a", None), ("b", None), ("c", None), ("d", None), ("e", "7")
    ]  # fmt: skip
    assert rows["seq"].to_list() == [0, 1, 2, 3, 4]
    assert rows["event_id"].head(3).to_list() == first["event_id"].to_list()
    assert unread["rule"].to_list() == ["not_json"]
    add(redis_server, "f")
    rows, _ = raw('columns = { quantity = "n" }')
    assert rows["user_id"].to_list() == ["a", "b", "c", "d", "e", "f"]


def test_what_was_lost_between_the_rows_kept_and_those_left_is_told(
    redis_server: Any, raw: Raw
) -> None:
    add(redis_server, "a")
    raw()
    add(redis_server, "lost", "lost", "b")
    redis_server.xtrim("clicks", maxlen=1, approximate=False)
    rows, unread = raw('columns = { quantity = "n" }')
    assert rows["user_id"].to_list() == ["a", "b"]
    assert unread["detail"][0].startswith("2 entries behind id ")


def test_forced_the_rows_of_gone_entries_are_given_up(redis_server: Any, raw: Raw) -> None:
    add(redis_server, "a", "b")
    raw()
    redis_server.xtrim("clicks", maxlen=1, approximate=False)
    rows, _ = raw(force=True)
    assert rows["user_id"].to_list() == ["b"]
