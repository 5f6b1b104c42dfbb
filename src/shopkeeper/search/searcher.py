"""Query -> items: all words, then some of the words, then what is popular.

Readers take the current snapshot and never wait; one lock serialises writers. How items are
scored, and why, stands above `_scored`.
"""

import math
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tantivy
from tantivy import FieldType, Occur, Order, Query

from shopkeeper.errors import InputError, NotReady
from shopkeeper.search import tokens
from shopkeeper.search.index import (
    FACETS,
    NUMBERS,
    REBUILD,
    WRITER_BYTES,
    Card,
    Row,
    Writer,
    clean,
    kept,
)
from shopkeeper.search.query import Concept, Wanted, understand
from shopkeeper.search.spelling import Speller
from shopkeeper.words import MONEY_LIMIT

FILL = 100
"""where fewer items than this match all words, items that match some follow, up to this many"""
WINDOW = 200
"""best items among which personal boosts may change the order"""
POSTINGS = 100_000
"""entries of the index that a search for some of the words may walk; beyond, the most frequent words
still score but no longer bring items in (of a million items, "black" alone finds nothing worth it)"""
FACET_VALUES = 20
MAX_K = 1_000
SORTS = {
    "price": ("price_minor", Order.Asc),
    "-price": ("price_minor", Order.Desc),
    "newest": ("updated_at", Order.Desc),
}
_IS = {
    "category": "category_is",
    "brand": "brand_is",
    "shop": "shop_id_is",
    "shop_id": "shop_id_is",
}
_PRICE = ("price", "price_minor")
FILTERS = (*_IS, *_PRICE, "in_stock")


@dataclass(frozen=True)
class Weights:
    """Of what makes the score; chosen by cross-validation, see benchmarks/search_quality.py."""

    title: float = 1.5
    model: float = 1.0
    brand: float = 1.0
    category: float = 1.5
    description: float = 1.5
    attributes: float = 1.0
    characters: float = 0.3
    """a Chinese word's characters side by side, but cut into other words"""
    character: float = 0.1
    """a single Chinese character"""
    head: float = 0.4
    """times the word's rarity: the query's product word names this very product"""
    head_word: float = 1.3
    """times what a word scores, for the product word of a query of several"""
    phrase: float = 0.5
    """the words side by side in the order typed"""
    all_words: float = 10.0
    """every word somewhere"""
    all_named: float = 4.0
    """every word in the texts that name the item, not only in its attributes"""


WEIGHTS = Weights()
_FIELDS = ("title", "model", "brand", "category", "description", "attributes")
_NAMING = ("title", "model", "brand", "category", "description")


@dataclass(frozen=True)
class SearchResult:
    """One page."""

    hits: list[tuple[str, float]]  # (item_id, score), best first
    total: int  # items that all pages together show
    facets: dict[str, Any] = field(default_factory=dict)
    stage: str = "all"  # what it took to fill the page: all words, any, fuzzy, popular
    corrected: str | None = None  # the spelling that was searched, where it is not the one typed


@dataclass(frozen=True)
class _Snapshot:
    """What one search sees, whatever is written meanwhile."""

    searcher: tantivy.Searcher
    schema: tantivy.Schema

    def best(self, query: Query, limit: int) -> int:
        """How many match, counted up to `limit`."""
        return len(self.searcher.search(query, limit, count=False).hits)

    def phrase(self, name: str, words: Sequence[str]) -> Query:
        return Query.phrase_query(self.schema, name, list(words))

    def term(self, name: str, text: str) -> Query:
        return Query.term_query(self.schema, name, text)


class Searcher:
    """An open index. Safe to share between threads."""

    def __init__(self, index: tantivy.Index, card: Card, weights: Weights = WEIGHTS) -> None:
        self._index = index
        self._schema = index.schema
        self._card = card
        self._weights = weights
        self._documents = Writer(card)
        self._speller = Speller(card.words)
        self._queries = sorted(card.queries, key=lambda text: (-card.queries[text], text))
        self._lock = threading.Lock()
        self._writer: tantivy.IndexWriter | None = None
        self._snapshot = _Snapshot(index.searcher(), self._schema)

    @classmethod
    def open(
        cls, folder: Path, *, live: Path | None = None, weights: Weights = WEIGHTS
    ) -> "Searcher":
        """Open what `build` made.

        Args:
            folder: the index.
            live: where changes go, so that `folder` (a release, say) stays as it is: made anew from
                it by hard links. Default: `folder` itself.
        Raises:
            NotReady: there is no index, or it is damaged.
        """
        card = Card.read(folder)
        try:
            if live is not None:
                shutil.rmtree(live, ignore_errors=True)
                shutil.copytree(folder, live, copy_function=_link)
            index = tantivy.Index.open(str((live or folder) / "index"))
            index.config_reader("manual")
            index.reload()
            searcher = index.searcher()
            searcher.search(Query.all_query(), 1)
            for name in NUMBERS:
                searcher.search(Query.all_query(), 1, order_by_field=name)
        except (ValueError, OSError) as error:
            raise NotReady(
                f"damaged search index: {error}", where=str(folder), next=REBUILD
            ) from error
        return cls(index, card, weights)

    def __len__(self) -> int:
        """Items that can be found now."""
        return self._snapshot.searcher.num_docs

    # reading

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
        """The `page`-th k items for `query`, empty only where `filters` let nothing through.

        Args:
            query: anything a shopper types; no query language.
            filters: category, brand, shop: a value or a list of them; price (minor units):
                {"min", "max"}, both included; in_stock: true.
            sort: relevance, price, -price or newest.
            boost: item_id -> share by which its score is lifted (0.2: a fifth), for the best items.
        Raises:
            InputError: no such filter or sort, or k or page out of range.
        """
        if sort != "relevance" and sort not in SORTS:
            raise InputError(
                f"no sort {sort!r}", where="search", next=f"use relevance, {', '.join(SORTS)}"
            )
        if not (1 <= k <= MAX_K and page >= 1):
            raise InputError(
                f"k = {k}, page = {page}",
                where="search",
                next=f"k goes from 1 to {MAX_K}, page starts at 1",
            )
        now = self._snapshot
        allowed = _filters(filters or {}, now)
        wanted = self._understand(query, now)
        start = (page - 1) * k
        if wanted.concepts:
            every = _only(self._matching(wanted.concepts, (), Occur.Must, now), allowed)
            full, facets = _counted(now, every)
            if full >= FILL:
                total = full
                ranked = _only(self._scored(wanted, Occur.Must, now), allowed)
            else:
                ranked = _only(self._scored(wanted, Occur.Should, now), allowed)
                total = max(full, now.best(ranked, FILL))
            if total and sort == "relevance":
                found = _ranked(now, ranked, total, start, k, boost or {})
            elif full:
                total = full
                found = _sorted(now, every, total, sort, start, k)
            else:
                found = _best_sorted(now, ranked, total, sort, start, k)
            if total:
                stage = "all" if min(start + k, total) <= full else "any"
                if not full:
                    bringing, lone = _affordable(wanted.concepts, now)
                    any_word = self._matching(bringing, lone, Occur.Should, now)
                    _, facets = _counted(now, _only(any_word, allowed))
                if wanted.corrected:
                    stage = "fuzzy"
                return SearchResult(found, total, facets, stage, wanted.corrected)
        everything = _only(Query.all_query(), allowed)
        total, facets = _counted(now, everything)
        found = _sorted(now, everything, total, sort, start, k)
        return SearchResult(found, total, facets, "popular")

    def _understand(self, query: str, now: _Snapshot) -> Wanted:
        return understand(
            query, now.searcher, now.schema, self._card, self._documents.cutter, self._speller
        )

    # Scoring. A word counts with its best field only (BM25 of tantivy, k1 1.2, b 0.75), so that an
    # item that repeats a word everywhere gains nothing; the fields weigh about the same, so that a
    # short text that is all about the word wins, whichever it is. What makes the order on top of
    # that: all words somewhere, all words in the texts that name the item, the words side by side,
    # and the query's product word being what the title names (a mouse pad is no mouse).
    def _scored(self, wanted: Wanted, occur: Occur, now: _Snapshot) -> Query:
        """Items with all words (Must) or any (Should), with their score."""
        weights = self._weights
        concepts = wanted.concepts
        extra = self._extras(wanted, now)
        if occur == Occur.Must:
            bringing, lone = list(concepts), list[str]()
        else:
            bringing, lone = _affordable(concepts, now)
            frequent = [concept for concept in concepts if concept not in bringing]
            extra += [self._concept(concept, wanted, now) for concept in frequent]
            if len(concepts) > 1:
                every = self._matching(concepts, (), Occur.Must, now)
                extra.append(Query.const_score_query(every, weights.all_words))
        matching = [(occur, self._concept(concept, wanted, now)) for concept in bringing]
        matching += [
            (occur, Query.boost_query(now.term("characters", one), weights.character))
            for one in lone
        ]
        return Query.boolean_query(
            [
                (Occur.Must, Query.boolean_query(matching)),
                *((Occur.Should, part) for part in extra),
            ]
        )

    def _matching(
        self, concepts: Sequence[Concept], lone: Sequence[str], occur: Occur, now: _Snapshot
    ) -> Query:
        """Items with all of the concepts (Must) or any (Should), unscored: cheap to count."""
        matching = [(occur, self._any_form(concept, now, _FIELDS)) for concept in concepts]
        matching += [(occur, now.term("characters", one)) for one in lone]
        return Query.boolean_query(matching)

    def _concept(self, concept: Concept, wanted: Wanted, now: _Snapshot) -> Query:
        """One concept: its best form in its best field."""
        weights = self._weights
        forms: list[Query] = []
        for name in _FIELDS:
            weight = getattr(weights, name)
            forms += [Query.boost_query(now.term(name, t), weight) for t in concept.terms]
            forms += [Query.boost_query(now.term(name, t), weight / 2) for t in concept.joined]
            forms += [
                Query.boost_query(now.phrase(name, phrase), weight / 2)
                for phrase in concept.phrases
            ]
        if concept.recut:
            recut = now.phrase("characters", concept.text)
            forms.append(Query.boost_query(recut, weights.characters))
        elif concept.han and len(concept.text) == 1:
            single = now.term("characters", concept.text)
            forms.append(Query.boost_query(single, weights.character))
        best = Query.disjunction_max_query(forms)
        if len(wanted.concepts) > 1 and wanted.head in concept.terms:
            return Query.boost_query(best, weights.head_word)
        return best

    def _any_form(self, concept: Concept, now: _Snapshot, fields: Sequence[str]) -> Query:
        """One concept in any form, in any of the fields, unscored."""
        forms = [now.term(name, t) for name in fields for t in (*concept.terms, *concept.joined)]
        forms += [now.phrase(name, phrase) for name in fields for phrase in concept.phrases]
        if concept.recut:
            forms.append(now.phrase("characters", concept.text))
        elif concept.han and len(concept.text) == 1:
            forms.append(now.term("characters", concept.text))
        return Query.boolean_query([(Occur.Should, form) for form in forms])

    def _extras(self, wanted: Wanted, now: _Snapshot) -> list[Query]:
        """What lifts an item that matches, and lets none in."""
        weights = self._weights
        concepts = wanted.concepts
        named = Query.boolean_query(
            [(Occur.Must, self._any_form(concept, now, _NAMING)) for concept in concepts]
        )
        extra = [Query.const_score_query(named, weights.all_named)]
        if wanted.head is not None:
            rarity = _rarity(now, "title", wanted.head)
            extra.append(
                Query.const_score_query(now.term("head", wanted.head), weights.head * rarity)
            )
        if len(concepts) > 1:
            together = [concept.terms[0] for concept in concepts]
            extra += [
                Query.const_score_query(now.phrase(name, together), weights.phrase)
                for name in ("title", "description")
            ]
        return extra

    def suggest(self, prefix: str, k: int = 10) -> list[str]:
        """Ways to go on typing: frequent queries, the last word completed, item names."""
        start = tokens.shown(prefix[:200])
        if not start or k < 1:
            return []
        now = self._snapshot
        found = [text for text in self._queries if text.startswith(start)][:k]
        if len(found) < k:
            found += self._completed(start, now, k)
        if len(found) < k:
            found += [
                name for name, _ in now.searcher.terms_with_prefix("name", start[:80], None, k)
            ]
        return list(dict.fromkeys(found))[:k]

    def _completed(self, start: str, now: _Snapshot, k: int) -> list[str]:
        """The last word completed by words of items that have the words before it."""
        head, _, last = start.rpartition(" ")
        if not last:
            return []
        before = [now.term("spelled", word) for word in head.split()]
        having = Query.boolean_query([(Occur.Must, part) for part in before]) if before else None
        words = now.searcher.terms_with_prefix("spelled", last, having, k)
        return [f"{head} {word}".strip() for word, times in words if times]

    # writing

    def upsert(self, rows: Sequence[Row]) -> None:
        """Put items in; the next search sees them.

        Of an item that is there already, columns that a row leaves out stay as they were; null
        empties them. All rows or none: InputError, before anything is written, where one of them
        cannot be indexed.
        """
        merged: dict[str, Row] = {}
        with self._lock:
            for row in rows:
                item_id = clean(str(row.get("item_id") or ""))
                merged[item_id] = {**(merged.get(item_id) or self._known(item_id)), **row}
            documents = [self._documents.document(row) for row in merged.values()]
            self._write(list(merged), documents)

    def _known(self, item_id: str) -> Row:
        """What is indexed of an item now; nothing for an item never seen."""
        now = self._snapshot
        found = now.searcher.search(now.term("item_id", item_id), 1, count=False).hits
        return kept(now.searcher.doc(found[0][1])) if found else {}

    def delete(self, ids: Sequence[str]) -> None:
        """Take items out; the next search does not see them. An unknown id is no error."""
        with self._lock:
            self._write([clean(item_id) for item_id in ids], [])

    def _write(self, ids: Sequence[str], documents: Sequence[tantivy.Document]) -> None:
        """Swap documents for those of `ids`, commit, and show the outcome. The lock is held."""
        if not ids:
            return
        if self._writer is None:
            self._writer = self._index.writer(WRITER_BYTES, 1)
        for item_id in ids:
            self._writer.delete_documents_by_term("item_id", item_id)
        for document in documents:
            self._writer.add_document(document)
        self._writer.commit()
        self._index.reload()
        self._snapshot = _Snapshot(self._index.searcher(), self._schema)

    def close(self) -> None:
        """Finish writing; searches under way end well."""
        with self._lock:
            if self._writer is not None:
                self._writer.wait_merging_threads()
                self._writer = None


def _link(source: str, target: str) -> None:
    """Index files are never changed in place, only added and replaced: a hard link is a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _rarity(now: _Snapshot, name: str, term: str) -> float:
    """BM25's inverse document frequency."""
    frequency = now.searcher.doc_freq(name, term)
    return math.log1p((now.searcher.num_docs - frequency + 0.5) / (frequency + 0.5))


def _only(matching: Query, allowed: Sequence[Query]) -> Query:
    """`matching` within `allowed`; filters leave the score alone."""
    return Query.boolean_query(
        [
            (Occur.Must, matching),
            *((Occur.Must, Query.const_score_query(part, 0.0)) for part in allowed),
        ]
    )


def _ids(now: _Snapshot, addresses: Sequence[tantivy.DocAddress]) -> list[str]:
    return [str(now.searcher.doc(address)["item_id"][0]) for address in addresses]


def _ranked(
    now: _Snapshot, query: Query, total: int, start: int, k: int, boost: Mapping[str, float]
) -> list[tuple[str, float]]:
    """Hits start .. start + k of the first `total`, by score times prior, then boosted."""
    depth = min(total, start + k)
    if boost and start < WINDOW:
        depth = min(total, max(depth, WINDOW))
    skip = 0 if boost and start < WINDOW else start
    if depth <= skip:
        return []
    found = now.searcher.search(
        query, depth - skip, count=False, offset=skip, weight_by_field="prior"
    ).hits
    scored = list(
        zip(_ids(now, [at for _, at in found]), (float(score) for score, _ in found), strict=True)
    )
    if boost and start < WINDOW:
        best = [(item, score * (1.0 + boost.get(item, 0.0))) for item, score in scored[:WINDOW]]
        scored = sorted(best, key=lambda hit: -hit[1]) + scored[WINDOW:]
        scored = scored[start : start + k]
    return scored


def _sorted(
    now: _Snapshot, query: Query, total: int, sort: str, start: int, k: int
) -> list[tuple[str, float]]:
    """Hits start .. start + k of all that match, in the order of a field; without it: last."""
    name, order = SORTS.get(sort, ("popularity", Order.Desc))
    depth = min(total, start + k)
    if depth <= start:
        return []
    found = now.searcher.search(
        query, depth - start, count=False, offset=start, order_by_field=name, order=order
    ).hits
    return [(item, 0.0) for item in _ids(now, [at for _, at in found])]


def _best_sorted(
    now: _Snapshot, query: Query, total: int, sort: str, start: int, k: int
) -> list[tuple[str, float]]:
    """The same of the best `total` by score."""
    if not total:
        return []
    name, order = SORTS[sort]
    best = [at for _, at in now.searcher.search(query, total, count=False).hits]
    values = now.searcher.fast_field_values(name, best)
    sign = -1.0 if order == Order.Desc else 1.0
    keys = [math.inf if value is None else sign * value for value in values]
    ranks = sorted(range(len(best)), key=lambda at: keys[at])
    return [(item, 0.0) for item in _ids(now, [best[at] for at in ranks[start : start + k]])]


def _affordable(concepts: Sequence[Concept], now: _Snapshot) -> tuple[list[Concept], list[str]]:
    """The rarest concepts, one at least, then single Chinese characters, within POSTINGS."""
    costs = {
        concept: sum(
            now.searcher.doc_freq(name, term)
            for name in _FIELDS
            for term in (*concept.terms, *concept.joined)
        )
        for concept in concepts
    }
    spent = 0
    bringing: list[Concept] = []
    for concept in sorted(concepts, key=lambda one: costs[one]):
        spent += costs[concept]
        if not bringing or spent <= POSTINGS:
            bringing.append(concept)
    lone = []
    for one in dict.fromkeys("".join(c.text for c in concepts if c.han)):
        spent += now.searcher.doc_freq("characters", one)
        if spent <= POSTINGS:
            lone.append(one)
    return bringing, lone


def _filters(filters: Mapping[str, Any], now: _Snapshot) -> list[Query]:
    """Each filter as a query. InputError names what is wrong and what there is."""
    made = []
    for name, wanted in filters.items():
        if wanted is None:
            continue
        if name in _IS:
            values = [wanted] if isinstance(wanted, str) else wanted
            if not isinstance(values, list | tuple) or not all(isinstance(v, str) for v in values):
                raise InputError(
                    f"{name} = {wanted!r}", where="search filter", next="send a text or texts"
                )
            texts = [clean(value) for value in values]
            made.append(Query.term_set_query(now.schema, _IS[name], texts))
        elif name in _PRICE:
            low, high = _bounds(name, wanted)
            made.append(Query.range_query(now.schema, "price_minor", FieldType.Integer, low, high))
        elif name == "in_stock":
            if str(wanted).lower() in ("true", "1", "yes"):
                gone = Query.range_query(now.schema, "stock", FieldType.Integer, None, 0)
                made.append(
                    Query.boolean_query([(Occur.Must, Query.all_query()), (Occur.MustNot, gone)])
                )
        else:
            raise InputError(
                f"no filter {name!r}", where="search", next=f"use {', '.join(FILTERS)}"
            )
    return made


def _bounds(name: str, wanted: Any) -> tuple[int | None, int | None]:
    if isinstance(wanted, Mapping) and set(wanted) <= {"min", "max"} and wanted:
        low, high = wanted.get("min"), wanted.get("max")
        try:
            bounds = (
                None if low is None else math.ceil(float(low)),
                None if high is None else math.floor(float(high)),
            )
            if all(abs(bound) < MONEY_LIMIT for bound in bounds if bound is not None):
                return bounds
        except (TypeError, ValueError, OverflowError):
            pass
    raise InputError(
        f"{name} = {wanted!r}",
        where="search filter",
        next='send {"min": 1000, "max": 2000}, in minor units, one of them at least',
    )


def _counted(now: _Snapshot, matching: Query) -> tuple[int, dict[str, Any]]:
    """How many match, and how they spread: counts by value, most frequent first; price range."""
    wanted: dict[str, Any] = {
        name: {"terms": {"field": f"{name}_is", "size": FACET_VALUES}} for name in FACETS
    }
    wanted["price"] = {"stats": {"field": "price_minor"}}
    wanted["items"] = {"value_count": {"field": "prior"}}  # which every item has
    found = now.searcher.aggregate(matching, wanted)
    facets: dict[str, Any] = {
        name: {bucket["key"]: bucket["doc_count"] for bucket in found[name]["buckets"]}
        for name in FACETS
    }
    facets["price"] = {"min": found["price"]["min"], "max": found["price"]["max"]}
    return int(found["items"]["value"]), facets
