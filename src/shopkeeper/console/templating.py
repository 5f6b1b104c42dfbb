"""Rendering a page: language, money, and what every page shares."""

import json
import re
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

LANGUAGES = {"zh": "中文", "en": "English"}
_YEAR = 365 * 24 * 3600
_TYPES = {
    "String": "text", "Boolean": "truth", "Datetime": "time", "Date": "day", "Binary": "bytes",
    "Float32": "decimal", "Float64": "decimal",
    **{f"{sign}Int{bits}": "whole" for sign in ("", "U") for bits in (8, 16, 32, 64)},
}  # fmt: skip
_SYMBOLS = {"CNY": "¥", "USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "KRW": "₩", "INR": "₹"}


@cache
def words(language: str) -> dict[str, str]:
    """Every text of the pages in one language, by key."""
    text = (
        resources.files("shopkeeper.console")
        .joinpath("words", f"{language}.json")
        .read_text("utf-8")
    )
    loaded: dict[str, str] = json.loads(text)
    return loaded


@cache
def _data_in_chinese() -> tuple[dict[str, str], list[tuple[re.Pattern[str], str]]]:
    """What contracts and steps say of data, in English, to Chinese: whole texts, and forms with gaps."""
    path = resources.files("shopkeeper.console").joinpath("words", "data.zh.json")
    told: dict[str, dict[str, str]] = json.loads(path.read_text("utf-8"))
    forms = [
        (re.compile(re.escape(form).replace(r"\*", r"([\w.]+)")), text)
        for form, text in told["forms"].items()
    ]
    return told["exact"], forms


def saying(text: str | None, language: str) -> str:
    """What is said of data in the page's language: our own words translated, people's as they are."""
    if not text or language != "zh":
        return text or ""
    exact, forms = _data_in_chinese()
    if text in exact:
        return exact[text]
    for form, said in forms:
        if found := form.fullmatch(text):
            return said.format(*found.groups())
    return text


def type_name(kind: str, texts: dict[str, str]) -> str:
    """The type of a column in words: "List(Int16)" -> "list of whole number"; others as they are."""
    if kind.startswith("List(") and kind.endswith(")"):
        return texts["type.list"].format(of=type_name(kind[5:-1], texts))
    key = _TYPES.get(kind.partition("(")[0])
    return texts[f"type.{key}"] if key else kind


def language_of(request: Request) -> str:
    """?lang=, else what was chosen before, else what the browser prefers, else English."""
    for wanted in (request.query_params.get("lang"), request.cookies.get("lang")):
        if wanted in LANGUAGES:
            return wanted
    preferred = request.headers.get("accept-language", "").lower()
    return "zh" if preferred.startswith("zh") else "en"


def money(minor: int | None, currency: str, minor_units: int) -> str:
    """1990 -> "¥19.90"; "" for an unknown price."""
    if minor is None:
        return ""
    places = max(0, len(str(minor_units)) - 1)
    return f"{_SYMBOLS.get(currency, currency + ' ')}{minor / minor_units:,.{places}f}"


def short_time(value: Any) -> str:
    """An ISO 8601 instant as "2026-01-31 12:00" UTC; anything else as it is."""
    try:
        at = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        return str(value)
    return f"{at:%Y-%m-%d %H:%M}"


def size(count: float | None) -> str:
    """Bytes for people: 1536 -> "1.5 kB"."""
    if count is None:
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def number(value: Any) -> str:
    """1234567 -> "1,234,567"; 0.03172 -> "0.0317"; None -> "–"."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}"
    return f"{value:.4f}" if abs(value) < 1 else f"{value:,.2f}"


def short(value: float | None) -> str:
    """A live number in few digits: 0.53 -> "0.5", 355.8 -> "356"; None -> "–"."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def cell(value: Any) -> str:
    """A value in a table of data: None -> "", True -> "true", lists as JSON; cut at 300 characters."""
    if value is None:
        return ""
    plain = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return plain if len(plain) <= 300 else f"{plain[:299]}…"


def number_type(kind: str) -> bool:
    """Whether DuckDB's name of a type is that of numbers."""
    return (
        kind.startswith(("DECIMAL", "DOUBLE", "FLOAT")) or kind.endswith("INT") or kind == "INTEGER"
    )


def _attribute_json(value: Any) -> Markup:
    """JSON that may stand in a double-quoted attribute."""
    return Markup.escape(json.dumps(value, ensure_ascii=False, default=str))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("shopkeeper.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "short": short,
        "size": size,
        "cell": cell,
        "when": short_time,
        "attribute_json": _attribute_json,
        "address": lambda text: quote(str(text), safe=""),
    }
    environment.tests["number_type"] = number_type
    return environment


def render(request: Request, template: str, http_status: int = 200, **values: Any) -> HTMLResponse:
    """One page or part of a page, in the language of the request."""
    language = language_of(request)
    texts = words(language)
    settings = request.app.state.shop.settings

    def t(key: str, **parts: Any) -> str:
        return texts[key].format(**parts) if parts else texts[key]

    def named(item: dict[str, Any]) -> str:
        first, second = ("title_zh", "title") if language == "zh" else ("title", "title_zh")
        return str(item.get(first) or item.get(second) or item["item_id"])

    def local(item: dict[str, Any], field: str) -> Any:
        """A field, in Chinese where the shop gave one as the attribute `<field>_zh`."""
        translated = (item.get("attributes") or {}).get(f"{field}_zh") if language == "zh" else None
        return translated or item.get(field)

    def attributes_of(item: dict[str, Any]) -> list[tuple[str, Any]]:
        """Attributes to list: each once, in the page's language, without what is shown above."""
        given = item.get("attributes") or {}
        plain = [name for name in given if not name.endswith("_zh")]
        return [
            (name, shown)
            for name in plain
            if (shown := local({**given, "attributes": given}, name)) not in (None, "")
        ]

    def because(reason: dict[str, Any]) -> str:
        """The reason in words, with a long English item name cut at its first comma."""
        text = str(reason[language])
        name = str(reason.get("params", {}).get("item", ""))
        return text.replace(name, name.split(",")[0]) if name else text

    def with_query(**changed: Any) -> str:
        """The address of this page with some query values changed; None takes one away."""
        kept = [
            (name, value)
            for name, value in request.query_params.multi_items()
            if name not in changed
        ]
        kept += [(name, str(value)) for name, value in changed.items() if value is not None]
        return f"{request.url.path}?{urlencode(kept)}"

    page = _environment().get_template(template)
    html = page.render(
        request=request,
        path=request.url.path,
        language=language,
        languages=LANGUAGES,
        known_texts=texts,
        saying=lambda text: saying(text, language),
        type_name=lambda kind: type_name(kind, texts),
        t=t,
        named=named,
        local=local,
        attributes_of=attributes_of,
        because=because,
        with_query=with_query,
        money=lambda minor: money(minor, settings.currency, settings.minor_units),
        shop_name=settings.name,
        **values,
    )
    response = HTMLResponse(html, status_code=http_status)
    response.headers["Cache-Control"] = "no-store"
    if request.query_params.get("lang") in LANGUAGES:
        response.set_cookie("lang", language, max_age=_YEAR, samesite="lax")
    return response
