"""Branches: what each would change, shown before it is made current or given up."""

from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from shopkeeper.console.templating import render
from shopkeeper.shop import Shop

router = APIRouter(prefix="/console/branches", tags=["console"], include_in_schema=False)


@router.get("")
def page(
    request: Request,
    branch: Annotated[str, Query(max_length=64)] = "",
    sure: Literal["promote", "drop"] | None = None,
) -> Response:
    """Open branches; ?branch= shows what one would change, ?sure= asks before it is done."""
    shop: Shop = request.app.state.shop
    changes = shop.branch_diff(branch) if branch else []  # NotFound: no such branch
    return render(
        request,
        "branches.html",
        branches=shop.branches(),
        chosen=branch,
        sure=sure if branch else None,
        changes=[one for one in changes if not one.get("same")],
        same=[one["asset"] for one in changes if one.get("same")],
    )


@router.post("/{branch}/promote")
def promote(request: Request, branch: str) -> Response:
    """Make all that it wrote current. Conflict: main has moved on, or a run is at work."""
    shop: Shop = request.app.state.shop
    made = shop.promote(branch)
    asset = made[0].rpartition("@")[0] if made else ""
    return RedirectResponse(
        f"/console/assets/{quote(asset, safe='')}?tab=versions" if asset else "/console/branches",
        303,
    )


@router.post("/{branch}/drop")
def drop(request: Request, branch: str) -> Response:
    """Give up the branch and what only it has."""
    request.app.state.shop.drop_branch(branch)
    return RedirectResponse("/console/branches", 303)
