"""Query -> items: all words, then any word, then near spellings, then what is popular.

Readers take the current snapshot and never wait; one lock serialises writers.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tantivy
from tantivy import Occur, Query

from shopkeeper.errors import InputError, NotReady
from shopkeeper.search import index as catalogue
from shopkeeper.search import tokens

WEIGHTS = {"title": 3.0, "brand": 2.0, "category": 2.0, "description": 1.0, "attributes": 0.5}
CHARACTERS = 0.1
TIE = 0.1
FILL = 100
"""where all words match fewer items, items that match some of the words follow, up to this many"""
MAX_WORDS = 24
"""words of a query that are used; the rest of a pasted page would only cost time"""
FACET_VALUES = 20
SORTS = {
    "price": ("price_minor", tantivy.Order.Asc),
    "-price": ("price_minor", tantivy.Order.Desc),
    "newest": ("updated_at", tantivy.Order.Desc),
}
FILTERS = ("category", "brand", "shop", "price", "in_stock")


@dataclass(frozen=True)
class SearchResult:
    """One page. `stage` says what found its hits: all, any, fuzzy or popular."""

    hits: list[tuple[str, float]]  # (item_id, score), best first
    total: int  # items the pages run over
    facets: dict[str, Any] = field(default_factory=dict)
    stage: str = "all"
    corrected: str | None = None  # the spelling that was searched, where it is not the one typed


class Searcher:
    """An open index. Safe to share between threads."""

    def __init__(self, index: tantivy.Index, card: catalogue.Card) -> None:
        self._index = index
        self._schema = index.schema
        self._card = card
        self._lock = threading.Lock()
        self._writer: tantivy.IndexWriter | None = None

    @classmethod
    def open(cls, folder: Path) -> "Searcher":
        """NotReady when there is no index in `folder`, or it is damaged."""
        card = catalogue.Card.read(folder)
        try:
            index = tantivy.Index.open(str(folder / "index"))
            index.config_reader("manual")
            index.reload()
            index.searcher().search(Query.all_query(), 1)
        except (ValueError, OSError) as error:
            raise NotReady(
                f"damaged search index: {error}",
                where=str(folder),
                next="build it again with: shopkeeper run --force",
            ) from error
        return cls(index, card)

    def search(
        self,
        query: str,
        k: int = 20,
        *,
        page: int = 1,
        filters: Mapping[str, Any] | None = None,
        sort: str = "relevance",
        boost: Mapping[str, float] | None = None,
    ) -> SearchResult:
        """The `page`-th k items for `query`; empty only where `filters` let nothing through."""
        if sort != "relevance" and sort not in SORTS:
            raise InputError(
                f"no sort {sort!r}", where="search", next=f"use relevance, {', '.join(SORTS)}"
            )
        allowed = self._filters(filters or {})
        searcher = self._index.searcher()
        concepts = self._concepts(query)
        for stage, matching, by in self._stages(concepts, allowed):
            found: Any = searcher.search(matching, 1)  # its type has no `count`
            count: int = found.count
            if count == 0:
                continue
            return self._page(searcher, stage, matching, by, count, k, page, sort)
        return SearchResult([], 0, {}, "popular")

    def _stages(
        self, concepts: Sequence[Query], allowed: Sequence[Query]
    ) -> Iterator[tuple[str, Query, str | None]]:
        if concepts:
            yield "all", self._with(concepts, Occur.Must, allowed), None
            yield "any", self._with(concepts, Occur.Should, allowed), None
        yield "popular", self._with([Query.all_query()], Occur.Must, allowed), "popularity"

    def _page(
        self,
        searcher: tantivy.Searcher,
        stage: str,
        matching: Query,
        by: str | None,
        count: int,
        k: int,
        page: int,
        sort: str,
    ) -> SearchResult:
        field_name, order = SORTS.get(sort, (by, tantivy.Order.Desc))
        found = searcher.search(
            matching, k, order_by_field=field_name, order=order, offset=(page - 1) * k
        )
        hits = [
            (searcher.doc(address)["item_id"][0], float(score or 0.0))
            for score, address in found.hits
        ]
        return SearchResult(hits, count, self._facets(searcher, matching), stage)

    def _with(self, concepts: Sequence[Query], occur: Occur, allowed: Sequence[Query]) -> Query:
        words = Query.boolean_query([(occur, concept) for concept in concepts])
        return Query.boolean_query(
            [(Occur.Must, words), *((Occur.Must, Query.const_score_query(f, 0.0)) for f in allowed)]
        )

    def _concepts(self, query: str) -> list[Query]:
        found = tokens.words(query[:2_000])
        return [self._concept(word) for word in found[:MAX_WORDS]]

    def _concept(self, word: tokens.Word) -> Query:
        fields = [
            Query.boost_query(Query.term_query(self._schema, name, word.text), weight)
            for name, weight in WEIGHTS.items()
        ]
        if word.han and len(word.text) == 1:
            term = Query.term_query(self._schema, "characters", word.text)
            fields.append(Query.boost_query(term, CHARACTERS))
        return Query.disjunction_max_query(fields, TIE)

    def _filters(self, filters: Mapping[str, Any]) -> list[Query]:
        made = []
        for name, wanted in filters.items():
            if wanted is None:
                continue
            if name in ("category", "brand", "shop", "shop_id"):
                field_name = f"{'shop_id' if name == 'shop' else name}_is"
                values = [wanted] if isinstance(wanted, str) else [str(v) for v in wanted]
                made.append(Query.term_set_query(self._schema, field_name, values))
            elif name in ("price", "price_minor"):
                low, high = wanted.get("min"), wanted.get("max")
                made.append(
                    Query.range_query(
                        self._schema, "price_minor", tantivy.FieldType.Integer, low, high
                    )
                )
            elif name == "in_stock":
                if str(wanted).lower() in ("true", "1", "yes"):
                    made.append(
                        Query.range_query(self._schema, "stock", tantivy.FieldType.Integer, 1, None)
                    )
            else:
                raise InputError(
                    f"no filter {name!r}", where="search", next=f"use {', '.join(FILTERS)}"
                )
        return made

    def _facets(self, searcher: tantivy.Searcher, matching: Query) -> dict[str, Any]:
        wanted: dict[str, Any] = {
            name: {"terms": {"field": f"{name}_is", "size": FACET_VALUES}}
            for name in catalogue.FACETS
        }
        wanted["price"] = {"stats": {"field": "price_minor"}}
        found = searcher.aggregate(matching, wanted)
        facets: dict[str, Any] = {
            name: {bucket["key"]: bucket["doc_count"] for bucket in found[name]["buckets"]}
            for name in catalogue.FACETS
        }
        facets["price"] = {"min": found["price"]["min"], "max": found["price"]["max"]}
        return facets

    def suggest(self, prefix: str, k: int = 10) -> list[str]:
        """Frequent queries and item names that begin with `prefix`."""
        start = tokens.fold(prefix).strip()[:100]
        if not start:
            return []
        asked = [
            text
            for text, _ in sorted(self._card.queries.items(), key=lambda pair: -pair[1])
            if text.startswith(start)
        ]
        named = [
            name for name, _ in self._index.searcher().terms_with_prefix("name", start, None, k)
        ]
        return list(dict.fromkeys([*asked, *named]))[:k]

    def upsert(self, rows: Sequence[catalogue.Row]) -> None:
        """Put whole items in place of what was known of them; the next search sees them."""
        documents = [(str(row["item_id"]), catalogue.document(row)) for row in rows]
        with self._lock:
            writer = self._open_writer()
            for item_id, document in documents:
                writer.delete_documents_by_term("item_id", item_id)
                writer.add_document(document)
            writer.commit()
            self._index.reload()

    def delete(self, ids: Sequence[str]) -> None:
        """Take items out; the next search does not see them. Unknown ids are no error."""
        with self._lock:
            writer = self._open_writer()
            for item_id in ids:
                writer.delete_documents_by_term("item_id", item_id)
            writer.commit()
            self._index.reload()

    def _open_writer(self) -> tantivy.IndexWriter:
        if self._writer is None:
            self._writer = self._index.writer(catalogue.WRITER_BYTES, 1)
        return self._writer

    def close(self) -> None:
        """Let go of the writer; readers go on."""
        with self._lock:
            if self._writer is not None:
                self._writer.wait_merging_threads()
                self._writer = None
