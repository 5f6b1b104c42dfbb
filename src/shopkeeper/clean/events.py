"""Events of one bucket of users: typed, repaired, merged, or quarantined.

Safe repairs (counted, the event stays): blanks trimmed; kinds in other letters; 3.0 for 3; a dwell
below 0 or of a page left open, a place or propensity that cannot be -> unknown; pieces of a return
below 0 -> above.
Merged: the same id again; the same content again; the same event sent again within seconds.
Everything else that cannot be true goes whole to quarantine: no user, no item where the kind needs
one, unknown kinds and items, prices below 0 or beyond belief, no pieces bought, times that are
missing, long past or to come, an id used for two different events, and all that a robot did.
Without any times, equal lines cannot be told from repeated acts; they stay, and are counted.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from shopkeeper.assets import contracts
from shopkeeper.assets.contracts import Contract
from shopkeeper.clean import bots
from shopkeeper.clean.checks import Cleaned, Ledger, apply, found, mask_of, open_ledger
from shopkeeper.config import CleanSettings
from shopkeeper.words import Kind

ASSET = "clean.events"
TO_COME = "a time not after now"  # what the detail of an event wants that is to come
LEAST_PRICE = 100  # minor units from which an item has a price to compare with
# What must agree for two events to be one that was sent twice; all else may differ by the resend.
SAME = (
    "user_id",
    "item_id",
    "kind",
    "session_id",
    "shop_id",
    "quantity",
    "price_minor",
    "query",
    "answer_id",
)
# All content: what must agree to be the same line twice.
CONTENT = (*SAME, "ts", "dwell_ms", "channel", "region", "position", "propensity")


def clean_events(
    raw: pl.DataFrame | pl.LazyFrame,
    *,
    items: pl.Series | pl.DataFrame | None = None,
    shops: pl.Series | None = None,
    settings: CleanSettings | None = None,
    now: datetime,
    has_time: bool = True,
    contract: Contract | None = None,
) -> Cleaned:
    """Clean all events of some users (a bucket); the result depends on these rows alone.

    Args:
        raw: columns of the events contract as text, and seq, source, file, line.
        items: known item ids, or a frame of item_id and price_minor; None or empty: no item table,
            references are not checked.
        shops: known shop ids; an event of an unknown shop is counted, not quarantined.
        now: aware; events after it (and `future_minutes`) are quarantined.
        has_time: False where no source has times: ts may be missing, order is `seq`.
    Returns:
        clean sorted by user_id, ts, seq. The same whatever the order or chunks of `raw`.
    """
    settings = settings or CleanSettings()
    ledger = check_rows(
        raw,
        items=items,
        shops=shops,
        settings=settings,
        now=now,
        has_time=has_time,
        contract=contract or contracts.built_in("events"),
    )
    rows = _in_order(ledger)
    last = rows["ts"].max()
    rows, merged = _merge_ids(ledger, rows)
    exact, resent = _repeats(ledger, rows, settings)
    ledger.notice("duplicate:exact", "event_id", int(exact.sum()), _stands(rows, exact))
    rows = rows.filter(~exact)
    resent = resent.filter(~exact)
    robot = _robots(ledger, rows, resent, settings, items)
    again = resent & ~robot
    keep = ~(robot | again)
    ledger.notice("duplicate:resent", "event_id", int(again.sum()), _stands(rows, again))
    merged += int(exact.sum()) + int(again.sum())
    cleaned = ledger.close(rows.filter(keep).drop("row"), merged)
    return replace(cleaned, last=last if isinstance(last, datetime) else None)


def check_rows(
    raw: pl.DataFrame | pl.LazyFrame,
    *,
    items: pl.Series | pl.DataFrame | None,
    shops: pl.Series | None,
    settings: CleanSettings,
    now: datetime,
    has_time: bool,
    contract: Contract,
) -> Ledger:
    """All that can be said of a row by itself; arguments as of `clean_events`."""
    ledger = open_ledger(ASSET, raw, contract)
    _repair_returns(ledger)
    apply(ledger, contracts.rules(contract))
    _limit(ledger, settings)
    _times(ledger, settings, now, has_time)
    _references(ledger, items, shops, settings)
    _beside_list_price(ledger, items, settings)
    return ledger


def _repair_returns(ledger: Ledger) -> None:
    """Pieces that come back are often booked as below 0; a return says so already."""
    kind, quantity = ledger.typed["kind"], ledger.typed["quantity"]
    ledger.look("sign:quantity", "quantity")
    below = ((quantity < 0) & (kind == Kind.RETURN.value)).fill_null(False)
    if below.any():
        least: Any = quantity.filter(below).min()
        ledger.put("quantity", quantity.zip_with(~below, -quantity))
        example = f"{int(least)} pieces of a return"
        ledger.repair("sign:quantity", "quantity", int(below.sum()), example)


def _limit(ledger: Ledger, settings: CleanSettings) -> None:
    """The shop's own bounds of what is believable."""
    dwell, price = ledger.typed["dwell_ms"], ledger.typed["price_minor"]
    ledger.look("outlier:dwell_ms", "dwell_ms")
    long = (dwell > settings.max_dwell_ms).fill_null(False)
    if long.any():
        longest: Any = dwell.filter(long).max()
        example = f"{int(longest)} ms, wanted at most {settings.max_dwell_ms:,}"
        ledger.put("dwell_ms", dwell.set(long, None))
        ledger.repair("outlier:dwell_ms", "dwell_ms", int(long.sum()), example)
    wanted = found("price_minor", f"at most {settings.max_price_minor:,}")
    ledger.quarantine(
        "outlier:price_minor", "price_minor", price > settings.max_price_minor, wanted
    )


def _times(ledger: Ledger, settings: CleanSettings, now: datetime, has_time: bool) -> None:
    ts = ledger.typed["ts"]
    if has_time:
        missing = ts.is_null()
        for finding in ledger.findings:
            if finding.rule == "type:ts":
                missing = missing & ~finding.mask
        ledger.quarantine("required:ts", "ts", missing, found("ts", "a time"))
        for rule in ("range:ts", "future:ts"):
            ledger.look(rule, "ts")
    if ts.null_count() == len(ts):
        return
    last = now.astimezone(UTC) + timedelta(minutes=settings.future_minutes)
    ledger.quarantine(
        "range:ts", "ts", ts < settings.first, found("ts", f"a time from {settings.earliest} on")
    )
    ledger.quarantine("future:ts", "ts", ts > last, found("ts", TO_COME))


def _references(
    ledger: Ledger,
    items: pl.Series | pl.DataFrame | None,
    shops: pl.Series | None,
    settings: CleanSettings,
) -> None:
    ids = items["item_id"] if isinstance(items, pl.DataFrame) else items
    if ids is not None and len(ids):
        item = ledger.typed["item_id"]
        unknown = ~item.is_in(ids.implode()).fill_null(True)
        if settings.unknown_items == "quarantine":
            wanted = found("item_id", "an item of the item table")
            ledger.quarantine("reference:item_id", "item_id", unknown, wanted)
        else:
            ledger.notice("reference:item_id", "item_id", int(unknown.sum()))
    if shops is not None and len(shops):
        unknown = ~ledger.typed["shop_id"].is_in(shops.implode()).fill_null(True)
        ledger.notice("reference:shop_id", "shop_id", int(unknown.sum()))


def _beside_list_price(
    ledger: Ledger, items: pl.Series | pl.DataFrame | None, settings: CleanSettings
) -> None:
    """A price far above the item's own is in another unit, or a typing error.

    A source may tell the price of the whole line, so the pieces are allowed for. Far below is no
    fault: things are given away for a cent. Items of less than a hundred minor units have no price
    to speak of.
    """
    if not isinstance(items, pl.DataFrame) or "price_minor" not in items.columns:
        return
    if not settings.max_price_ratio:
        return
    ledger.look("ratio:price_minor", "price_minor")
    listed = items.select("item_id", listed="price_minor").filter(pl.col("listed") >= LEAST_PRICE)
    bound = pl.col("listed") * settings.max_price_ratio * pl.col("quantity").fill_null(1).clip(1)
    dear = (
        ledger.typed.select("item_id", "price_minor", "quantity")
        .with_row_index("row")
        .drop_nulls("price_minor")
        .join(listed, on="item_id")
        .filter(pl.col("price_minor") > bound)
        .sort("row")
    )
    if dear.height:
        _beside(ledger, "listed", dear["row"], dear["listed"].cast(pl.String))
        text = pl.format(
            "price_minor is '{}', wanted at most {} times the item's own price of {}",
            pl.col("price_minor"),
            pl.lit(f"{settings.max_price_ratio:g}"),
            pl.col("beside listed"),
        )
        mask = mask_of(ledger.raw.height, dear["row"])
        ledger.quarantine("ratio:price_minor", "price_minor", mask, text)


def _in_order(ledger: Ledger) -> pl.DataFrame:
    """Rows that broke no rule so far, by user, time and arrival; `row` says where they stood."""
    rows = ledger.typed.with_row_index("row")
    keys = rows.select("row", "user_id", "ts", "seq")
    broken = ledger.broken()
    if broken is not None:
        keys = keys.filter(~broken)
    rows = _taken(rows, keys["row"].gather(_order(keys)))
    late = (
        (pl.col("user_id") == pl.col("user_id").shift(1)) & (pl.col("seq") < pl.col("seq").shift(1))
    ).sum()
    ledger.notice("order:ts", "ts", int(rows.select(late).item()))
    return rows


def _taken(rows: pl.DataFrame, order: pl.Series) -> pl.DataFrame:
    """`rows` at `order`. Columns that nobody fills cost as much to move as others: they are made anew."""
    hollow = [
        name for name in rows.columns if name != "row" and rows[name].null_count() == len(rows)
    ]
    moved = rows.drop(hollow)[order]
    return moved.with_columns(
        pl.lit(None, rows.schema[name]).alias(name) for name in hollow
    ).select(rows.columns)


def _order(rows: pl.DataFrame) -> pl.Series:
    """Where each row goes in the order of user, time (unknown first) and arrival.

    Sorting whole numbers is several times cheaper than sorting texts: users become their rank.
    """
    users = pl.Enum(rows["user_id"].unique().sort())
    keys = (rows["seq"], rows["ts"].to_physical().fill_null(-(2**63)), rows["user_id"].cast(users))
    return pl.Series(np.lexsort([key.to_physical().to_numpy() for key in keys]))


def _merge_ids(ledger: Ledger, rows: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """The same id of the same user again is the same event; the first to arrive stays.

    For another item or kind it is no repeat: such rows go to quarantine. Another user's event may
    have the same id (a tracker that counts from 1): a table of users is cleaned part by part, and
    what becomes of a row must not depend on who else is in its part.
    """
    ledger.look("duplicate:event_id", "event_id")
    ledger.look("unique:event_id", "event_id")
    if rows["event_id"].n_unique() == rows.height:
        return rows, 0
    key, about = ("user_id", "event_id"), ("item_id", "kind")
    twice = rows.filter(pl.col("event_id").is_duplicated())
    twice = twice.filter(pl.struct(key).is_duplicated()).sort(*key, "seq")
    later = pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in key)
    first = [
        pl.col(name).first().over(key).alias(f"first {name}") for name in (*about, "file", "line")
    ]
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(f"first {name}")) for name in about)
    twice = twice.with_columns(first).with_columns(later=later.fill_null(False), same=same)
    again = twice.filter(pl.col("later"))
    other = again.filter(~pl.col("same"))
    merged = again.height - other.height
    example = f"'{again['event_id'][0]}'" if merged else ""
    ledger.notice("duplicate:event_id", "event_id", merged, example)
    if other.height:
        where = pl.format("{}:{}", pl.col("first file"), pl.col("first line"))
        _beside(ledger, "used", other["row"], other.select(where).to_series())
        text = pl.format(
            "event_id is '{}', which {} has for another event, wanted an id of its own",
            pl.col("event_id"),
            pl.col("beside used"),
        )
        ledger.quarantine(
            "unique:event_id", "event_id", mask_of(ledger.raw.height, other["row"]), text
        )
    return rows.filter(~pl.col("row").is_in(again["row"].implode())), merged


def _repeats(
    ledger: Ledger, rows: pl.DataFrame, settings: CleanSettings
) -> tuple[pl.Series, pl.Series]:
    """Masks over `rows`: the same content again; the same event again within seconds.

    Each row is compared with the one before it of the same key, in order of time and arrival.
    Without a time, equal content is a repeat only where a dwell was measured: nobody stays twice
    equally long to the millisecond, but many look twice at one item.
    """
    ledger.look("repeat:ts", "ts")
    key = rows.select(pl.struct(SAME).hash()).to_series()
    nothing = pl.Series(dtype=pl.UInt32)
    often = key.is_duplicated()
    if not often.any():
        return mask_of(rows.height, nothing), mask_of(rows.height, nothing)
    some = rows.select("ts", "seq", key=key).with_row_index("at").filter(often)
    some = some.sort("key", "ts", "seq")
    as_before = pl.col("key") == pl.col("key").shift(1)
    pause = pl.col("ts") - pl.col("ts").shift(1)
    window = timedelta(seconds=max(settings.same_event_seconds, 0.0))
    some = some.with_columns(
        near=(as_before & (pause <= window)).fill_null(False),
        timeless=pl.col("ts").is_null(),
    )
    compare = some.filter(pl.col("near") | pl.col("near").shift(-1) | pl.col("timeless"))
    if not compare.height:
        return mask_of(rows.height, nothing), mask_of(rows.height, nothing)
    told = (
        rows[compare["at"]].select(*CONTENT).with_columns(compare.select("near", "timeless", "at"))
    )
    alike = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(1)) for name in SAME)
    again = told.filter(pl.struct(CONTENT).is_first_distinct().not_())
    sure = again.filter(~pl.col("timeless") | pl.col("dwell_ms").is_not_null())
    ledger.notice("repeat:ts", "ts", again.height - sure.height)
    near = told.filter(pl.col("near") & alike)
    return mask_of(rows.height, sure["at"]), mask_of(rows.height, near["at"])


def _stands(rows: pl.DataFrame, mask: pl.Series) -> str:
    """Where the first of the masked rows to arrive stands, as file:line."""
    if not mask.any() or not {"file", "line"} <= set(rows.columns):
        return ""
    file, line = rows.filter(mask).sort("seq").select("file", "line").row(0)
    return f"{file}:{line}"


def _robots(
    ledger: Ledger,
    rows: pl.DataFrame,
    resent: pl.Series,
    settings: CleanSettings,
    items: pl.Series | pl.DataFrame | None,
) -> pl.Series:
    """Mask over `rows`: what robots did. All of it goes to quarantine.

    What was `resent` is no act of its own: nobody is judged by it.
    """
    catalogue = len(items) if items is not None and len(items) else None
    for rule in ("bot:rate", "bot:regularity", "bot:breadth"):
        ledger.look(rule, "user_id")
    acts = rows.select("user_id", "item_id", "kind", "ts").filter(~resent)
    robots = bots.find(acts, settings, catalogue)
    if not robots.height:
        return mask_of(rows.height, pl.Series(dtype=pl.UInt32))
    theirs = rows.select("row", "user_id").join(robots, on="user_id", maintain_order="left")
    _beside(ledger, "robot", theirs["row"], theirs["detail"])
    for rule in robots["rule"].unique().sort():
        mask = mask_of(ledger.raw.height, theirs.filter(pl.col("rule") == rule)["row"])
        ledger.quarantine(rule, "user_id", mask, pl.col("beside robot"))
    return rows["user_id"].is_in(robots["user_id"].implode())


def _beside(ledger: Ledger, name: str, rows: pl.Series, values: pl.Series) -> None:
    empty = pl.repeat(None, ledger.raw.height, dtype=pl.String, eager=True)
    ledger.beside[name] = empty.scatter(rows, values)
