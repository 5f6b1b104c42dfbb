"""Pictures of items: the shop's own where it has one, else a drawn tile, so no page has holes."""

import hashlib
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from shopkeeper.errors import NotFound, NotReady

router = APIRouter(tags=["pictures"])

_TYPES = {
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
}


@router.get("/images/{item_id:path}")
def picture(request: Request, item_id: str) -> Response:
    """The picture of an item, by its id; 404 for an item nobody knows."""
    shop = request.app.state.shop
    stored = shop.image(item_id)
    if stored is not None:
        kind, content = stored
        response = Response(content, media_type=_TYPES.get(kind, "application/octet-stream"))
        response.headers["Cache-Control"] = "public, max-age=600"
        return response
    try:
        card = shop.service.item(item_id)
    except NotReady:
        raise NotFound(f"no picture of {item_id!r}", where="images") from None
    if str(card.get("image") or "").startswith("https://"):
        return RedirectResponse(str(card["image"]))
    response = Response(tile(card), media_type="image/svg+xml")
    response.headers["Cache-Control"] = "public, max-age=600"
    return response


def tile(card: dict[str, Any]) -> str:
    """A square SVG: a colour by category, a shape by item, the first letters of the title."""
    title = str(card.get("title_zh") or card.get("title") or card["item_id"])
    group = str(card.get("category") or "")
    hue = int.from_bytes(hashlib.sha256(group.encode()).digest()[:2], "big") % 360
    own = hashlib.sha256(str(card["item_id"]).encode()).digest()
    letters = escape(
        title[:2] if ord(title[0]) > 0x2E7F else "".join(w[0] for w in title.split()[:2]).upper()
    )
    circles = "".join(
        f'<circle cx="{own[n] * 400 // 255}" cy="{own[n + 1] * 400 // 255}" r="{60 + own[n + 2] // 3}" '
        f'fill="hsl({(hue + own[n] // 8) % 360} 38% {78 + own[n + 1] % 8}%)"/>'
        for n in (0, 3, 6)
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 400">'
        f'<rect width="400" height="400" fill="hsl({hue} 40% 88%)"/>{circles}'
        '<text x="200" y="200" dominant-baseline="central" text-anchor="middle" '
        'font-family="system-ui, sans-serif" font-size="120" font-weight="600" '
        f'fill="hsl({hue} 45% 30%)">{letters}</text></svg>'
    )
