"""What stands in each column of a table, made part by part beside the checks, in any order.

    parts = [profile_part(frame, grades) for frame in buckets]
    told = finish(merge_parts(parts))

Nulls, least, greatest, mean and the number of distinct values come from every row. Histograms, most
frequent values and examples come from every n-th row of a part (n = 1 up to SAMPLE rows), each counted
n times, so they add up whatever the size of the parts. Merging is exact and knows no order: sums of
whole numbers, exact sums of floats, bins whose widths are powers of two, the smallest hashes.

Of columns graded above `internal` only nulls and the number of distinct values are kept.

Source of the distinct count: Bar-Yossef et al., "Counting Distinct Elements in a Data Stream", 2002
(the SMALLEST hashes): exact below SMALLEST values, else within about 2% (one standard deviation).
"""

import json
import math
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import sqlalchemy as sa
from numpy.typing import NDArray

from shopkeeper.assets.schema import profiles
from shopkeeper.words import Grade

if TYPE_CHECKING:
    from shopkeeper.assets.catalog import Catalog

SAMPLE = 20_000  # rows of a part that are looked at one by one, at least
SMALLEST = 2048  # hashes that are kept of a column
BINS = 128  # of a part; what is shown has fewer
SHOWN_BINS = 24
FREQUENT = 100  # values of a part that are counted
SHOWN_VALUES = 10
EXAMPLES = 5
TEXT = 80  # characters of a value
OPEN = (Grade.PUBLIC, Grade.INTERNAL)
_ORDER = list(Grade)
_HIDDEN = {"min": None, "max": None, "mean": None, "histogram": None, "bins": None}
_ALL = 2**64
_SEED = 7  # of hashes
_LOG = 4  # logarithmic bins of one doubling
_FEW = 8 * SMALLEST  # rows of a part whose hashes are all sorted
_encoded = json.JSONEncoder(ensure_ascii=False).encode
_CROWDED = 0.75  # share of rows in one of the equal bins from which logarithmic ones say more

Part = dict[str, Any]


def profile_part(frame: pl.DataFrame, grades: Mapping[str, Grade]) -> Part:
    """What one part of a table adds to its profile; plain data that JSON can carry.

    Args:
        frame: the rows; hidden columns are looked at only to count.
        grades: of each column; "*" of all others, which count as sensitive without it.
    """
    every = max(1, frame.height // SAMPLE)
    sample = frame.gather_every(every) if every > 1 else frame
    counts = _value_counts(sample, grades)
    exact = _exact(frame, grades, hashed=counts.columns if every == 1 else ())
    given = {name: sample.height - sample[name].null_count() for name in counts.columns}
    values = _of_values(counts, given, whole=every == 1)
    columns = {}
    for name, kind in frame.schema.items():
        about: Part = {"type": str(kind), "grade": str(_grade(grades, name))} | exact[name]
        if name in values:
            about |= _looked_at(values[name], kind, every)
            if _numeric(kind) and about["min"] is not None:
                about |= _binned(counts[name], kind, about["min"], about["max"], every)
        columns[name] = about
    return {"rows": frame.height, "looked": sample.height, "columns": columns}


def merge_parts(parts: Sequence[Part]) -> Part:
    """Several parts as one; the order does not matter, and merged parts merge again."""
    merged: Part = {
        "rows": sum(part["rows"] for part in parts),
        "looked": sum(part["looked"] for part in parts),
    }
    names = dict.fromkeys(sorted({name for part in parts for name in part["columns"]}))
    if parts:  # the order of columns where all agree
        names = dict.fromkeys([*parts[0]["columns"], *names])
    merged["columns"] = {
        name: _merge_columns(
            [(part["columns"].get(name), part["rows"]) for part in parts],
        )
        for name in names
    }
    return merged


def finish(part: Part) -> dict[str, Any]:
    """A merged part as it is told.

    Returns:
        {"rows", "sampled": share of rows that were looked at one by one, "columns": [{"column",
        "type", "grade", "nulls", "distinct", "min", "max", "mean", "histogram": {"edges", "counts"}
        or None, "top": [[value, rows]], "examples", "bins"}]}; of hidden columns values are None or
        []. `bins` = {"width_log2", "counts"} compares with those of another version: see `rebinned`.
    """
    return {
        "rows": part["rows"],
        "sampled": 1.0 if not part["rows"] else part["looked"] / part["rows"],
        "columns": [_told(name, one, part["rows"]) for name, one in part["columns"].items()],
    }


def rebinned(bins: Sequence[Mapping[str, Any]]) -> list[dict[int, int]]:
    """Bins of several profiles of one column in the widest's width: [{bin: rows}], one for each."""
    width = max((one["width_log2"] for one in bins), default=0)
    return [
        _coarser({int(k): n for k, n in one["counts"].items()}, width - one["width_log2"])
        for one in bins
    ]


def masked(told: dict[str, Any], grades: Mapping[str, Grade]) -> dict[str, Any]:
    """A profile without values of columns that are hidden by now."""
    columns = []
    for column in told["columns"]:
        grade = max(_grade(grades, column["column"]), Grade(column["grade"]), key=_ORDER.index)
        column = {**column, "grade": str(grade)}
        columns.append(column if grade in OPEN else column | _HIDDEN | {"top": [], "examples": []})
    return {**told, "columns": columns}


# in the catalogue


def keep(connection: sa.Connection, version_id: str, told: dict[str, Any]) -> None:
    """Store the profile of a version beside it; one that is there stays."""
    known = sa.select(profiles.c.version_id).where(profiles.c.version_id == version_id)
    if connection.execute(known).first() is None:
        at = datetime.now(UTC).isoformat(timespec="microseconds")
        row = {"version_id": version_id, "profile": told, "created_at": at}
        connection.execute(profiles.insert().values(row))


def kept(catalog: "Catalog", version_id: str) -> dict[str, Any] | None:
    """The profile of a version as it was stored, or None."""
    query = sa.select(profiles.c.profile).where(profiles.c.version_id == version_id)
    with catalog.reader.connect() as connection:
        found: dict[str, Any] | None = connection.execute(query).scalar()
    return found


# of one part


def _grade(grades: Mapping[str, Grade], name: str) -> Grade:
    return grades.get(name, grades.get("*", Grade.SENSITIVE))


def _nested(kind: pl.DataType) -> bool:
    return kind.is_nested() or kind in (pl.Binary, pl.Null, pl.Object)


def _whole(name: str, kind: pl.DataType) -> pl.Expr:
    """A column as numbers: instants as microseconds, floats without NaN and infinities."""
    value = pl.col(name)
    if kind == pl.Date:
        return value.cast(pl.Datetime("us")).dt.timestamp("us")
    if isinstance(kind, pl.Datetime):
        return value.dt.timestamp("us")
    if kind.is_float():
        return value.filter(value.is_finite()).cast(pl.Float64)
    return value


def _temporal(kind: pl.DataType) -> bool:
    return kind == pl.Date or isinstance(kind, pl.Datetime)


def _numeric(kind: pl.DataType) -> bool:
    return kind.is_numeric() or _temporal(kind)


def _value_counts(sample: pl.DataFrame, grades: Mapping[str, Grade]) -> pl.DataFrame:
    """One row: of each open column the list of its {"value", "n" rows}, without nulls."""
    asked = {
        name: pl.col(name).drop_nulls().alias("value").value_counts(name="n").implode()
        for name, kind in sample.schema.items()
        if _grade(grades, name) in OPEN and not _nested(kind)
    }
    return _selected(sample, asked) if asked else pl.DataFrame()


def _selected(frame: pl.DataFrame, asked: Mapping[str, pl.Expr]) -> pl.DataFrame:
    """Planning costs more than working on a part of some thousand rows, so nothing is planned."""
    return frame.lazy().select(**asked).collect(optimizations=pl.QueryOptFlags.none())


def _exact(
    frame: pl.DataFrame, grades: Mapping[str, Grade], hashed: Collection[str]
) -> dict[str, Part]:
    """Of every row: nulls and hashes; of open columns the least, the greatest and the sum.

    Args:
        hashed: columns whose hashes come from elsewhere.
    """
    small = frame.height <= _FEW
    asked: dict[str, pl.Expr] = {}
    for at, (name, kind) in enumerate(frame.schema.items()):
        if _nested(kind):
            continue
        if small and name not in hashed:
            hashed_values = _hashed(pl.col(name)).unique()
            asked[f"{at} hashes"] = hashed_values.bottom_k(SMALLEST).sort().implode()
        if _grade(grades, name) not in OPEN:
            continue
        if _numeric(kind):
            value = _whole(name, kind)
            asked |= {f"{at} min": value.min(), f"{at} max": value.max(), f"{at} n": value.count()}
            if kind.is_float():
                asked[f"{at} sum"] = value.sum()
            elif kind.is_numeric():
                asked[f"{at} sum"] = value.cast(pl.Int128).sum()
        elif kind == pl.Boolean:
            asked |= {f"{at} sum": pl.col(name).sum(), f"{at} n": pl.col(name).count()}
        elif kind == pl.String:
            asked |= {f"{at} min": pl.col(name).min(), f"{at} max": pl.col(name).max()}
    row = _selected(frame, asked).row(0, named=True) if asked else {}
    found: dict[str, Part] = {}
    for at, (name, kind) in enumerate(frame.schema.items()):
        keys = ("hashes", "min", "max", "sum", "n")
        told: Part = {"nulls": frame[name].null_count()}
        told |= {key: row[f"{at} {key}"] for key in keys if f"{at} {key}" in row}
        if not small and not _nested(kind) and name not in hashed:
            told["hashes"] = _smallest(frame[name])
        for key in ("min", "max"):
            if isinstance(told.get(key), str):
                told[key] = told[key][:TEXT]
        if isinstance(told.get("sum"), float):
            told["sum"] = [told["sum"]] if math.isfinite(told["sum"]) else []
        found[name] = told
    return found


def _hashed(value: pl.Expr) -> pl.Expr:
    return value.drop_nulls().hash(_SEED)


def _smallest(values: pl.Series) -> list[int]:
    """The smallest hashes of the distinct values, at most SMALLEST, in order."""
    hashed = values.to_frame().select(_hashed(pl.col(values.name))).to_series()
    for share in (4, 64):  # of SMALLEST: hashes looked at, at most, to find that many distinct
        if len(hashed) > 2 * share * SMALLEST:
            limit = pl.Series([_ALL // len(hashed) * share * SMALLEST], dtype=pl.UInt64)[0]
            few = hashed.filter(hashed < limit).unique()
            if len(few) >= SMALLEST:  # so the smallest are among them
                hashed = few
                break
    found: list[int] = hashed.unique().sort().head(SMALLEST).to_list()
    return found


def _of_values(counts: pl.DataFrame, given: Mapping[str, int], *, whole: bool) -> dict[str, Part]:
    """Of each column of `_value_counts`: the values that stand most often and those whose hashes are
    the smallest, and, where it counts every row (`whole`), the SMALLEST hashes; as Polars has them.

    Args:
        given: rows of each column that have a value.
    """
    asked: dict[str, pl.Expr] = {}
    for at, name in enumerate(counts.columns):
        values, rows = len(counts[name][0]), given[name]
        if not values:
            continue
        pairs = pl.col(name).explode()
        value, n = pairs.struct.field("value"), pairs.struct.field("n")
        hashed = value.hash(_SEED)
        few = hashed <= hashed.bottom_k(EXAMPLES).max()
        if values <= FREQUENT or values < rows:  # else each stands once: none is more frequent
            asked[f"{at} top"] = pairs.top_k_by(n, FREQUENT + 1).implode()
        asked[f"{at} examples"] = pl.struct(hash=hashed, value=value).filter(few).implode()
        if whole:
            asked[f"{at} hashes"] = hashed.bottom_k(SMALLEST).sort().implode()
    row = _selected(counts, asked).row(0, named=True) if asked else {}
    keys = ("top", "examples", "hashes") if whole else ("top", "examples")
    return {
        name: {key: row.get(f"{at} {key}", []) for key in keys}
        for at, name in enumerate(counts.columns)
    }


def _looked_at(told: Part, kind: pl.DataType, every: int) -> Part:
    """Hashes, examples and frequent values of one column from what `_of_values` has of it."""
    found: Part = {"hashes": told["hashes"]} if "hashes" in told else {}
    pairs = sorted((one["hash"], one["value"]) for one in told["examples"])
    found["examples"] = [[number, _json(value)] for number, value in pairs]
    if told["top"] and not _temporal(kind):
        top = sorted(((one["value"], one["n"]) for one in told["top"]), key=lambda one: -one[1])
        found |= _frequent(top, every)
    return found


def _binned(
    counted: pl.Series, kind: pl.DataType, least: float, greatest: float, every: int
) -> Part:
    """Bins of one column from its `_value_counts`; each row of the sample stands for `every`."""
    pairs = counted.explode().struct.unnest()
    numbers = pairs.select(_whole("value", kind))["value"].to_numpy()
    rows = pairs["n"].to_numpy().astype(np.int64) * every
    width = _width(least, greatest, whole=not kind.is_float())
    if kind.is_float():
        rows = rows[np.isfinite(pairs["value"].to_numpy())]
        bins = np.floor(numbers / 2.0**width).astype(np.int64)
    else:
        bins = (numbers >> width).astype(np.int64)
    told: Part = {"bins": {"width_log2": width, "counts": _summed_up(bins, rows)}}
    if kind.is_numeric() and least >= 0:
        above = numbers > 0
        logs = np.floor(np.log2(numbers[above].astype(np.float64)) * _LOG).astype(np.int64)
        zeros = int(rows[~above].sum())
        told["log"] = {"zeros": zeros, "counts": _summed_up(logs, rows[above])}
    return told


def _summed_up(keys: NDArray[np.int64], rows: NDArray[np.int64]) -> dict[str, int]:
    """{key: rows}, in the order of the keys."""
    if not len(keys):
        return {}
    first = int(keys.min())
    counts = np.bincount(keys - first, weights=rows)  # exact below 2^53
    there = np.flatnonzero(counts)
    pairs = zip((there + first).tolist(), counts[there].tolist(), strict=True)
    return {str(key): int(n) for key, n in pairs}


def _frequent(counts: list[tuple[Any, int]], every: int) -> Part:
    """The most frequent values; where more are equally frequent than are kept, none of those."""
    if len(counts) > FREQUENT:
        counts = [(value, n) for value, n in counts if n > counts[-1][1]]
        if not counts:
            return {}
    return {"top": {_key(value): n * every for value, n in counts}}


def _width(least: float, greatest: float, *, whole: bool) -> int:
    """The smallest w for which [least, greatest] lies in BINS bins of width 2^w that begin at 0."""
    far = max(abs(least), abs(greatest))
    w = 0 if whole else math.frexp(far)[1] - 30 if far else 0
    while _bin(greatest, w) - _bin(least, w) >= BINS:
        w += 1
    return w


def _bin(value: float, w: int) -> int:
    return value >> w if isinstance(value, int) and w >= 0 else math.floor(value / 2.0**w)


def _json(value: Any) -> Any:
    """A value that JSON can carry, cut at TEXT characters."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return str(value)[:TEXT] if not hasattr(value, "isoformat") else value.isoformat()


def _key(value: Any) -> str:
    return _encoded(_json(value))


# of several parts


def _merge_columns(columns: Sequence[tuple[Part | None, int]]) -> Part:
    """One column of several parts, of which some may lack it: there it is null in every row."""
    there = [column for column, _ in columns if column is not None]
    grade = max((Grade(column["grade"]) for column in there), key=_ORDER.index)
    merged: Part = {"type": there[0]["type"], "grade": str(grade)}
    if any(column["type"] != there[0]["type"] for column in there):
        merged["type"] = " | ".join(sorted({column["type"] for column in there}))
    merged["nulls"] = sum(rows if column is None else column["nulls"] for column, rows in columns)
    if all("hashes" in column for column in there):
        merged["hashes"] = _smallest_of([column["hashes"] for column in there])
    if grade not in OPEN or " | " in merged["type"]:
        return merged
    for key, choose in (("min", min), ("max", max)):
        found = [column[key] for column in there if column.get(key) is not None]
        if found:
            merged[key] = choose(found)
    if any("n" in column for column in there):
        merged["n"] = sum(column.get("n", 0) for column in there)
    sums = [column["sum"] for column in there if column.get("sum") is not None]
    if sums:
        floats = isinstance(sums[0], list)
        merged["sum"] = sorted(x for one in sums for x in one) if floats else sum(sums)
    bins = [column["bins"] for column in there if "bins" in column]
    if bins:
        width = max(
            *(one["width_log2"] for one in bins),
            _width(merged["min"], merged["max"], whole=isinstance(merged["min"], int)),
        )
        counts = [
            _coarser({int(k): n for k, n in one["counts"].items()}, width - one["width_log2"])
            for one in bins
        ]
        merged["bins"] = {"width_log2": width, "counts": _summed(counts)}
    logs = [column["log"] for column in there if "log" in column]
    if logs and len(logs) == len(bins):
        merged["log"] = {
            "zeros": sum(one["zeros"] for one in logs),
            "counts": _summed([{int(k): n for k, n in one["counts"].items()} for one in logs]),
        }
    tops: dict[str, int] = {}
    for column in there:
        for key, n in column.get("top", {}).items():
            tops[key] = tops.get(key, 0) + n
    if any("top" in column for column in there):
        merged["top"] = dict(sorted(tops.items()))
    examples = {number: value for column in there for number, value in column.get("examples", ())}
    merged["examples"] = [[number, examples[number]] for number in sorted(examples)[:EXAMPLES]]
    return merged


def _smallest_of(several: Sequence[Sequence[int]]) -> list[int]:
    """The SMALLEST of all in some sorted lists."""
    if len(several) == 1:
        return list(several[0])
    each = 2 * SMALLEST // len(several)  # of lists that share nothing, so many hold them
    first = sorted({number for hashes in several for number in hashes[:each]})
    if len(first) >= SMALLEST:
        limit = first[SMALLEST - 1]
        several = [hashes[: bisect_right(hashes, limit)] for hashes in several]
    return sorted({number for hashes in several for number in hashes})[:SMALLEST]


def _coarser(counts: Mapping[int, int], by: int) -> dict[int, int]:
    """Bins 2^by times as wide."""
    wide: dict[int, int] = {}
    for key, n in counts.items():
        wide[key >> by] = wide.get(key >> by, 0) + n
    return wide


def _summed(several: Sequence[Mapping[int, int]]) -> dict[str, int]:
    total: dict[int, int] = {}
    for counts in several:
        for key, n in counts.items():
            total[key] = total.get(key, 0) + n
    return {str(key): total[key] for key in sorted(total)}


# as told


def _told(name: str, column: Part, rows: int) -> dict[str, Any]:
    temporal = column["type"].startswith(("Datetime", "Date"))
    shown = _instant if temporal else (lambda value: value)
    least, greatest = column.get("min"), column.get("max")
    sums = column.get("sum")
    total = math.fsum(sums) if isinstance(sums, list) else sums
    top = sorted(column.get("top", {}).items(), key=lambda one: (-one[1], one[0]))
    return {
        "column": name,
        "type": column["type"],
        "grade": column["grade"],
        "nulls": column["nulls"],
        "distinct": _distinct(column.get("hashes"), rows - column["nulls"]),
        "min": None if least is None else shown(least),
        "max": None if greatest is None else shown(greatest),
        "mean": total / column["n"] if total is not None and column.get("n") else None,
        "histogram": _histogram(column, temporal),
        "top": [[json.loads(key), n] for key, n in top[:SHOWN_VALUES]],
        "examples": [value for _, value in column.get("examples", ())],
        "bins": column.get("bins"),
    }


def _instant(micros: float) -> str:
    return datetime.fromtimestamp(micros / 1e6, UTC).isoformat()


def _distinct(hashes: Sequence[int] | None, values: int) -> int | None:
    if hashes is None:
        return None
    if len(hashes) < SMALLEST:
        return len(hashes)
    return min(values, round((SMALLEST - 1) * _ALL / hashes[-1]))


def _histogram(column: Part, temporal: bool) -> dict[str, Any] | None:
    """{"edges": n + 1 of them, "counts": n}: equal bins, or growing ones where most rows are small."""
    if not column.get("bins", {}).get("counts"):  # none, or no row with a value was looked at
        return None
    width = column["bins"]["width_log2"]
    counts = {int(k): n for k, n in column["bins"]["counts"].items()}
    while max(counts) - min(counts) >= SHOWN_BINS:
        counts, width = _coarser(counts, 1), width + 1
    keys = range(min(counts), max(counts) + 1)
    crowded = len(keys) > 4 and max(counts.values()) > _CROWDED * sum(counts.values())
    if crowded and "log" in column and column["log"]["counts"]:
        return _growing(column["log"])
    edges: list[Any] = [key * 2.0**width for key in (*keys, keys[-1] + 1)]
    if temporal:
        edges = [_instant(edge) for edge in edges]
    return {"edges": edges, "counts": [counts.get(key, 0) for key in keys]}


def _growing(log: Mapping[str, Any]) -> dict[str, Any]:
    """Bins from zero on that each are a fixed number of times as wide as the one before."""
    counts, per = {int(k): n for k, n in log["counts"].items()}, _LOG
    steps = 0
    while max(counts) - min(counts) >= SHOWN_BINS:
        counts, steps = _coarser(counts, 1), steps + 1
    keys = range(min(counts), max(counts) + 1)
    edges = [2.0 ** (key * 2**steps / per) for key in (*keys, keys[-1] + 1)]
    told = [counts.get(key, 0) for key in keys]
    if log["zeros"]:
        return {"edges": [0.0, *edges], "counts": [log["zeros"], *told]}
    return {"edges": edges, "counts": told}
