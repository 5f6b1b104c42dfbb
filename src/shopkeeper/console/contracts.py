"""The contracts of a shop: read, edited with the mistakes told as one types, saved with the old one kept."""

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from shopkeeper.console.templating import render
from shopkeeper.shop import Shop

router = APIRouter(prefix="/console/contracts", tags=["console"], include_in_schema=False)

Yaml = Annotated[str, Form(max_length=200_000)]


@router.get("")
def page(request: Request) -> Response:
    """Every table's contract, and whether it is the shop's own."""
    return render(request, "contracts.html", contracts=request.app.state.shop.contracts())


@router.get("/{table}")
def one(request: Request, table: str, saved: str = "") -> Response:
    """The editor of one contract."""
    shop: Shop = request.app.state.shop
    contract = shop.contract(table)
    told = shop.contract_check(contract["yaml"], table)
    return _editor(request, contract, told, saved=saved[:200])


@router.post("/{table}/check")
def check(request: Request, table: str, text: Yaml = "") -> Response:
    """What is wrong with a text, or what it would change; a part of the page."""
    told = request.app.state.shop.contract_check(_lines(text), table)
    return render(request, "contract_check.html", told=told)


@router.post("/{table}/accept")
def accept(request: Request, table: str, digest: Annotated[str, Form(max_length=128)]) -> Response:
    """Say that the difference that was shown is meant. Conflict: it is another one by now."""
    shop: Shop = request.app.state.shop
    shop.contract_accept(table, digest, by="console")
    return RedirectResponse(f"/console/contracts/{quote(table)}", 303)


@router.post("/{table}")
def save(request: Request, table: str, text: Yaml = "") -> Response:
    """Save the contract where it is valid; else the page with what was typed and what is wrong."""
    shop: Shop = request.app.state.shop
    text = _lines(text)
    told = shop.contract_check(text, table)
    if not told["valid"]:
        contract = shop.contract(table) | {"yaml": text}
        return _editor(request, contract, told, status=422)
    kept = shop.contract_save(table, text)
    return RedirectResponse(f"/console/contracts/{quote(table)}?saved={quote(kept['path'])}", 303)


def _editor(
    request: Request,
    contract: dict[str, Any],
    told: dict[str, Any],
    *,
    saved: str = "",
    status: int = 200,
) -> Response:
    pending = request.app.state.shop.contract_pending(contract["table"])
    page = {"contract": contract, "told": told, "saved": saved, "pending": pending}
    return render(request, "contract.html", status, **page)


def _lines(text: str) -> str:
    """Forms end lines with CR LF; files of contracts do not."""
    return text.replace("\r\n", "\n")
