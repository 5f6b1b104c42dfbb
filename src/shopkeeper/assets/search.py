"""Finding assets by what they are called, hold and mean, in English and Chinese, typing errors included.

    find(catalog, "订单 price")

The index stands in the catalogue, in tables that every database has: the words of each asset with a
weight (its name says more than one of its columns), and the three-letter pieces of every word. A word
of the query is looked up as it is; where nothing starts with it, words with a typing error or two
count less. Chinese is cut into pairs of characters. Words that the glossary calls the same find each
other, so 订单 finds orders. An asset is indexed in the transaction that changes it.
"""

import hashlib
import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from shopkeeper.alike import HAN, distance, fold
from shopkeeper.assets import contracts
from shopkeeper.assets.schema import (
    assets,
    descriptions,
    glossary,
    search_documents,
    search_grams,
    search_postings,
    search_words,
    usage,
    versions,
)
from shopkeeper.words import TABLES

if TYPE_CHECKING:
    from shopkeeper.assets.catalog import Catalog

# how much a word says of an asset by where it stands
WEIGHTS = {
    "name": 8.0,
    "term": 5.0,
    "tag": 5.0,
    "column": 3.0,
    "owner": 3.0,
    "description": 2.0,
    "synonym": 1.5,
    "column description": 1.0,
}
LONGEST = 60  # characters of a word
ASKED = 12  # words of a query
POSTINGS = 400  # assets of one word that are looked at, those first where it says most
CANDIDATES = 100  # assets that are looked at closely
ALIKE = 200  # words of the index that share pieces with one of the query
NEAR = 6  # words that stand in for one of the query
SHOWN = 6  # places where a hit matched
DAYS = 30  # reads that make an asset popular
_SAME, _BEGINS, _SYNONYM = 1.0, 0.8, 0.7
_WRONG = {1: 0.5, 2: 0.35}  # typing errors
_ABSENT = 0.4  # of an asset without a current version
_MANY = 500  # values in one statement
_LAST = "\U0010ffff"  # behind every letter
_PIECES = re.compile(rf"[{HAN}]+|[^\W_{HAN}]+")
_HUMP = re.compile(r"(?<=[a-z\d])(?=[A-Z])")
_IDENTIFIER = re.compile(rf"[^\W{HAN}]+(?:\.[^\W{HAN}]+)*")


class Text(NamedTuple):
    """One thing that an asset is found by."""

    what: str  # a key of WEIGHTS
    text: str


@lru_cache(maxsize=1 << 16)  # columns of many assets are called alike
def words(text: str) -> tuple[str, ...]:
    """Words of a text, folded; Chinese as pairs of characters; identifiers in parts and whole."""
    found: dict[str, None] = {}
    whole = fold(text)
    for identifier in _IDENTIFIER.findall(whole):
        if "_" in identifier or "." in identifier:
            found[identifier.strip("_.")[:LONGEST]] = None
    for piece in _PIECES.findall(fold(_HUMP.sub(" ", text))):
        found |= dict.fromkeys(_pairs(piece) if re.match(f"[{HAN}]", piece) else [piece[:LONGEST]])
    return tuple(word for word in found if word)


def _pairs(run: str) -> list[str]:
    return [run[n : n + 2] for n in range(len(run) - 1)] or [run]


def grams(word: str) -> list[str]:
    """Its pieces of three letters, two blanks before it and one behind; none of a Chinese one."""
    if re.search(f"[{HAN}]", word):
        return []
    padded = f"  {word} "
    return sorted({padded[n : n + 3] for n in range(len(padded) - 2)})


# the glossary


@cache
def built_in_terms() -> dict[str, dict[str, Any]]:
    """{term: {"definition", "definition_zh", "synonyms"}}: the words of the house's own tables."""
    text = resources.files("shopkeeper.assets").joinpath("glossary.json").read_text("utf-8")
    return {entry.pop("term"): entry for entry in json.loads(text)}


def terms(connection: sa.Connection) -> dict[str, dict[str, Any]]:
    """All terms, those of the workspace over those built in: {term: {"definition", "synonyms", …}}."""
    told = connection.execute(sa.select(glossary)).mappings()
    return built_in_terms() | {
        row["term"]: {"definition": row["definition"], "synonyms": row["synonyms"]} for row in told
    }


# the index


def index_assets(connection: sa.Connection, names: Collection[str] | None = None) -> None:
    """Bring the index of some assets, or of all, up to what the catalogue says of them now."""
    if names is None:
        names = list(connection.execute(sa.select(assets.c.name)).scalars())
    known = terms(connection)
    for some in _chunks(sorted(names)):
        texts = _texts(connection, some, known)
        query = sa.select(search_documents).where(search_documents.c.asset.in_(some))
        digests = {row["asset"]: row["digest"] for row in connection.execute(query).mappings()}
        new = {}
        for name, told in texts.items():
            posted = _posted(told)
            digest = hashlib.sha256(json.dumps(sorted(posted.items())).encode()).hexdigest()[:32]
            if digests.get(name) != digest:
                new[name] = (digest, posted)
        _replace(connection, new)


def _replace(connection: sa.Connection, new: Mapping[str, tuple[str, dict[str, float]]]) -> None:
    """Put the words of some assets in the place of those the index has of them."""
    if not new:
        return
    for table in (search_postings, search_documents):
        connection.execute(table.delete().where(table.c.asset.in_(list(new))))
    connection.execute(
        search_documents.insert(),
        [{"asset": name, "digest": digest} for name, (digest, _) in new.items()],
    )
    rows = [
        {"word": word, "asset": name, "weight": weight}
        for name, (_, posted) in new.items()
        for word, weight in posted.items()
    ]
    if rows:
        connection.execute(search_postings.insert(), rows)
    fresh = {word for _, posted in new.values() for word in posted}
    for some in _chunks(sorted(fresh)):
        query = sa.select(search_words.c.word).where(search_words.c.word.in_(some))
        fresh -= set(connection.execute(query).scalars())
    if fresh:
        connection.execute(search_words.insert(), [{"word": word} for word in sorted(fresh)])
        pieces = [{"gram": gram, "word": word} for word in sorted(fresh) for gram in grams(word)]
        if pieces:
            connection.execute(search_grams.insert(), pieces)


def _posted(texts: Iterable[Text]) -> dict[str, float]:
    """{word: weight}: of the best place where it stands."""
    posted: dict[str, float] = {}
    for what, text in texts:
        for word in words(text):
            posted[word] = max(posted.get(word, 0.0), WEIGHTS[what])
    return posted


def _texts(
    connection: sa.Connection, names: Sequence[str], known: Mapping[str, dict[str, Any]]
) -> dict[str, list[Text]]:
    """What each asset is found by: its own record, what people say of it, and of its columns."""
    query = (
        sa.select(assets, versions.c.schema)
        .join(versions, versions.c.id == assets.c.current, isouter=True)
        .where(assets.c.name.in_(names))
    )
    told = sa.select(descriptions).where(descriptions.c.asset.in_(names))
    said: dict[str, list[Any]] = {}
    for row in connection.execute(told).mappings():
        said.setdefault(row["asset"], []).append(row)
    found = {}
    for row in connection.execute(query).mappings():
        name = row["name"]
        texts = [Text("name", name), Text("owner", row["owner"])]
        texts += [Text("description", row["description"])]
        promised = _promised(row["contract"])
        for column in row["schema"] or {}:
            texts.append(Text("column", column))
            if column in promised:
                texts.append(Text("column description", promised[column]))
        for one in said.get(name, ()):
            place = "column description" if one["column"] else "description"
            texts += [Text(place, one["description"] or ""), Text("owner", one["owner"] or "")]
            texts += [Text("tag", tag) for tag in one["tags"] or ()]
            for term in one["terms"] or ():
                texts.append(Text("term", term))
                about = known.get(term, {"definition": "", "synonyms": []})
                texts += [Text("synonym", word) for word in about["synonyms"]]
                texts.append(Text("synonym", about["definition"]))
        found[name] = [text for text in texts if text.text]
    return found


@cache
def _promised(table: str | None) -> dict[str, str]:
    """What the built-in contract of a table says of its columns."""
    if table not in TABLES:
        return {}
    return {one.name: one.description for one in contracts.built_in(table).columns}


def _chunks(values: Sequence[str]) -> Iterable[Sequence[str]]:
    for n in range(0, len(values), _MANY):
        yield values[n : n + _MANY]


# looking


def find(
    catalog: "Catalog",
    query: str,
    limit: int = 20,
    *,
    kind: str | None = None,
    layer: str | None = None,
    tag: str | None = None,
) -> list[dict[str, Any]]:
    """Assets for a query, best first: those that match all words, are in use and are current.

    Args:
        kind: table, model, index, report, …
        layer: what stands before the dot of the name.
        tag: only assets that carry it, themselves or on a column.
    Returns:
        [{"name", "kind", "layer", "description", "grade", "score", "reads_30d", "matched": [{"what",
        "text"}]}]
    """
    with catalog.reader.connect() as connection:
        known = terms(connection)
        within = _within(connection, kind, layer, tag)
        asked = _asked(connection, query, known)
        scores = _scores(connection, asked, within)
        if not scores:
            return []
        names = [name for name, _ in scores]
        records = _records(connection, names)
        reads = _reads(connection, names)
        ranked = []
        for name, score in scores:
            record = records[name]
            score *= 1 + 0.1 * math.log1p(reads.get(name, 0))
            score *= 1 if record["current"] else _ABSENT
            score *= 3 if fold(query).strip() == fold(name) else 1
            ranked.append((score, record))
        ranked.sort(key=lambda one: (-one[0], one[1]["name"]))
        best = ranked[:limit]
        texts = _texts(connection, [record["name"] for _, record in best], known)
    factors: dict[str, float] = {}
    for others in asked:
        for word, factor in others.items():
            factors[word] = max(factors.get(word, 0.0), factor)
    return [
        {
            "name": record["name"],
            "kind": record["kind"],
            "layer": record["name"].partition(".")[0],
            "description": record["told"] or record["description"],
            "grade": record["grade"],
            "score": round(score, 3),
            "reads_30d": reads.get(record["name"], 0),
            "matched": _matched(texts[record["name"]], factors),
        }
        for score, record in best
    ]


Asked = list[dict[str, float]]
"""for each word of the query: {word of the index that stands for it: what a match counts}"""


def _asked(connection: sa.Connection, query: str, known: Mapping[str, dict[str, Any]]) -> Asked:
    found: Asked = []
    for word, others in _wanted(query, known):
        factors = dict(others)
        for other, factor in _near(connection, word).items():
            factors[other] = max(factors.get(other, 0.0), factor)
        found.append(factors)
    return found


def _wanted(query: str, known: Mapping[str, dict[str, Any]]) -> list[tuple[str, dict[str, float]]]:
    """[(word, {word that means the same: factor})] of a query."""
    same: dict[str, list[str]] = {}
    for term, about in known.items():
        spellings = [_folded(term), *map(_folded, about["synonyms"])]
        for spelling in spellings:
            same.setdefault(spelling, []).extend(spellings)
    text = fold(_HUMP.sub(" ", query))
    found: dict[str, dict[str, float]] = {}
    for identifier in _IDENTIFIER.findall(text):
        if "_" in identifier or "." in identifier:
            found[identifier.strip("_.")[:LONGEST]] = {}
    longest = sorted((one for one in same if re.match(f"[{HAN}]", one)), key=len, reverse=True)
    for piece in _PIECES.findall(text):
        if not re.match(f"[{HAN}]", piece):
            found.setdefault(piece[:LONGEST], _others(piece, same))
            continue
        rest = piece
        for spelling in longest:
            if spelling in rest:
                others = _others(spelling, same) | dict.fromkeys(_pairs(spelling), _BEGINS)
                found.setdefault(spelling, others)
                rest = rest.replace(spelling, " ")
        for run in rest.split():
            for pair in _pairs(run):
                found.setdefault(pair, {})
    return [(word, others) for word, others in found.items() if word][:ASKED]


@lru_cache(maxsize=1 << 14)
def _folded(text: str) -> str:
    return fold(text)


def _others(word: str, same: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Words of the spellings that the glossary calls the same as `word`."""
    found: dict[str, float] = {}
    for spelling in same.get(word, ()):
        parts = words(spelling)
        for part in parts:
            found[part] = max(found.get(part, 0.0), _SYNONYM / len(parts))
    return found


def _near(connection: sa.Connection, word: str) -> dict[str, float]:
    """{word of the index: factor}: itself, words that begin with it, else words typed alike."""
    pieces = grams(word)
    if not pieces:
        return {word: _SAME}
    begins = _beginning(connection, word)
    found = {word: _SAME} if word in begins else {}
    others = [other for other in begins if other != word][:NEAR]
    found |= {other: _BEGINS * len(word) / len(other) + 0.1 for other in others}
    if found or len(word) < 4:
        return found or {word: _SAME}
    shared = sa.func.count().label("shared")
    length = sa.func.length(search_grams.c.word)
    query = (
        sa.select(search_grams.c.word, shared)
        .where(search_grams.c.gram.in_(pieces))
        .group_by(search_grams.c.word)
        .having(shared >= _least_shared(len(pieces), len(word)))
        .order_by(shared.desc(), length, search_grams.c.word)
        .limit(ALIKE)
    )
    alike = list(connection.execute(query).scalars())
    allowed = 1 if len(word) < 8 else 2
    wrong = {other: distance(word, other, allowed) for other in alike}
    close = sorted((edits, other) for other, edits in wrong.items() if edits <= allowed)
    return {other: _WRONG[edits] for edits, other in close[:NEAR]}


def _beginning(connection: sa.Connection, word: str) -> list[str]:
    """The word itself and the shortest words of the index that begin with it."""
    place: sa.ColumnElement[str] = search_words.c.word
    if connection.dialect.name != "sqlite":  # SQLite orders by code point anyway
        place = sa.collate(place, "C")
    query = (
        sa.select(search_words.c.word)
        .where(place >= word, place < word + _LAST)
        .order_by(sa.func.length(search_words.c.word), place)
        .limit(NEAR + 1)
    )
    return list(connection.execute(query).scalars())


def _least_shared(pieces: int, length: int) -> int:
    """Pieces that a word shares at least with one that begins with it, or is typed alike."""
    if length < 4:
        return max(1, pieces - 1)
    return max(1, min(pieces - 1, pieces - 4 * (1 if length < 8 else 2)))


def _within(
    connection: sa.Connection, kind: str | None, layer: str | None, tag: str | None
) -> list[sa.ColumnElement[bool]]:
    """What an asset must be."""
    place = search_postings.c.asset
    found: list[sa.ColumnElement[bool]] = []
    if layer is not None:
        found.append(place.startswith(f"{layer}.", autoescape=True))
    if kind is not None:
        found.append(place.in_(sa.select(assets.c.name).where(assets.c.kind == kind)))
    if tag is not None:
        found.append(place.in_(_tagged(connection, tag)))
    return found


def _scores(
    connection: sa.Connection, asked: Asked, within: Sequence[sa.ColumnElement[bool]]
) -> list[tuple[str, float]]:
    """(asset, score) of the best candidates, best first.

    Each word of the query counts once, a rare one more than a common one, and all of them together
    more than one of them often. Of a common word only the assets of which it says most are looked
    at; those that other words bring in count with all their words.
    """
    total = connection.execute(sa.select(sa.func.count()).select_from(search_documents)).scalar()
    rarity: dict[str, float] = {}
    weights: dict[str, dict[str, float]] = {}  # asset -> word -> weight
    query = (
        sa.select(search_postings.c.asset, search_postings.c.weight)
        .where(search_postings.c.word == sa.bindparam("asked"), *within)
        .order_by(search_postings.c.weight.desc(), search_postings.c.asset.desc())
        .limit(POSTINGS)
    )
    for word in sorted({word for others in asked for word in others}):
        found = connection.execute(query, {"asked": word}).all()
        rarity[word] = math.log(1 + (total or 0) / max(1, len(found)))
        for name, weight in found:
            weights.setdefault(name, {})[word] = weight
    best = _ranked(asked, rarity, weights)[:CANDIDATES]
    if len(rarity) == 1:
        return best
    posting = (search_postings.c.asset, search_postings.c.word, search_postings.c.weight)
    every = sa.select(*posting).where(
        search_postings.c.word.in_(list(rarity)),
        search_postings.c.asset.in_([name for name, _ in best]),
    )
    whole: dict[str, dict[str, float]] = {}
    for name, word, weight in connection.execute(every):
        whole.setdefault(name, {})[word] = weight
    return _ranked(asked, rarity, whole)


def _ranked(
    asked: Asked, rarity: Mapping[str, float], weights: Mapping[str, Mapping[str, float]]
) -> list[tuple[str, float]]:
    counts: dict[str, list[tuple[int, float]]] = {}  # of a word: for which words of the query
    for number, others in enumerate(asked):
        for word, factor in others.items():
            counts.setdefault(word, []).append((number, factor * rarity[word]))
    scored = []
    for name, own in weights.items():
        best: dict[int, float] = {}
        for word, weight in own.items():
            for number, factor in counts[word]:
                if factor * weight > best.get(number, 0.0):
                    best[number] = factor * weight
        scored.append((-sum(best.values()) * len(best), name))
    scored.sort()
    return [(name, -score) for score, name in scored]


def _tagged(connection: sa.Connection, tag: str) -> list[str]:
    told = sa.select(descriptions.c.asset, descriptions.c.tags)
    told = told.where(descriptions.c.tags.is_not(None))
    wanted = fold(tag)
    return sorted(
        {
            row["asset"]
            for row in connection.execute(told).mappings()
            if any(fold(one) == wanted for one in row["tags"])
        }
    )


def _records(connection: sa.Connection, names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    said = (descriptions.c.asset == assets.c.name) & (descriptions.c.column == "")
    query = (
        sa.select(assets, descriptions.c.description.label("told"))
        .join(descriptions, said, isouter=True)
        .where(assets.c.name.in_(names))
    )
    return {row["name"]: dict(row) for row in connection.execute(query).mappings()}


def _reads(connection: sa.Connection, names: Sequence[str]) -> dict[str, int]:
    since = (datetime.now(UTC) - timedelta(days=DAYS)).date().isoformat()
    query = sa.select(usage.c.asset, sa.func.sum(usage.c.reads).label("n"))
    query = query.where(usage.c.asset.in_(names), usage.c.day >= since).group_by(usage.c.asset)
    return {row["asset"]: int(row["n"]) for row in connection.execute(query).mappings()}


def _matched(texts: Sequence[Text], factors: Mapping[str, float]) -> list[dict[str, str]]:
    """Where a hit matched, what says most first."""
    found = []
    for place, (what, text) in enumerate(texts):
        best = max((factors.get(word, 0.0) for word in words(text)), default=0.0)
        if best:
            found.append((-best * WEIGHTS[what], place, what, text))
    return [{"what": what, "text": text[:200]} for _, _, what, text in sorted(found)[:SHOWN]]
