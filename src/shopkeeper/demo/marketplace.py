"""Write a whole marketplace into a folder.

shop.toml                      how the files are to be read, with reasons
raw/events/web-YYYY-MM.csv     web events by month of arrival        raw/events/app.parquet
raw/events/legacy.csv          an old system: GB18030, Chinese names, local times, yuan
raw/items/items.csv            the catalogue                         raw/items/*.jsonl
raw/*.csv, raw/*.jsonl          more kinds of data (kinds.py)
raw/users.csv                  raw/shops.xlsx                        raw/images/<item_id>.<suffix>
truth/                         what only the simulation knows; nothing but tests may read it
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from shopkeeper.demo import (
    behaviour,
    catalogue,
    dirt,
    files,
    kinds,
    pictures,
    settings,
    truth,
)
from shopkeeper.demo.goods import REGIONS, SHOPS
from shopkeeper.errors import InputError

END = np.datetime64("2026-04-01T00:00:00", "s")  # fixed, so that the same seed gives the same bytes
JSONL_SHOP = len(SHOPS) - 1

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

    Args:
        progress: called with (done, total, what) as work goes on.
    Returns:
        {"folder", "users", "items", "events", "pictures", "files"}: what was written; events are
        the rows of all event files, dirt included.
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
    first_ms, last_ms = (int(day.astype("M8[ms]").astype(np.int64)) for day in (first_day, END))
    goods = catalogue.make(rng, items, days, first_day)
    people = behaviour.make_users(rng, users, days, first_day)
    market = behaviour.Market(rng, goods, days)
    events = behaviour.simulate(
        rng, market, people, first_ms, lambda done, total: say(done, total, "users")
    )
    for name in ("raw/events", "raw/items", "raw/images", "truth"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    count = max(users // 200, 5)
    guests = [f"U{10_000 + 3 * (users + row)}" for row in range(count + max(count // 5, 2))]
    crawled = pl.concat(
        [
            dirt.bots(rng, goods, guests[:count], first_ms, days),
            dirt.busy_people(rng, goods, guests[count:], first_ms, days),
        ]
    )
    written, found = _events(rng, folder, events, crawled, last_ms)
    found += _catalogue(rng, folder, goods)
    found += _users(rng, folder, people, guests, first_day)
    _shops(rng, folder)
    kinds.write(
        folder,
        seed=seed,
        events=events,
        page=goods.page,
        people=people,
        first_ms=first_ms,
        last_ms=last_ms,
    )
    drawn, spoiled = _pictures(rng, folder, goods, say)
    found.append(spoiled)
    pl.concat(found).write_parquet(folder / "truth" / "dirt.parquet")
    truth.save(folder / "truth", market, people, seed)
    (folder / "shop.toml").write_text(settings.text(), encoding="utf-8")
    raw = folder / "raw"
    return {
        "folder": str(folder),
        "users": users,
        "items": len(goods.good),
        "events": written,
        "pictures": drawn,
        "files": sorted(
            path.relative_to(folder).as_posix()
            for path in raw.rglob("*")
            if path.is_file() and path.parent.name != "images"
        ),
    }


def _events(
    rng: np.random.Generator,
    folder: Path,
    events: pl.DataFrame,
    crawled: pl.DataFrame,
    last_ms: int,
) -> tuple[int, list[pl.DataFrame]]:
    """Write the three streams. Returns the rows written and the dirt."""
    numbered = events.with_columns(
        event_id=pl.format("e{}", pl.int_range(pl.len()).cast(pl.String).str.zfill(8))
    )
    found, written = [], 0
    for channel in behaviour.CHANNELS:
        stream = numbered.filter(pl.col("channel") == channel)
        soiled = dirt.soil_events(rng, stream, last_ms, typed=channel == "app")
        written += soiled.height
        if channel == "app":
            file = "raw/events/app.parquet"
            found.append(files.app_events(soiled, folder / file, file))
        elif channel == "miniapp":
            file = "raw/events/legacy.csv"
            found.append(files.legacy_events(soiled, folder / file, file))
        else:
            steps = crawled.with_columns(pl.all().exclude("ms").cast(pl.String)).with_columns(
                event_id=pl.format("c{}", pl.int_range(pl.len()).cast(pl.String).str.zfill(8)),
                arrival=pl.col("ms").clip(upper_bound=last_ms),
                ts_text=pl.lit(None, pl.String),
            )
            written += steps.height
            both = pl.concat([soiled, steps.select(soiled.columns)])
            both = both.sort("arrival", maintain_order=True)
            month = pl.from_epoch(pl.col("arrival").clip(upper_bound=last_ms - 1), time_unit="ms")
            both = both.with_columns(month=month.dt.strftime("%Y-%m"))
            for part in both.partition_by("month", maintain_order=True):
                file = f"raw/events/web-{part['month'][0]}.csv"
                found.append(files.web_month(part, folder / file, file))
    return written, found


def _catalogue(
    rng: np.random.Generator, folder: Path, goods: catalogue.Catalogue
) -> list[pl.DataFrame]:
    page = goods.page.with_columns(
        image=pl.format("raw/images/{}.{}", "item_id", pl.Series(_suffixes(len(goods.good))))
    )
    soiled = dirt.soil_items(rng, page)
    apart = pl.col("shop_id") == catalogue.shop_id(JSONL_SHOP)
    table, lines = "raw/items/items.csv", "raw/items/ink-and-paper.jsonl"
    return [
        files.items_csv(soiled.filter(~apart), folder / table, table),
        files.items_jsonl(soiled.filter(apart), folder / lines, lines),
    ]


def _users(
    rng: np.random.Generator,
    folder: Path,
    people: behaviour.Users,
    guests: list[str],
    first_day: np.datetime64,
) -> list[pl.DataFrame]:
    """`guests`: robots and busy people; all registered, so that nobody can be told by that."""
    theirs = pl.DataFrame(
        {
            "user_id": guests,
            "region": [REGIONS[row][0] for row in rng.integers(0, len(REGIONS), len(guests))],
            "personalisation": ["true"] * len(guests),
            "registered_at": [f"{first_day}Z"] * len(guests),
            "language": ["zh"] * len(guests),
            "member_level": ["basic"] * len(guests),
        }
    )
    file = "raw/users.csv"
    soiled = dirt.soil_users(rng, pl.concat([people.page, theirs]))
    return [files.users_csv(soiled, folder / file, file)]


def _shops(rng: np.random.Generator, folder: Path) -> None:
    regions = [REGIONS[row][0] for row in rng.integers(0, len(REGIONS), len(SHOPS))]
    shops = pl.DataFrame(
        {
            "shop_id": [catalogue.shop_id(row) for row in range(len(SHOPS))],
            "name": [name for name, _, _ in SHOPS],
            "name_zh": [name for _, name, _ in SHOPS],
            "region": regions,
            "rating": np.clip(rng.normal(4.6, 0.2, len(SHOPS)), 3.9, 5.0).round(1),
        }
    )
    files.xlsx(shops, folder / "raw" / "shops.xlsx")


def _suffixes(total: int) -> list[str]:
    return [pictures.FORMATS[row % len(pictures.FORMATS)] for row in range(total)]


def _pictures(
    rng: np.random.Generator, folder: Path, goods: catalogue.Catalogue, say: Progress
) -> tuple[int, pl.DataFrame]:
    """Draw every item but one in a hundred, spoil a few files. Returns their number and the dirt."""
    total = len(goods.good)
    odd = rng.permutation(total)
    size = max(total // 800, 1)
    none = set(odd[: total // 100].tolist())
    cut = set(odd[total // 100 : total // 100 + size].tolist())
    prose = set(odd[total // 100 + size : total // 100 + 2 * size].tolist())
    rows = []
    for row, suffix in enumerate(_suffixes(total)):
        if row in none:
            continue
        name = f"{catalogue.item_id(row)}.{suffix}"
        image = pictures.picture(
            int(goods.good[row]),
            int(goods.colour[row]),
            int(goods.style[row]),
            int(goods.brand[row]),
        )
        data = pictures.encode(image, suffix)
        kind = None
        if row in cut:
            data, kind = data[: len(data) // 3], "picture_cut_off"
        elif row in prose:
            data, kind = b"<html><body>404 Not Found</body></html>\n", "picture_is_text"
        (folder / "raw" / "images" / name).write_bytes(data)
        if kind is not None:
            rows.append(
                (
                    kind,
                    dirt.OUTCOME[kind],
                    "images",
                    f"raw/images/{name}",
                    1,
                    catalogue.item_id(row),
                )
            )
        if row % 200 == 199:
            say(row + 1, total, "pictures")
    return total - len(none), pl.DataFrame(rows, schema=files.DIRT, orient="row")
