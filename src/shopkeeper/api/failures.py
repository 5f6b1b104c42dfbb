"""One JSON shape for every error on every route: {"error": {code, message, where, next}}."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from shopkeeper.api.bodies import reply
from shopkeeper.console.templating import render
from shopkeeper.errors import InputError, ShopkeeperError, SourceError

_CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method",
    413: "too_large",
    415: "media_type",
}


def shape(code: str, message: str, where: str, next: str) -> dict[str, dict[str, str]]:
    return {"error": {"code": code, "message": message, "where": where, "next": next}}


def install(app: FastAPI) -> None:
    """Make `app` answer every failure in the one shape; 500 is made by the outermost layer."""
    app.add_exception_handler(ShopkeeperError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, ShopkeeperError)
    if error.status == 401 and _for_a_person(request):
        following = quote(request.url.path, safe="/")
        return RedirectResponse(f"/signin?next={following}", status_code=303)
    response = _answer(request, error.as_dict(), error.status)
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if error.status == 503 or (isinstance(error, SourceError) and error.retryable):
        response.headers["Retry-After"] = "5"
    return response


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problem = explain(error.errors())
    return _answer(request, problem.as_dict(), problem.status)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    code = _CODES.get(error.status_code, "http")
    message, following = str(error.detail), "see /docs"
    if error.status_code == 404:
        message, following = f"there is nothing at {path}", "all addresses are listed at /docs"
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        message, following = f"{request.method} does not work here", f"use one of: {allowed}"
    response = _answer(request, shape(code, message, path, following), error.status_code)
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


def _for_a_person(request: Request) -> bool:
    """Does a browser's address bar ask? Programs, and everything under /v1, get JSON."""
    return not request.url.path.startswith("/v1/") and "text/html" in request.headers.get(
        "accept", ""
    )


def _answer(request: Request, body: dict[str, dict[str, str]], status: int) -> Response:
    """The error as JSON, or as a page with the same four fields."""
    if _for_a_person(request):
        return render(request, "problem.html", status, error=body["error"])
    return reply(body, status)


def broken(request_id: str, path: str) -> dict[str, dict[str, str]]:
    """The body of a 500: what happened stays in the log, under the request's id."""
    return shape(
        "internal",
        "something broke on our side; nothing of it was the caller's fault",
        path,
        f"look for request {request_id} in the server's log",
    )


def explain(problems: Sequence[Any], within: str = "") -> InputError:
    """pydantic's list of problems as one InputError: the first place, what stood there, how many."""
    first = problems[0]
    place = [str(part) for part in first["loc"] if part not in ("one", "batch")]
    where = ".".join(part for part in (within, *place) if part)
    message = first["msg"].removeprefix("Value error, ")
    found = first.get("input")
    if first["type"] == "extra_forbidden":
        message = f"unknown name {place[-1][:100]!r}"
    elif first["type"] == "json_invalid":
        message = f"not valid JSON: {first.get('ctx', {}).get('error', message)}"
    elif first["type"] not in ("missing", "value_error") and not isinstance(found, dict | list):
        message = f"{message}; found {_shown(found)}"
    if len(problems) > 1:
        message += f" (and {len(problems) - 1} more)"
    return InputError(message, where=where, next="the form of every request is shown at /docs")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}… ({len(text):,} characters)"


def invalid_body(error: ValidationError) -> InputError:
    return explain(error.errors(include_url=False, include_context=True), "body")
