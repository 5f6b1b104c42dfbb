"""Catalogue -> search index: a folder of tantivy files and `search.json`, which a release copies.

One document per item. Text fields hold our own words (tokens.py), never a library's tokeniser, so
that products and queries are cut by the same code.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import tantivy

from shopkeeper.errors import InputError, NotReady
from shopkeeper.models.protocol import Progress, no_progress
from shopkeeper.search import tokens

FORMAT = 1
WRITER_BYTES = 64_000_000
TEXT_FIELDS = ("title", "brand", "category", "description", "attributes", "characters")
FACETS = ("category", "brand", "shop_id")
_FACET_FIELDS = {name: f"{name}_is" for name in FACETS}
ATTRIBUTE_CHARS = 4_000
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Card:
    """What `search.json` holds beside the index."""

    items: int
    words: dict[str, int]  # surface form -> number of items with it: what corrections choose from
    queries: dict[str, int]  # frequent queries, for suggestions

    def write(self, folder: Path) -> None:
        content = {
            "format": FORMAT,
            "items": self.items,
            "words": self.words,
            "queries": self.queries,
        }
        (folder / "search.json").write_text(json.dumps(content, ensure_ascii=False), "utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Card":
        """NotReady when there is none, or when it is damaged or of another format."""
        again = "build it again with: shopkeeper run --force"
        try:
            content = json.loads((folder / "search.json").read_text("utf-8"))
            if content["format"] != FORMAT:
                raise NotReady(
                    f"search index of format {content['format']}, this version reads {FORMAT}",
                    where=str(folder),
                    next=again,
                )
            return cls(content["items"], content["words"], content["queries"])
        except FileNotFoundError as error:
            raise NotReady("no search index", where=str(folder), next=again) from error
        except (ValueError, KeyError, TypeError) as error:
            raise NotReady("damaged search index", where=str(folder), next=again) from error


def schema() -> tantivy.Schema:
    """The fields of one item."""
    fields = tantivy.SchemaBuilder()
    fields.add_text_field("item_id", stored=True, tokenizer_name="raw", index_option="basic")
    for name in TEXT_FIELDS:
        fields.add_text_field(name, tokenizer_name="raw")
    fields.add_text_field("name", stored=True, tokenizer_name="raw", index_option="basic")
    for name in _FACET_FIELDS.values():
        fields.add_text_field(name, fast=True, tokenizer_name="raw", index_option="basic")
    for name in ("price_minor", "stock", "updated_at", "popularity"):
        fields.add_integer_field(name, indexed=True, fast=True)
    return fields.build()


def document(row: Row, counts: Counter[str] | None = None) -> tantivy.Document:
    """One item as a document; `counts` collects the surface forms of its title, brand, category.

    Args:
        row: columns of clean.items, and optionally `popularity` (a number, more is more popular).
            Columns that are missing or null are left out: price 0 and "no price" stay apart.
    Raises:
        InputError: there is no item_id.
    """
    item_id = row.get("item_id")
    if not item_id:
        raise InputError(
            "an item without item_id", where="search index", next="give every item an item_id"
        )
    doc = tantivy.Document()
    doc.add_text("item_id", str(item_id))
    names = [_text(row, "title"), _text(row, "title_zh")]
    texts = {
        "title": names,
        "brand": [_text(row, "brand")],
        "category": [_text(row, "category")],
        "description": [_text(row, "description")],
        "attributes": [attribute_text(row.get("attributes"))],
    }
    seen: set[str] = set()
    for field, values in texts.items():
        for value in values:
            if value:
                found = tokens.words(value)
                doc.add_pre_tokenized_text(field, _tokens((w.text, w.position) for w in found))
                if field not in ("description", "attributes"):
                    seen.update(w.surface for w in found)
    single = tokens.characters(" ".join(names))
    if single:
        doc.add_pre_tokenized_text(
            "characters", _tokens((char, at) for at, char in enumerate(single))
        )
    for name in filter(None, names):
        doc.add_text("name", tokens.fold(name)[:200])
    for column, field in _FACET_FIELDS.items():
        if value := _text(row, column):
            doc.add_text(field, value)
    for column in ("price_minor", "stock"):
        if (number := row.get(column)) is not None:
            doc.add_integer(column, int(number))
    doc.add_integer("updated_at", _seconds(row.get("updated_at")))
    doc.add_integer("popularity", max(0, int(row.get("popularity") or 0)))
    if counts is not None:
        counts.update(seen)
    return doc


def _tokens(found: Iterable[tuple[str, int]]) -> tantivy.PreTokenizedString:
    return tantivy.PreTokenizedString(
        "", [tantivy.Token(text, position, 0, 0) for text, position in found]
    )


def _text(row: Row, column: str) -> str:
    value = row.get(column)
    return "" if value is None else str(value)


def _seconds(value: Any) -> int:
    if isinstance(value, datetime):
        return int((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp())
    if isinstance(value, str) and value:
        try:
            return _seconds(datetime.fromisoformat(value))
        except ValueError:
            return 0
    return 0


def attribute_text(attributes: Any) -> str:
    """The words in an item's JSON attributes: text values, and the names of what is true."""
    known = attributes
    if isinstance(attributes, str):
        try:
            known = json.loads(attributes)
        except ValueError:
            return attributes[:ATTRIBUTE_CHARS]
    if not isinstance(known, Mapping):
        return ""
    parts: list[str] = []
    for name, value in known.items():
        if value is True:
            parts.append(str(name).replace("_", " "))
        elif isinstance(value, str):
            parts.append(value)
        elif isinstance(value, list):
            parts.extend(item for item in value if isinstance(item, str))
    return " . ".join(parts)[:ATTRIBUTE_CHARS]


def build(
    items: pl.DataFrame,
    folder: Path,
    progress: Progress | None = None,
    *,
    popularity: Mapping[str, float] | None = None,
    queries: Mapping[str, int] | None = None,
) -> int:
    """Index `items` (columns of clean.items) into `folder`, which is replaced; returns their number.

    Args:
        popularity: item_id -> how often it was wanted; orders what is shown when nothing matches.
        queries: frequent queries -> times asked; offered as suggestions.
    """
    report = progress or no_progress
    made = folder.with_name(f"{folder.name}.making")
    shutil.rmtree(made, ignore_errors=True)
    (made / "index").mkdir(parents=True)
    index = tantivy.Index(schema(), path=str(made / "index"))
    writer = index.writer(WRITER_BYTES, 1)
    counts: Counter[str] = Counter()
    for done, row in enumerate(items.iter_rows(named=True)):
        if popularity is not None:
            row["popularity"] = popularity.get(row["item_id"], 0)
        writer.add_document(document(row, counts))
        if done % 1_000 == 0:
            report(done, items.height, "indexing items")
    writer.commit()
    writer.wait_merging_threads()
    report(items.height, items.height, "indexing items")
    Card(items.height, dict(counts), dict(queries or {})).write(made)
    shutil.rmtree(folder, ignore_errors=True)
    made.rename(folder)
    return items.height
