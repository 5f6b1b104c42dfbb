"""The shop's ready reports: each drawn by one SELECT over its asset, which is shown and can be changed."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from shopkeeper.analysis.sql import Limits
from shopkeeper.analysis.steps import REPORTS
from shopkeeper.console import sql
from shopkeeper.console.templating import language_of, render, words
from shopkeeper.errors import NotFound
from shopkeeper.shop import Shop

router = APIRouter(prefix="/console/reports", tags=["console"], include_in_schema=False)

ROWS = 200  # of the table on the page; the download has all
# report -> the SELECT that its chart draws; {minor} is how many of the smallest coin make one unit
DRAWN: Mapping[str, str] = {
    "funnel": "SELECT day, channel, bought\nFROM reports.funnel\nORDER BY day, channel",
    "retention": "SELECT week, cohort::VARCHAR AS cohort, share\nFROM reports.retention\n"
    "WHERE complete\nORDER BY cohort, week",
    "cohort_value": "SELECT month, cohort::VARCHAR AS cohort, per_user_minor / {minor} AS per_buyer\n"
    "FROM reports.cohort_value\nORDER BY cohort, month",
    "basket": "SELECT item_a || ' + ' || item_b AS pair, lift\nFROM reports.basket\n"
    "WHERE level = 'item'\nORDER BY lift DESC\nLIMIT 15",
    "search_terms": "SELECT term, searches, unfollowed\nFROM reports.search_terms\n"
    "ORDER BY searches DESC\nLIMIT 15",
    "channels": "SELECT channel, users, buyers\nFROM reports.channels\nORDER BY users DESC",
    "price_history": "SELECT first_day AS day, source, count(*) AS prices\n"
    "FROM reports.price_history\nGROUP BY ALL\nORDER BY day, source",
    "stock_movement": "SELECT item_id, sold, stock\nFROM reports.stock_movement\n"
    "WHERE sold IS NOT NULL\nORDER BY sold DESC\nLIMIT 15",
}
ANY = "SELECT *\nFROM reports.{name}"


@router.get("")
def page(request: Request) -> Response:
    """All reports with their charts."""
    shop: Shop = request.app.state.shop
    language = language_of(request)
    return render(
        request, "reports.html", reports=[_drawn(shop, name, language) for name in REPORTS]
    )


@router.get("/{name}")
def one(
    request: Request, name: str, format: Annotated[Literal["csv", "parquet"] | None, Query()] = None
) -> Response:
    """One report: its chart, the SELECT behind it, its rows and what it says about itself."""
    shop: Shop = request.app.state.shop
    if name not in REPORTS:
        raise NotFound(f"no report {name!r}", next=f"there are: {', '.join(REPORTS)}")
    if format is not None:
        return sql.download(
            shop.sql(ANY.format(name=name), sql.TAKEN, apart=False), f"{name}.{format}"
        )
    told = _drawn(shop, name, language_of(request))
    if told["asset"] is not None:
        told["rows"] = shop.sql(
            ANY.format(name=name), Limits(rows=ROWS, answer_mb=32), apart=False
        ).as_dict()
        told["notes"] = shop.asset(f"reports.{name}")["notes"]
    return render(request, "report.html", report=told)


def _drawn(shop: Shop, name: str, language: str) -> dict[str, Any]:
    """{"name", "asset", "sql", "picture"}; the asset is None where the report was not made yet."""
    version = shop.assets.catalog.current(f"reports.{name}")
    query = DRAWN[name].format(minor=f"{shop.settings.minor_units}.0")
    return {
        "name": name,
        "asset": version and {"name": version.asset, "created_at": version.created_at},
        "sql": query,
        "picture": sql.picture(
            shop.sql(query, sql.SHOWN, apart=False), language, words(language)[f"drawn.{name}"]
        )
        if version
        else None,
    }
