"""One asset in tabs: what it is, its columns, its quality over time, where it comes from, its versions."""

from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import RedirectResponse, Response

from shopkeeper.assets import contracts, journal
from shopkeeper.assets.about import said
from shopkeeper.assets.diff import column_grades
from shopkeeper.assets.profile import OPEN
from shopkeeper.clean.report import label
from shopkeeper.console.catalogue import bars, logarithmic
from shopkeeper.console.lineage import around, columns_of, placed
from shopkeeper.console.templating import language_of, render, words
from shopkeeper.console.value import by_metric
from shopkeeper.shop import Shop
from shopkeeper.words import TABLES, Grade

router = APIRouter(prefix="/console/assets", tags=["console"], include_in_schema=False)

Tab = Literal[
    "overview",
    "about",
    "columns",
    "profile",
    "usage",
    "quality",
    "value",
    "lineage",
    "versions",
    "rows",
]
TABS: tuple[Tab, ...] = (
    "overview",
    "about",
    "columns",
    "profile",
    "usage",
    "quality",
    "value",
    "lineage",
    "versions",
    "rows",
)
PREVIEW_ROWS = 12
FAILED = 100  # of the newest runs those that failed are drawn
WORST = 6  # rules that the trend draws, by how many rows they hit in all
Depth = Annotated[int, Query(ge=0, le=20)]
Number = Annotated[int | None, Query(ge=1)]


@router.get("/{name}")
def page(
    request: Request,
    name: str,
    tab: Tab = "overview",
    up: Depth = 2,
    down: Depth = 2,
    a: Number = None,
    b: Number = None,
    restore: Number = None,
    column: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """One tab of one asset; ?up= and ?down= walk its lineage, ?column= that of one column, ?a= and ?b=
    compare two versions."""
    shop: Shop = request.app.state.shop
    found = shop.asset(name)
    told: dict[str, Any] = {}
    tabs = _tabs(shop, found)
    if tab not in tabs:
        tab = "overview"
    if found["version"] is not None:
        if tab == "columns":
            told["columns"] = _columns(shop, found)
        elif tab == "about":
            told["said"] = said(shop.assets.catalog, name)
            told |= {"own": told["said"].get("", {}), "grades": list(Grade)}
            told["own"] = {"description": None, "owner": None, "grade": None, **told["own"]}
            promises = {one["name"]: one["promise"] for one in _columns(shop, found)}
            told["promised"] = {name: p.description for name, p in promises.items() if p}
            told["known_terms"] = [one["term"] for one in shop.glossary()]
        elif tab == "profile":
            profile = shop.profile(name)
            for one in profile["columns"]:
                one["bars"] = bars(one["histogram"])
                one["logarithmic"] = logarithmic(one["histogram"])
            told["profile"] = profile
        elif tab == "usage":
            told |= {"usage": shop.usage(name), "cost": shop.cost(name)}
        elif tab == "quality":
            history = trend(shop, name)
            language = language_of(request)
            told |= {"trend": history, "lines": lines(history, language)}
            told["rule_label"] = lambda rule: label(rule, language)
        elif tab == "value":
            told["metrics"] = by_metric(shop, name)
        elif tab == "lineage":
            near = around(shop.lineage(name), name, up, down)
            told |= {"graph": placed(near), "more": near["more"], "up": up, "down": down}
            told |= {"before": _ends(near, "to", name), "after": _ends(near, "from", name)}
            told |= {"column": column, "ends": columns_of(shop, name, column, found["schema"])}
        elif tab == "versions":
            told["diff"] = shop.diff(name, a, b) if a is not None else None
            told |= {"a": a, "b": b or found["number"], "restore": restore}
            told["branches"] = [
                branch["branch"]
                for branch in shop.branches()
                if any(head["asset"] == name for head in branch["assets"])
            ]
        elif tab == "rows":
            told["preview"] = shop.preview(name, PREVIEW_ROWS)
        else:
            told["facts"] = {
                k: v for k, v in found["notes"].items() if not isinstance(v, list | dict)
            }
    return render(request, "asset.html", asset=found, tab=tab, tabs=tabs, **told)


@router.post("/{name}/restore")
def restored(request: Request, name: str, version: Annotated[int, Form(ge=1)]) -> Response:
    """Make an old version current again. Conflict while a run is at work."""
    request.app.state.shop.restore(name, version)
    return RedirectResponse(f"/console/assets/{quote(name, safe='')}?tab=versions", 303)


def trend(shop: Shop, name: str) -> list[dict[str, Any]]:
    """The quality of the table that an asset belongs to, oldest first: versions, runs that a promise
    stopped, runs that failed.

    Returns:
        [{"version", "state": done | stopped | failed, "created_at", "rows", "score", "rules": {rule:
        rows hit}, "broke": [rule or error], "run": id of a run that failed}]
    """
    table = name.partition(".")[2]
    if table not in TABLES:
        return []
    catalog = shop.assets.catalog
    told = [
        {
            "version": one["version"],
            "state": "stopped" if one["stopped"] else "done",
            "created_at": one["created_at"],
            "rows": one["rows"],
            "score": one["score"],
            "rules": {
                rule["rule"]: rule["count"]
                for rule in one["rules"]
                if rule["count"] and rule["value"] is None
            },
            "broke": [
                rule["rule"]
                for rule in one["rules"]
                if rule["value"] is not None and rule["level"] == "FAIL"
            ],
            "run": None,
        }
        for one in shop.quality_history(f"clean.{table}")
        if not one["watched"]
    ]
    stopped = {entry["run_id"] for entry in journal.entries(catalog, f"clean.{table}")}
    told += [
        {
            "version": None,
            "state": "failed",
            "created_at": run["started_at"],
            "rows": None,
            "score": None,
            "rules": {},
            "broke": [(run["error"] or "").strip().split("\n")[-1]],
            "run": run["id"],
        }
        for run in catalog.runs(step=f"clean.{table}", limit=FAILED)
        if run["outcome"] == "failed" and run["id"] not in stopped
    ]
    return sorted(told, key=lambda one: str(one["created_at"]))


def lines(history: list[dict[str, Any]], language: str) -> dict[str, Any]:
    """A trend as it is drawn: the share of rows that each of the worst rules hits, by version, and the
    places of runs that were stopped or failed."""
    total: dict[str, int] = {}
    for one in history:
        for rule, count in one["rules"].items():
            total[rule] = total.get(rule, 0) + count
    worst = sorted(total, key=lambda rule: (-total[rule], rule))[:WORST]
    return {
        "times": [one["created_at"] for one in history],
        "lines": [
            {
                "name": label(rule, language),
                "points": [
                    None if one["rows"] is None else one["rules"].get(rule, 0) / max(one["rows"], 1)
                    for one in history
                ],
            }
            for rule in worst
        ],
        "marks": [
            {
                "name": words(language)[f"trend.{state}"],
                "state": state,
                "points": [n for n, one in enumerate(history) if one["state"] == state],
            }
            for state in ("stopped", "failed")
        ],
    }


def _tabs(shop: Shop, found: dict[str, Any]) -> list[Tab]:
    """The tabs that say something about this asset."""
    table = bool(found["schema"])
    of = found["name"].partition(".")[2]
    checked = of in TABLES and shop.assets.exists(f"quality.{of}")
    said = {
        "columns": table,
        "profile": table,
        "quality": checked,
        "value": bool(shop.values(found["name"])),
    }
    without = {tab for tab, told in said.items() if not told}
    return [tab for tab in TABS if tab not in without]


def _columns(shop: Shop, found: dict[str, Any]) -> list[dict[str, Any]]:
    """Each column with type, grade and what the table's contract says of it."""
    grades = column_grades(shop.assets, found["name"], list(found["schema"]))
    table = found["contract"] or found["name"].partition(".")[2]
    known = {}
    if table in TABLES:
        contract = contracts.load(shop.folder)[table]
        known = {column.name: column for column in contract.columns}
    return [
        {
            "name": name,
            "type": kind,
            "grade": str(grades[name]),
            "open": grades[name] in OPEN,
            "promise": known.get(name),
        }
        for name, kind in found["schema"].items()
    ]


def _ends(lineage: dict[str, Any], end: str, name: str) -> list[str]:
    """Names at the other ends of the edges whose `end` is `name`."""
    other = "from" if end == "to" else "to"
    return sorted(edge[other] for edge in lineage["edges"] if edge[end] == name)
