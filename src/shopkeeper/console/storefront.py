"""The storefront: search, recommendations, items, a cart; what is clicked changes what is shown."""

import json
import secrets
from typing import Annotated, Any
from urllib.parse import quote, unquote

from fastapi import APIRouter, File, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from shopkeeper.console.filters import parse_filters
from shopkeeper.console.templating import language_of, render
from shopkeeper.errors import InputError, NotFound, NotReady
from shopkeeper.words import Scene

router = APIRouter(tags=["storefront"], include_in_schema=False)

SHOWN = 12
ALIKE = 5  # pictures beside an item's own
PER_PAGE = 24
CART_SIZE = 50
KNOWN = 12
SORTS = ("relevance", "price", "-price", "newest")
_DAY = 24 * 3600


@router.get("/")
def home(
    request: Request,
    q: Annotated[str, Query(max_length=200)] = "",
    filter: Annotated[list[str], Query(max_length=50)] = [],  # noqa: B006 - FastAPI copies it
    sort: str = "relevance",
    page: Annotated[int, Query(ge=1, le=1_000)] = 1,
    low: str = "",
    high: str = "",
) -> Response:
    """What we think you want, or what you searched for."""
    shopper = Shopper(request)
    if not q.strip():
        answer = _recommend(request, shopper)
        return shopper.keep(render(request, "home.html", shopper=shopper, answer=answer))
    units = request.app.state.shop.settings.minor_units
    chosen = list(filter)
    if low or high:
        chosen.append(f"price_minor:{_minor(low, units)}..{_minor(high, units)}")
    service, filters = request.app.state.shop.service, parse_filters(chosen)
    found = request.app.state.gauges.answer(
        "search",
        lambda: service.search(
            q,
            user_id=shopper.user,
            session_id=shopper.visit,
            k=PER_PAGE,
            page=page,
            filters=filters,
            sort=sort if sort in SORTS else "relevance",
        ),
    )
    answer = _shown(request, found)
    return shopper.keep(
        render(
            request,
            "results.html",
            shopper=shopper,
            q=q,
            answer=answer,
            found=found,
            facet_names=_facet_names(answer) if language_of(request) == "zh" else {},
            chosen=set(filter),
            sort=sort,
            sorts=SORTS,
            low=low,
            high=high,
            page=page,
            pages=-(-found.total // PER_PAGE),
        )
    )


@router.get("/ui/for-you")
def for_you(
    request: Request,
    scene: Scene = Scene.HOME,
    item_id: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """The list alone, as htmx puts it in place after something was clicked."""
    shopper = Shopper(request)
    answer = _recommend(request, shopper, scene, item_id)
    return render(request, "goods.html", shopper=shopper, answer=answer)


@router.get("/ui/suggest")
def suggestions(request: Request, q: Annotated[str, Query(max_length=100)] = "") -> Response:
    """Completions of what was typed so far."""
    found = request.app.state.shop.service.suggest(q.strip(), 8) if q.strip() else []
    return render(request, "suggestions.html", suggestions=found)


@router.get("/ui/known")
def known(request: Request) -> Response:
    """A few users to look at the shop as."""
    try:
        rows = request.app.state.shop.preview("features.sequences", KNOWN)["rows"]
    except NotFound:
        rows = []
    return render(request, "known.html", users=[row["user_id"] for row in rows])


@router.get("/item/{item_id:path}")
def item(request: Request, item_id: str) -> Response:
    """One item, what goes with it, and how the list for you changed by looking at it."""
    shopper = Shopper(request)
    card = request.app.state.shop.service.item(item_id)
    beside = _recommend(request, shopper, Scene.ITEM, item_id)
    answer = _recommend(request, shopper)
    try:
        alike = _shown(request, request.app.state.shop.service.looks_like(item_id, ALIKE))
    except (NotFound, NotReady):  # no picture, or none was looked at
        alike = None
    return shopper.keep(
        render(
            request, "item.html", shopper=shopper, item=card, beside=beside, answer=answer,
            alike=alike,
        )
    )  # fmt: skip


@router.get("/picture")
def picture(request: Request) -> Response:
    """Where a picture is chosen to search with."""
    shopper = Shopper(request)
    return shopper.keep(render(request, "picture.html", shopper=shopper, answer=None))


@router.post("/picture")
def search_picture(request: Request, picture: Annotated[bytes, File()]) -> Response:
    """What looks like a picture that was sent; it is not kept."""
    shopper = Shopper(request)
    service = request.app.state.shop.service
    found = request.app.state.gauges.answer("looks", lambda: service.search_picture(picture, SHOWN))
    answer = _shown(request, found)
    return shopper.keep(render(request, "picture.html", shopper=shopper, answer=answer))


@router.get("/cart")
def cart(request: Request) -> Response:
    """What is in the cart and what goes with it."""
    shopper = Shopper(request)
    cards = []
    for item_id in shopper.cart:
        try:
            cards.append(request.app.state.shop.service.item(item_id))
        except NotFound:  # taken out of the shop since
            continue
    answer = _recommend(request, shopper, Scene.CART)
    total = sum(card["price_minor"] or 0 for card in cards)
    return shopper.keep(
        render(request, "cart.html", shopper=shopper, cards=cards, total=total, answer=answer)
    )


@router.get("/why/{answer_id}")
def why(request: Request, answer_id: str, item: str | None = None) -> Response:
    """Where an answer came from, and one item of it."""
    service = request.app.state.shop.service
    trace = service.trace(answer_id)
    cards = {}
    for item_id in trace["items"]:
        try:
            cards[item_id] = service.item(item_id)
        except NotFound:
            cards[item_id] = {"item_id": item_id}
    return render(
        request, "why.html", shopper=Shopper(request), trace=trace, chosen=item, cards=cards
    )


@router.post("/as")
def become(user: Annotated[str, Form(max_length=200)] = "") -> Response:
    """Look at the shop as a known user, or (empty) as somebody new."""
    response = RedirectResponse("/", status_code=303)
    if user.strip():
        response.set_cookie("shopper", quote(user.strip(), safe=""), max_age=_DAY, samesite="lax")
    else:
        response.delete_cookie("shopper")
    response.set_cookie("visit", secrets.token_hex(8), max_age=_DAY, samesite="lax", httponly=True)
    response.delete_cookie("cart")
    return response


class Shopper:
    """Who looks at the shop: a user chosen in the switcher, else this browser's own session."""

    def __init__(self, request: Request) -> None:
        self.user = unquote(request.cookies.get("shopper", "")) or None
        known = request.cookies.get("visit", "")
        self.new = not known
        self.visit = known or secrets.token_hex(8)
        self.cart = _cart(request.cookies.get("cart", ""))

    def keep(self, response: Response) -> Response:
        """Remember a new visitor."""
        if self.new:
            response.set_cookie("visit", self.visit, max_age=_DAY, samesite="lax", httponly=True)
        return response


def _recommend(
    request: Request, shopper: Shopper, scene: Scene = Scene.HOME, item_id: str | None = None
) -> dict[str, Any]:
    service = request.app.state.shop.service
    answer = request.app.state.gauges.answer(
        "recommend",
        lambda: service.recommend(
            user_id=shopper.user, session_id=shopper.visit, scene=scene, item_id=item_id, k=SHOWN
        ),
    )
    return _shown(request, answer)


def _shown(request: Request, answer: Any) -> dict[str, Any]:
    """An answer with the card of every hit."""
    service = request.app.state.shop.service
    hits = []
    for hit in answer.items:
        try:
            hits.append({"hit": hit, "card": service.item(hit.item_id)})
        except NotFound:  # deleted between the answer and now
            continue
    return {
        "answer_id": answer.answer_id,
        "degraded": answer.degraded,
        "release": answer.release,
        "hits": hits,
    }


def _facet_names(answer: dict[str, Any]) -> dict[tuple[str, str], str]:
    """Chinese names of facet values, as far as the items on the page carry them."""
    names = {}
    for entry in answer["hits"]:
        for field in ("category", "brand"):
            name = (entry["card"].get("attributes") or {}).get(f"{field}_zh")
            if name and entry["card"][field]:
                names[field, entry["card"][field]] = str(name)
    return names


def _minor(text: str, units: int) -> str:
    if not text.strip():
        return ""
    try:
        return str(round(float(text) * units))
    except (ValueError, OverflowError):
        raise InputError(f"{text!r} is no price", where="query.low, query.high") from None


def _cart(cookie: str) -> list[str]:
    """Item ids from the cookie that the page's script writes; anything odd is an empty cart."""
    try:
        ids = json.loads(unquote(cookie)) if cookie else []
    except ValueError:
        return []
    if not isinstance(ids, list):
        return []
    return [item for item in ids if isinstance(item, str) and len(item) <= 200][:CART_SIZE]
