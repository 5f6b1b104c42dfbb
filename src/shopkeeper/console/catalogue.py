"""Finding assets, saying what they are, and the glossary."""

import re
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from shopkeeper.console.layers import LAYERS
from shopkeeper.console.templating import render
from shopkeeper.errors import InputError
from shopkeeper.shop import Shop

router = APIRouter(prefix="/console", tags=["console"], include_in_schema=False)

Text = Annotated[str, Form(max_length=2_000)]
Word = Annotated[str, Form(max_length=60)]
_BETWEEN = re.compile(r"[,，;；、\n]+")
BARS_HIGH, BARS_WIDE = 48, 220  # of a histogram, in its own units


@router.get("/find")
def find(
    request: Request,
    q: Annotated[str, Query(max_length=200)] = "",
    layer: Annotated[str | None, Query(max_length=40)] = None,
) -> Response:
    """Assets for a query, best first, with where they matched."""
    shop: Shop = request.app.state.shop
    hits = shop.find(q, 50, layer=layer or None) if q.strip() else []
    return render(request, "find.html", q=q, layer=layer or "", hits=hits, layers=LAYERS)


@router.get("/glossary")
def glossary(request: Request) -> Response:
    """Every term: what it means, other words for it, what carries it."""
    return render(request, "glossary.html", terms=request.app.state.shop.glossary())


@router.post("/glossary")
def define(
    request: Request, term: Word, definition: Text, synonyms: Text = "", remove: bool = False
) -> Response:
    """Define a term, or take one of the workspace out."""
    shop: Shop = request.app.state.shop
    if remove:
        shop.undefine(term)
    else:
        shop.define(term, definition, _several(synonyms))
    return RedirectResponse("/console/glossary", 303)


@router.post("/assets/{name}/about")
def describe(
    request: Request,
    name: str,
    description: Text = "",
    owner: Word = "",
    tags: Text = "",
    terms: Text = "",
    grade: Word = "",
    fresh_hours: Word = "",
    column: Annotated[str, Form(max_length=300)] = "",
) -> Response:
    """Keep what was typed of an asset, or of one column; what is left empty is taken back."""
    shop: Shop = request.app.state.shop
    whole: dict[str, Any] = {}
    if not column:
        try:
            whole = {"owner": owner, "fresh_hours": float(fresh_hours or 0)}
        except ValueError as error:
            raise InputError(
                f"{fresh_hours!r} is no number of hours", where=name, next="write e.g. 24"
            ) from error
    shop.describe(
        name, column or None, description=description, tags=_several(tags),
        terms=_several(terms), grade=grade, **whole,
    )  # fmt: skip
    return RedirectResponse(f"/console/assets/{quote(name, safe='')}?tab=about", 303)


def _several(text: str) -> list[str]:
    """Words between commas, in either script, or lines."""
    return [word.strip() for word in _BETWEEN.split(text) if word.strip()]


def bars(histogram: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A histogram as it is drawn: [{"x", "y", "width", "height", "from", "to", "rows"}]."""
    if histogram is None or not histogram["counts"]:
        return []
    counts, edges = histogram["counts"], histogram["edges"]
    width, most = BARS_WIDE / len(counts), max(counts)
    drawn = []
    for n, rows in enumerate(counts):
        height = 0.0 if not rows else max(1.0, BARS_HIGH * rows / most)
        drawn.append(
            {
                "x": round(n * width, 2),
                "y": round(BARS_HIGH - height, 2),
                "width": round(max(width - 1, 0.5), 2),
                "height": round(height, 2),
                "from": edges[n],
                "to": edges[n + 1],
                "rows": rows,
            }
        )
    return drawn


def logarithmic(histogram: dict[str, Any] | None) -> bool:
    """Whether the last bar of a histogram stands for a far wider range than the first."""
    if histogram is None or not all(isinstance(edge, int | float) for edge in histogram["edges"]):
        return False
    edges = histogram["edges"]
    return len(edges) > 2 and edges[-1] - edges[-2] > 2 * (edges[1] - edges[0])
