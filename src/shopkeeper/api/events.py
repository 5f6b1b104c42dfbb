"""POST /events: behaviour in, acknowledged only after it is on disk."""

from fastapi import APIRouter, Request
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from shopkeeper.api.bodies import EventBody, OneOrBatch, ReceiptOut, plain_event, reply
from shopkeeper.api.doors import Visitor
from shopkeeper.api.incoming import body_of, documented
from shopkeeper.errors import Denied
from shopkeeper.governance.clients import BROWSER_KINDS

router = APIRouter(tags=["events"])

_FORM: TypeAdapter[OneOrBatch] = TypeAdapter(OneOrBatch)


@router.post(
    "/events",
    status_code=202,
    response_model=ReceiptOut,
    openapi_extra=documented("EventBody", "EventsBody"),
)
async def record(request: Request, caller: Visitor) -> Response:
    """Record one event, or {"events": […]}: all or none. 202 means: on disk, synced.

    The same event_id again changes nothing, so repeating after a lost answer is safe. The user's
    next answer already knows of it.
    """
    body = await body_of(request, _FORM)
    events = [body] if isinstance(body, EventBody) else body.events
    if not caller.trusted:
        for n, event in enumerate(events):
            if event.kind not in BROWSER_KINDS:
                raise Denied(
                    f"a page may not report {event.kind.value!r}: anybody could make it up",
                    where=f"body.events.{n}.kind",
                    next="report it from the shop's server, with a secret key; a page may send: "
                    + ", ".join(sorted(BROWSER_KINDS)),
                )
            if event.propensity is not None:
                raise Denied(
                    "a page may not report propensity: the answer's own log has it",
                    where=f"body.events.{n}.propensity",
                    next="leave it out; answer_id and position say which answer it was",
                )
    rows = [plain_event(event) for event in events]
    receipt = await run_in_threadpool(lambda: request.app.state.shop.service.record(rows))
    request.app.state.gauges.recorded(receipt.accepted, receipt.duplicates)
    return reply(receipt, 202)
