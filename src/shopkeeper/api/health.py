"""Is it alive, is it ready, what has it counted."""

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from shopkeeper.api.bodies import reply
from shopkeeper.api.doors import Keeper
from shopkeeper.api.gauges import Numbers
from shopkeeper.errors import NotReady

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> Response:
    """200 while the process answers at all; open to everybody, says nothing else."""
    return reply({"status": "ok"})


@router.get("/readyz")
def readyz(request: Request) -> Response:
    """200 when a release is being served; 503 with the next step before that.

    `reload_failed`: a newer release should be served and could not be opened; the log says why.
    """
    health = request.app.state.shop.service.health()
    failed = bool(health["reload_failed"])
    return reply({"status": "ready", "release": health["release"], "reload_failed": failed})


@router.get("/metrics")
async def metrics(request: Request, _: Keeper) -> Response:
    """Counts for Prometheus. Several workers add up; `service` numbers are of one worker."""
    try:
        service = await run_in_threadpool(lambda: request.app.state.shop.service)
        numbers = {"ready": 1} | await run_in_threadpool(service.counters)
    except NotReady:
        numbers = {"ready": 0}
    text = request.app.state.gauges.text(Numbers("shopkeeper_service", numbers))
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")
