"""Items, users, shops and images: whole tables, one clean row a key.

The newest row of a key wins, field by field for what it knows; older states are merged into it.
Newest is by time of the state where there is one, else by arrival.
"""

import json
from datetime import datetime, timedelta

import polars as pl

from shopkeeper.assets import contracts
from shopkeeper.assets.contracts import Contract
from shopkeeper.clean.checks import TRACE, Cleaned, Ledger, apply, found, open_ledger
from shopkeeper.config import CleanSettings


def clean_items(
    raw: pl.DataFrame | pl.LazyFrame,
    *,
    empties: pl.Series | None = None,
    shops: pl.Series | None = None,
    settings: CleanSettings | None = None,
    now: datetime,
    contract: Contract | None = None,
) -> Cleaned:
    """One row an item_id, sorted by it; columns of the items contract, typed.

    A price below 0, not a number or beyond `max_price_minor` is quarantined; stock below 0 is
    oversold and becomes 0 (repaired). `shops`: known ids; an unknown shop is counted, not refused.
    `empties`: of each row of `raw`, columns that older states tell no more ("attributes.colour": one
    attribute); null for none.
    """
    settings = settings or CleanSettings()
    contract = contract or contracts.built_in("items")
    ledger = open_ledger("clean.items", raw, contract)
    apply(ledger, contracts.rules(contract))
    price = ledger.typed["price_minor"]
    wanted = found("price_minor", f"at most {settings.max_price_minor:,}")
    ledger.quarantine(
        "outlier:price_minor", "price_minor", price > settings.max_price_minor, wanted
    )
    _not_to_come(ledger, "updated_at", settings, now)
    if shops is not None and len(shops):
        unknown = ~ledger.typed["shop_id"].is_in(shops.implode()).fill_null(True)
        ledger.notice("reference:shop_id", "shop_id", int(unknown.sum()))
    return _newest(ledger, "item_id", "updated_at", empties)


def clean_users(
    raw: pl.DataFrame | pl.LazyFrame,
    *,
    settings: CleanSettings | None = None,
    now: datetime,
    contract: Contract | None = None,
) -> Cleaned:
    """One row a user_id, sorted by it. A consent that cannot be read counts as no (repaired)."""
    contract = contract or contracts.built_in("users")
    ledger = open_ledger("clean.users", raw, contract)
    apply(ledger, contracts.rules(contract))
    _not_to_come(ledger, "registered_at", settings or CleanSettings(), now)
    return _newest(ledger, "user_id", None)


def clean_shops(
    raw: pl.DataFrame | pl.LazyFrame,
    *,
    settings: CleanSettings | None = None,
    now: datetime | None = None,
    contract: Contract | None = None,
) -> Cleaned:
    """One row a shop_id, sorted by it."""
    contract = contract or contracts.built_in("shops")
    ledger = open_ledger("clean.shops", raw, contract)
    apply(ledger, contracts.rules(contract))
    return _newest(ledger, "shop_id", None)


def clean_images(raw: pl.DataFrame | pl.LazyFrame, *, contract: Contract | None = None) -> Cleaned:
    """One row a file, sorted by file_path; `content` (the bytes) is carried along where present.

    An older state of the same file is merged; the same bytes in another file are another picture.
    """
    contract = contract or contracts.built_in("images")
    ledger = open_ledger("clean.images", raw, contract)
    apply(ledger, contracts.rules(contract))
    if "content" in ledger.raw.columns:
        ledger.typed = ledger.typed.with_columns(ledger.raw["content"])
    return _newest(ledger, "file_path", None)


def _not_to_come(ledger: Ledger, column: str, settings: CleanSettings, now: datetime) -> None:
    """A state from the future would win over every true one."""
    last = now + timedelta(minutes=settings.future_minutes)
    wanted = found(column, "a time not after now")  # which now would be another in every run
    ledger.quarantine(f"future:{column}", column, ledger.typed[column] > last, wanted)


def _newest(
    ledger: Ledger, key: str, time: str | None, empties: pl.Series | None = None
) -> Cleaned:
    """Merge the states of each key and close the accounts."""
    columns = ledger.typed.columns
    rows = ledger.typed.with_row_index("row")
    if empties is not None and empties.null_count() < len(empties):
        rows = rows.with_columns(empties.alias("empties"))
    broken = ledger.broken()
    if broken is not None:
        rows = rows.filter(~broken)
    order = [name for name in (time, "seq", "row") if name is not None and name in rows.columns]
    often = rows[key].is_duplicated()
    once, several = rows.filter(~often), rows.filter(often).sort(key, *order)
    before = several.height
    if before:
        # a state that only says again what the one before it said changes nothing: the first stays
        said = [name for name in rows.columns if name not in (*TRACE, "row")]
        same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(1)) for name in said)
        same = same & (pl.int_range(pl.len()) > 0)  # the first has none before it
        several = several.filter(~same)
    twins = before - several.height
    older = several.height - several[key].n_unique()
    ledger.notice(f"duplicate:{key}", key, twins)
    ledger.notice(f"older:{key}", key, older, level="PASS")
    if several.height:
        trace = [name for name in (*TRACE, "row") if name in rows.columns]
        fields = [name for name in columns if name not in (key, *trace)]
        states = several
        if "empties" in rows.columns:
            several = several.with_columns(_not_emptied(name, key) for name in fields)
        newest = several.group_by(key, maintain_order=True).agg(
            *(_last_known(several[name]) for name in fields),
            *(pl.col(name).last() for name in trace),
        )
        if "attributes" in fields:
            newest = _merge_attributes(newest, states, key)
        once = pl.concat([once.select(columns), newest.select(columns)])
    return ledger.close(once.sort(key).select(columns), twins + older)


def _not_emptied(name: str, key: str) -> pl.Expr:
    """The values of a column, null where the same or a later state of the key empties it."""
    here = pl.col("empties").list.contains(name).fill_null(False)
    return pl.when(here.cum_sum(reverse=True).over(key) == 0).then(pl.col(name)).alias(name)


def _last_known(values: pl.Series) -> pl.Expr:
    """The last value of a group that is not null; cheaper where all or none are."""
    last = pl.col(values.name)
    return (last.drop_nulls() if 0 < values.null_count() < len(values) else last).last()


def _merge_attributes(newest: pl.DataFrame, states: pl.DataFrame, key: str) -> pl.DataFrame:
    """Attributes of several states of one key: the newest value of each attribute wins."""
    told = [name for name in ("attributes", "empties") if name in states.columns]
    distinct = states.select(key, *told).filter(pl.any_horizontal(pl.col(told).is_not_null()))
    distinct = distinct.unique(maintain_order=True, keep="last")
    several = distinct.filter(pl.col(key).is_duplicated())
    if not several.height:
        return newest
    merged: dict[str, dict[str, object]] = {}
    for name, text, *empties in several.iter_rows():
        known = merged.setdefault(name, {})
        for emptied in empties[0] or () if empties else ():
            if emptied == "attributes":
                known.clear()
            elif emptied.startswith("attributes."):
                known.pop(emptied.removeprefix("attributes."), None)
        known |= {k: v for k, v in json.loads(text or "{}").items() if v is not None}
    texts = pl.DataFrame(
        {
            key: list(merged),
            "merged": [json.dumps(m, ensure_ascii=False, sort_keys=True) for m in merged.values()],
        },
        schema={key: pl.String, "merged": pl.String},
    )
    joined = newest.join(texts, on=key, how="left", maintain_order="left")
    return joined.with_columns(attributes=pl.coalesce("merged", "attributes")).drop("merged")
