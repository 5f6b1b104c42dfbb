"""The contracts of a shop: read, edited with the mistakes told as one types, saved with the old one kept."""

from typing import Annotated
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
    return render(request, "contract.html", contract=contract, told=told, saved=saved[:200])


@router.post("/{table}/check")
def check(request: Request, table: str, text: Yaml = "") -> Response:
    """What is wrong with a text, or what it would change; a part of the page."""
    told = request.app.state.shop.contract_check(_lines(text), table)
    return render(request, "contract_check.html", told=told)


@router.post("/{table}")
def save(request: Request, table: str, text: Yaml = "") -> Response:
    """Save the contract where it is valid; else the page with what was typed and what is wrong."""
    shop: Shop = request.app.state.shop
    text = _lines(text)
    told = shop.contract_check(text, table)
    if not told["valid"]:
        contract = shop.contract(table) | {"yaml": text}
        return render(request, "contract.html", 422, contract=contract, told=told, saved="")
    kept = shop.contract_save(table, text)
    return RedirectResponse(f"/console/contracts/{quote(table)}?saved={quote(kept['path'])}", 303)


def _lines(text: str) -> str:
    """Forms end lines with CR LF; files of contracts do not."""
    return text.replace("\r\n", "\n")
