"""JSON Lines: one object a line; nested values become JSON text.

Polars parses the lines that are objects. It has to be told the keys: it finds them itself where each
key's values have a common type; otherwise every `"…":` of the bytes is taken for one, nested ones
too, and a column that nothing fills is dropped again. A key `line` becomes the column `line_`: `line`
says where a row stands.
"""

import json
import re

import polars as pl

from shopkeeper.collect.batch import Reject
from shopkeeper.collect.text import Lines, Parsed

_KEY = re.compile(rb'"((?:[^"\\]|\\.)*)"\s*:')
MOST_KEYS = 2_000  # keys that differ from line to line are data, not columns


def parse(lines: Lines) -> Parsed:
    """Every key of the block that has a value is a column; a line that is no object is rejected."""
    data, rejects = lines.data, list[Reject]()
    numbers = _numbers(lines)
    frame = None if b"\0" in data or lines.bad else _by_polars(data)
    if frame is None or frame.height != len(numbers):
        good, numbers, rejects = _sift(lines)
        frame = _by_polars(good)
        if frame is None or frame.height != len(numbers):
            frame = _by_python(good)
    filled = [column for column in frame.iter_columns() if column.null_count() < frame.height]
    if any(column.name == "line" for column in filled):
        theirs, taken = "line_", {column.name for column in filled}
        while theirs in taken:
            theirs += "_"
        filled = [c.alias(theirs) if c.name == "line" else c for c in filled]
    line = pl.Series("line", numbers, pl.Int64)
    return Parsed(pl.DataFrame([*filled, line]), rejects, len(data))


def _numbers(lines: Lines) -> list[int]:
    """The numbers of the lines that are not blank."""
    return [
        number
        for number, line in enumerate(lines.data.split(b"\n"), start=lines.first)
        if line and not line.isspace()
    ]


def _by_polars(data: bytes) -> pl.DataFrame | None:
    """None: Polars cannot read it."""
    if not data.strip():
        return None
    try:
        keys = set(pl.scan_ndjson(data, infer_schema_length=None).collect_schema())
    except pl.exceptions.PolarsError:  # values of one key that have no common type
        keys = {json.loads(b'"' + key + b'"') for key in set(_KEY.findall(data))}
    if len(keys) > MOST_KEYS:
        return None
    schema = pl.Schema(dict.fromkeys(sorted(keys), pl.String))
    try:
        frame = pl.read_ndjson(data, schema=schema)
    except pl.exceptions.PolarsError:
        return None
    return frame.with_columns(pl.col(pl.String).replace("", None))


def _by_python(data: bytes) -> pl.DataFrame:
    rows = [json.loads(line) for line in data.split(b"\n") if line.strip()]
    keys = sorted({key for row in rows for key in row})
    return pl.DataFrame(
        {key: pl.Series([_text(row.get(key)) for row in rows], dtype=pl.String) for key in keys}
    )


def _sift(lines: Lines) -> tuple[bytes, list[int], list[Reject]]:
    """The lines that hold one object each, their numbers, and the others with the reason."""
    good: list[bytes] = []
    numbers: list[int] = []
    rejects: list[Reject] = []
    for number, line in enumerate(lines.data.split(b"\n"), start=lines.first):
        if not line or line.isspace():
            continue
        problem = _problem(line, lines.bad.get(number))
        if problem is None:
            good.append(line)
            numbers.append(number)
        else:
            raw = line.decode().rstrip("\r").replace("\0", "")
            rejects.append(Reject(number, *problem, raw))
    return b"\n".join(good), numbers, rejects


def _problem(line: bytes, undecodable: str | None) -> tuple[str, str] | None:
    if undecodable:
        return "encoding", undecodable
    if b"\0" in line:
        return "nul_byte", "holds NUL bytes: cut off by a crash, or binary data"
    try:
        value = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        return "not_json", f"not a JSON value: {error}"
    if not isinstance(value, dict):
        return "not_an_object", f"a JSON {type(value).__name__} where an object was wanted"
    return None


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _text(value: object) -> str | None:
    if value is None or value == "":
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
