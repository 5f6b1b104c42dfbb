"""Write a whole marketplace into a folder: raw files, shop.toml, and the sealed truth beside them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from shopkeeper.demo import behaviour, catalogue
from shopkeeper.demo.goods import SHOPS
from shopkeeper.errors import InputError

END = np.datetime64("2026-04-01T00:00:00", "s")  # fixed, so that the same seed gives the same bytes

Progress = Callable[[float, float, str], None]


def write(
    folder: Path,
    *,
    users: int = 6000,
    items: int = 2400,
    days: int = 60,
    seed: int = 7,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the marketplace into `folder`. Same arguments, same bytes.

    Returns:
        {"folder", "users", "items", "events", "files"}: what was written.
    Raises:
        InputError: the folder already holds a workspace, or a number is too small.
    """
    if users < 20 or items < 120 or days < 7:
        raise InputError(
            f"users={users}, items={items}, days={days} make no marketplace",
            next="take at least 20 users, 120 items and 7 days",
        )
    if (folder / "shop.toml").exists():
        raise InputError(
            "there is a shop here already", where=str(folder), next="name an empty folder"
        )
    say = progress or (lambda done, total, text: None)
    rng = np.random.default_rng(seed)
    first_day = END - np.timedelta64(days, "D")
    first_ms = int(first_day.astype("datetime64[ms]").astype(np.int64))
    goods = catalogue.make(rng, items, days, first_day)
    people = behaviour.make_users(rng, users, days, first_day)
    market = behaviour.Market(rng, goods, days)
    events = behaviour.simulate(
        rng, market, people, first_ms, lambda done, total: say(done, total, "users")
    )
    raw = folder / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    events = events.with_columns(
        event_id=pl.format("e{}", pl.int_range(pl.len()).cast(pl.String).str.zfill(8)),
        ts=pl.from_epoch("ms", time_unit="ms").dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"),
    ).select("event_id", *(name if name != "ms" else "ts" for name in behaviour.COLUMNS))
    events.write_csv(raw / "events.csv")
    goods.page.write_csv(raw / "items.csv")
    people.page.write_csv(raw / "users.csv")
    shops = pl.DataFrame(
        {
            "shop_id": [catalogue.shop_id(row) for row in range(len(SHOPS))],
            "name": [name for name, _, _ in SHOPS],
            "name_zh": [name for _, name, _ in SHOPS],
        }
    )
    shops.write_csv(raw / "shops.csv")
    (folder / "shop.toml").write_text(
        'name = "demo marketplace"\ntimezone = "Asia/Shanghai"\n'
        + "".join(
            f'[[sources]]\ntable = "{table}"\npath = "raw/{table}.csv"\n'
            for table in ("events", "items", "users", "shops")
        ),
        encoding="utf-8",
    )
    return {
        "folder": str(folder),
        "users": users,
        "items": len(goods.good),
        "events": events.height,
        "files": sorted(str(path.relative_to(folder)) for path in raw.iterdir()),
    }
