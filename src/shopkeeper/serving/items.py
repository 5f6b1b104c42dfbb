"""Live item writes: durable before they are acknowledged, visible in the next answer and search.

The log holds every write in order; what it means now is `Catalogue` (and the search index) with
the writes after the release's position applied, in every worker.
"""

import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shopkeeper.errors import InputError, NotFound
from shopkeeper.recommend.catalogue import CARD, Catalogue
from shopkeeper.serving.durable import DurableFile
from shopkeeper.serving.events import iso

Mode = Literal["put", "patch", "delete"]
BATCH = 10_000
_LENGTHS = {
    "item_id": 256,
    "title": 1000,
    "title_zh": 1000,
    "description": 100_000,
    "category": 256,
    "brand": 256,
    "shop_id": 256,
    "image": 2000,
}
_WHOLE_LIMIT = 2**53

_SCHEMA = """
CREATE TABLE IF NOT EXISTS writes (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, item_id TEXT NOT NULL, mode TEXT NOT NULL,
    body TEXT NOT NULL, received INTEGER NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Write:
    """One write of one item, as it was sent."""

    seq: int
    item_id: str
    mode: str
    fields: dict[str, Any]
    received: str  # ISO-8601 UTC


def checked(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The item as it is stored; InputError names the field, what was found and wanted."""
    if not isinstance(item, Mapping):
        raise InputError(f"an item is an object, found {type(item).__name__}", where=where)
    for name in item:
        if name not in CARD:
            raise InputError(
                f"unknown field {name!r}",
                where=where,
                next=f"fields are: {', '.join(CARD)}; anything else goes into attributes",
            )
    if not item.get("item_id"):
        raise InputError("no item_id", where=where)
    for name, length in _LENGTHS.items():
        value = item.get(name)
        if value is None:
            continue
        if not isinstance(value, str) or len(value) > length:
            raise InputError(
                f"{name} is {str(value)[:40]!r}, wanted a text of at most {length} characters",
                where=where,
            )
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InputError(f"{name} is no valid UTF-8", where=where) from None
    for name in ("price_minor", "stock"):
        value = item.get(name)
        if value is not None and (type(value) is not int or not 0 <= value <= _WHOLE_LIMIT):
            raise InputError(f"{name} is {value!r}, wanted a whole number >= 0", where=where)
    attributes = item.get("attributes")
    if attributes is not None:
        if not isinstance(attributes, Mapping):
            raise InputError(f"attributes is {attributes!r}, wanted an object", where=where)
        try:
            json.dumps(attributes, allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError) as error:
            raise InputError(f"attributes is no JSON: {error}", where=where) from None
    return dict(item)


class ItemLog:
    """`write` returns after fsync; `read` is the cursor of the lake and of every worker."""

    def __init__(self, path: Path, *, vfs: str | None = None) -> None:
        self.file = DurableFile(path, _SCHEMA, vfs=vfs)

    def write(self, items: Sequence[Mapping[str, Any]], mode: Mode) -> int:
        """Make a batch durable, all or (when one is bad) none; returns the last seq.

        put replaces the whole card, patch the fields named (see `refuse_unknown`), delete takes the
        item out.
        """
        if len(items) > BATCH:
            raise InputError(f"{len(items):,} items in one call", next=f"send at most {BATCH:,}")
        now = time.time_ns() // 1000
        rows = []
        for n, item in enumerate(items):
            fields = checked(item, f"items[{n}]")
            item_id = fields.pop("item_id")
            rows.append((item_id, mode, json.dumps(fields, ensure_ascii=False), now))

        def insert(writer: sqlite3.Connection) -> int:
            writer.executemany(
                "INSERT INTO writes (item_id, mode, body, received) VALUES (?, ?, ?, ?)", rows
            )
            return int(writer.execute("SELECT coalesce(max(seq), 0) FROM writes").fetchone()[0])

        return self.file.write(insert)

    def last(self) -> int:
        """seq of the newest write, 0 where there is none."""
        return int(self.file.query("SELECT coalesce(max(seq), 0) FROM writes")[0][0])

    def read(self, after: int = 0, limit: int = 100_000) -> list[Write]:
        """Writes with seq > `after`, in order, at most `limit`."""
        return [
            Write(seq, item_id, mode, json.loads(body), iso(received))
            for seq, item_id, mode, body, received in self.file.query(
                "SELECT seq, item_id, mode, body, received FROM writes WHERE seq > ? "
                "ORDER BY seq LIMIT ?",
                (after, limit),
            )
        ]

    def close(self) -> None:
        """Write what is queued, then close."""
        self.file.close()


def apply(write: Write, catalogue: Catalogue) -> None:
    """Carry one write into the catalogue; a patch of an item without a card changes nothing."""
    if write.mode == "put":
        catalogue.put(write.fields | {"item_id": write.item_id})
    elif write.mode == "delete":
        catalogue.remove(write.item_id)
    elif (card := catalogue.described(write.item_id)) is not None:
        attributes = patched(card["attributes"], write.fields)
        catalogue.put(card | write.fields | {"attributes": attributes})


def refuse_unknown(items: Sequence[Mapping[str, Any]], catalogue: Catalogue) -> None:
    """NotFound where one of the items to patch has no card; InputError where one is no item."""
    for n, item in enumerate(items):
        item_id = checked(item, f"items[{n}]")["item_id"]
        if catalogue.described(item_id) is None:
            raise NotFound(
                f"no item {item_id!r} to change", where=f"items[{n}]", next="write it whole first"
            )


def patched(known: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes after a patch: those given are set, null takes one out, null for all empties."""
    told = fields.get("attributes", {})
    merged = {} if told is None else {**known, **told}
    return {name: value for name, value in merged.items() if value is not None}
