"""What a shopper typed -> what is wanted: a list of concepts, each with the forms that satisfy it.

Looks words up in the index it is for: a spelling nobody sells is split (powerbank -> power bank),
joined (note book -> notebook) or corrected (keybord -> keyboard). Never parsed as a query language.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import tantivy
from tantivy import Query

from shopkeeper.search import tokens
from shopkeeper.search.heads import BEFORE_OBJECT
from shopkeeper.search.index import WORD_FIELDS, Card
from shopkeeper.search.spelling import Speller

MAX_CHARS = 1_000
MAX_CONCEPTS = 16
"""wanted things that are looked at; the rest of a pasted page would only cost time"""
_NOISE = BEFORE_OBJECT | frozenset(
    ["and", "or", "the", "a", "an", "my", "me", "的", "和", "与", "及", "了", "吗", "呢"]
)


@dataclass(frozen=True, slots=True)
class Concept:
    """One wanted thing; any of its forms will do."""

    text: str  # as typed, folded
    terms: tuple[str, ...]  # index words, the typed one first
    phrases: tuple[tuple[str, ...], ...] = ()  # words that stand side by side
    joined: tuple[str, ...] = ()  # with its neighbour as one word: each of the two counts half
    han: bool = False
    known: bool = True  # False: no item has it
    recut: bool = False  # Chinese that items have too, but cut into other words


@dataclass(frozen=True, slots=True)
class Wanted:
    """An understood query."""

    concepts: tuple[Concept, ...]
    head: str | None  # the word that names the product
    corrected: str | None  # the query with its spelling corrected


def understand(
    text: str,
    searcher: tantivy.Searcher,
    schema: tantivy.Schema,
    card: Card,
    cutter: tokens.Cutter,
    speller: Speller,
) -> Wanted:
    """Concepts of a query, at most MAX_CONCEPTS; none where it holds no word."""
    look = _Look(searcher, schema)
    typed = _typed(tokens.words(text[:MAX_CHARS], cutter))
    plain = [group for group in typed if group[0].surface not in _NOISE] or typed
    concepts: dict[str, Concept] = {}
    corrected: dict[str, str] = {}
    for group in plain[:MAX_CONCEPTS]:
        for concept in _forms(group, look):
            if not concept.known and (better := speller.nearest(concept.text)):
                corrected[concept.text] = better
                concept = Concept(better, (tokens.stem(better),))
            concepts.setdefault(concept.terms[0], concept)
    found = _joined(list(concepts.values())[:MAX_CONCEPTS], look)
    shown = None
    if corrected:
        shown = " ".join(tokens.words_in(text[:MAX_CHARS]))
        for wrong, right in corrected.items():
            shown = shown.replace(wrong, right)
    return Wanted(tuple(found), _head(typed, found, card), shown)


def _typed(found: Sequence[tokens.Word]) -> list[list[tokens.Word]]:
    """Words grouped into what was typed as one: wd-40 is [wd, 40, wd40]."""
    groups: list[list[tokens.Word]] = []
    ends = 0
    for word in sorted(found, key=lambda w: (w.position, -w.span)):
        if groups and word.position < ends:
            groups[-1].append(word)
        else:
            groups.append([word])
            ends = word.position + word.span
    return groups


def _forms(group: Sequence[tokens.Word], look: "_Look") -> list[Concept]:
    """The concepts of one typed group: one, or its parts where nothing has the whole."""
    whole = max(group, key=lambda w: (w.span, len(w.text)))
    parts = [w for w in group if w is not whole]
    if whole.han:
        return _chinese(whole, parts, look)
    if whole.span > 1:  # wd-40
        phrase = tuple(w.text for w in parts)
        if look.known(whole.text) or look.adjacent(phrase):
            return [Concept(whole.surface, (whole.text,), (phrase,))]
        return [c for part in parts for c in _forms([part], look)]
    if look.known(whole.text):
        return [Concept(whole.surface, (whole.text,))]
    halves = tokens.halves(whole.surface)
    if 1 < len(halves) <= 4:  # ps4
        phrase = tuple(map(tokens.stem, halves))
        if look.adjacent(phrase):
            return [Concept(whole.surface, (whole.text,), (phrase,))]
    split = _split(whole.surface, look)
    return [Concept(whole.surface, (whole.text,), (split,) if split else (), known=bool(split))]


def _chinese(whole: tokens.Word, parts: Sequence[tokens.Word], look: "_Look") -> list[Concept]:
    if len(whole.text) == 1 or look.known(whole.text):
        return [Concept(whole.text, (whole.text,), han=True)]
    if look.side_by_side(whole.text):
        return [Concept(whole.text, (whole.text,), han=True, recut=True)]
    known = [part for part in parts if look.known(part.text)]
    if known:
        return [Concept(part.text, (part.text,), han=True) for part in known]
    return [Concept(char, (char,), han=True) for char in dict.fromkeys(whole.text)]


def _split(word: str, look: "_Look") -> tuple[str, ...]:
    """powerbank -> (power, bank), where items have the two side by side."""
    if len(word) < 6 or not word.isalpha():
        return ()
    pairs = [(tokens.stem(word[:at]), tokens.stem(word[at:])) for at in range(3, len(word) - 2)]
    both = [pair for pair in pairs if look.known(pair[0]) and look.known(pair[1])]
    return next((pair for pair in both if look.adjacent(pair)), ())


def _joined(concepts: list[Concept], look: "_Look") -> list[Concept]:
    """Neighbours that items also write as one word (note book -> notebook) accept that word."""
    for here in range(len(concepts) - 1):
        left, right = concepts[here], concepts[here + 1]
        if left.han or right.han:
            continue
        joined = tokens.stem(left.text + right.text)
        if len(joined) >= 3 and look.known(joined):
            concepts[here] = replace(left, joined=(*left.joined, joined))
            concepts[here + 1] = replace(right, joined=(*right.joined, joined))
    return concepts


def _head(
    typed: Sequence[Sequence[tokens.Word]], concepts: Sequence[Concept], card: Card
) -> str | None:
    """The last noun, of what stands before "for"; else the last word."""
    wanted = {concept.terms[0] for concept in concepts}
    before: list[str] = []
    for group in typed:
        if group[0].surface in BEFORE_OBJECT and before:
            break
        before.extend(w.text for w in group if w.text in wanted and not w.han)
    before = before or [c.terms[0] for c in concepts if not c.han]
    nouns = [text for text in before if text in card.nouns]
    spoken = nouns or [text for text in before if text.isalpha()] or before
    return spoken[-1] if spoken else None


class _Look:
    """Questions to one snapshot of the index."""

    def __init__(self, searcher: tantivy.Searcher, schema: tantivy.Schema) -> None:
        self._searcher = searcher
        self._schema = schema

    def known(self, term: str) -> bool:
        """Has any item this word?"""
        return any(self._searcher.doc_freq(name, term) for name in WORD_FIELDS)

    def side_by_side(self, chinese: str) -> bool:
        """Has any item these characters in this order, however they are cut there?"""
        query = Query.phrase_query(self._schema, "characters", list(chinese))
        return bool(self._searcher.search(query, 1, count=False).hits)

    def adjacent(self, phrase: Sequence[str]) -> bool:
        """Has any item these words side by side, in its title or description?"""
        if len(phrase) < 2 or not all(map(self.known, phrase)):
            return False
        return any(
            self._searcher.search(
                Query.phrase_query(self._schema, name, list(phrase)), 1, count=False
            ).hits
            for name in ("title", "description")
        )
