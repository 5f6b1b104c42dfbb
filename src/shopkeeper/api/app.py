"""HTTP in, one call, HTTP out: the app, assembled in one place."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from shopkeeper.api import answers, data, events, failures, health, hooks, items, pages
from shopkeeper.api.bodies import REQUEST_BODIES, ErrorOut
from shopkeeper.api.doors import keeper, visitor
from shopkeeper.api.edge import Edge
from shopkeeper.api.gauges import Gauges
from shopkeeper.console import (
    asset,
    backstage,
    branches,
    catalogue,
    contracts,
    loop,
    pictures,
    quarantine,
    reference,
    reports,
    runs,
    sql,
    storefront,
    trace,
    value,
)
from shopkeeper.governance.clients import LOOPBACK, Clients
from shopkeeper.serving.hooks import Hooks
from shopkeeper.shop import Shop

PREFIX = "/v1"

_DESCRIPTION = """Search and recommendations that learn from what people do.

Every error has one shape: `{"error": {"code", "message", "where", "next"}}`; `next` says what to
do. Send a key as `Authorization: Bearer KEY`; on this machine, while no key exists, none is needed.
"""


def create_app(
    shop: Shop,
    *,
    clients: Clients,
    host: str = "127.0.0.1",
    log_requests: bool = False,
) -> FastAPI:
    """The whole HTTP side of one shop: the API under /v1, and the pages.

    Args:
        shop: an open workspace; it may have no release yet, then answers are 503 with the next step.
        clients: who may call. While it holds no key, a server on loopback is open.
        host: the address that is listened on; decides whether the door may stand open at all.
        log_requests: also log requests that went well and fast.
    """
    gauges = Gauges()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        shop.close()
        app.state.hooks.close()
        clients.close()

    app = FastAPI(
        title="Shopkeeper",
        version=version("shopkeeper"),
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # our own page: the usual one loads its script from another server
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    app.state.shop = shop
    app.state.clients = clients
    app.state.hooks = Hooks(shop.folder, shop.settings)
    app.state.gauges = gauges
    app.state.loopback = host in LOOPBACK
    app.add_middleware(Edge, gauges=gauges, clients=clients, log_requests=log_requests)
    failures.install(app)
    problems: dict[int | str, dict[str, Any]] = {
        "4XX": {"model": ErrorOut, "description": "The caller can fix it"},
        "5XX": {"model": ErrorOut, "description": "We, or a step before us, have to"},
    }
    # answers before items: /items/{id}/similar is also the form of /items/{id}
    for part in (events, answers, items, data, hooks):
        app.include_router(part.router, prefix=PREFIX, responses=problems)
    app.include_router(health.router)
    app.include_router(pages.door)
    app.include_router(pictures.router, dependencies=[Depends(visitor)], include_in_schema=False)
    for page in (
        storefront,
        backstage,
        asset,
        catalogue,
        sql,
        reports,
        runs,
        branches,
        loop,
        value,
        contracts,
        quarantine,
        trace,
        reference,
    ):
        app.include_router(page.router, dependencies=[Depends(keeper)], include_in_schema=False)
    app.mount("/static", pages.static())
    app.include_router(health.router, prefix=PREFIX, include_in_schema=False)
    app.openapi = _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """OpenAPI with the forms of request bodies, which we parse ourselves."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            _, forms = models_json_schema(
                [(body, "validation") for body in REQUEST_BODIES],
                ref_template="#/components/schemas/{model}",
            )
            schema["components"]["schemas"] |= forms["$defs"]
            schema["components"]["securitySchemes"] = {
                "key": {"type": "http", "scheme": "bearer"},
            }
            schema["security"] = [{"key": []}, {}]
            app.openapi_schema = schema
        return app.openapi_schema

    return described
