"""The console: what data there is, where it came from, how good it is, and what it answers now."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from shopkeeper.console.templating import render
from shopkeeper.errors import NotReady
from shopkeeper.serving import releases

router = APIRouter(prefix="/console", tags=["console"], include_in_schema=False)

LAYERS = ("raw", "unread", "clean", "quarantine", "quality", "features", "models", "evaluations", "indexes", "reports", "releases")  # fmt: skip
SHOWN_METRICS = (
    "NDCG@10",
    "HR@10",
    "MRR@10",
    "recall@20",
    "accuracy",
    "f1_weighted",
    "coverage@10",
)
PREVIEW_ROWS = 12


@router.get("")
def overview(request: Request) -> Response:
    """Live numbers, the state of the loop, lineage, and every asset."""
    shop = request.app.state.shop
    assets = sorted(shop.assets_list(), key=lambda asset: (_layer(asset), asset["name"]))
    try:
        counters = live_counters(request)
    except NotReady:
        counters = None
    return render(
        request,
        "overview.html",
        assets=assets,
        graph=_graph(shop.lineage()),
        status=shop.status(),
        counters=counters,
        layers=LAYERS,
    )


@router.get("/assets/{name}")
def asset(request: Request, name: str) -> Response:
    """One asset: schema, versions, first rows, what it was made from and what uses it."""
    shop = request.app.state.shop
    found = shop.asset(name)
    return render(
        request,
        "asset.html",
        asset=found,
        preview=shop.preview(name, PREVIEW_ROWS) if found["version"] else None,
        graph=_graph(shop.lineage(name)) if found["version"] else None,
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


def _layer(asset: dict[str, Any]) -> int:
    layer = asset["layer"]
    return LAYERS.index(layer) if layer in LAYERS else len(LAYERS)


def _graph(lineage: dict[str, Any]) -> dict[str, Any]:
    """Nodes with a column (how many steps from the raw data) and a row; edges as they are.

    The column is the longest way from any source, so every edge points to the right.
    """
    parents: dict[str, list[str]] = {node["name"]: [] for node in lineage["nodes"]}
    for edge in lineage["edges"]:
        if edge["from"] in parents and edge["to"] in parents:
            parents[edge["to"]].append(edge["from"])
    depth: dict[str, int] = {}

    def far(name: str, on_the_way: frozenset[str] = frozenset()) -> int:
        if name not in depth:
            before = [p for p in parents[name] if p not in on_the_way]
            depth[name] = max((far(p, on_the_way | {name}) + 1 for p in before), default=0)
        return depth[name]

    nodes = sorted(
        lineage["nodes"], key=lambda node: (far(node["name"]), _layer(node), node["name"])
    )
    filled: dict[int, int] = {}
    placed = []
    for node in nodes:
        column = depth[node["name"]]
        filled[column] = filled.get(column, -1) + 1
        placed.append(
            {
                "name": node["name"],
                "layer": node["layer"],
                "rows": node["rows"],
                "version": node["version"],
                "focus": node["focus"],
                "column": column,
                "row": filled[column],
            }
        )
    return {
        "nodes": placed,
        "edges": lineage["edges"],
        "columns": max(filled, default=-1) + 1,
        "tallest": max(filled.values(), default=-1) + 1,
    }


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
