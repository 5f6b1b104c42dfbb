"""The data behind the answers: assets, lineage, quality, leaderboard, releases, live counters."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from shopkeeper.api.bodies import reply
from shopkeeper.api.doors import Keeper

router = APIRouter(tags=["data"])

Text = Annotated[str | None, Query(min_length=1, max_length=200)]


@router.get("/assets")
def assets(request: Request, _: Keeper) -> Response:
    """Every asset with its newest version."""
    return reply({"assets": request.app.state.shop.assets_list()})


@router.get("/assets/{name}")
def asset(request: Request, name: str, _: Keeper) -> Response:
    """One asset: schema, versions, quality."""
    return reply(request.app.state.shop.asset(name))


@router.get("/assets/{name}/lineage")
def lineage(request: Request, name: str, _: Keeper) -> Response:
    """Everything an asset was made from and everything made from it."""
    return reply(request.app.state.shop.lineage(name))


@router.get("/assets/{name}/columns/lineage")
def column_lineage(
    request: Request,
    name: str,
    _: Keeper,
    column: Text = None,
    direction: Literal["up", "down", "both"] = "up",
    depth: Annotated[int, Query(ge=1, le=100)] = 100,
    rows: bool = False,
) -> Response:
    """Which columns the columns of an asset were made from, or what was made from them.

    `rows` follows what decided which rows there are as well, not values alone.
    """
    shop = request.app.state.shop
    return reply(shop.column_lineage(name, column, direction=direction, depth=depth, rows=rows))


@router.get("/trace/answers/{answer_id}")
def trace_answer(request: Request, answer_id: str, _: Keeper) -> Response:
    """From an answer to its release, models, training snapshot and the raw rows behind it."""
    return reply(request.app.state.shop.trace_answer(answer_id))


@router.get("/trace/rows")
def trace_row(
    request: Request,
    _: Keeper,
    file: Annotated[str, Query(min_length=1, max_length=500)],
    line: Annotated[int, Query(ge=0)],
) -> Response:
    """From a raw row, by where it stood, to every version, model and release that it reached."""
    return reply(request.app.state.shop.trace_row(file, line))


@router.get("/trace/events/{event_id}")
def trace_event(request: Request, event_id: str, _: Keeper) -> Response:
    """As /trace/rows, of all rows with that event id."""
    return reply(request.app.state.shop.trace_event(event_id))


@router.get("/assets/{name}/preview")
def preview(
    request: Request, name: str, _: Keeper, n: Annotated[int, Query(ge=1, le=200)] = 20
) -> Response:
    """A few rows of a table."""
    return reply(request.app.state.shop.preview(name, n))


@router.get("/quality")
def quality(request: Request, _: Keeper) -> Response:
    """Every check of the newest clean step, with its count."""
    return reply(request.app.state.shop.quality())


@router.get("/leaderboard")
def leaderboard(request: Request, _: Keeper) -> Response:
    """Models compared on the primary split."""
    return reply(request.app.state.shop.leaderboard())


@router.get("/status")
def status(request: Request, _: Keeper) -> Response:
    """What is fresh, stale or failed, and what to do next."""
    return reply(request.app.state.shop.status())


@router.get("/counters")
def counters(request: Request, _: Keeper) -> Response:
    """What this server has done since it started."""
    live = request.app.state.gauges.live()
    return reply(live | {"service": request.app.state.shop.service.counters()})
