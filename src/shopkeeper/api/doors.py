"""Who may come in: every route but the health checks passes exactly one of `visitor`, `keeper`.

visitor  asks for answers and pictures and sends events: anybody with a key, publishable or secret
keeper   everything else (items, traces, assets, metrics, the console): a secret key or a person
         signed in to the console

Without any key made, a server on this machine's loopback is open (that is how the demo runs), but
only to requests that name this machine as their host and that no foreign web page sent: a page
somebody visits must not be able to write into a shop that runs on the same laptop.
"""

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request

from shopkeeper.errors import Denied, Unauthenticated
from shopkeeper.governance.clients import LOOPBACK, Client, Clients, KeyType

SESSION_COOKIE = "shopkeeper_session"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `client` is None for the open door on loopback."""

    client: Client | None

    @property
    def trusted(self) -> bool:
        """May everything: a secret key, a signed-in person, or the owner on an open loopback."""
        return self.client is None or self.client.type is KeyType.SECRET


def key_of(request: Request) -> str | None:
    """The key a request carries: Authorization: Bearer, X-API-Key, or ?key= (publishable only).

    `navigator.sendBeacon` can set no header, hence ?key=; a secret key there is refused, because
    addresses end up in logs and histories.
    """
    authorization = request.headers.get("authorization")
    if authorization is not None:
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() != "bearer" or not value.strip():
            raise Unauthenticated(
                "the Authorization header is not of the form 'Bearer KEY'",
                where="Authorization",
                next="send: Authorization: Bearer sk_…",
            )
        return value.strip()
    if (header := request.headers.get("x-api-key")) is not None:
        return header
    key = request.query_params.get("key")
    if key is not None and not key.startswith("pk_"):
        raise Denied(
            "only a publishable key (pk_…) may stand in an address",
            where="query.key",
            next="send a secret key as a header: Authorization: Bearer sk_…",
        )
    return key


def own_origin(request: Request) -> bool:
    """Did a page of this very server send it (or no page at all)?"""
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def identify(request: Request) -> Caller:
    """Find out who asks. Unauthenticated or Denied where nobody may."""
    clients: Clients = request.app.state.clients
    if (key := key_of(request)) is not None:
        client = clients.check(key)
        origin = request.headers.get("origin")
        if client.type is KeyType.PUBLISHABLE and origin is not None:
            _check_origin(client, origin, own_origin(request))
        return Caller(client)
    token = request.cookies.get(SESSION_COOKIE)
    if token is not None and (request.method in SAFE_METHODS or own_origin(request)):
        signed_in = clients.signed_in(token)
        if signed_in is not None:
            return Caller(signed_in)
    if request.app.state.loopback and not clients.any_active():
        return _open_door(request)
    raise Unauthenticated(
        "this server asks for an API key",
        where="Authorization",
        next="send: Authorization: Bearer KEY; make a key with: shopkeeper clients add NAME",
    )


def _check_origin(client: Client, origin: str, own: bool) -> None:
    if not own and origin not in client.origins:
        raise Denied(
            f"the key of {client.name!r} may not be used from {origin}; "
            f"it was made for {', '.join(client.origins)}",
            where="Origin",
            next="make one for this page: "
            f"shopkeeper clients add NAME --publishable --origin {origin}",
        )


def _open_door(request: Request) -> Caller:
    host = request.headers.get("host", "")
    if urlsplit(f"//{host}").hostname not in LOOPBACK:
        raise Unauthenticated(
            f"asked for as {host!r}: without an API key only this machine itself is served",
            where="Host",
            next="make a key with: shopkeeper clients add NAME",
        )
    if request.method not in SAFE_METHODS and not own_origin(request):
        raise Denied(
            f"a page of {request.headers['origin']} may not write here without a key",
            where="Origin",
            next="make one: shopkeeper clients add NAME --publishable "
            f"--origin {request.headers['origin']}",
        )
    return Caller(None)


async def visitor(request: Request) -> Caller:
    return identify(request)


async def keeper(request: Request) -> Caller:
    caller = identify(request)
    if not caller.trusted:
        raise Denied(
            "a publishable key may only send browser events and ask for recommendations and search",
            where="Authorization",
            next="use a secret key from a server: shopkeeper clients add NAME",
        )
    return caller


Visitor = Annotated[Caller, Depends(visitor)]
Keeper = Annotated[Caller, Depends(keeper)]
