"""Contracts: what a table promises, as Open Data Contract Standard v3.1 YAML, and as Polars rules.

The built-in contracts stand beside this file. `contracts/<name>.odcs.yaml` of a workspace
overrides one: a column it names replaces the built-in column (its grade stays where none is given, and
all of it where only promises of the whole column are), all others stay, so an override may be short. Columns cannot be added or change their type: the tables' shape is the house's.

What the standard leaves open we say in `customProperties`, and only there:
    contract  grade, allowedPurposes
    column    onInvalid    what to do with an impossible value: quarantine (default), null, zero, false
              strictWhen   {column, in}: there, impossible values are quarantined all the same
              requiredWhen {column, in}: required only there
    relation  severity     error: an unknown reference is quarantined; warning: counted

Promises of the table as a whole (keys, volume, age, drift, SQL) are in `dataset.py`.
"""

import difflib
import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import jsonschema
import polars as pl
import yaml

from shopkeeper.assets.contracts.dataset import DatasetRule, of_rows, rules_of
from shopkeeper.errors import InputError
from shopkeeper.words import TABLES, Grade, Purpose

Type = Literal["string", "integer", "number", "boolean", "timestamp"]
OnInvalid = Literal["quarantine", "null", "zero", "false"]
Bound = float | datetime

POLARS_TYPES: dict[str, pl.DataType] = {
    "string": pl.String(),
    "integer": pl.Int64(),
    "number": pl.Float64(),
    "boolean": pl.Boolean(),
    "timestamp": pl.Datetime("us", "UTC"),
}
WANTED: dict[str, str] = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "timestamp": "a time such as 2026-01-31T08:00:00.000000Z",
}
REFERENCES = (
    "items.item_id",
    "shops.shop_id",
    "regions.region_id",
    "campaigns.campaign_id",
    "coupons.coupon_id",
)
# logicalTypeOptions that we know; a promise that nobody checks would be worse than none
READ_OPTIONS = frozenset(
    {
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "minLength",
        "maxLength",
        "pattern",
        "format",
        "timezone",
    }
)


@dataclass(frozen=True)
class Condition:
    """True where `column` holds one of `values`."""

    column: str
    values: tuple[str, ...]

    def expr(self) -> pl.Expr:
        return pl.col(self.column).is_in(self.values)


@dataclass(frozen=True)
class Column:
    """One column of a contract."""

    name: str
    type: Type
    dtype: pl.DataType
    description: str
    grade: Grade
    pii: bool
    required: bool
    required_when: Condition | None
    key: bool  # part of the primary key
    minimum: Bound | None
    above: Bound | None  # exclusive minimum
    maximum: Bound | None
    below: Bound | None  # exclusive maximum
    max_length: int | None  # characters
    min_length: int | None
    pattern: str | None
    format: str | None  # "json": a JSON object as text
    allowed: tuple[str, ...] | None
    reference: str | None  # "table.column"
    reference_severity: Literal["error", "warning"]
    on_invalid: OnInvalid
    strict_when: Condition | None


@dataclass(frozen=True)
class Contract:
    """What one table promises."""

    name: str
    version: str
    owner: str
    purposes: tuple[Purpose, ...]
    grade: Grade
    description: str
    columns: tuple[Column, ...]
    origin: str  # file it came from, or "built-in"
    digest: str  # of the documents it was made of; changes when a rule changes
    checks: tuple[DatasetRule, ...] = ()  # of the table as a whole

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


@dataclass(frozen=True)
class Rule:
    """One check, compiled. `broken` is true for a row that breaks it, over typed columns."""

    name: str  # "range:price_minor"
    column: str
    broken: pl.Expr
    wanted: str  # "at least 0"
    action: OnInvalid


@cache
def odcs_schema() -> dict[str, Any]:
    """The JSON schema of the standard, as its own package ships it."""
    text = resources.files("open_data_contract_standard").joinpath("schema.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


@cache
def _validator() -> jsonschema.Draft201909Validator:
    return jsonschema.Draft201909Validator(odcs_schema())


def built_in_text(name: str) -> str:
    """The YAML of the built-in contract of table `name`."""
    return resources.files(__package__).joinpath(f"{name}.odcs.yaml").read_text("utf-8")


@cache
def built_in(name: str) -> Contract:
    """The built-in contract of table `name`."""
    if name not in TABLES:
        raise InputError(f"no contract {name!r}", next=f"there are: {', '.join(TABLES)}")
    return parse(built_in_text(name), "built-in")


def load(folder: Path | None = None) -> dict[str, Contract]:
    """All contracts by table; `folder` is a workspace, whose contracts/ may override some.

    Raises:
        InputError: an override is no valid ODCS 3.1, names an unknown table or column, or changes
            a type. Says the file and the place in it.
    """
    found = {name: built_in(name) for name in TABLES}
    if folder is None or not (folder / "contracts").is_dir():
        return found
    for path in sorted((folder / "contracts").glob("*.y*ml")):
        name = path.name.removesuffix(".yaml").removesuffix(".yml").removesuffix(".odcs")
        if name not in TABLES:
            near = difflib.get_close_matches(name, TABLES, n=1)
            raise InputError(
                f"no table {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
                where=str(path),
                next=f"name it after one of: {', '.join(TABLES)}, e.g. events.odcs.yaml",
            )
        found[name] = _override(found[name], parse(_text(path), str(path), partial=True))
    return found


def compose(table: str, base: str, own: str | None, origin: str) -> Contract:
    """The contract of `table` that a built-in text and an override, if any, make together."""
    found = parse(base, "built-in")
    return found if own is None else _override(found, parse(own, origin, partial=True))


def own_text(folder: Path, contract: Contract) -> str | None:
    """The YAML by which a workspace overrides a contract; None for a built-in one."""
    return None if contract.origin == "built-in" else _text(Path(contract.origin))


def digest(folder: Path, table: str) -> str | None:
    """Of the contract of `table` in a workspace; None where one is not valid (its step says why)."""
    try:
        return load(folder)[table].digest
    except InputError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"not UTF-8 text: {error}", where=str(path), next="save the file as UTF-8"
        ) from error


def _override(base: Contract, over: Contract) -> Contract:
    """`base` with the columns that `over` names; everything else `over` says about the table wins."""
    for column in over.columns:
        if column.name not in base.names:
            near = difflib.get_close_matches(column.name, base.names, n=1)
            raise InputError(
                f"table {base.name!r} has no column {column.name!r}"
                + (f"; did you mean {near[0]!r}?" if near else ""),
                where=over.origin,
                next=f"known columns: {', '.join(base.names)}",
            )
        known = base.column(column.name)
        if column.type != known.type:
            raise InputError(
                f"column {column.name!r} is declared {column.type}, it is {known.type}",
                where=over.origin,
                next=f"write logicalType: {known.type}",
            )
    named = {column.name: column for column in over.columns}
    checks = {rule.name: rule for rule in (*base.checks, *over.checks)}
    return replace(
        over,
        checks=tuple(checks.values()),
        columns=tuple(
            replace(named[known.name], dtype=known.dtype) if known.name in named else known
            for known in base.columns
        ),
        digest=hashlib.sha256(f"{base.digest}{over.digest}".encode()).hexdigest(),
    )


def parse(text: str, origin: str, *, partial: bool = False) -> Contract:
    """Contract of an ODCS document.

    Args:
        text: YAML.
        origin: for messages: the file it came from.
        partial: an override; grade, purposes and owner may be left to the built-in contract.
    Raises:
        InputError: not YAML, not valid ODCS 3.1, or something in it that we cannot check.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"not valid YAML: {error}", where=origin) from error
    _validate(document, origin)
    name = document.get("name") or document["schema"][0]["name"]
    tables = document.get("schema", [])
    if len(tables) != 1:
        raise InputError(
            f"{len(tables)} tables under `schema`, wanted one",
            where=origin,
            next="one file a table",
        )
    custom = _custom(document)
    base = built_in(name) if partial and name in TABLES else None
    members = document.get("team", {}).get("members", []) if "team" in document else []
    owners = [member["username"] for member in members if member.get("role") == "owner"]
    columns = tuple(_kept(item, base, origin) for item in tables[0].get("properties", []))
    known = {column.name for column in columns} | set(base.names if base else ())
    for column in columns:
        for where in (column.required_when, column.strict_when):
            if where is not None and where.column not in known:
                raise InputError(
                    f"column {column.name!r}: a condition on {where.column!r}, which is no column",
                    where=origin,
                    next=f"known columns: {', '.join(sorted(known))}",
                )
    checks = rules_of(document, origin, {c.name: c.type for c in base.columns} if base else {})
    for name_ in (name_ for rule in checks for name_ in rule.columns if name_ not in known):
        raise InputError(
            f"a quality check of column {name_!r}, which is no column",
            where=origin,
            next=f"known columns: {', '.join(sorted(known))}",
        )
    return Contract(
        name=name,
        version=document["version"],
        owner=owners[0] if owners else (base.owner if base else "local-owner"),
        purposes=tuple(
            _member(Purpose, purpose, "allowedPurposes", origin)
            for purpose in custom.get("allowedPurposes", base.purposes if base else ())
        ),
        grade=_member(
            Grade, custom.get("grade", base.grade if base else "internal"), "grade", origin
        ),
        description=document.get("description", {}).get("purpose", ""),
        columns=columns,
        origin=origin,
        digest=hashlib.sha256(text.encode()).hexdigest(),
        checks=checks,
    )


def _validate(document: Any, origin: str) -> None:
    if not isinstance(document, dict):
        raise InputError(
            f"a contract is a mapping, found {type(document).__name__}",
            where=origin,
            next="copy a built-in one, as: shopkeeper contract show events > events.odcs.yaml; the "
            "standard: https://bitol-io.github.io/open-data-contract-standard",
        )
    errors = sorted(_validator().iter_errors(document), key=lambda e: ([str(p) for p in e.path]))
    if errors:
        first = jsonschema.exceptions.best_match(errors)
        place = "/".join(str(part) for part in first.path) or "the document"
        raise InputError(
            f"not valid ODCS 3.1 at {place}: {first.message[:300]}",
            where=origin,
            next="compare with the standard: https://bitol-io.github.io/open-data-contract-standard",
        )


def _custom(part: dict[str, Any]) -> dict[str, Any]:
    return {entry["property"]: entry["value"] for entry in part.get("customProperties", [])}


def _member(kind: type[Any], value: Any, key: str, origin: str) -> Any:
    try:
        return kind(value)
    except ValueError as error:
        raise InputError(
            f"{key}: {value!r} is not one of {', '.join(str(known) for known in kind)}",
            where=origin,
        ) from error


def _kept(item: dict[str, Any], base: Contract | None, origin: str) -> Column:
    """A column as an override says it; what it leaves open of who may see it stays as it is.

    A column that is only named to promise something of all its rows stays as it is altogether.
    """
    column = _column(item, origin)
    if base is None or column.name not in base.names:
        return column
    known = base.column(column.name)
    said = set(item) - {"name", "logicalType", "unique", "quality"}
    if not said and column.allowed is None and column.type in (known.type, "string"):
        return known
    if "classification" not in item:
        column = replace(column, grade=known.grade, pii=known.pii or column.pii)
    return column if column.description else replace(column, description=known.description)


def _column(item: dict[str, Any], origin: str) -> Column:
    name = item["name"]
    kind = item.get("logicalType", "string")
    if kind not in POLARS_TYPES:
        raise InputError(
            f"column {name!r}: logicalType {kind!r} is not one of {', '.join(POLARS_TYPES)}",
            where=origin,
        )
    options = item.get("logicalTypeOptions", {})
    custom = _custom(item)
    unknown = set(options) - READ_OPTIONS
    if unknown:
        raise InputError(
            f"column {name!r}: {', '.join(sorted(unknown))} is not checked here",
            where=origin,
            next=f"leave it out; checked are: {', '.join(sorted(READ_OPTIONS))}",
        )
    on_invalid = custom.get("onInvalid", "quarantine")
    fitting = {"zero": ("integer", "number"), "false": ("boolean",)}.get(on_invalid, (kind,))
    if on_invalid not in ("quarantine", "null", "zero", "false") or kind not in fitting:
        raise InputError(
            f"column {name!r}: onInvalid {on_invalid!r} is not quarantine, null, "
            "zero (of numbers) or false (of booleans)",
            where=origin,
        )
    pattern = options.get("pattern")
    if pattern is not None:
        try:
            pl.Series([""]).str.contains(pattern)
        except pl.exceptions.ComputeError as error:
            raise InputError(
                f"column {name!r}: pattern {pattern!r} cannot be read",
                where=origin,
                next="use a regular expression without look-around and back references",
            ) from error
    relations = item.get("relationships", [])
    severity: Any = _custom(relations[0]).get("severity", "error") if relations else "error"
    if severity not in ("error", "warning"):
        raise InputError(
            f"column {name!r}: severity {severity!r} of its relationship is not error or warning",
            where=origin,
        )
    if relations and relations[0]["to"] not in REFERENCES:
        raise InputError(
            f"column {name!r}: a reference to {relations[0]['to']!r} is not checked here",
            where=origin,
            next=f"checked are: {', '.join(REFERENCES)}",
        )
    return Column(
        name=name,
        type=kind,
        dtype=pl.Int32() if item.get("physicalType") == "Int32" else POLARS_TYPES[kind],
        description=item.get("description", ""),
        grade=_member(
            Grade, item.get("classification", "internal"), f"{name}.classification", origin
        ),
        pii="pii" in item.get("tags", []),
        required=item.get("required", False),
        required_when=_condition(custom.get("requiredWhen"), name, origin),
        key=item.get("primaryKey", False),
        minimum=_bound(options.get("minimum"), kind, name, origin),
        above=_bound(options.get("exclusiveMinimum"), kind, name, origin),
        maximum=_bound(options.get("maximum"), kind, name, origin),
        below=_bound(options.get("exclusiveMaximum"), kind, name, origin),
        max_length=options.get("maxLength"),
        min_length=options.get("minLength"),
        pattern=pattern,
        format=options.get("format"),
        allowed=_allowed(item, origin),
        reference=relations[0]["to"] if relations else None,
        reference_severity=severity,
        on_invalid=on_invalid,
        strict_when=_condition(custom.get("strictWhen"), name, origin),
    )


def _bound(value: Any, kind: str, name: str, origin: str) -> Bound | None:
    """A limit of a number, or of a time (ISO 8601; UTC where it has no offset)."""
    if value is None or kind != "timestamp":
        return value  # type: ignore[no-any-return]  # the standard's schema asks for a number
    try:
        limit = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise InputError(
            f"column {name!r}: {value!r} is no time",
            where=origin,
            next='write "2026-01-31T00:00:00Z"',
        ) from error
    return limit if limit.tzinfo else limit.replace(tzinfo=UTC)


def _condition(value: Any, name: str, origin: str) -> Condition | None:
    if value is None:
        return None
    if not isinstance(value, dict) or set(value) != {"column", "in"}:
        raise InputError(
            f"column {name!r}: a condition is {{column: …, in: […]}}, found {value!r}", where=origin
        )
    return Condition(value["column"], tuple(value["in"]))


def _allowed(item: dict[str, Any], origin: str) -> tuple[str, ...] | None:
    for check in filter(of_rows, item.get("quality", [])):
        values = check.get("arguments", {}).get("validValues")
        if values is not None and item.get("logicalType", "string") == "string":
            return tuple(str(value) for value in values)
        raise InputError(
            f"column {item['name']!r}: a quality check we cannot run: {check}",
            where=origin,
            next="use metric: invalidValues with arguments.validValues (of text), or logicalTypeOptions",
        )
    return None


def casts(contract: Contract) -> list[pl.Expr]:
    """Text -> typed columns; what cannot be cast becomes null. Timestamps as canonical text."""
    return [cast(pl.col(column.name), column).alias(column.name) for column in contract.columns]


TRUE_WORDS = ("true", "1", "yes", "y", "on", "t", "是")
FALSE_WORDS = ("false", "0", "no", "n", "off", "f", "否")


def cast(value: pl.Expr, column: Column) -> pl.Expr:
    """One column of text as its type; null where it cannot be."""
    if column.type == "string":
        return value
    if column.type == "timestamp":
        return value.str.to_datetime(
            "%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us", time_zone="UTC", strict=False
        )
    if column.type == "boolean":
        word = value.str.to_lowercase()
        return (
            pl.when(word.is_in(TRUE_WORDS))
            .then(pl.lit(True))
            .when(word.is_in(FALSE_WORDS))
            .then(pl.lit(False))
        )
    return value.cast(column.dtype, strict=False)


def is_json_object(text: str) -> bool:
    """Whether `text` is one JSON object."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def rules(contract: Contract) -> list[Rule]:
    """Every check of the contract over typed columns, most basic first: required, allowed, ranges.

    Types are checked where values are cast, references and uniqueness where other rows are known.
    """
    found = []
    for column in contract.columns:
        value = pl.col(column.name)
        if column.required:
            found.append(
                Rule(
                    f"required:{column.name}", column.name, value.is_null(), "a value", "quarantine"
                )
            )
    for column in contract.columns:
        value = pl.col(column.name)
        if column.allowed is not None:
            broken = ~value.is_in(column.allowed)
            wanted = f"one of {', '.join(column.allowed)}"
            found.append(
                Rule(f"allowed:{column.name}", column.name, broken, wanted, column.on_invalid)
            )
    for column in contract.columns:
        value = pl.col(column.name)
        if column.required_when is not None:
            where = column.required_when
            wanted = f"a value where {where.column} is {', '.join(where.values)}"
            broken = value.is_null() & where.expr()
            found.append(Rule(f"required:{column.name}", column.name, broken, wanted, "quarantine"))
    for column in contract.columns:
        found.extend(_value_rules(column))
    return found


def _value_rules(column: Column) -> list[Rule]:
    value = pl.col(column.name)
    broken: list[pl.Expr] = []
    wanted: list[str] = []
    if column.type == "number":
        broken.append(~value.is_finite())
    for limit, text, test in (
        (column.minimum, "at least", value.__lt__),
        (column.above, "more than", value.__le__),
        (column.maximum, "at most", value.__gt__),
        (column.below, "less than", value.__ge__),
    ):
        if limit is not None:
            broken.append(test(limit))
            shown = limit.isoformat() if isinstance(limit, datetime) else f"{limit:,}"
            wanted.append(f"{text} {shown}")
    found = []
    if broken:
        wrong = pl.any_horizontal(broken) if len(broken) > 1 else broken[0]
        text = " and ".join(wanted) or "a finite number"
        found += _split(column, f"range:{column.name}", wrong, text)
    if column.type != "string":
        return found
    if column.max_length is not None:
        # bytes first: a text of few bytes has no more characters than that
        long = (value.str.len_bytes() > column.max_length) & (
            value.str.len_chars() > column.max_length
        )
        found += _split(
            column, f"length:{column.name}", long, f"at most {column.max_length} characters"
        )
    if column.min_length is not None and column.min_length > 1:  # an empty text is no value anyway
        short = value.str.len_chars() < column.min_length
        wanted_length = f"at least {column.min_length} characters"
        found += _split(column, f"length:{column.name}", short, wanted_length)
    if column.pattern is not None:
        wrong = ~value.str.contains(column.pattern)
        found += _split(column, f"pattern:{column.name}", wrong, f"text like {column.pattern}")
    return found


def _split(column: Column, name: str, broken: pl.Expr, wanted: str) -> list[Rule]:
    """The rule, split in two where the contract is strict only for some rows."""
    if column.strict_when is None or column.on_invalid == "quarantine":
        return [Rule(name, column.name, broken, wanted, column.on_invalid)]
    strict = column.strict_when.expr().fill_null(False)
    return [
        Rule(name, column.name, broken & strict, wanted, "quarantine"),
        Rule(name, column.name, broken & ~strict, wanted, column.on_invalid),
    ]
