"""Editing a contract: what is wrong with a text and on which line, what it would change, saving it.

    told = check(text, folder, "items")
    told["changes"]    # [{"change": "minimum", "column": "price_minor", "breaking": True, …}]

A change is breaking where a row that was clean before may not be so after it, where a run that went
through may be stopped by it, or where it lowers a grade: what was hidden would be shown.
"""

import re
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from shopkeeper.assets import durable
from shopkeeper.assets.contracts import (
    Column,
    Contract,
    _override,
    _validator,
    built_in,
    built_in_text,
    load,
    parse,
)
from shopkeeper.errors import InputError, NotFound
from shopkeeper.words import TABLES, Grade

SHOWN_ERRORS = 20
_LIMITS = {"minimum": 1, "above": 1, "min_length": 1, "maximum": -1, "below": -1, "max_length": -1}
_GRADES = list(Grade)
_STRICTNESS = {"null": 0, "zero": 0, "false": 0, "quarantine": 1}


def listed(folder: Path) -> list[dict[str, Any]]:
    """[{"table", "version", "origin", "built_in"}] of every table. InputError: an override is wrong."""
    found = load(folder)
    return [
        {
            "table": name,
            "version": contract.version,
            "origin": contract.origin,
            "built_in": contract.origin == "built-in",
        }
        for name, contract in found.items()
    ]


def document(folder: Path, table: str) -> dict[str, Any]:
    """{"table", "yaml", "origin", "columns"} of one contract, as text and as the names it promises.

    The text is the workspace's own file where there is one, even one that is not valid; not an empty
    one, as `shopkeeper contract show events > contracts/events.odcs.yaml` makes it before it asks.
    """
    _known(table)
    path = place(folder, table)
    own = path.exists() and path.stat().st_size > 0
    return {
        "table": table,
        "yaml": path.read_text("utf-8") if own else built_in_text(table),
        "origin": str(path.relative_to(folder)) if own else "built-in",
        "columns": list(built_in(table).names),
    }


def place(folder: Path, table: str) -> Path:
    """The file of a workspace that overrides the contract of `table`, whether or not it is there."""
    there = sorted((folder / "contracts").glob(f"{table}.*y*ml"))
    known = [path for path in there if path.name.partition(".")[0] == table]
    return known[0] if known else folder / "contracts" / f"{table}.odcs.yaml"


def check(text: str, folder: Path, table: str | None = None) -> dict[str, Any]:
    """What is wrong with a contract, and what it would change for `table` in this workspace.

    Args:
        table: default: the table that the text names; one that is not the shop's changes nothing here.
    Returns:
        {"valid", "errors": [{"where", "message"}], "changes": [{"change", "column", "breaking",
        "detail"}]}; `where` is "line 12" or the file where no line is to blame.
    """
    if table is not None:
        _known(table)
    errors = _errors(text, table)
    changes: list[dict[str, Any]] = []
    if not errors:
        named = table or str(yaml.safe_load(text).get("name") or "")
        try:
            new = parse(text, named or "contract", partial=named in TABLES)
            if named in TABLES:
                new = _override(built_in(named), new)
        except InputError as error:
            step = f"; {error.next}" if error.next else ""
            errors = [{"where": _line_of(text, error), "message": f"{error.message}{step}"}]
        else:
            changes = compare(_now(folder, named), new) if named in TABLES else []
    return {"valid": not errors, "errors": errors, "changes": changes}


def compare(old: Contract, new: Contract) -> list[dict[str, Any]]:
    """What `new` promises otherwise than `old`: [{"change", "column", "breaking", "detail"}]."""
    told: list[dict[str, Any]] = []
    for column in new.columns:
        before = next((one for one in old.columns if one.name == column.name), None)
        if before is None:
            told.append(_change("added", column.name, column.required, column.type))
            continue
        for field in fields(Column):
            a, b = getattr(before, field.name), getattr(column, field.name)
            if a != b:
                breaking = _stricter(field.name, a, b)
                told.append(_change(field.name, column.name, breaking, f"{_said(a)} → {_said(b)}"))
    gone = [column.name for column in old.columns if column.name not in new.names]
    told += [_change("removed", name, True, "") for name in gone]
    told += _dataset_changes(old, new)
    for name in ("version", "owner", "grade", "purposes", "description"):
        a, b = getattr(old, name), getattr(new, name)
        if a != b:
            lost = name == "purposes" and not set(a) <= set(b)
            lost = lost or (name == "grade" and _stricter(name, a, b))
            told.append(_change(name, None, lost, f"{_said(a)} → {_said(b)}"))
    return sorted(told, key=lambda one: not one["breaking"])


def save(text: str, folder: Path, table: str) -> dict[str, Any]:
    """Make `text` the workspace's contract of `table`; the file before it is kept beside.

    Returns:
        {"path", "backup", "changes"}; backup is None where there was no file.
    Raises:
        InputError: the text is not valid; its first error is told with its line.
    """
    told = check(text, folder, table)
    if not told["valid"]:
        first = told["errors"][0]
        raise InputError(
            f"the contract is not valid: {first['message']}", where=first["where"],
            next="correct it and save again; nothing was written",
        )  # fmt: skip
    path = place(folder, table)
    backup = None
    if path.exists():
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        backup = path.parent / "earlier" / f"{table}.{stamp}.odcs.yaml"
        durable.write_bytes(backup, path.read_bytes())
    durable.write_bytes(path, text.encode())
    return {
        "path": str(path.relative_to(folder)),
        "backup": str(backup.relative_to(folder)) if backup else None,
        "changes": told["changes"],
    }


def _known(table: str) -> None:
    if table not in TABLES:
        raise NotFound(f"no contract {table!r}", next=f"there are: {', '.join(TABLES)}")


def _now(folder: Path, table: str) -> Contract:
    """The contract that holds now; the built-in one where the workspace's own is not valid."""
    try:
        return load(folder)[table]
    except InputError:
        return built_in(table)


def _errors(text: str, table: str | None) -> list[dict[str, str]]:
    """Every place where the text is not the standard's; none of what only we ask."""
    try:
        read = yaml.safe_load(text)
        tree = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}" if mark else table or "contract"
        return [{"where": where, "message": f"not valid YAML: {error.problem or error.context}"}]
    except yaml.YAMLError as error:  # a character that YAML does not allow
        return [{"where": table or "contract", "message": f"not valid YAML: {error}"}]
    except RecursionError:
        return [{"where": table or "contract", "message": "not valid YAML: nested too deeply"}]
    if not isinstance(read, dict):
        return [{"where": "line 1", "message": "a contract is a mapping: name, version, schema, …"}]
    found = [
        {"where": f"line {_line(tree, list(error.path))}", "message": error.message[:300]}
        for error in sorted(_validator().iter_errors(read), key=lambda e: [str(p) for p in e.path])
    ]
    named = read.get("name") or next(
        (part.get("name") for part in read.get("schema") or [] if isinstance(part, dict)), None
    )
    if not found and table is not None and named != table:
        found = [
            {
                "where": f"line {_line(tree, ['name'])}",
                "message": f"this is a contract of {named!r}, wanted {table!r}",
            }
        ]
    return found[:SHOWN_ERRORS]


def _line(node: yaml.Node | None, path: list[str | int]) -> int:
    """The line on which the value at `path` begins, or the nearest around it; the first is 1."""
    line = node.start_mark.line + 1 if node is not None else 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            known = {key.value: (key, value) for key, value in node.value}
            if part not in known:
                break
            key, node = known[part]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _line_of(text: str, error: InputError) -> str:
    """The line of the column that a message of ours speaks of."""
    spoken = re.search(r"column '([^']+)'", error.message)
    if spoken is not None:
        name = re.compile(rf"\s*(- )?name:\s*[\"']?{re.escape(spoken[1])}[\"']?\s*(#.*)?")
        at = [n for n, line in enumerate(text.split("\n"), 1) if name.fullmatch(line)]
        if at:
            return f"line {at[-1]}"
    return error.where or ""


def _change(change: str, column: str | None, breaking: bool, detail: str) -> dict[str, Any]:
    return {"change": change, "column": column, "breaking": breaking, "detail": detail}


def _dataset_changes(old: Contract, new: Contract) -> list[dict[str, Any]]:
    """Promises of the whole table that came, went or became others."""
    told = []
    before, after = ({rule.name: rule for rule in one.checks} for one in (old, new))
    for name in dict.fromkeys([*before, *after]):
        a, b = before.get(name), after.get(name)
        if a != b:
            said = (f"{one.wanted} ({one.severity})" if one else None for one in (a, b))
            detail = " → ".join(map(_said, said))
            breaks = b is not None and b.severity == "error"
            told.append(_change(name, None, breaks, detail))
    return told


def _stricter(name: str, a: Any, b: Any) -> bool:
    """Whether `b` refuses a row that `a` allowed, or shows what `a` hid."""
    if name == "grade":
        return _GRADES.index(b) < _GRADES.index(a)
    if name in _LIMITS:
        return b is not None and (a is None or (b > a) == (_LIMITS[name] > 0))
    if name == "required":
        return bool(b)
    if name == "allowed":
        return b is not None and (a is None or not set(a) <= set(b))
    if name == "on_invalid":
        return _STRICTNESS[b] > _STRICTNESS[a]
    if name == "reference_severity":
        return bool(b == "error")
    if name in ("pattern", "format", "reference", "required_when", "strict_when"):
        return b is not None
    return name in ("type", "dtype", "key")


def _said(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value)
