"""What was quarantined: by table and rule, the rows whole, filtered, taken along, put right by rule."""

from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from shopkeeper.analysis.sql import Limits
from shopkeeper.assets import contracts
from shopkeeper.clean.report import advice, label
from shopkeeper.console import sql
from shopkeeper.console.templating import language_of, render
from shopkeeper.errors import InputError, NotFound
from shopkeeper.shop import Shop
from shopkeeper.words import ABOUT_USERS, TABLES, WHOLE_FILES

router = APIRouter(prefix="/console/quarantine", tags=["console"], include_in_schema=False)

PAGE = 50  # rows a page
FIRST = (
    "detail",
    "rule",
    "file",
    "line",
)  # what was wrong, and where, stands before the row itself
INSIDE = ("seq", "source")

Text = Annotated[str, Query(max_length=200)]
Field = Annotated[str, Form(max_length=1000)]


@router.get("")
def page(request: Request) -> Response:
    """Counts by table and rule, each with the first place and what to do."""
    shop: Shop = request.app.state.shop
    language = language_of(request)
    tables: dict[str, list[dict[str, Any]]] = {}
    for row in shop.quarantine():
        words = {"label": label(row["rule"], language), "advice": advice(row["rule"], language)}
        tables.setdefault(row["table"], []).append(row | words)
    return render(request, "quarantine.html", tables=tables, repairs=shop.quarantine_repairs())


@router.get("/{table}")
def rows(
    request: Request,
    table: str,
    rule: Text = "",
    q: Text = "",
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    format: Annotated[Literal["csv", "parquet"] | None, Query()] = None,
    replayed: Text = "",
) -> Response:
    """The quarantined rows of one table, whole, of one rule or all, with `q` anywhere in them."""
    shop: Shop = request.app.state.shop
    if table not in TABLES:
        raise NotFound(f"no table {table!r}", next=f"there are: {', '.join(TABLES)}")
    found = {layer: _counts(shop, f"{layer}.{table}") for layer in ("quarantine", "unread")}
    layer = "quarantine"
    if rule in found["unread"] or (not rule and not found["quarantine"]):
        layer = "unread"
    query = _query(f"{layer}.{table}", rule, q)
    if format is not None:
        return sql.download(shop.sql(query, sql.TAKEN), f"quarantine-{table}.{format}")
    language = language_of(request)
    counts = {**found["quarantine"], **found["unread"]}
    answer = None
    if found[layer]:
        frame = f"SELECT * FROM (\n{query}\n) LIMIT {PAGE + 1} OFFSET {(page - 1) * PAGE}"
        answer = shop.sql(frame, Limits(rows=PAGE, answer_mb=32)).as_dict()
        known = {column["name"]: column for column in answer["columns"]}
        order = [*FIRST, *(name for name in known if name not in (*FIRST, *INSIDE))]
        answer["columns"] = [known[name] for name in order if name in known]
    became = replayed.split(",")
    return render(
        request,
        "quarantined.html",
        table=table,
        rule=rule,
        q=q,
        page=page,
        query=query,
        answer=answer,
        first=(page - 1) * PAGE + 1,
        last=(page - 1) * PAGE + (answer["row_count"] if answer else 0),
        count=found[layer].get(rule, 0) if rule else sum(found[layer].values()),
        rules=[{"rule": r, "count": n, "label": label(r, language)} for r, n in counts.items()],
        advice=advice(rule, language) if rule else "",
        columns=_settable(table) if rule in found["quarantine"] else (),
        repairs=[one for one in shop.quarantine_repairs(table) if not rule or one["rule"] == rule],
        replayed=[int(n) for n in became]
        if len(became) == 4 and all(map(str.isdecimal, became))
        else [],
    )


@router.post("/{table}/try")
def tried(
    request: Request,
    table: str,
    rule: Field = "",
    column: Field = "",
    how: Annotated[Literal["=", ":="], Form()] = "=",
    value: Field = "",
) -> Response:
    """What a repair would set in the first rows, or what is wrong with it; a part of the page."""
    told: dict[str, Any] = {"error": "", "rows": 0, "examples": []}
    try:
        told |= request.app.state.shop.quarantine_try(table, rule, f"{column}{how}{value}")
    except InputError as error:
        told["error"] = str(error)
    return render(request, "quarantine_try.html", told=told)


@router.post("/{table}/repair")
def repair(
    request: Request,
    table: str,
    rule: Field = "",
    column: Field = "",
    how: Annotated[Literal["=", ":="], Form()] = "=",
    value: Field = "",
    why: Field = "",
) -> Response:
    """Keep a repair; the next run heeds it. InputError: it cannot be, or no reason is given."""
    shop: Shop = request.app.state.shop
    shop.quarantine_repair(table, rule, f"{column}{how}{value}", why, by="console")
    return _back(table, rule)


@router.post("/{table}/undo")
def undo(
    request: Request, table: str, repair: Field, why: Field = "", rule: Field = ""
) -> Response:
    """Take a repair back."""
    request.app.state.shop.quarantine_undo(table, repair, why, by="console")
    return _back(table, rule)


@router.post("/{table}/replay")
def replay(request: Request, table: str, rule: Field = "") -> Response:
    """Clean the table again, and tell what became of its quarantined rows. Conflict: a run is at work."""
    told = request.app.state.shop.quarantine_replay(table, rule or None)
    counts = [str(told[key]) for key in ("replayed", "clean", "merged", "still")]
    return _back(table, rule, replayed=",".join(counts))


def _back(table: str, rule: str, **more: str) -> Response:
    query = urlencode({"rule": rule, **more} if rule else more)
    return RedirectResponse(f"/console/quarantine/{quote(table)}?{query}", 303)


def _settable(table: str) -> tuple[str, ...]:
    """Columns that a repair may set."""
    fixed = ("user_id",) if table in ABOUT_USERS else ()
    names = () if table in WHOLE_FILES else contracts.built_in(table).names
    return tuple(name for name in names if name not in fixed)


def _counts(shop: Shop, name: str) -> dict[str, int]:
    """Rows by rule, most first; nothing where there is no such asset or no row in it."""
    if not shop.assets.exists(name):
        return {}
    told = shop.sql(f"SELECT rule, count(*) AS n FROM {name} GROUP BY rule ORDER BY n DESC, rule")
    return dict(told.frame.iter_rows())


def _query(name: str, rule: str, text: str) -> str:
    """The SELECT of the rows, which the SQL page takes as well."""
    wanted = [f"rule = {_literal(rule)}"] if rule else []
    if text:
        row = "lower(concat_ws(' ', *COLUMNS(*)))"
        wanted.append(f"contains({row}, lower({_literal(text)}))")
    where = f"\nWHERE {' AND '.join(wanted)}" if wanted else ""
    return f"SELECT *\nFROM {name}{where}\nORDER BY file, line"


def _literal(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"
