"""clean rows -> features: item attributes and per-user sequences, for training and for a request.

The tables made here keep plain values (ids, kinds, times, milliseconds, minor units); what models
see of them is computed in one place, `sequences.pack`, whether for training or for a live request.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from shopkeeper.features.items import ItemTable
from shopkeeper.features.sequences import Sequences, Vocabulary, pack
from shopkeeper.words import KIND_CODES

LARGEST = float(np.finfo(np.float32).max)  # numbers are kept in 32 bits
MIN_TAG_ITEMS = 2  # a tag that only one item has tells nothing about others
_CODES = {"schema": {"kind": pl.String, "code": pl.Int16}, "orient": "row"}


def sequence_rows(events: pl.LazyFrame, kinds: Sequence[str]) -> pl.DataFrame:
    """One row per user, sorted by user: lists of what they did, oldest first.

    Reads user_id, item_id, kind, ts, dwell_ms, price_minor, seq; keeps events of `kinds` that name
    an item. Events of one instant keep the order in which they arrived; unknown times come first.
    """
    codes = pl.DataFrame(list(KIND_CODES.items()), **_CODES)  # type: ignore[arg-type]
    return (
        events.filter(pl.col("kind").is_in(list(kinds)) & pl.col("item_id").is_not_null())
        .sort("user_id", "ts", "seq", nulls_last=False)
        .join(codes.lazy(), on="kind", how="left", maintain_order="left")
        .group_by("user_id", maintain_order=True)
        .agg(
            "item_id",
            pl.col("code").alias("kind"),
            pl.col("ts").dt.epoch("ms").alias("ts"),
            "dwell_ms",
            "price_minor",
        )
        .collect()
    )


def sequences(
    rows: pl.DataFrame, vocabulary: Vocabulary, max_length: int | None = None
) -> Sequences:
    """`sequence_rows` -> packed sequences; items outside the vocabulary are left out."""
    index = pl.DataFrame(
        {"item_id": vocabulary.ids, "index": np.arange(len(vocabulary), dtype=np.int32)},
        schema={"item_id": pl.String, "index": pl.Int32},
    )
    if max_length is not None:
        lists = [c for c in rows.columns if c != "user_id"]
        rows = rows.with_columns(pl.col(c).list.tail(max_length) for c in lists)
    flat = (
        rows.with_row_index("row")
        .explode("item_id", "kind", "ts", "dwell_ms", "price_minor")
        .join(index, on="item_id", how="left", maintain_order="left")
        .filter(pl.col("index").is_not_null())
    )
    lengths = np.bincount(flat["row"].to_numpy(), minlength=rows.height)
    return pack(
        rows["user_id"].to_list(),
        lengths,
        flat["index"].to_numpy(),
        kinds=flat["kind"].to_numpy(),
        times=flat["ts"].fill_null(-1).to_numpy(),
        dwell_ms=flat["dwell_ms"].cast(pl.Float64).fill_null(float("nan")).to_numpy(),
        price_minor=flat["price_minor"].cast(pl.Float64).fill_null(float("nan")).to_numpy(),
    )


def item_rows(items: pl.DataFrame | None, seen: pl.Series) -> pl.DataFrame:
    """One row per item, sorted by id: tags, numbers, text.

    Args:
        items: clean.items, or None for a shop that has none.
        seen: item ids of events; those without a row in `items` get an empty one.
    Returns:
        item_id, tags list[str] ("category=lamp"), names list[str] and values list[f32] of numeric
        attributes, text, updated_at (ms since 1970 UTC; null where the catalogue does not say).
    """
    known: list[dict[str, Any]] = (
        [] if items is None else [_describe(row) for row in items.iter_rows(named=True)]
    )
    ids = {row["item_id"] for row in known}
    for item in seen.unique().drop_nulls():
        if item not in ids:
            known.append(
                {
                    "item_id": item,
                    "tags": [],
                    "names": [],
                    "values": [],
                    "text": "",
                    "updated_at": None,
                }
            )
    schema: dict[str, pl.DataType | type[pl.DataType]] = {
        "item_id": pl.String,
        "tags": pl.List(pl.String),
        "names": pl.List(pl.String),
        "values": pl.List(pl.Float32),
        "text": pl.String,
        "updated_at": pl.Int64,
    }
    return pl.DataFrame(known, schema=schema).sort("item_id")


def deleted(writes: pl.DataFrame) -> pl.Series:
    """Ids whose newest put or delete among live item writes is a delete."""
    whole = writes.filter(pl.col("mode") != "patch").sort("seq")
    newest = whole.unique("item_id", keep="last", maintain_order=True)
    return newest.filter(pl.col("mode") == "delete")["item_id"]


def known_items(clean: pl.DataFrame, ids: Sequence[str]) -> pl.DataFrame:
    """clean.items sorted by id, with a bare row for every id that only events know."""
    missing = pl.DataFrame({"item_id": ids}, schema={"item_id": pl.String})
    missing = missing.join(clean, on="item_id", how="anti")
    return pl.concat([clean, missing], how="diagonal").sort("item_id")


def _describe(row: Mapping[str, Any]) -> dict[str, Any]:
    tags = [f"{name}={row[name]}" for name in ("category", "brand", "shop_id") if row.get(name)]
    names: list[str] = []
    values: list[float] = []
    if row.get("price_minor") is not None:
        names.append("log_price")
        values.append(float(np.log1p(row["price_minor"])))
    attributes = json.loads(row["attributes"]) if row.get("attributes") else {}
    for name, value in sorted(attributes.items()):
        parts = value if isinstance(value, list) else [value]
        for place, part in enumerate(parts):
            if isinstance(part, bool | str):
                tags.append(f"{name}={part}")
            elif isinstance(part, int | float) and abs(part) <= LARGEST:  # else no number: nan, inf
                names.append(f"{name}[{place}]" if isinstance(value, list) else name)
                values.append(float(part))
    text = " ".join(str(row[c]) for c in ("title", "title_zh", "description") if row.get(c))
    at = row.get("updated_at")
    return {
        "item_id": row["item_id"], "tags": tags, "names": names, "values": values, "text": text,
        "updated_at": None if at is None else int(at.timestamp() * 1000),
    }  # fmt: skip


def newer(as_of: int) -> pl.Expr:
    """Of `item_rows`: items with numbers, in a state newer than `as_of` (ms since 1970 UTC)."""
    return (pl.col("updated_at") > as_of).fill_null(False) & (pl.col("names").list.len() > 0)


def item_table(rows: pl.DataFrame, as_of: int | None = None) -> ItemTable:
    """`item_rows` -> the arrays models read; numbers standardised over the items that have them.

    Args:
        as_of: leave out the numbers of items in a newer state (ms since 1970 UTC): how often an item
            was sold until today tells a model what it is about to be asked.
    """
    count = rows.height
    tags = rows.select("tags").with_row_index("row").explode("tags").drop_nulls()
    frequent = Counter(dict(tags["tags"].value_counts().iter_rows()))
    tag_names = sorted(tag for tag, items in frequent.items() if items >= MIN_TAG_ITEMS)
    codes = pl.DataFrame(
        {"tags": tag_names, "code": np.arange(len(tag_names), dtype=np.int32)},
        schema={"tags": pl.String, "code": pl.Int32},
    )
    coded = tags.join(codes, on="tags", how="inner", maintain_order="left")
    lengths = np.bincount(coded["row"].to_numpy(), minlength=count)
    flat = rows.select("names", "values").with_row_index("row").explode("names", "values")
    flat = flat.drop_nulls()
    number_names = flat["names"].unique().sort().to_list()
    numbers = np.full((count, len(number_names)), np.nan, dtype=np.float64)
    place = {name: column for column, name in enumerate(number_names)}
    for row, name, value in flat.iter_rows():
        numbers[row, place[name]] = value
    if as_of is not None:
        numbers[rows.select(newer(as_of)).to_series().to_numpy()] = np.nan
    return ItemTable(
        vocabulary=Vocabulary(rows["item_id"].to_list()),
        tag_offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        tags=coded["code"].to_numpy().astype(np.int32),
        tag_names=tag_names,
        numbers=_standardise(numbers),
        number_names=number_names,
        text=rows["text"].to_list(),
    )


def _standardise(
    numbers: np.ndarray[Any, np.dtype[np.float64]],
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Columns to mean 0 and spread 1 over the known values; unknown becomes 0."""
    known = ~np.isnan(numbers)
    count = np.maximum(known.sum(axis=0), 1)
    filled = np.where(known, numbers, 0.0)
    mean = filled.sum(axis=0) / count
    spread = np.sqrt((np.where(known, numbers - mean, 0.0) ** 2).sum(axis=0) / count)
    scaled = np.where(known, (filled - mean) / np.where(spread > 0, spread, 1.0), 0.0)
    return scaled.astype(np.float32)
