"""What goes wrong in real files, planted on purpose: one kind of dirt a row, all of it written down.

Every kind says what a careful reader does with it:

    quarantined   the row cannot be true or cannot be read; it is set aside whole
    merged        the row says nothing new; another row already does
    repaired      what is wrong can be put right or left empty; the event stays
    kept          it only looks odd (late, out of order, a busy person); nothing may be lost
"""

import numpy as np
import numpy.typing as npt
import polars as pl

from shopkeeper.demo.behaviour import COLUMNS, DAY_MS
from shopkeeper.demo.catalogue import Catalogue, item_id, shop_id

OUTCOME: dict[str, str] = {
    "exact_duplicate": "merged",
    "resent": "merged",
    "missing_user": "quarantined",
    "missing_item": "quarantined",
    "unknown_item": "quarantined",
    "unknown_kind": "quarantined",
    "negative_price": "quarantined",
    "huge_price": "quarantined",
    "nan_price": "quarantined",
    "no_quantity": "quarantined",
    "future": "quarantined",
    "unreadable_time": "quarantined",
    "too_many_fields": "quarantined",
    "too_few_fields": "quarantined",
    "bad_bytes": "quarantined",
    "bot_regular": "quarantined",
    "bot_fast": "quarantined",
    "negative_dwell": "repaired",
    "endless_dwell": "repaired",
    "untidy_text": "repaired",
    "return_below_zero": "repaired",
    "late": "kept",
    "out_of_order": "kept",
    "viewed_again": "kept",
    "long_stay": "kept",
    "busy_person": "kept",
    # the catalogue, users and pictures
    "older_state": "merged",
    "same_state": "merged",
    "item_without_id": "quarantined",
    "item_negative_price": "quarantined",
    "item_nan_price": "quarantined",
    "negative_stock": "repaired",
    "unreadable_consent": "repaired",
    "picture_cut_off": "quarantined",
    "picture_is_text": "quarantined",
}

# Share of a stream's rows that gets each kind; a kind stands where its column is filled.
SHARES: dict[str, float] = {
    "exact_duplicate": 0.004,
    "resent": 0.004,
    "missing_user": 0.0015,
    "missing_item": 0.0015,
    "unknown_item": 0.0015,
    "unknown_kind": 0.0005,
    "negative_price": 0.001,
    "huge_price": 0.0003,
    "nan_price": 0.0005,
    "no_quantity": 0.0005,
    "future": 0.001,
    "unreadable_time": 0.0005,
    "too_many_fields": 0.0006,
    "too_few_fields": 0.0003,
    "bad_bytes": 0.0004,
    "negative_dwell": 0.001,
    "endless_dwell": 0.001,
    "untidy_text": 0.002,
    "late": 0.004,
    "out_of_order": 0.006,
    "viewed_again": 0.002,
    "long_stay": 0.001,
}
TEXT_ONLY = {  # what typed columns (Parquet) cannot hold
    "nan_price",
    "unreadable_time",
    "too_many_fields",
    "too_few_fields",
    "bad_bytes",
}
BOT_SHARE = 0.005  # of the users

NEEDS: dict[str, pl.Expr] = {
    "missing_item": pl.col("item_id").is_not_null() & (pl.col("kind") != "search"),
    "unknown_item": pl.col("item_id").is_not_null(),
    "negative_price": pl.col("price_minor").is_not_null(),
    "huge_price": pl.col("price_minor").is_not_null(),
    "nan_price": pl.col("price_minor").is_not_null(),
    "no_quantity": pl.col("kind").is_in(["cart", "purchase"]),
    "negative_dwell": pl.col("dwell_ms").is_not_null(),
    "endless_dwell": pl.col("dwell_ms").is_not_null(),
    "long_stay": pl.col("dwell_ms").is_not_null(),
    "viewed_again": pl.col("kind") == "view",
    "untidy_text": pl.col("item_id").is_not_null(),
}


def soil_events(
    rng: np.random.Generator, events: pl.DataFrame, last_ms: int, *, typed: bool
) -> pl.DataFrame:
    """Plant dirt in one stream.

    Args:
        events: event_id, COLUMNS; clean, sorted by `ms`.
        last_ms: nothing arrives later.
        typed: leave out what typed columns cannot hold.
    Returns:
        The rows in order of arrival: event_id, COLUMNS as text but `ms`, `ts_text` (null: as `ms`
        says), `arrival` Int64 ms, `dirt` String (null where the row is as it happened).
    """
    total = events.height
    label = np.full(total, None, dtype=object)
    free = np.ones(total, dtype=np.bool_)
    copies: dict[str, npt.NDArray[np.int64]] = {}
    for kind, share in SHARES.items():
        if typed and kind in TEXT_ONLY:
            continue
        fits = free
        if kind in NEEDS:
            fits = free & events.select(NEEDS[kind].fill_null(False)).to_series().to_numpy()
        (rows,) = np.nonzero(fits)
        chosen = np.sort(rng.choice(rows, min(max(round(share * total), 1), len(rows)), False))
        free[chosen] = False
        if kind in ("exact_duplicate", "resent", "viewed_again"):
            copies[kind] = chosen
        else:
            label[chosen] = kind
    text = events.with_columns(pl.all().exclude("ms").cast(pl.String)).with_columns(
        dirt=pl.Series(label.tolist(), dtype=pl.String), arrival=pl.col("ms")
    )
    parts = [text]
    for kind, chosen in copies.items():
        late = rng.integers(1, 3_600_000, len(chosen))
        again = text[chosen].with_columns(
            dirt=pl.lit(kind), arrival=pl.col("arrival") + pl.Series(late)
        )
        if kind == "resent":
            apart = rng.integers(200, 1_800, len(chosen))
            again = again.with_columns(
                ms=pl.col("ms") + pl.Series(apart), event_id=pl.col("event_id") + "r"
            )
        elif kind == "viewed_again":  # back after a few seconds: another look, not the same event
            apart = rng.integers(4_000, 20_000, len(chosen))
            dwell = pl.Series(rng.integers(2_000, 60_000, len(chosen)).astype(str))
            again = again.with_columns(
                ms=pl.col("ms") + pl.Series(apart),
                event_id=pl.col("event_id") + "v",
                dwell_ms=dwell,
            )
        parts.append(again)
    made = pl.concat(parts)
    odd = made["dirt"]
    chance = pl.Series(rng.random(made.height))
    days = pl.Series(rng.uniform(0.5, 6, made.height))

    def where(kind: str) -> pl.Expr:
        return pl.lit(odd == kind)

    made = made.with_columns(
        user_id=pl.when(where("missing_user"))
        .then(None if typed else pl.when(chance < 0.5).then(None).otherwise(pl.lit("null")))
        .when(where("untidy_text"))
        .then(pl.col("user_id") + "  ")
        .otherwise("user_id"),
        item_id=pl.when(where("missing_item"))
        .then(None)
        .when(where("unknown_item"))
        .then(pl.lit("G9") + pl.col("item_id").str.slice(2))
        .when(where("untidy_text"))
        .then(pl.lit(" ") + pl.col("item_id"))
        .otherwise("item_id"),
        kind=pl.when(where("unknown_kind")).then(pl.lit("hover")).otherwise("kind"),
        price_minor=pl.when(where("negative_price"))
        .then(pl.lit("-") + pl.col("price_minor"))
        .when(where("huge_price"))
        .then(pl.col("price_minor") + "000000000")
        .when(where("nan_price"))
        .then(pl.lit("NaN"))
        .otherwise("price_minor"),
        quantity=pl.when(where("no_quantity")).then(pl.lit("0")).otherwise("quantity"),
        dwell_ms=pl.when(where("negative_dwell"))
        .then(pl.lit("-") + pl.col("dwell_ms"))
        .when(where("endless_dwell"))
        .then(pl.lit("9") + pl.col("dwell_ms").str.zfill(8))
        .when(where("long_stay"))
        .then((chance * 12_000_000 + 4_000_000).cast(pl.Int64).cast(pl.String))
        .otherwise("dwell_ms"),
        ts_text=pl.when(where("unreadable_time"))
        .then(pl.when(chance < 0.5).then(pl.lit("0000-00-00 00:00:00")).otherwise(pl.lit("昨天")))
        .otherwise(pl.lit(None, pl.String)),
        ms=pl.when(where("future")).then(pl.col("ms") + 40 * 365 * DAY_MS).otherwise("ms"),
        arrival=pl.when(where("late"))
        .then(pl.col("arrival") + (days * DAY_MS).cast(pl.Int64))
        .when(where("out_of_order"))
        .then(pl.col("arrival") + (days * 200_000).cast(pl.Int64))
        .otherwise("arrival"),
    )
    return made.with_columns(pl.col("arrival").clip(upper_bound=last_ms)).sort(
        "arrival", maintain_order=True
    )


def bots(
    rng: np.random.Generator, catalogue: Catalogue, ids: list[str], first_ms: int, days: int
) -> pl.DataFrame:
    """Crawlers: most step like clockwork in a few sittings, every fifth races through in an hour.

    Returns COLUMNS and `dirt`.
    """
    parts = []
    for number, user in enumerate(ids):
        fast = number % 5 == 4
        if fast:
            steps = rng.exponential(1.0, int(rng.integers(640, 800)))
            steps *= 3_300_000 / steps.sum()
        else:
            even = rng.uniform(0.002, 0.012)
            steps = rng.uniform(8_000, 25_000) * (
                1 + rng.normal(0, even, int(rng.integers(80, 160)))
            )
            steps[rng.integers(1, len(steps), 2)] += rng.uniform(2, 9) * 3_600_000  # rests
        kind = "bot_fast" if fast else "bot_regular"
        parts.append(_walk(rng, catalogue, user, steps, first_ms, days, kind))
    return pl.concat(parts)


def busy_people(
    rng: np.random.Generator, catalogue: Catalogue, ids: list[str], first_ms: int, days: int
) -> pl.DataFrame:
    """People who click through a few hundred items in an hour or two, at a human pace.

    Returns COLUMNS and `dirt`.
    """
    parts = []
    for user in ids:
        steps = rng.lognormal(2.0, 0.7, int(rng.integers(200, 400))) * 1_000 + 2_500
        parts.append(_walk(rng, catalogue, user, steps, first_ms, days, "busy_person"))
    return pl.concat(parts)


def _walk(
    rng: np.random.Generator,
    catalogue: Catalogue,
    user: str,
    steps: npt.NDArray[np.float64],
    first_ms: int,
    days: int,
    kind: str,
) -> pl.DataFrame:
    """One user's views of item after item, `steps` milliseconds apart: COLUMNS and `dirt`."""
    total, count = len(catalogue.good), len(steps)
    begin = first_ms + int(rng.uniform(0, days - 2) * DAY_MS)
    rows = (int(rng.integers(0, total)) + np.arange(count)) % total
    frame = pl.DataFrame(
        {
            "user_id": [user] * count,
            "session_id": [f"{user}-1"] * count,
            "item_id": [item_id(int(row)) for row in rows],
            "shop_id": [shop_id(int(catalogue.shop[row])) for row in rows],
            "kind": ["view"] * count,
            "ms": begin + np.cumsum(np.maximum(steps, 20)).astype(np.int64),
            "dwell_ms": (np.maximum(steps, 20) * rng.uniform(0.3, 0.9, count)).astype(np.int64),
            "price_minor": catalogue.price_minor[rows],
            "channel": ["web"] * count,
            "dirt": [kind] * count,
        }
    )
    missing = [name for name in COLUMNS if name not in frame.columns]
    return frame.with_columns(pl.lit(None, pl.String).alias(name) for name in missing).select(
        *COLUMNS, "dirt"
    )


def soil_items(rng: np.random.Generator, page: pl.DataFrame) -> pl.DataFrame:
    """The catalogue as exported: text columns, some rows twice, some wrong, and `dirt`.

    The true state of every item is there too, and newer than any sound older state.
    """
    text = page.with_columns(pl.all().cast(pl.String), dirt=pl.lit(None, pl.String))
    rows = rng.permutation(page.height)
    size = max(page.height // 240, 2)
    old, same, nameless, negative, nan, oversold = (
        rows[number * size : (number + 1) * size] for number in range(6)
    )
    dearer = (pl.col("price_minor").cast(pl.Int64) + 1000).cast(pl.String)
    more = [
        text[old].with_columns(
            dirt=pl.lit("older_state"),
            updated_at=pl.lit("2024-06-01T08:00:00Z"),
            price_minor=dearer,
        ),
        text[same].with_columns(dirt=pl.lit("same_state")),
        text[nameless].with_columns(
            dirt=pl.lit("item_without_id"), item_id=pl.lit(None, pl.String)
        ),
        text[negative].with_columns(
            dirt=pl.lit("item_negative_price"), price_minor=pl.lit("-") + pl.col("price_minor")
        ),
        text[nan].with_columns(dirt=pl.lit("item_nan_price"), price_minor=pl.lit("NaN")),
    ]
    sold = pl.int_range(pl.len()).is_in(oversold.tolist())
    text = text.with_columns(
        dirt=pl.when(sold).then(pl.lit("negative_stock")).otherwise("dirt"),
        stock=pl.when(sold).then(pl.lit("-3")).otherwise("stock"),
    )
    return pl.concat([text, *more])


def soil_users(rng: np.random.Generator, page: pl.DataFrame) -> pl.DataFrame:
    """Users as exported: some rows twice, some consents that nobody can read, and `dirt`."""
    rows = rng.permutation(page.height)
    size = max(page.height // 400, 2)
    odd = pl.int_range(pl.len()).is_in(rows[:size].tolist())
    text = page.with_columns(
        dirt=pl.when(odd).then(pl.lit("unreadable_consent")).otherwise(pl.lit(None, pl.String)),
        personalisation=pl.when(odd).then(pl.lit("??")).otherwise("personalisation"),
    )
    again = text[rows[size : 2 * size]].with_columns(dirt=pl.lit("same_state"))
    return pl.concat([text, again])
