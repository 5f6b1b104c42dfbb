"""Live items: what a shop changes by the minute shows in the next answer."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from shopkeeper.api.bodies import Id, ItemPatch, ItemsBody, reply
from shopkeeper.api.doors import Keeper, Visitor
from shopkeeper.api.incoming import body_of, documented
from shopkeeper.errors import InputError

router = APIRouter(tags=["items"])

_BATCH = TypeAdapter(ItemsBody)
_PATCH = TypeAdapter(ItemPatch)


@router.post("/items", openapi_extra=documented("ItemsBody"))
async def put_many(request: Request, _: Keeper) -> Response:
    """Write whole items, {"items": […]}: all or none; durable before the answer."""
    body = await body_of(request, _BATCH)
    seen: set[str] = set()
    for n, item in enumerate(body.items):
        if item.item_id in seen:
            raise InputError(f"item {item.item_id!r} stands here twice", where=f"body.items.{n}")
        seen.add(item.item_id)
    rows = [item.model_dump(exclude_unset=True) for item in body.items]
    await run_in_threadpool(lambda: request.app.state.shop.service.put_items(rows, "put"))
    return reply({"written": len(rows)})


@router.put("/items/{item_id:path}", openapi_extra=documented("ItemPatch"))
async def put(request: Request, item_id: Id, _: Keeper) -> Response:
    """Write one whole item: fields left out become empty."""
    body = await body_of(request, _PATCH)
    return await _write(request, item_id, body.model_dump(exclude_unset=True), "put")


@router.patch("/items/{item_id:path}", openapi_extra=documented("ItemPatch"))
async def patch(request: Request, item_id: Id, _: Keeper) -> Response:
    """Change the fields that are given; a price or a stock shows in the next answer."""
    body = await body_of(request, _PATCH)
    fields = body.model_dump(exclude_unset=True)
    if not fields:
        raise InputError("no field to change", where="body", next='send e.g. {"stock": 0}')
    return await _write(request, item_id, fields, "patch")


@router.delete("/items/{item_id:path}")
def delete(request: Request, item_id: Id, _: Keeper) -> Response:
    """Take an item out of every answer from now on."""
    request.app.state.shop.service.delete_item(item_id)
    return reply({"deleted": item_id})


@router.get("/items/{item_id:path}")
def card(request: Request, item_id: Id, _: Visitor) -> Response:
    """What a page shows of an item: titles, price, stock, category, brand, image."""
    return reply(request.app.state.shop.service.item(item_id))


async def _write(request: Request, item_id: str, fields: dict[str, Any], mode: str) -> Response:
    row = {"item_id": item_id} | fields
    await run_in_threadpool(lambda: request.app.state.shop.service.put_items([row], mode))
    return reply({"written": 1})
