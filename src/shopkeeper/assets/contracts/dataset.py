"""Promises of a table as a whole, in the quality blocks of ODCS v3.1: keys, nulls, volume, age, drift, SQL.

Under a property (one column) or under the table:

    quality:
      - {metric: duplicateValues, arguments: {properties: [user_id, event_id]}, mustBe: 0}
      - {metric: nullValues, unit: percent, mustBeLessThan: 5, severity: warning}
      - {metric: rowCount, mustBeGreaterThan: 1000}
      - {type: sql, name: paid, query: "SELECT count(*) FROM ${object} WHERE …", mustBe: 0}
      - {type: custom, engine: shopkeeper, implementation: {check: volume, maxFallPercent: 20}}
      - {type: custom, engine: shopkeeper, implementation: {check: drift, measure: psi, max: 0.2}}
      - {type: custom, engine: shopkeeper, implementation: {check: freshness, maxHours: 24}}

and `slaProperties: [{property: latency, value: 24, unit: h, element: events.ts}]`, which is a freshness
that warns. Severity error (the default) stops the run, so that the version before stays current;
warning is told. A single row's promises are no business of this file.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from shopkeeper.errors import InputError

Kind = Literal["unique", "nulls", "missing", "rows", "volume", "freshness", "drift", "sql"]
Severity = Literal["error", "warning"]

_METRICS: dict[str, Kind] = {
    "duplicateValues": "unique",
    "nullValues": "nulls",
    "missingValues": "missing",
    "rowCount": "rows",
}
_NAMES = {"missing": "missing_values", "unique": "key"}  # a rule of rows has the kind's name
_OPERATORS = {  # of the standard, and in words
    "mustBe": "{}",
    "mustNotBe": "anything but {}",
    "mustBeGreaterThan": "more than {}",
    "mustBeGreaterOrEqualTo": "at least {}",
    "mustBeLessThan": "less than {}",
    "mustBeLessOrEqualTo": "at most {}",
    "mustBeBetween": "between {} and {}",
    "mustNotBeBetween": "not between {} and {}",
}
_IMPLEMENTED = {  # check: the keys of its implementation
    "volume": {"maxFallPercent", "maxGrowthPercent", "versions"},
    "freshness": {"maxHours"},
    "drift": {"measure", "max", "versions"},
}
_MOST = {"psi": 0.25, "js": 0.1}  # what counts as a shift where the contract does not say
_HOURS = {"d": 24.0, "day": 24.0, "days": 24.0, "h": 1.0, "hr": 1.0, "hour": 1.0, "hours": 1.0,
          "m": 1 / 60, "min": 1 / 60, "minute": 1 / 60, "minutes": 1 / 60}  # fmt: skip


@dataclass(frozen=True)
class DatasetRule:
    """One promise of a whole table."""

    name: str  # "key:user_id+event_id", "drift:price_minor", "volume", "sql:paid"
    kind: Kind
    columns: tuple[str, ...]
    severity: Severity
    operator: str  # one of the standard's
    bounds: tuple[Any, ...]  # what the operator compares with
    percent: bool = False  # of rows, instead of rows
    versions: int = 1  # volume, drift: how many earlier ones it is compared with
    measure: str = ""  # drift: psi | js
    query: str = ""
    missing: tuple[Any, ...] = ()  # values that count as missing

    @property
    def wanted(self) -> str:
        """In words: "at most 5 %"."""
        if self.kind == "volume":
            return f"at most {-self.bounds[0]:g} % fewer and {self.bounds[1]:g} % more rows than before"
        unit = " hours" if self.kind == "freshness" else " %" * self.percent
        shown = (f"{b:,.12g}" if isinstance(b, int | float) else str(b) for b in self.bounds)
        return _OPERATORS[self.operator].format(*shown) + unit

    def holds(self, value: Any) -> bool:
        """Whether a measured value keeps the promise; one that could not be compared does not."""
        bounds = self.bounds
        if self.operator in ("mustBe", "mustNotBe"):
            return bool(value == bounds[0]) == (self.operator == "mustBe")
        if not isinstance(value, int | float):
            return False
        match self.operator:
            case "mustBeGreaterThan":
                return bool(value > bounds[0])
            case "mustBeGreaterOrEqualTo":
                return bool(value >= bounds[0])
            case "mustBeLessThan":
                return bool(value < bounds[0])
            case "mustBeLessOrEqualTo":
                return bool(value <= bounds[0])
            case "mustBeBetween":
                return bool(bounds[0] <= value <= bounds[1])
        return not bounds[0] <= value <= bounds[1]


def rules_of(
    document: Mapping[str, Any], origin: str, known: Mapping[str, str]
) -> tuple[DatasetRule, ...]:
    """Every promise of the one table of a document that is valid ODCS; InputError says which is not ours.

    Args:
        known: types of columns that the document may leave out, as an override does.
    """
    table = document["schema"][0]
    found: list[DatasetRule] = []
    types = dict(known)
    for item in table.get("properties", []):
        name = item["name"]
        types[name] = item.get("logicalType", types.get(name, "string"))
        if item.get("unique"):
            found.append(DatasetRule(f"key:{name}", "unique", (name,), "error", "mustBe", (0,)))
        blocks = (block for block in item.get("quality", []) if not of_rows(block))
        found += [_rule(block, (name,), types[name], origin) for block in blocks]
    found += [_rule(block, (), "", origin) for block in table.get("quality", [])]
    found += [_sla(entry, types, origin) for entry in document.get("slaProperties", [])]
    return tuple(_told_apart(found))


def of_rows(block: Mapping[str, Any]) -> bool:
    """Whether a quality block is about single rows: the words that are allowed."""
    return block.get("metric") == "invalidValues"


def _rule(
    block: Mapping[str, Any], columns: tuple[str, ...], kind: str, origin: str
) -> DatasetRule:
    where = f"column {columns[0]!r}" if columns else "the table"
    severity: Any = block.get("severity", "error")
    if severity not in ("error", "warning"):
        raise InputError(
            f"{where}: severity {severity!r} of a quality check is not error or warning",
            where=origin,
        )
    if block.get("type") == "custom":
        return _custom(block, columns, kind, severity, where, origin)
    operator, bounds = _operator(block)
    if block.get("type") == "sql":
        name = re.sub(r"\W+", "_", str(block.get("name") or block.get("id") or "")).strip("_")
        return DatasetRule(
            f"sql:{name or '_'.join(columns) or 'table'}", "sql", columns, severity, operator, bounds,
            query=str(block["query"]),
        )  # fmt: skip
    metric = _METRICS.get(str(block.get("metric")))
    if metric is None:
        raise InputError(
            f"{where}: a quality check we cannot run: {dict(block)}",
            where=origin,
            next="use metric: invalidValues with arguments.validValues (of text), "
            f"{', '.join(_METRICS)}, type: sql, or type: custom with engine: shopkeeper",
        )
    arguments = block.get("arguments") or {}
    if metric == "unique" and not columns:
        columns = tuple(str(name) for name in arguments.get("properties", ()))
    if bool(columns) == (metric == "rows"):
        wanted = (
            "stands under the table"
            if metric == "rows"
            else ("stands under a column, or names arguments.properties")
        )
        raise InputError(f"{where}: metric {block['metric']} {wanted}", where=origin)
    missing = tuple(arguments.get("missingValues", (None, "")))
    unit = block.get("unit", "rows")
    if unit not in ("rows", "percent"):
        raise InputError(f"{where}: unit {unit!r} is not rows or percent", where=origin)
    return DatasetRule(
        ":".join(filter(None, (_NAMES.get(metric, metric), "+".join(columns)))), metric, columns, severity, operator, bounds,
        percent=unit == "percent", missing=missing if metric == "missing" else (),
    )  # fmt: skip


def _custom(
    block: Mapping[str, Any],
    columns: tuple[str, ...],
    kind: str,
    severity: Severity,
    where: str,
    origin: str,
) -> DatasetRule:
    """A check of our own: what an earlier version or the clock has to say."""
    told = block.get("implementation")
    check = told.get("check") if isinstance(told, dict) else None
    if (
        block.get("engine") != "shopkeeper"
        or check not in _IMPLEMENTED
        or not isinstance(told, dict)
    ):
        raise InputError(
            f"{where}: a custom check we cannot run: engine {block.get('engine')!r}, check {check!r}",
            where=origin,
            next=f"engine: shopkeeper, implementation: {{check: {' | '.join(_IMPLEMENTED)}, …}}",
        )
    if unknown := set(told) - _IMPLEMENTED[check] - {"check"}:
        raise InputError(
            f"{where}: {check} knows no {', '.join(sorted(unknown))}",
            where=origin,
            next=f"known: {', '.join(sorted(_IMPLEMENTED[check]))}",
        )
    numbers = {k: v for k, v in told.items() if k not in ("check", "measure")}
    wrong = [k for k, v in numbers.items() if isinstance(v, bool) or not isinstance(v, int | float) or v < 0]  # fmt: skip
    if wrong or (versions := int(told.get("versions", 3))) < 1:
        raise InputError(f"{where}: {check}: {', '.join(wrong) or 'versions'} is no such number", where=origin)  # fmt: skip
    if check == "volume":
        if columns:
            raise InputError(f"{where}: volume stands under the table", where=origin)
        fall, growth = told.get("maxFallPercent", 100), told.get("maxGrowthPercent", float("inf"))
        return DatasetRule(
            "volume", "volume", (), severity, "mustBeBetween", (-fall, growth), versions=versions
        )
    if not columns:
        raise InputError(f"{where}: {check} stands under a column", where=origin)
    if check == "freshness":
        return _freshness(columns[0], kind, told.get("maxHours"), severity, origin)
    if kind == "timestamp":
        raise InputError(
            f"{where}: drift of a time tells nothing; times move", where=origin,
            next="use check: freshness",
        )  # fmt: skip
    measure = str(told.get("measure", "psi"))
    if measure not in _MOST:
        raise InputError(f"{where}: measure {measure!r} is not psi or js", where=origin)
    most = told.get("max", _MOST[measure])
    return DatasetRule(
        f"drift:{columns[0]}", "drift", columns, severity, "mustBeLessOrEqualTo", (most,),
        versions=versions, measure=measure,
    )  # fmt: skip


def _freshness(column: str, kind: str, hours: Any, severity: Severity, origin: str) -> DatasetRule:
    if kind != "timestamp" or not hours:
        raise InputError(
            f"column {column!r}: freshness is of a timestamp, with maxHours", where=origin
        )
    return DatasetRule(
        f"freshness:{column}", "freshness", (column,), severity, "mustBeLessOrEqualTo", (hours,)
    )


def _sla(entry: Mapping[str, Any], types: Mapping[str, str], origin: str) -> DatasetRule:
    column = str(entry.get("element", "")).rpartition(".")[2]
    unit = _HOURS.get(str(entry.get("unit", "d")))
    value = entry["value"]
    fits = isinstance(value, int | float) and not isinstance(value, bool) and unit is not None
    if entry["property"] not in ("latency", "freshness") or column not in types or not fits:
        raise InputError(
            f"slaProperties: {entry['property']} of {entry.get('element')!r} is not checked here",
            where=origin,
            next="checked is latency, in d, h or min, of a timestamp named here, as table.column",
        )
    assert unit is not None
    return _freshness(column, types[column], value * unit, "warning", origin)


def _operator(block: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """The comparison; the standard's schema asks for exactly one."""
    name = next(name for name in _OPERATORS if name in block)
    value = block[name]
    return name, tuple(value) if isinstance(value, list) else (value,)


def _told_apart(rules: Sequence[DatasetRule]) -> list[DatasetRule]:
    """Rules under names of their own: the second of a name is name#2."""
    seen: dict[str, int] = {}
    made = []
    for rule in rules:
        seen[rule.name] = seen.get(rule.name, 0) + 1
        again = seen[rule.name] > 1
        made.append(replace(rule, name=f"{rule.name}#{seen[rule.name]}") if again else rule)
    return made
