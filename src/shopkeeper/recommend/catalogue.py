"""What can be recommended now: items in columns, so that rules are array operations.

Rows 0..M-1 are the models' ItemIndex; items that models do not know yet follow. Live writes change
rows in place and append new ones; a row is never moved, so an index stays good for a release.
"""

import json
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from shopkeeper.collect.tables import COLUMNS
from shopkeeper.errors import InputError, NotFound
from shopkeeper.words import MONEY_LIMIT

Bools = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]

# what a page can show of an item
CARD = tuple(name for name in COLUMNS["items"] if name != "updated_at")
CODED = ("category", "brand", "shop_id")  # columns that rules compare
UNKNOWN_STOCK = -1
FILTERS = ("category", "brand", "shop_id", "price_minor", "in_stock")
ALSO = {"shop": "shop_id", "price": "price_minor"}  # shorter names that search takes too

Filters = Mapping[str, Any]


class Catalogue:
    """Items by row; readers need no lock, writers take turns.

    Args:
        vocabulary: M ids in ItemIndex order.
        items: columns of `CARD` (missing ones are null), one row an item, any order, and optionally
            `alive`, false for a deleted one. Ids that are not in `vocabulary` are appended after it;
            ids of it that are not here have no card: only events know them.
    """

    def __init__(self, vocabulary: list[str], items: pl.DataFrame) -> None:
        self.model_items = len(vocabulary)
        known = set(vocabulary)
        extra = [item for item in items["item_id"].to_list() if item not in known]
        self.ids: list[str] = [*vocabulary, *extra]
        self.index: dict[str, int] = {item: row for row, item in enumerate(self.ids)}
        self.version = 0  # changes with every live write
        self._lock = threading.Lock()
        self._live: dict[int, dict[str, Any]] = {}  # row -> card, where it was written live
        absent = {name: pl.lit(None, pl.String) for name in CARD} | {"alive": pl.lit(True)}
        items = items.with_columns(
            value.alias(name) for name, value in absent.items() if name not in items.columns
        ).select(*CARD, "alive")
        order = pl.DataFrame({"item_id": self.ids}).with_row_index("row")
        self._cards = order.join(items, on="item_id", how="left", maintain_order="left")
        size = len(self.ids)
        self.size = size
        room = size + 1024
        self._names: dict[str, dict[str, int]] = {name: {} for name in CODED}
        self._codes: dict[str, npt.NDArray[np.int32]] = {}
        for name in CODED:
            column = self._cards[name].cast(pl.String)
            values = column.unique().drop_nulls().sort().to_list()
            self._names[name] = {value: code for code, value in enumerate(values)}
            codes = np.full(room, -1, dtype=np.int32)
            if values:
                coded = column.replace_strict(values, list(range(len(values))), default=-1)
                codes[:size] = coded.fill_null(-1).cast(pl.Int32).to_numpy()
            self._codes[name] = codes
        self._prices = np.full(room, np.nan)
        self._prices[:size] = (
            self._cards["price_minor"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        )
        self._stock = np.full(room, UNKNOWN_STOCK, dtype=np.int64)
        self._stock[:size] = self._cards["stock"].cast(pl.Int64).fill_null(-1).to_numpy()
        self._alive = np.zeros(room, dtype=np.bool_)
        self._alive[:size] = self._cards["alive"].fill_null(True).to_numpy()

    def __len__(self) -> int:
        return self.size

    def row(self, item_id: str) -> int:
        """Row of an item; NotFound for an unknown or deleted one."""
        row = self.index.get(item_id)
        if row is None or not self._alive[row]:
            raise NotFound(f"no item {item_id!r}", next="search for it, or write it first")
        return row

    def codes(self, name: str) -> npt.NDArray[np.int32]:
        """(len,) codes of `category`, `brand` or `shop_id`; -1 where unknown."""
        return self._codes[name][: self.size]

    def available(self) -> Bools:
        """(len,) can be sold now: not deleted, and stock is unknown or above zero."""
        can: Bools = self._alive[: self.size] & (self._stock[: self.size] != 0)
        return can

    def matching(self, filters: Filters | None) -> Bools | None:
        """(len,) items that pass `filters`; None where there are none.

        `{"category": [..] or "..", "brand": .., "shop_id": .., "price_minor": {"min", "max"},
        "in_stock": true}`; different keys are joined by and, values of one key by or. An unknown
        price passes no price filter. InputError names an unknown key or a wrong value.
        """
        if not filters:
            return None
        size = self.size
        keep = self._alive[:size].copy()
        for asked, wanted in filters.items():
            name = ALSO.get(asked, asked)
            if wanted is None:
                continue
            if name in CODED:
                values = [wanted] if isinstance(wanted, str) else wanted
                if not isinstance(values, list | tuple) or not all(
                    isinstance(value, str) for value in values
                ):
                    raise InputError(
                        f"filter {name} is {wanted!r}, wanted a text or a list of texts"
                    )
                names = self._names[name]
                codes = [names[value] for value in values if value in names]
                keep &= np.isin(self._codes[name][:size], codes)
            elif name == "price_minor":
                keep &= _within(self._prices[:size], wanted)
            elif name == "in_stock":
                if not isinstance(wanted, bool):
                    raise InputError(f"filter in_stock is {wanted!r}, wanted true or false")
                if wanted:
                    keep &= self._stock[:size] != 0
            else:
                raise InputError(
                    f"unknown filter {name!r}", next=f"filters are: {', '.join(FILTERS)}"
                )
        return keep

    def card(self, row: int) -> dict[str, Any]:
        """What a page shows of an item; fields that are not known are None."""
        live = self._live.get(row)
        if live is not None:
            return dict(live)
        values = self._cards.row(row, named=True)
        del values["row"], values["alive"]
        attributes = values["attributes"]
        values["attributes"] = json.loads(attributes) if attributes else {}
        return values

    def find(self, item_id: str) -> dict[str, Any] | None:
        """The card of an item; None for an unknown or deleted one."""
        row = self.index.get(item_id)
        return None if row is None or not self._alive[row] else self.card(row)

    def described(self, item_id: str) -> dict[str, Any] | None:
        """As `find`; None for an item that only events know as well."""
        row = self.index.get(item_id)
        if row is not None and row not in self._live and self._cards["alive"][row] is None:
            return None
        return self.find(item_id)

    def put(self, item: Mapping[str, Any]) -> None:
        """Write a whole card (`CARD` fields; missing ones become unknown); new items are appended."""
        with self._lock:
            item_id = str(item["item_id"])
            row = self.index.get(item_id)
            if row is None:
                row = self._append(item_id)
            card = {name: item.get(name) for name in CARD} | {
                "attributes": item.get("attributes") or {}
            }
            for name in CODED:
                value = card[name]
                names = self._names[name]
                self._codes[name][row] = (
                    -1 if value is None else names.setdefault(value, len(names))
                )
            price, stock = card["price_minor"], card["stock"]
            self._prices[row] = np.nan if price is None else price
            self._stock[row] = UNKNOWN_STOCK if stock is None else stock
            self._live[row] = card
            self._alive[row] = True
            self.version += 1

    def remove(self, item_id: str) -> None:
        """Never show an item again (until it is put back); unknown ids are ignored."""
        with self._lock:
            row = self.index.get(item_id)
            if row is not None:
                self._alive[row] = False
                self.version += 1

    def _append(self, item_id: str) -> int:
        row = self.size
        if row == len(self._alive):
            more = max(1024, row // 4)
            self._prices = np.concatenate([self._prices, np.full(more, np.nan)])
            self._stock = np.concatenate([self._stock, np.full(more, UNKNOWN_STOCK)])
            self._alive = np.concatenate([self._alive, np.zeros(more, np.bool_)])
            for name in CODED:
                filler = np.full(more, -1, dtype=np.int32)
                self._codes[name] = np.concatenate([self._codes[name], filler])
        self.ids.append(item_id)
        self.index[item_id] = row
        self.size = row + 1
        return row


def _within(prices: npt.NDArray[np.float64], wanted: object) -> Bools:
    if not isinstance(wanted, Mapping) or not wanted or not set(wanted) <= {"min", "max"}:
        raise InputError(f'filter price_minor is {wanted!r}, wanted {{"min": .., "max": ..}}')
    keep = ~np.isnan(prices)
    for end, value in wanted.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"filter price_minor.{end} is {value!r}, wanted a number")
        if not abs(value) < MONEY_LIMIT:
            raise InputError(f"filter price_minor.{end} is {value!r}, wanted a price")
        with np.errstate(invalid="ignore"):
            keep &= prices >= value if end == "min" else prices <= value
    return keep
