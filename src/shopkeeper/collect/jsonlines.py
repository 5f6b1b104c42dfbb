"""JSON Lines: one object a line; nested values become JSON text."""

import json

import polars as pl

from shopkeeper.collect.batch import Reject
from shopkeeper.collect.text import Lines, Parsed


def parse(lines: Lines) -> Parsed:
    """Every key of the block is a column of text; a line that is no object is rejected."""
    rows: list[dict[str, str | None]] = []
    numbers: list[int] = []
    rejects: list[Reject] = []
    for number, line in enumerate(lines.data.decode().split("\n"), start=lines.first):
        if not line.strip():
            continue
        if "\0" in line:
            detail = lines.bad.get(number, "holds NUL bytes: cut off by a crash, or binary data")
            rule = "encoding" if number in lines.bad else "nul_byte"
            rejects.append(Reject(number, rule, detail, line.replace("\0", "")))
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            rejects.append(Reject(number, "not_json", f"not a JSON value: {error}", line))
            continue
        if not isinstance(row, dict):
            detail = f"a JSON {type(row).__name__} where an object was wanted"
            rejects.append(Reject(number, "not_an_object", detail, line))
            continue
        rows.append({key: _text(value) for key, value in row.items()})
        numbers.append(number)
    keys = list(dict.fromkeys(key for row in rows for key in row))
    frame = pl.DataFrame(
        {key: pl.Series([row.get(key) for row in rows], dtype=pl.String) for key in keys}
        | {"line": pl.Series(numbers, dtype=pl.Int64)}
    )
    return Parsed(frame, rejects, len(lines.data))


def _text(value: object) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
