"""The outermost layer: request ids, logs, counts, security headers, CORS, and the last error net.

Plain ASGI rather than Starlette's BaseHTTPMiddleware, which would cost every answer another task.
"""

import re
import time
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shopkeeper.api.bodies import reply
from shopkeeper.api.failures import broken, shape
from shopkeeper.api.gauges import Gauges
from shopkeeper.governance.clients import Clients

SLOW_SECONDS = 0.5
FORMS = ("/signin", "/as")  # what anybody may post; nothing checks a key before it is read
FORM_BYTES = 8 * 1024
CONSOLE_BYTES = 512 * 1024  # a form of the console may hold a contract
PICTURE, PICTURE_BYTES = "/picture", 8 * 1024 * 1024  # what looks like it is searched for
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CROSS_ORIGIN = re.compile(r"/v1/(events|recommendations|search|suggest|items/.+)")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    # style: the charts' tooltips carry inline styles; scripts come from this server only
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: https:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; base-uri 'self'; form-action 'self'",
}


class Edge:
    def __init__(
        self, app: ASGIApp, *, gauges: Gauges, clients: Clients, log_requests: bool = False
    ) -> None:
        self.app = app
        self.gauges = gauges
        self.clients = clients
        self.log_requests = log_requests
        self.log = structlog.get_logger("shopkeeper.api")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        asked = headers.get("x-request-id", "")
        request_id = asked if _REQUEST_ID.fullmatch(asked) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        origin = headers.get("origin")
        allowed = origin if origin is not None and origin in self.clients.origins() else None
        status = 0
        started = time.perf_counter()

        async def out(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                outgoing = MutableHeaders(scope=message)
                outgoing["X-Request-ID"] = request_id
                for name, value in _HEADERS.items():
                    outgoing.setdefault(name, value)
                if allowed is not None and _CROSS_ORIGIN.fullmatch(scope["path"]):
                    outgoing["Access-Control-Allow-Origin"] = allowed
                    outgoing["Access-Control-Expose-Headers"] = "X-Request-ID, Retry-After"
                    outgoing.add_vary_header("Origin")
            await send(message)

        self.gauges.in_flight.inc()
        failure: Exception | None = None
        try:
            if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
                await self._preflight(scope, receive, out, allowed, str(origin))
            elif scope["method"] == "POST" and scope["path"] in FORMS:
                await self._form(scope, receive, out, FORM_BYTES)
            elif scope["method"] == "POST" and scope["path"] == PICTURE:
                await self._form(scope, receive, out, PICTURE_BYTES)
            elif scope["method"] == "POST" and scope["path"].startswith("/console/"):
                await self._form(scope, receive, out, CONSOLE_BYTES)
            else:
                await self.app(scope, receive, out)
        except Exception as error:  # the net under everything: logged whole, answered in shape
            failure = error
            if status == 0:
                await reply(broken(request_id, scope["path"]), 500)(scope, receive, out)
        finally:
            self.gauges.in_flight.dec()
            seconds = time.perf_counter() - started
            route = _route(scope)
            self.gauges.request(route, scope["method"], status, seconds)
            self._write(scope, request_id, route, status, seconds, failure)

    async def _form(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        """Read the little that a form holds; over that, refuse, whatever was declared."""
        body, more = b"", True
        while more and len(body) <= limit:
            message = await receive()
            if message["type"] != "http.request":  # gone
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if len(body) > limit:
            told = f"the form is over {limit:,} bytes"
            await reply(shape("input", told, "body", "send less"), 413)(scope, receive, send)
            return
        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return whole.pop() if whole else await receive()

        await self.app(scope, again, send)

    async def _preflight(
        self, scope: Scope, receive: Receive, send: Send, allowed: str | None, origin: str
    ) -> None:
        """A browser asks whether a foreign page may call: yes where a publishable key says so."""
        if allowed is None or not _CROSS_ORIGIN.fullmatch(scope["path"]):
            body = shape(
                "denied",
                f"no key allows pages of {origin} to call {scope['path']}",
                "Origin",
                f"make one: shopkeeper clients add NAME --publishable --origin {origin}",
            )
            await reply(body, 403)(scope, receive, send)
            return
        response = reply(None, 200)
        response.headers["Access-Control-Allow-Methods"] = "GET, POST"
        response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, X-API-Key"
        response.headers["Access-Control-Max-Age"] = "600"
        await response(scope, receive, send)

    def _write(
        self,
        scope: Scope,
        request_id: str,
        route: str,
        status: int,
        seconds: float,
        failure: Exception | None,
    ) -> None:
        # the query string stays out: it may hold a key or what somebody searched for
        fields = {
            "request_id": request_id,
            "method": scope["method"],
            "path": scope["path"],
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 2),
        }
        if failure is not None:
            self.log.error("request failed", exc_info=failure, **fields)
        elif status >= 500:
            self.log.error("request failed", **fields)
        elif seconds > SLOW_SECONDS:
            self.log.warning("slow request", **fields)
        elif self.log_requests:
            self.log.info("request", **fields)


def _route(scope: Scope) -> str:
    """The route's template ("/v1/items/{item_id:path}"): few values, however many addresses."""
    path: str | None = getattr(scope.get("route"), "path", None)
    if path is None:
        return "none"
    return f"/v1{path}" if scope["path"].startswith("/v1/") else path
