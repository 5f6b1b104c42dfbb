"""Is what comes back from serving fit to learn from: every check, its wanted range and its history."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from shopkeeper.console.templating import language_of, render, words
from shopkeeper.evaluation.loop import EXAMINATION
from shopkeeper.shop import Shop

router = APIRouter(prefix="/console/loop", tags=["console"], include_in_schema=False)


@router.get("")
def page(request: Request) -> Response:
    """All checks of the loop, worst first; the curve of places looked at, and what was measured before."""
    shop: Shop = request.app.state.shop
    checks = shop.loop_quality()
    looked = {
        one["check"]: one["detail"]["places"]
        for one in checks
        if one["check"].startswith(f"{EXAMINATION}.") and "places" in one["detail"]
    }
    return render(
        request, "loop.html", checks=checks, looked=looked,
        history=drawn(checks, words(language_of(request))),
    )  # fmt: skip


def drawn(checks: list[dict[str, Any]], texts: dict[str, str]) -> dict[str, Any]:
    """The history of shares (values from 0 to 1) as the trend chart draws it: one line a check."""
    times = sorted({past["at"] for one in checks for past in one["history"]})
    lines = []
    for one in checks:
        values = {past["at"]: past["value"] for past in one["history"]}
        if any(value is not None for value in values.values()):
            name = texts.get(f"loop.check.{one['check']}", one["check"])
            lines.append({"name": name, "points": [values.get(at) for at in times]})
    return {"times": times, "lines": lines}
