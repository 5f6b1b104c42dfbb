"""Runs over time: which step ran when, how long, with how much, from what, and what went wrong."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from shopkeeper.console.templating import render
from shopkeeper.errors import NotFound
from shopkeeper.shop import Shop

router = APIRouter(prefix="/console/runs", tags=["console"], include_in_schema=False)

SHOWN = 200
PAUSE = timedelta(minutes=5)  # a longer one begins another picture: bars would be too thin to see
NARROWEST = 0.4  # percent of the width


@router.get("")
def page(
    request: Request,
    step: Annotated[str | None, Query(max_length=100)] = None,
    outcome: Literal["done", "failed", "running"] | None = None,
    run: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """The newest runs as bars over time; ?run= shows one with its inputs, outputs and error."""
    shop: Shop = request.app.state.shop
    found = shop.runs(SHOWN, step or None)
    kept = [one for one in found if outcome is None or one["outcome"] == outcome]
    return render(
        request,
        "runs.html",
        sittings=sittings(kept),
        steps=sorted({one["step"] for one in (shop.runs(SHOWN) if step else found)}),
        chosen={"step": step, "outcome": outcome},
        run=_one(shop, run) if run else None,
        any_run=bool(found),
    )


def sittings(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Runs that followed each other without a long pause, newest sitting first, oldest run first.

    Returns:
        [{"started_at", "seconds", "cpu_seconds", "peak_rss_mb", "runs": [run + {"left", "width"}]}];
        left and width in percent of the sitting's time.
    """
    groups: list[list[dict[str, Any]]] = []
    ended: datetime | None = None
    for run in sorted(runs, key=lambda run: str(run["started_at"])):
        start = datetime.fromisoformat(run["started_at"])
        if ended is None or start - ended > PAUSE:
            groups.append([])
        groups[-1].append(run)
        ended = max(ended or start, _end(run))
    return [_sitting(group) for group in reversed(groups)]


def _sitting(runs: list[dict[str, Any]]) -> dict[str, Any]:
    first = datetime.fromisoformat(runs[0]["started_at"])
    seconds = max((max(map(_end, runs)) - first).total_seconds(), 0.001)
    bars = []
    for run in runs:
        start = (datetime.fromisoformat(run["started_at"]) - first).total_seconds()
        length = (_end(run) - first).total_seconds() - start
        width = max(100 * length / seconds, NARROWEST)
        bars.append({**run, "left": round(min(100 * start / seconds, 100 - width), 3), "width": round(width, 3)})  # fmt: skip
    return {
        "started_at": runs[0]["started_at"],
        "seconds": seconds,
        "cpu_seconds": sum(run["cpu_seconds"] or 0.0 for run in runs),
        "peak_rss_mb": max((run["peak_rss_mb"] or 0.0 for run in runs), default=0.0),
        "runs": bars,
    }


def _end(run: dict[str, Any]) -> datetime:
    """When a run ended; of one that is still at work, now."""
    if run["outcome"] == "running":
        return datetime.now(UTC)
    return datetime.fromisoformat(run["started_at"]) + timedelta(seconds=run["seconds"] or 0.0)


def _one(shop: Shop, run_id: str) -> dict[str, Any]:
    """A run with parameters, notes, code, inputs and outputs."""
    record = shop.assets.catalog.run(run_id)
    if record is None:
        raise NotFound(f"no run {run_id!r}", where="query.run", next="see them at /console/runs")
    told = next((run for run in shop.runs(SHOWN, record["step"]) if run["id"] == run_id), None)
    catalog = shop.assets.catalog
    ends = told or {"inputs": catalog.inputs(run_id), "outputs": catalog.outputs(run_id)}
    return {**record, **ends}
