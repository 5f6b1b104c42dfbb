"""Following one row: from an answer to raw rows, from a raw row to all that it reached."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from shopkeeper.console.templating import render
from shopkeeper.errors import NotFound
from shopkeeper.shop import Shop

router = APIRouter(prefix="/console/trace", tags=["console"], include_in_schema=False)

Text = Annotated[str, Query(max_length=500)]


@router.get("")
def page(
    request: Request,
    answer: Text = "",
    file: Text = "",
    line: Annotated[int | None, Query(ge=0)] = None,
    event: Text = "",
) -> Response:
    """A form, and what it asked for: ?answer=, ?file= and ?line=, or ?event=; 404 where it is not."""
    shop: Shop = request.app.state.shop
    told: dict[str, Any] = {"answer": None, "found": None, "problem": None}
    try:
        if answer:
            told["answer"] = shop.trace_answer(answer)
        elif event:
            told["found"] = shop.trace_event(event)
        elif file and line is not None:
            told["found"] = shop.trace_row(file, line)
    except NotFound as error:
        told["problem"] = str(error)
    asked = {"answer": answer, "file": file, "line": line, "event": event}
    status = 404 if told["problem"] else 200
    return render(request, "trace.html", status, asked=asked, **told)
