"""Catalogue -> search index: a folder of tantivy files and `search.json`, which a release copies.

One document per item. Text fields hold our own words (tokens.py), never a library's tokeniser, so
that products and queries are cut by the same code.
"""

import html
import json
import math
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import tantivy

from shopkeeper.alike import fold
from shopkeeper.errors import InputError, NotReady
from shopkeeper.models.protocol import Progress, no_progress
from shopkeeper.search import heads, tokens

FORMAT = 3
WRITER_BYTES = 64_000_000
WORD_FIELDS = ("title", "model", "brand", "category", "description", "attributes")
FACETS = ("category", "brand", "shop_id")
KEPT = (
    *("title", "title_zh", "description", "category", "brand", "shop_id", "attributes"),
    *("price_minor", "stock", "updated_at", "popularity"),
)
"""columns stored with the item, so that a later write may leave out what does not change"""
NUMBERS = ("price_minor", "stock", "updated_at", "popularity")
MODEL_ATTRIBUTES = frozenset(
    [
        "name",
        "model",
        "model_number",
        "model_no",
        "sku",
        "mpn",
        "part_number",
        "article_number",
        "code",
        "ean",
        "gtin",
        "upc",
        "barcode",
        "型号",
        "货号",
        "条码",
    ]
)
"""attributes that hold a maker's or trader's own number of the item"""
MAX_ATTRIBUTE_TEXT = 4_000
MAX_SPELLINGS = 200_000
LEARN_ITEMS = 50_000
"""items from which word statistics are learned; of a larger catalogue, evenly spread ones"""
REBUILD = "build it again with: shopkeeper run --force"
POPULAR, IN_STOCK = 0.10, 0.05
"""share by which the most wanted item, and one that can be bought, score above others"""
_TAG = re.compile(r"<[^<>]{1,500}>")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Card:
    """What was learned of the whole catalogue and holds for every later item: `search.json`."""

    items: int = 0
    nouns: frozenset[str] = frozenset()  # words that name products (heads.py)
    chinese: tuple[str, ...] = ()  # brand and category names, kept whole when Chinese is cut
    words: Mapping[str, int] = field(default_factory=dict)  # spelling -> items with it
    queries: Mapping[str, int] = field(default_factory=dict)  # frequent queries -> times asked
    max_popularity: float = 0.0

    def write(self, folder: Path) -> None:
        content = {"format": FORMAT, **asdict(self), "nouns": sorted(self.nouns)}
        (folder / "search.json").write_text(json.dumps(content, ensure_ascii=False), "utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Card":
        """NotReady when there is none, or when it is damaged or of another format."""
        path = folder / "search.json"
        try:
            content = json.loads(path.read_text("utf-8"))
            found = content.pop("format")
            if found != FORMAT:
                raise NotReady(
                    f"search index of format {found}, this version reads {FORMAT}",
                    where=str(folder),
                    next=REBUILD,
                )
            content["nouns"] = frozenset(content["nouns"])
            content["chinese"] = tuple(content["chinese"])
            return cls(**content)
        except FileNotFoundError as error:
            raise NotReady("no search index", where=str(folder), next=REBUILD) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NotReady("damaged search index", where=str(path), next=REBUILD) from error


def schema() -> tantivy.Schema:
    """The fields of one item."""
    fields = tantivy.SchemaBuilder()
    fields.add_text_field("item_id", stored=True, tokenizer_name="raw", index_option="basic")
    for name in (*WORD_FIELDS, "characters"):
        fields.add_text_field(name, tokenizer_name="raw")
    for name in ("head", "spelled", "name"):
        fields.add_text_field(name, tokenizer_name="raw", index_option="basic")
    for name in FACETS:
        fields.add_text_field(f"{name}_is", fast=True, tokenizer_name="raw", index_option="basic")
    for name in NUMBERS:
        fields.add_integer_field(name, indexed=True, fast=True)
    fields.add_float_field("prior", fast=True)
    fields.add_bytes_field("kept", stored=True)
    return fields.build()


class Writer:
    """Turns items into documents, the same way when the index is built and when an item changes."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.cutter = tokens.Cutter(card.chinese)

    def document(self, row: Row) -> tantivy.Document:
        """One item as a document.

        Args:
            row: columns of clean.items, and optionally `popularity` (>= 0, more is more wanted).
                What is missing or null is left out: a price of 0 and no price stay apart.
        Raises:
            InputError: there is no item_id, or a number is none.
        """
        item_id = row.get("item_id")
        if not item_id:
            raise InputError(
                "an item without item_id", where="search index", next="give every item an item_id"
            )
        doc = tantivy.Document()
        doc.add_text("item_id", clean(str(item_id)))
        attributes, models = attribute_text(row.get("attributes"))
        titles = [_text(row, "title"), _text(row, "title_zh")]
        texts = {
            "title": titles,
            "model": models,
            "brand": [_text(row, "brand")],
            "category": [_text(row, "category")],
            "description": [_plain(_text(row, "description"))],
            "attributes": [attributes],
        }
        cut = {
            name: [tokens.words(text, self.cutter) for text in texts[name] if text]
            for name in texts
        }
        for name, found in cut.items():
            for value in found:
                doc.add_pre_tokenized_text(name, _tokens((w.text, w.position) for w in value))
        brand = [word.text for value in cut["brand"] for word in value]
        heads_ = [w for value in cut["title"] for w in heads.heads(value, brand, self.card.nouns)]
        if heads_:
            doc.add_pre_tokenized_text("head", _tokens((w, at) for at, w in enumerate(heads_)))
        spelled = dict.fromkeys(
            w.surface for name in ("title", "brand", "category") for v in cut[name] for w in v
        )
        doc.add_pre_tokenized_text("spelled", _tokens((w, at) for at, w in enumerate(spelled)))
        single = tokens.characters(" ".join([*titles, _text(row, "brand"), _text(row, "category")]))
        if single:
            doc.add_pre_tokenized_text(
                "characters", _tokens((c, at) for at, c in enumerate(single))
            )
        for title in filter(None, titles):
            doc.add_text("name", tokens.shown(title)[:80])
        for name in FACETS:
            if value_ := _text(row, name):
                doc.add_text(f"{name}_is", value_)
        numbers = {name: _integer(row, name) for name in ("price_minor", "stock", "popularity")}
        numbers["updated_at"] = _seconds(row.get("updated_at"))
        for name, number in numbers.items():
            if number is not None:
                doc.add_integer(name, number)
        doc.add_float("prior", self._prior(numbers["popularity"], numbers["stock"]))
        known = {name: row[name] for name in KEPT if row.get(name) is not None}
        doc.add_bytes(
            "kept", json.dumps(known, ensure_ascii=False, default=str).encode("utf-8", "replace")
        )
        return doc

    def _prior(self, popularity: int | None, stock: int | None) -> float:
        """What the score is multiplied by, as tantivy wants it: log2(2 + prior)."""
        wanted = 0.0
        if popularity and self.card.max_popularity > 0:
            wanted = min(1.0, math.log1p(popularity) / math.log1p(self.card.max_popularity))
        in_stock = 1.0 if stock is None or stock > 0 else 0.0
        return float(2.0 ** (1.0 + POPULAR * wanted + IN_STOCK * in_stock) - 2.0)


def kept(doc: tantivy.Document) -> dict[str, Any]:
    """The columns of an item that its document keeps."""
    known: dict[str, Any] = json.loads(bytes(doc["kept"][0]))
    return known


def _tokens(found: Iterable[tuple[str, int]]) -> tantivy.PreTokenizedString:
    return tantivy.PreTokenizedString(
        "", [tantivy.Token(text, position, 0, 0) for text, position in found]
    )


def clean(text: str) -> str:
    """Without lone surrogates, which no index can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _text(row: Row, column: str) -> str:
    value = row.get(column)
    return "" if value is None else clean(str(value))


def _plain(text: str) -> str:
    """Without the HTML that descriptions are pasted with."""
    return html.unescape(_TAG.sub(" ", text)) if "<" in text or "&" in text else text


def _integer(row: Row, column: str) -> int | None:
    value = row.get(column)
    if value is None or value == "":
        return None
    try:
        number = int(value)
    except (ValueError, TypeError, OverflowError):
        number = 2**63
    if abs(number) >= 2**63:
        raise InputError(
            f"{column} = {value!r} is no whole number that fits",
            where=f"item {row.get('item_id')}",
            next="send it in minor units, or leave it out",
        )
    return number


def _seconds(value: Any) -> int | None:
    if isinstance(value, str) and value:
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        return int((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp())
    return None


def attribute_text(attributes: Any) -> tuple[str, list[str]]:
    """The words in an item's attributes (JSON text or mapping), and its model numbers apart."""
    parts: list[str] = []
    models: list[str] = []
    for name, value in _attributes(attributes).items():
        values = value if isinstance(value, list) else [value]
        texts = [clean(str(v)) for v in values if isinstance(v, str)]
        if name.lower() in MODEL_ATTRIBUTES:
            models.extend(texts or [str(v) for v in values if isinstance(v, int)])
        else:
            parts.extend(texts)
    return " . ".join(parts)[:MAX_ATTRIBUTE_TEXT], models


def _attributes(attributes: Any) -> Mapping[str, Any]:
    known = attributes
    if isinstance(attributes, str):
        try:
            known = json.loads(attributes)
        except ValueError:
            return {"": attributes}
    return known if isinstance(known, Mapping) else {}


def _names(attribute: str) -> bool:
    """Does the attribute say what an item is, not what it is like?"""
    name = attribute.lower()
    return name in MODEL_ATTRIBUTES or any(
        part in name for part in ("type", "category", "name", "title")
    )


def learn(items: pl.DataFrame, queries: Mapping[str, int], popularity: Mapping[str, float]) -> Card:
    """Word statistics of a catalogue: spellings, nouns, Chinese names to keep whole."""
    chinese = {
        fold(name)
        for column in ("brand", "category")
        if column in items.columns
        for name in items[column].drop_nulls().unique().to_list()
    }
    whole = tuple(sorted(n for n in chinese if 2 <= len(n) <= 8 and tokens.all_chinese(n)))
    cutter = tokens.Cutter(whole)
    learner = heads.Learner()
    spellings: Counter[str] = Counter()
    step = max(1, items.height // LEARN_ITEMS)
    for row in items.gather_every(step).iter_rows(named=True):
        title = tokens.words(_text(row, "title"), cutter)
        values = [
            word.text
            for name, value in _attributes(row.get("attributes")).items()
            if isinstance(value, str) and len(value) < 30 and not _names(name)
            for word in tokens.words(value, cutter)
        ]
        learner.see(title, values)
        names = " ".join(_text(row, name) for name in ("title_zh", "brand", "category"))
        found = {w.surface for w in (*title, *tokens.words(names, cutter)) if w.surface.isalpha()}
        spellings.update(found)
    return Card(
        items=items.height,
        nouns=learner.nouns(),
        chinese=whole,
        words=dict(spellings.most_common(MAX_SPELLINGS)),
        queries={tokens.shown(text): times for text, times in queries.items()},
        max_popularity=max(popularity.values(), default=0.0),
    )


def build(
    items: pl.DataFrame,
    folder: Path,
    progress: Progress | None = None,
    *,
    popularity: Mapping[str, float] | None = None,
    queries: Mapping[str, int] | None = None,
) -> int:
    """Index `items` (columns of clean.items) into `folder`, which is replaced; returns their number.

    Two passes: one learns word statistics, one writes. The folder appears whole or not at all.

    Args:
        popularity: item_id -> how often it was wanted; orders what is shown when nothing matches,
            and lifts a score by a tenth at most.
        queries: frequent queries -> times asked; offered as suggestions.
    """
    report = progress or no_progress
    wanted = popularity or {}
    report(0, items.height, "learning the catalogue's words")
    card = learn(items, queries or {}, wanted)
    made = folder.with_name(f"{folder.name}.making")
    shutil.rmtree(made, ignore_errors=True)
    (made / "index").mkdir(parents=True)
    index = tantivy.Index(schema(), path=str(made / "index"))
    writer = index.writer(WRITER_BYTES, 1)
    documents = Writer(card)
    for done, row in enumerate(items.iter_rows(named=True)):
        if row["item_id"] in wanted:
            row["popularity"] = wanted[row["item_id"]]
        writer.add_document(documents.document(row))
        if done % 1_000 == 0:
            report(done, items.height, "indexing items")
    writer.commit()
    writer.wait_merging_threads()
    card.write(made)
    shutil.rmtree(folder, ignore_errors=True)
    made.rename(folder)
    report(items.height, items.height, "indexing items")
    return items.height
