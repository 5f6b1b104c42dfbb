"""The data behind the answers: assets, lineage, quality, leaderboard, releases, live counters."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from shopkeeper.api.bodies import reply
from shopkeeper.api.doors import Keeper

router = APIRouter(tags=["data"])


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
