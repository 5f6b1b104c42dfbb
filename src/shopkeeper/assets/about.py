"""What people say of assets and their columns: description, owner, tags, terms, grade, freshness.

What a run says of an asset it says anew each time; what people say stands until they change it, beside
it, and counts first. A grade that people give counts where it is stricter than the contract's.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from shopkeeper.alike import fold
from shopkeeper.assets import search
from shopkeeper.assets.catalog import Catalog, now, upsert
from shopkeeper.assets.schema import assets, descriptions, glossary, run_outputs, runs
from shopkeeper.errors import InputError, NotFound
from shopkeeper.words import Grade

LONGEST = 2_000  # characters of a description or a definition
MOST = 50  # tags, terms, synonyms
_WORD = 60  # characters of a tag, a term, an owner


def describe(
    catalog: Catalog,
    name: str,
    column: str | None = None,
    *,
    description: str | None = None,
    owner: str | None = None,
    tags: Sequence[str] | None = None,
    terms: Sequence[str] | None = None,
    grade: str | None = None,
    fresh_hours: float | None = None,
    promised: Grade = Grade.PUBLIC,
) -> None:
    """Say something of an asset or a column; None leaves as it is, "" and [] and 0 take back.

    Args:
        promised: what the contract says; a grade may be stricter, not weaker.
    Raises:
        NotFound: no such asset, column or term. InputError: a grade weaker than `promised`, an
        owner or a freshness promise of a column, or a text that is too long.
    """
    version = catalog.current(name)
    _there(catalog, name)
    if column is not None and (version is None or column not in version.schema):
        known = ", ".join(version.schema) if version else "none"
        raise NotFound(f"{name} has no column {column!r}; it has {known}", where=name)
    if column is not None and (owner is not None or fresh_hours is not None):
        raise InputError(
            "owner and freshness are those of a whole asset",
            where=f"{name}.{column}",
            next="leave the column out",
        )
    if fresh_hours is not None and not 0 <= fresh_hours < 1e6:
        raise InputError(f"fresh_hours={fresh_hours}: wanted hours above 0, or 0 for no promise")
    values: dict[str, Any] = {}
    if description is not None:
        values["description"] = _text(description, LONGEST, "description") or None
    if owner is not None:
        values["owner"] = _text(owner, _WORD, "owner") or None
    if tags is not None:
        values["tags"] = _several(tags, "tag") or None
    if grade is not None:
        values["grade"] = _grade(grade, promised, name, column)
    if fresh_hours is not None:
        values["fresh_hours"] = fresh_hours or None
    with catalog.write() as connection:
        if terms is not None:
            values["terms"] = _known_terms(connection, terms) or None
        key = {"asset": name, "column": column or ""}
        upsert(connection, descriptions, key, values | {"told_at": now()})
        search.index_assets(connection, [name])


def _there(catalog: Catalog, name: str) -> None:
    if catalog.asset(name) is None:
        raise NotFound(
            f"no asset {name!r}", where="catalogue", next="see them with: shopkeeper assets ls"
        )


def _text(text: str, most: int, what: str) -> str:
    text = text.strip()
    if len(text) > most:
        raise InputError(f"a {what} of {len(text):,} characters; wanted at most {most:,}")
    return text


def _several(texts: Sequence[str], what: str) -> list[str]:
    kept = list(dict.fromkeys(_text(text, _WORD, what) for text in texts))
    kept = [text for text in kept if text]
    if len(kept) > MOST:
        raise InputError(f"{len(kept)} {what}s; wanted at most {MOST}")
    return kept


def _grade(grade: str, promised: Grade, name: str, column: str | None) -> str | None:
    if not grade:
        return None
    order = list(Grade)
    if grade not in order:
        raise InputError(f"no grade {grade!r}", next=f"there are: {', '.join(order)}")
    if order.index(Grade(grade)) < order.index(promised):
        where = f"{name}.{column}" if column else name
        raise InputError(
            f"{where} is {promised} by its contract or the run that makes it, and {grade} is weaker",
            where=where,
            next=f"choose {promised} or stricter, or change the contract: docs/catalogue.md",
        )
    return grade


def _known_terms(connection: sa.Connection, terms: Sequence[str]) -> list[str]:
    known = {fold(term): term for term in search.terms(connection)}
    found = []
    for term in _several(terms, "term"):
        if fold(term) not in known:
            raise NotFound(
                f"no term {term!r} in the glossary",
                where="glossary",
                next=f'define it: shopkeeper glossary add "{term}" "what it means"',
            )
        found.append(known[fold(term)])
    return found


def said(catalog: Catalog, name: str) -> dict[str, dict[str, Any]]:
    """{column ("" for the asset): what people said of it}."""
    query = sa.select(descriptions).where(descriptions.c.asset == name)
    with catalog.reader.connect() as connection:
        rows = connection.execute(query).mappings()
        return {row["column"]: dict(row) for row in rows}


def stricter(*grades: str | Grade | None) -> Grade:
    """The strictest of some grades; None says nothing."""
    return max((Grade(grade) for grade in grades if grade), key=list(Grade).index)


def about(catalog: Catalog, name: str, grades: Mapping[str, Grade]) -> dict[str, Any]:
    """All that is said of an asset, by people where they said it, else by the run that made it.

    Args:
        grades: of each column, as the contract and people have it.
    Returns:
        {"asset", "description", "owner", "grade", "tags", "terms": [{"term", "definition"}],
        "columns": {column: {"description", "grade", "tags", "terms"}}, "freshness"}; freshness is
        None without a promise: see `freshness`.
    """
    record = catalog.asset(name)
    if record is None:
        _there(catalog, name)
    assert record is not None
    told = said(catalog, name)
    with catalog.reader.connect() as connection:
        known = search.terms(connection)
    own = told.get("", {})

    def explained(terms: Sequence[str] | None) -> list[dict[str, Any]]:
        return [
            {"term": term, "definition": known.get(term, {}).get("definition", "")}
            for term in terms or ()
        ]

    return {
        "asset": name,
        "description": record["description"],
        "owner": record["owner"],
        "grade": record["grade"],
        "tags": own.get("tags") or [],
        "terms": explained(own.get("terms")),
        "columns": {
            column: {
                "description": told.get(column, {}).get("description"),
                "grade": str(grade),
                "tags": told.get(column, {}).get("tags") or [],
                "terms": explained(told.get(column, {}).get("terms")),
            }
            for column, grade in grades.items()
        },
        "freshness": freshness(catalog, [name]).get(name),
    }


def freshness(catalog: Catalog, names: Collection[str] | None = None) -> dict[str, dict[str, Any]]:
    """Of assets with a promise: {name: {"fresh_hours", "made_at", "age_hours", "overdue"}}.

    `made_at` is when a run last made what is current, even where it came out the same.
    """
    query = sa.select(descriptions.c.asset, descriptions.c.fresh_hours)
    query = query.where(descriptions.c.column == "", descriptions.c.fresh_hours.is_not(None))
    if names is not None:
        query = query.where(descriptions.c.asset.in_(list(names)))
    with catalog.reader.connect() as connection:
        promised = connection.execute(query).all()
        made = (
            sa.select(assets.c.name, sa.func.max(runs.c.finished_at))
            .join(run_outputs, run_outputs.c.version_id == assets.c.current)
            .join(runs, (runs.c.id == run_outputs.c.run_id) & (runs.c.outcome == "done"))
            .where(assets.c.name.in_([name for name, _ in promised]))
            .group_by(assets.c.name)
        )
        times = {row[0]: row[1] for row in connection.execute(made)}
    found = {}
    for name, hours in promised:
        at = times.get(name)
        age = None
        if at is not None:
            age = (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds() / 3600
        found[name] = {
            "fresh_hours": hours,
            "made_at": at,
            "age_hours": None if age is None else round(age, 2),
            "overdue": age is None or age > hours,
        }
    return found


# the glossary


def listed(catalog: Catalog) -> list[dict[str, Any]]:
    """All terms by name: [{"term", "definition", "definition_zh", "synonyms", "built_in", "used_by"}].

    `used_by` names assets and columns ("clean.items", "clean.items.price_minor") that carry it.
    """
    with catalog.reader.connect() as connection:
        known = search.terms(connection)
        own = set(connection.execute(sa.select(glossary.c.term)).scalars())
        query = sa.select(descriptions).where(descriptions.c.terms.is_not(None))
        used: dict[str, list[str]] = {}
        for row in connection.execute(query).mappings():
            where = f"{row['asset']}.{row['column']}" if row["column"] else row["asset"]
            for term in row["terms"]:
                used.setdefault(term, []).append(where)
    return [
        {
            "term": term,
            "definition": one["definition"],
            "definition_zh": one.get("definition_zh"),
            "synonyms": one["synonyms"],
            "built_in": term not in own,
            "used_by": sorted(used.get(term, ())),
        }
        for term, one in sorted(known.items())
    ]


def define(
    catalog: Catalog, term: str, definition: str, synonyms: Sequence[str] = ()
) -> dict[str, Any]:
    """Put a term into the glossary, or in the place of the one that is called so."""
    term = _text(term, _WORD, "term")
    if not term or not definition.strip():
        raise InputError("a term needs a name and a definition", where="glossary")
    values = {
        "definition": _text(definition, LONGEST, "definition"),
        "synonyms": _several(synonyms, "synonym"),
        "told_at": now(),
    }
    with catalog.write() as connection:
        term = _known_spelling(connection, term) or term
        upsert(connection, glossary, {"term": term}, values)
        search.index_assets(connection, _carriers(connection, term))
    return {"term": term, "definition": values["definition"], "synonyms": values["synonyms"]}


def undefine(catalog: Catalog, term: str) -> None:
    """Take a term of the workspace out; a built-in one that it stood over is there again.

    NotFound: the workspace has no such term. InputError: assets carry it and nothing is below it.
    """
    with catalog.write() as connection:
        found = _known_spelling(connection, term)
        own = sa.select(glossary.c.term).where(glossary.c.term == found)
        if found is None or connection.execute(own).first() is None:
            built_in = " (it is built in; define it anew to change it)" if found else ""
            raise NotFound(f"the workspace has no term {term!r}{built_in}", where="glossary")
        carriers = _carriers(connection, found)
        if carriers and found not in search.built_in_terms():
            raise InputError(
                f"{', '.join(carriers[:5])} {'carry' if len(carriers) > 1 else 'carries'} it",
                where=f"term {found!r}",
                next="take it off there first",
            )
        connection.execute(glossary.delete().where(glossary.c.term == found))
        search.index_assets(connection, carriers)


def _known_spelling(connection: sa.Connection, term: str) -> str | None:
    return next((one for one in search.terms(connection) if fold(one) == fold(term)), None)


def _carriers(connection: sa.Connection, term: str) -> list[str]:
    query = sa.select(descriptions.c.asset, descriptions.c.terms)
    rows = connection.execute(query.where(descriptions.c.terms.is_not(None))).mappings()
    return sorted({row["asset"] for row in rows if term in row["terms"]})
