"""The API page at /docs: every route of this server, from its own OpenAPI description.

Drawn by us because the usual page loads its script from another server, and a copy of that script
would be larger than everything else the pages need.
"""

import json
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from shopkeeper.console.templating import render

router = APIRouter(tags=["reference"], include_in_schema=False)

EXAMPLES = {
    "EventBody": {"event_id": "order-1001-1", "user_id": "u1", "item_id": "i1", "kind": "view"},
    "ItemsBody": {
        "items": [{"item_id": "i1", "title": "Desk lamp", "price_minor": 19900, "stock": 5}]
    },
    "ItemPatch": {"price_minor": 17900, "stock": 4},
}


@router.get("/docs")
def reference(request: Request) -> Response:
    """Every request, its parameters and its answer, with a form to try it."""
    schema = request.app.openapi()
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in schema["paths"].items():
        for method, about in methods.items():
            tag = (about.get("tags") or ["other"])[0]
            groups.setdefault(tag, []).append(_endpoint(schema, path, method, about))
    return render(request, "reference.html", groups=groups, about=schema["info"])


def _endpoint(
    schema: dict[str, Any], path: str, method: str, about: dict[str, Any]
) -> dict[str, Any]:
    body = about.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    forms = [_named(schema, form) for form in body.get("oneOf", [body])] if body else []
    good: dict[str, Any] = next(
        (about["responses"][code] for code in ("200", "202") if code in about["responses"]), {}
    )
    answer = good.get("content", {}).get("application/json", {}).get("schema") or {}
    return {
        "path": path,
        "method": method,
        "summary": (about.get("description") or "").split("\n\n")[0],
        "more": (about.get("description") or "").split("\n\n")[1:],
        "parameters": [
            {
                "name": parameter["name"],
                "in": parameter["in"],
                "required": parameter.get("required", False),
                "type": kind_of(parameter["schema"]),
                "about": parameter.get("description")
                or parameter["schema"].get("description")
                or "",
                "default": parameter["schema"].get("default"),
            }
            for parameter in about.get("parameters", [])
        ],
        "forms": forms,
        "example": json.dumps(EXAMPLES.get(forms[0]["name"], {}), indent=1, ensure_ascii=False)
        if forms
        else "",
        "answer": _named(schema, answer) if "$ref" in answer else None,
    }


def _named(schema: dict[str, Any], reference: dict[str, Any]) -> dict[str, Any]:
    """A form with its fields: one that the schema names, or one that stands in its place."""
    name = reference.get("$ref", "").rpartition("/")[2]
    form = schema["components"]["schemas"][name] if name else reference
    return {
        "name": name or form.get("title", "JSON"),
        "about": form.get("description", ""),
        "fields": [
            {
                "name": field,
                "type": kind_of(about),
                "required": field in form.get("required", []),
                "about": about.get("description", ""),
            }
            for field, about in form.get("properties", {}).items()
        ],
    }


def kind_of(about: dict[str, Any]) -> str:
    """A JSON schema in a few words: "integer, 1 to 100", "text", "list of ItemBody"."""
    if "$ref" in about:
        return str(about["$ref"].rpartition("/")[2])
    for several in ("anyOf", "oneOf"):
        if several in about:
            kinds = [kind_of(one) for one in about[several] if one.get("type") != "null"]
            return " | ".join(dict.fromkeys(kinds))
    if "enum" in about:
        return " | ".join(str(value) for value in about["enum"])
    kind = str(about.get("type", "any"))
    if kind == "array":
        return f"list of {kind_of(about.get('items', {}))}"
    low, high = about.get("minimum"), about.get("maximum")
    if kind == "string":
        kind, low, high = "text", about.get("minLength"), about.get("maxLength")
    if low is not None and high is not None:
        return f"{kind}, {low:,} to {high:,}"
    return kind
