"""A first contract of a table, drafted from its rows: types, keys, nulls, ranges, words, forms.

    text = draft(frame, "orders")

It says what the rows seen say, no more: whoever knows the data takes out what was chance. Values of
columns that look like people's are never written into it.
"""

import math
import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import polars as pl
import yaml

from shopkeeper.assets.contracts import FALSE_WORDS, TRUE_WORDS, Column, Contract, is_json_object
from shopkeeper.words import Grade

MISSING = ("", "null", "NULL", "None", "N/A", "n/a", "NaN", "nan", "\\N", "-")
WORDS = 20  # a column of at most so many words is a choice of words
SEEN = 30  # rows of each, on average, before it is taken for one
KEYS = 3  # columns of a key at most
TRIED = 40  # sets of columns tried as a key
_DAY = r"\d{4}[-/]\d{1,2}[-/]\d{1,2}"
_TIME = re.compile(_DAY + r"([T ]\d{1,2}:\d\d(:\d\d(\.\d+)?)?\s?(Z|[+-]\d\d:?(\d\d)?)?)?")
_FORMS = {  # name -> pattern; Polars' own kind of regular expression
    "email": r"^[^@\s]+@[^@\s]+\.[^@\s]+$",
    "uuid": r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
    "url": r"^https?://[^\s]+$",
    "ip": r"^\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}$",
    "phone": r"^\+\d[\d -]{6,17}$",
}
_PERSONAL = re.compile(
    r"(user|customer|client|person|member|visitor|email|e_mail|mail|phone|mobile|tel|name|address|birth|gender|"
    r"passport|id_?card|ip$|姓名|电话|手机|邮箱|地址|生日|性别|身份证|用户)", re.IGNORECASE,
)  # fmt: skip
_OTHERS = re.compile(
    r"(item|product|brand|shop|store|file|category|campaign|title|event|host)_?name|商品名|店铺名"
)


def draft(
    frame: pl.DataFrame,
    name: str,
    *,
    known: Contract | None = None,
    rows: int | None = None,
) -> str:
    """ODCS v3.1 YAML of a table.

    Args:
        frame: its rows, as text or typed; columns of our own (seq, source, file, line) are left out.
        known: the table's contract where it has one: types, grades and keys are its.
        rows: how many rows the table has, where `frame` is only its head.
    """
    columns = [c for c in frame.columns if c not in ("seq", "source", "file", "line")]
    if known is not None:
        columns = [c for c in columns if c in known.names]
    text = frame.select(columns)
    properties = {c: _property(text[c], known.column(c) if known else None) for c in columns}
    key = [c.name for c in known.columns if c.key] if known else _key(text, properties)
    for place, column in enumerate([c for c in key if c in properties], 1):
        properties[column] |= {"primaryKey": True, "primaryKeyPosition": place}
        properties[column]["required"] = True
    seen = f"{frame.height:,} rows" + (f" of {rows:,}" if rows and rows > frame.height else "")
    document: dict[str, Any] = {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "id": f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-') or 'table'}",
        "name": name,
        "version": "0.1.0" if known is None else known.version,
        "status": "draft",
        "description": {"purpose": f"Drafted from {seen}; take out what is chance"},
        "schema": [
            {
                "name": name,
                "logicalType": "object",
                "physicalType": "table",
                "quality": [{"metric": "rowCount", "mustBeGreaterThan": 0}],
                "properties": [properties[column] for column in columns],
            }
        ],
    }
    personal = any(one.get("classification") == "personal" for one in properties.values())
    grade = known.grade if known is not None else Grade.PERSONAL if personal else Grade.INTERNAL
    document["customProperties"] = [{"property": "grade", "value": str(grade)}]
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Dumper(yaml.SafeDumper):
    """As people write it: lists indented below their key."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        return super().increase_indent(flow, False)


def _property(values: pl.Series, known: Column | None) -> dict[str, Any]:
    """What one column promises."""
    values = values.cast(pl.String) if values.dtype == pl.Null else values
    if values.dtype == pl.String:
        trimmed = values.str.strip_chars()
        values = trimmed.set(trimmed.is_in(MISSING).fill_null(False), None)
    seen = values.drop_nulls()
    kind, typed = (known.type, _as(seen, known.type)) if known else _type(seen)
    found: dict[str, Any] = {"name": values.name, "logicalType": kind}
    if known is not None and known.dtype == pl.Int32():
        found["physicalType"] = "Int32"
    if len(values) and not values.null_count():
        found["required"] = True
    form = _form(seen) if kind == "string" else None
    personal = (
        known.grade not in (Grade.PUBLIC, Grade.INTERNAL) if known else _personal(values.name, form)
    )
    found["classification"] = (
        str(known.grade) if known else ("personal" if personal else "internal")
    )
    if known.pii if known else personal:
        found["tags"] = ["pii"]
    options: dict[str, Any] = {}
    if kind in ("integer", "number") and len(typed) and not personal:
        options |= _range(typed)
    elif kind == "timestamp":
        options["timezone"] = True
    elif kind == "string" and len(seen):
        options |= _text(seen, form, personal)
    words = None if personal or form or kind != "string" else _words(seen)
    if words:
        arguments = {"validValues": words}
        check = {
            "metric": "invalidValues",
            "arguments": arguments,
            "mustBe": 0,
            "severity": "error",
        }
        found["quality"] = [check]
        options = {}
    if options:
        found["logicalTypeOptions"] = options
    return found


def _type(seen: pl.Series) -> tuple[str, pl.Series]:
    """The narrowest type that every value reads as, and the values as it."""
    if seen.dtype == pl.Boolean:
        return "boolean", seen
    if seen.dtype.is_integer():
        return "integer", seen
    if seen.dtype.is_numeric():
        return "number", seen
    if seen.dtype.is_temporal():
        return "timestamp", seen
    text = seen.cast(pl.String)
    if not len(text):
        return "string", text
    if text.str.to_lowercase().is_in([*TRUE_WORDS[2:], *FALSE_WORDS[2:], "true", "false"]).all():
        return "boolean", text
    # a number with a leading zero, or longer than a number may be, is a code
    code = text.str.contains(r"^[+-]?0\d") | (text.str.len_chars() > 18)
    if not code.any():
        for kind, dtype in (("integer", pl.Int64()), ("number", pl.Float64())):
            typed = text.cast(dtype, strict=False)
            if not typed.null_count() and (kind == "integer" or bool(typed.is_finite().all())):
                return kind, typed
    if _is_time(text):
        return "timestamp", text
    return "string", text


def _as(seen: pl.Series, kind: str) -> pl.Series:
    if kind in ("integer", "number"):
        return seen.cast(pl.Float64, strict=False).drop_nulls()
    return seen


def _is_time(text: pl.Series) -> bool:
    distinct = text.head(10_000).unique()
    return all(_TIME.fullmatch(value) for value in distinct) and bool(
        text.str.contains(f"^{_DAY}").all()
    )


def _personal(name: str, form: str | None) -> bool:
    if form in ("email", "phone", "ip"):
        return True
    return bool(_PERSONAL.search(name)) and not _OTHERS.search(name)


def _form(seen: pl.Series) -> str | None:
    """The name of a well-known form that every value has."""
    if not len(seen):
        return None
    for name, pattern in _FORMS.items():
        if seen.str.contains(pattern).all():
            return name
    if seen.str.starts_with("{").all() and all(map(is_json_object, seen.head(1000).unique())):
        return "json"
    return None


def _range(typed: pl.Series) -> dict[str, Any]:
    """Least and greatest, rounded outwards to one digit; what is never below 0 is not below 0."""
    low: Any = typed.min()
    high: Any = typed.max()
    whole = typed.dtype.is_integer() or bool((typed == typed.round()).all())
    limits = {"minimum": 0.0 if low >= 0 else -_up(-low), "maximum": _up(high) if high > 0 else 0.0}
    return {name: int(limit) if whole else limit for name, limit in limits.items()}


def _up(value: float) -> float:
    """The next number of one digit and zeros: 981 -> 1000, 0.31 -> 0.4."""
    if value <= 0:
        return 0.0
    size = 10.0 ** math.floor(math.log10(value))
    return round(math.ceil(value / size - 1e-9) * size, 12)


def _text(seen: pl.Series, form: str | None, personal: bool) -> dict[str, Any]:
    if form == "json":
        return {"format": "json"}
    if form is not None:
        return {"pattern": _FORMS[form]}
    longest: Any = seen.str.len_chars().max()
    options: dict[str, Any] = {"maxLength": max(int(_up(longest)), 1)}
    code = None if personal else _code(seen)
    return {"pattern": code} if code else options


def _code(seen: pl.Series) -> str | None:
    """The pattern of codes that are built alike, such as A-0042: "^[A-Z]-\\d{4}$"."""
    if len(seen) < SEEN or seen.n_unique() < SEEN:
        return None
    shape = seen.str.replace_all(r"[0-9]", "9").str.replace_all(r"[A-Z]", "A").str.replace_all(r"[a-z]", "a")  # fmt: skip
    if shape.n_unique() != 1 or not re.search(r"9", shape[0]) or len(shape[0]) > 40:
        return None
    if not re.fullmatch(r"[9Aa_:./#-]+", shape[0]):
        return None
    kinds = {"9": r"\d", "A": "[A-Z]", "a": "[a-z]"}
    runs = [
        (run[0], len(run[1])) for run in ((m[1], m[0]) for m in re.finditer(r"(.)\1*", shape[0]))
    ]
    parts = [
        kinds.get(char, r"\." if char == "." else char) + (f"{{{length}}}" if length > 1 else "")
        for char, length in runs
    ]
    return f"^{''.join(parts)}$"


def _words(seen: pl.Series) -> list[str]:
    """The words of a column that is a choice of few."""
    distinct = seen.n_unique()
    if not 0 < distinct <= WORDS or len(seen) < SEEN * distinct:
        return []
    return [str(word) for word in seen.unique().sort()]


def _key(frame: pl.DataFrame, properties: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The fewest columns, ids first, that tell every row from every other; [] where there are none."""
    if frame.height < 2:
        return []
    fit = [
        name for name, one in properties.items()
        if one.get("required") and one["logicalType"] in ("string", "integer", "timestamp")
    ]  # fmt: skip
    fit.sort(key=lambda name: (_not_an_id(name), frame.columns.index(name)))
    tried = 0
    for size in range(1, KEYS + 1):
        for columns in combinations(fit[:8], size):
            if size == 1 and _not_an_id(columns[0]) == 2:
                continue
            tried += 1
            if tried > TRIED:
                return []
            if _tells_apart(frame, columns):
                return list(columns)
    return []


def _not_an_id(name: str) -> int:
    """0: called an id; 1: a time or a number that may be part of a key; 2: neither."""
    lower = name.lower()
    if re.search(r"(^|_)(id|no|nr|code|key|sku|uuid)$|编号$|号$", lower):
        return 0
    return (
        1
        if re.search(r"(^|_)(ts|at|time|date|day|turn|line|seq|position)$|时间|日期", lower)
        else 2
    )


def _tells_apart(frame: pl.DataFrame, columns: Sequence[str]) -> bool:
    if len(columns) == 1:
        return frame[columns[0]].n_unique() == frame.height
    return bool(frame.select(pl.struct(columns).hash().n_unique()).item() == frame.height)
