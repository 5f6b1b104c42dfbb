"""SQL over assets, as a page: ask, see the rows and a chart of them, take them along.

The query stands in the address, so that a page can be kept or sent. What a query may do and use is
settled in `analysis.sql`; here it may use less than at the command line.
"""

import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from markupsafe import Markup
from starlette.responses import Response

from shopkeeper.analysis.chart import BARS, chart
from shopkeeper.analysis.sql import Limits, Result
from shopkeeper.console.templating import language_of, render, words
from shopkeeper.errors import InputError
from shopkeeper.shop import Shop

router = APIRouter(prefix="/console/sql", tags=["console"], include_in_schema=False)

SHOWN = Limits(rows=1_000, seconds=20.0, answer_mb=32)
TAKEN = Limits(rows=100_000)
TEXT = 6_000  # characters of a query: it has to fit an address
KINDS = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}

Sql = Annotated[str, Query(max_length=TEXT)]


@router.get("")
def page(request: Request, q: Sql = "") -> Response:
    """The editor; with ?q= what the query answers. A link from another site only fills the editor."""
    shop: Shop = request.app.state.shop
    answer: Result | None = None
    problem: InputError | None = None
    if q.strip() and request.headers.get("sec-fetch-site") != "cross-site":
        try:
            answer = shop.sql(q, SHOWN)
        except InputError as error:
            problem = error
    return render(
        request,
        "sql.html",
        q=q,
        answer=answer.as_dict() if answer else None,
        picture=picture(answer, language_of(request)) if answer else None,
        problem=problem,
        tables=tables(shop),
        limits=SHOWN,
        taken=TAKEN,
    )


@router.get("/result.{kind}")
def result(request: Request, kind: Literal["csv", "parquet"], q: Sql) -> Response:
    """What the query answers, as a file."""
    answer = request.app.state.shop.sql(q, TAKEN)
    return download(answer, f"result.{kind}")


def download(answer: Result, name: str) -> Response:
    """An answer as a file called `name`, in the format of its suffix (.csv, .parquet)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        answer.write(path)
        content = path.read_bytes()
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return Response(content, media_type=KINDS[path.suffix[1:]], headers=headers)


def picture(answer: Result, language: str, title: str = "") -> dict[str, Any]:
    """{"svg", "open", "why"}: the chart of an answer, or why there is none.

    It is shown at once where it is likely what was asked for: days along the axis, or few rows.
    """
    try:
        svg = Markup(chart(answer.frame, title, words(language)["chart.more"]))  # escapes both
    except InputError as error:
        return {"svg": None, "open": False, "why": str(error)}
    likely = answer.frame.dtypes[0].is_temporal() or answer.frame.height <= BARS
    return {"svg": svg, "open": likely, "why": ""}


def tables(shop: Shop) -> list[dict[str, Any]]:
    """Every table there is, with its columns and types, for the side of the editor."""
    return [
        {
            "name": record["name"],
            "layer": record["name"].partition(".")[0],
            "grade": record["grade"],
            "columns": record["version"].schema,
        }
        for record in shop.assets.catalog.assets()
        if record["version"] is not None and record["version"].is_table
    ]
