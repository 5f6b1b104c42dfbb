"""What the pages need of the server: their files, and the door for people."""

from importlib import resources
from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from shopkeeper.api.doors import SESSION_COOKIE, own_origin
from shopkeeper.console.templating import render
from shopkeeper.errors import Denied
from shopkeeper.governance.clients import SESSION_HOURS

door = APIRouter(tags=["door"], include_in_schema=False)


def static() -> StaticFiles:
    """Style, scripts and icons; open to everybody."""
    return StaticFiles(directory=str(resources.files("shopkeeper.console").joinpath("static")))


@door.get("/signin")
def sign_in_page(request: Request, next: str = "/") -> Response:
    """Ask for a secret key."""
    return render(request, "signin.html", problem="", following=_own(next))


@door.post("/signin")
async def sign_in(
    request: Request,
    key: Annotated[str, Form(max_length=200)],
    next: Annotated[str, Form(max_length=2_000)] = "/",
) -> Response:
    """Exchange a secret key for a session cookie that scripts cannot read."""
    if not own_origin(request):
        raise Denied("a page of another server may not sign you in", where="Origin")
    try:
        token = await run_in_threadpool(request.app.state.clients.sign_in, key.strip())
    except Denied as error:
        return render(
            request, "signin.html", error.status, problem=str(error), following=_own(next)
        )
    response = RedirectResponse(_own(next), status_code=303)
    response.set_cookie(
        SESSION_COOKIE,
        token,
        max_age=int(SESSION_HOURS * 3600),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


@door.post("/signout")
async def sign_out(request: Request) -> Response:
    """End the session."""
    token = request.cookies.get(SESSION_COOKIE)
    if token is not None and own_origin(request):
        await run_in_threadpool(request.app.state.clients.sign_out, token)
    response = RedirectResponse("/signin", status_code=303)
    response.delete_cookie(SESSION_COOKIE)
    return response


def _own(address: str) -> str:
    """A path on this server; anything else becomes the front page."""
    plain = address.startswith("/") and not address.startswith(("//", "/\\"))
    return address if plain and "\n" not in address and "\r" not in address else "/"
