"""POST /hooks/{name}: what other systems deliver, acknowledged only after it is on disk."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from shopkeeper.api.bodies import reply
from shopkeeper.api.incoming import bytes_of

router = APIRouter(tags=["webhooks"])

Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [
                        {"type": "object"},
                        {"type": "array", "items": {"type": "object"}, "maxItems": 1000},
                    ]
                }
            }
        },
    },
    "security": [{}],
}


class DeliveryOut(BaseModel):
    """What became of a delivery."""

    accepted: int = Field(description="Rows that are on disk now; the next run takes them.")
    duplicate: bool = Field(description="It had come before; nothing changed.")


@router.post("/hooks/{name}", status_code=202, response_model=DeliveryOut, openapi_extra=_BODY)
async def receive(request: Request, name: Name) -> Response:
    """Take one delivery of a webhook of shop.toml; its signature, not a key, opens this door.

    202 means: on disk, synced. The same delivery again changes nothing, so repeating after a lost
    answer is safe. What is signed but no JSON object (or list of such) is refused with 422; rows that
    break the table's contract are taken, and quarantined by the next run with the reason.
    """
    body = await bytes_of(request)
    hooks = request.app.state.hooks
    receipt = await run_in_threadpool(lambda: hooks.receive(name, request.headers, body))
    return reply({"accepted": receipt.accepted, "duplicate": receipt.duplicate}, 202)
