"""The console: what data there is, where it came from, how good it is, and what it answers now."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from shopkeeper.console.layers import LAYERS, place
from shopkeeper.console.lineage import placed
from shopkeeper.console.templating import render
from shopkeeper.errors import NotReady
from shopkeeper.serving import releases

router = APIRouter(prefix="/console", tags=["console"], include_in_schema=False)

SHOWN_ASSETS = 200  # of more, search tells; a drawing of them all would say nothing
SHOWN_METRICS = (
    "NDCG@10",
    "HR@10",
    "MRR@10",
    "recall@20",
    "accuracy",
    "f1_weighted",
    "coverage@10",
)


@router.get("")
def overview(request: Request) -> Response:
    """Live numbers, the state of the loop, lineage, and every asset."""
    shop = request.app.state.shop
    names = sorted(shop.assets.catalog.asset_names(), key=lambda n: (place(n.partition(".")[0]), n))
    assets = shop.assets_list(names[:SHOWN_ASSETS])
    assets.sort(key=lambda asset: (place(asset["layer"]), asset["name"]))
    try:
        counters = live_counters(request)
    except NotReady:
        counters = None
    return render(
        request,
        "overview.html",
        assets=assets,
        graph=placed(shop.lineage()) if len(names) <= SHOWN_ASSETS else None,
        many=len(names) if len(names) > SHOWN_ASSETS else 0,
        status=shop.status(),
        counters=counters,
        layers=LAYERS,
    )


@router.get("/quality")
def quality(
    request: Request,
    table: Annotated[str | None, Query(max_length=40)] = None,
    rule: Annotated[str | None, Query(max_length=100)] = None,
) -> Response:
    """Checks of every table, what was quarantined by which rule, and, for one rule, the rows."""
    shop = request.app.state.shop
    reports = shop.quality()
    labels = {
        (report["table"], check["rule"]): check for report in reports for check in report["rules"]
    }
    return render(
        request,
        "quality.html",
        reports=reports,
        quarantine=shop.quarantine(),
        labels=labels,
        chosen=(table, rule),
        rows=shop.quarantined_rows(table, rule, 20) if table and rule else [],
    )


@router.get("/leaderboard")
def leaderboard(request: Request) -> Response:
    """Models side by side, each with its interval, and how they learned."""
    board = request.app.state.shop.leaderboard()
    rows = board["leaderboard"] if board else []
    measured = [name for name in SHOWN_METRICS if any(name in row["metrics"] for row in rows)]
    return render(
        request,
        "leaderboard.html",
        board=board,
        rows=rows,
        metrics=measured,
        plot=_plot(rows),
        curves=_curves(board["curves"] if board else {}),
    )


@router.get("/releases")
def released(request: Request) -> Response:
    """Every release, which one serves, and every decision of the gate."""
    shop = request.app.state.shop
    return render(
        request,
        "releases.html",
        releases=releases.listed(shop.releases),
        decisions=list(reversed(releases.decisions(shop.releases)))[:50],
    )


@router.get("/live")
def live(request: Request) -> Response:
    """The live numbers alone, asked again every two seconds."""
    try:
        counters = live_counters(request)
    except NotReady:
        counters = None
    return render(request, "live.html", counters=counters)


def live_counters(request: Request) -> dict[str, Any]:
    """What this server counted, and the service's own counts. NotReady before a release."""
    shop = request.app.state.shop
    counted: dict[str, Any] = request.app.state.gauges.live()
    return counted | {"service": shop.service.counters()}


def _plot(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "model": row["model"],
            "floor": row["is_floor"],
            "value": row["metrics"][row["primary"]],
            "low": row["ci"][0],
            "high": row["ci"][1],
            "metric": row["primary"],
        }
        for row in rows
    ]


def _curves(curves: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Validation metrics by epoch, one line a model and metric."""
    lines = []
    for model, epochs in curves.items():
        names = [key for key in epochs[0] if key in SHOWN_METRICS] if epochs else []
        lines += [
            {
                "model": model,
                "metric": name,
                "points": [
                    [point.get("epoch", n + 1), point.get(name)] for n, point in enumerate(epochs)
                ],
            }
            for name in names
        ]
    return lines
