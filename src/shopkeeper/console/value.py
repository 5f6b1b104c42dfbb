"""What assets are worth: one page of all, and the values of one asset for its own page."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from shopkeeper.console.templating import render
from shopkeeper.shop import Shop

router = APIRouter(prefix="/console/value", tags=["console"], include_in_schema=False)

NOTHING = "value.by.nothing"
METHODS = {
    "retrain: fast ranker": "value.by.ranker",
    "retrain: floors + ranker": "value.by.rebuilt",
    "nothing left": NOTHING,
}


@router.get("")
def page(request: Request) -> Response:
    """Every asset and column, most worth first, with its interval, how it was measured and its cost."""
    shop: Shop = request.app.state.shop
    return render(request, "value.html", metrics=by_metric(shop))


def by_metric(shop: Shop, name: str | None = None) -> list[dict[str, Any]]:
    """Values ready to be shown.

    Returns:
        [{"metric", "base", "money" (whether it counts minor units), "reach" (the largest end of an
        interval, for bars; of rows without which something is left), "rows"}]; a row is that of `Shop.values` with "by", a key of words/, and
        "model", whose columns were shuffled
    """
    rows = shop.values(name)
    told = []
    for metric in dict.fromkeys(row["metric"] for row in rows):
        own = [{**row, **_by(row["method"])} for row in rows if row["metric"] == metric]
        ends = [abs(row[end]) for row in own if row["by"] != NOTHING for end in ("low", "high")]
        told.append(
            {
                "metric": metric,
                "base": own[0]["base"],
                "money": metric.startswith("revenue"),
                "reach": max([*ends, 1e-12]),
                "rows": own,
            }
        )
    return told


def _by(method: str) -> dict[str, str]:
    known = METHODS.get(method)
    return {
        "by": known or "value.by.permutation",
        "model": "" if known else method.partition(": ")[2],
    }
