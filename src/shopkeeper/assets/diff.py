"""Two versions of an asset: what came, what went, what changed, and how its columns moved.

Data files that both versions share hold the same rows, so only the others are read, bucket by
bucket: memory is that of one bucket, plus sixteen bytes for every row that differs. Rows are
compared by a 64-bit hash of the columns that both versions have with the same type.

Values of columns graded above `internal` are never shown: not in examples, and no mean or quantile of
them, which in a small table is somebody's value.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from shopkeeper.assets import contracts
from shopkeeper.assets.about import said, stricter
from shopkeeper.assets.catalog import Version
from shopkeeper.assets.lake import DataFile
from shopkeeper.assets.profile import OPEN
from shopkeeper.errors import InputError
from shopkeeper.governance.access import Principal, check_read
from shopkeeper.words import TABLES, Grade, Purpose

if TYPE_CHECKING:
    from shopkeeper.assets.store import Assets

HIDDEN = "•••"
EXACT_ROWS = 1_000_000  # of more rows, distinct values are estimated (HyperLogLog)
CATEGORIES = 200  # a column with more distinct values is no category
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
TEXT = 200  # characters of a value that are shown
_SMALLEST_SHARE = 1e-4  # stands for a share of zero in the population stability index
_HASHES = {"key": pl.UInt64(), "row": pl.UInt64()}


def diff(
    assets: "Assets",
    name: str,
    a: Version,
    b: Version,
    *,
    by: Principal,
    purpose: Purpose,
    keys: Sequence[str] | None,
    examples: int,
) -> dict[str, Any]:
    """See `Assets.diff`."""
    check_read(by, purpose, name)
    told: dict[str, Any] = {"asset": name, "a": a.id, "b": b.id, "same": a.digest == b.digest}
    if a.is_table != b.is_table:
        raise InputError(f"{a.id} and {b.id} are not of one kind", where=name)
    if not a.is_table:
        return told | _folders(assets, a, b)
    return told | _tables(assets, a, b, keys, examples)


# folders


def _folders(assets: "Assets", a: Version, b: Version) -> dict[str, Any]:
    old, new = (_contents(assets._files_folder(v.asset, v.digest)) for v in (a, b))
    return {
        "kind": "files",
        "bytes": {"a": a.bytes, "b": b.bytes},
        "files": {
            "added": [{"file": f, **new[f]} for f in sorted(new.keys() - old.keys())],
            "removed": [{"file": f, **old[f]} for f in sorted(old.keys() - new.keys())],
            "changed": [
                {"file": f, "a": old[f], "b": new[f]}
                for f in sorted(old.keys() & new.keys())
                if old[f] != new[f]
            ],
        },
    }


def _contents(folder: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            about = {"digest": digest, "bytes": path.stat().st_size}
            found[path.relative_to(folder).as_posix()] = about
    return found


# tables


def _tables(
    assets: "Assets", a: Version, b: Version, keys: Sequence[str] | None, examples: int
) -> dict[str, Any]:
    both = [column for column, kind in b.schema.items() if a.schema.get(column) == kind]
    schema = {
        "added": {c: kind for c, kind in b.schema.items() if c not in a.schema},
        "removed": {c: kind for c, kind in a.schema.items() if c not in b.schema},
        "retyped": {
            c: {"a": a.schema[c], "b": kind}
            for c, kind in b.schema.items()
            if c in a.schema and a.schema[c] != kind
        },
    }
    chosen = _keys(assets, a.asset, both, keys)
    grades = column_grades(assets, a.asset, [*a.schema, *b.schema])
    hidden = {column for column, grade in grades.items() if grade not in OPEN}
    found = _Found(chosen, both, hidden, examples)
    if a.digest != b.digest:
        old, new = assets._data_files(a), assets._data_files(b)
        shared = {file.path for file in old} & {file.path for file in new}
        for bucket in sorted({file.bucket for file in [*old, *new] if file.path not in shared}):
            found.compare(
                *(
                    _hashed(
                        assets, version, [f for f in files if f.bucket == bucket], shared, found
                    )
                    for version, files in ((a, old), (b, new))
                )
            )
    return {
        "kind": "table",
        "schema": schema,
        "keys": chosen,
        "rows": {"a": a.rows, "b": b.rows, **found.counts()},
        "examples": found.shown(),
        "columns": {} if a.digest == b.digest else _columns(assets, a, b, hidden),
    }


def _keys(assets: "Assets", name: str, both: list[str], keys: Sequence[str] | None) -> list[str]:
    """The columns that tell one row from another; none where nobody said."""
    if keys is not None:
        if unknown := [key for key in keys if key not in both]:
            raise InputError(
                f"both versions need the key {', '.join(unknown)} with one type",
                where=name,
                next=f"choose from: {', '.join(both)}",
            )
        return list(keys)
    about = assets.catalog.asset(name)
    if about is None or about["contract"] is None:
        return []
    contract = contracts.load(assets.root.parent).get(about["contract"])
    found = [column.name for column in contract.columns if column.key] if contract else []
    return found if set(found) <= set(both) else []


def column_grades(assets: "Assets", name: str, columns: Sequence[str]) -> dict[str, Grade]:
    """The grade of each column: as promised, or what people said of it or of the asset if stricter."""
    told = said(assets.catalog, name)
    whole = told.get("", {}).get("grade")
    return {
        column: stricter(grade, whole, told.get(column, {}).get("grade"))
        for column, grade in promised_grades(assets, name, columns).items()
    }


def promised_grades(assets: "Assets", name: str, columns: Sequence[str]) -> dict[str, Grade]:
    """The grade of each column: its contract's; that of the asset where no contract knows it."""
    about = assets.catalog.asset(name, told=False)
    default = Grade(about["grade"]) if about else Grade.SENSITIVE
    table = (about["contract"] if about else None) or name.partition(".")[2]
    known = {}
    if table in TABLES:
        contract = contracts.load(assets.root.parent)[table]
        known = {column.name: column.grade for column in contract.columns}
    return {column: known.get(column, default) for column in columns}


@dataclass
class _Found:
    """What differs so far. A row is (hash of its key, hash of the row)."""

    keys: list[str]
    both: list[str]
    hidden: set[str]
    limit: int
    changed: int = 0
    # rows that found no partner in their bucket; their user may have moved to another one
    gone: list[pl.DataFrame] = field(default_factory=list)
    come: list[pl.DataFrame] = field(default_factory=list)
    examples: dict[str, list[tuple[int, Any]]] = field(
        default_factory=lambda: {"added": [], "removed": [], "changed": []}
    )

    def compare(self, old: pl.DataFrame, new: pl.DataFrame) -> None:
        """Take in one bucket: all columns plus `key` and `row` under `_HASHES`."""
        gone, come = _surplus(old, new, "_row"), _surplus(new, old, "_row")
        lost, made = _surplus(gone, come, "_key"), _surplus(come, gone, "_key")
        if self.keys:
            left = gone.join(lost.select("_at"), on="_at", how="anti")
            right = come.join(made.select("_at"), on="_at", how="anti")
            self.changed += left.height
            self._pair(left, right)
        else:
            lost, made = gone, come
        for frame, kind, into in ((lost, "removed", self.gone), (made, "added", self.come)):
            into.append(frame.select(key="_key", row="_row"))
            for row in frame.head(self.limit).iter_rows(named=True):
                self.examples[kind].append((row["_row"], self._row(row)))

    def _pair(self, left: pl.DataFrame, right: pl.DataFrame) -> None:
        room = self.limit - len(self.examples["changed"])
        if room <= 0:
            return
        left = left.head(room)
        right = right.join(left.select("_key"), on="_key", how="semi")
        partners = {row["_key"]: row for row in right.iter_rows(named=True)}
        for old in left.iter_rows(named=True):
            new = partners[old["_key"]]
            values = {
                column: {
                    "a": self._value(column, old[column]),
                    "b": self._value(column, new[column]),
                }
                for column in self.both
                if old[column] != new[column]
            }
            key = {column: self._value(column, old[column]) for column in self.keys}
            self.examples["changed"].append((old["_row"], {"key": key, "columns": values}))

    def _settle(self) -> tuple[pl.DataFrame, pl.DataFrame, int]:
        """Rows gone and come once those that only moved to another bucket are left out."""
        gone, come = (pl.concat([pl.DataFrame(schema=_HASHES), *x]) for x in (self.gone, self.come))
        if not gone.height or not come.height:
            return gone, come, 0
        gone, come = _surplus(gone, come, "row"), _surplus(come, gone, "row")
        if not self.keys:
            return gone, come, 0
        lost, made = _surplus(gone, come, "key"), _surplus(come, gone, "key")
        return lost, made, gone.height - lost.height

    def counts(self) -> dict[str, int]:
        gone, come, moved = self._settle()
        told = {"added": come.height, "removed": gone.height}
        return told | ({"changed": self.changed + moved} if self.keys else {})

    def shown(self) -> dict[str, list[Any]]:
        gone, come, _ = self._settle()
        told = {}
        for kind, frame in (("removed", gone), ("added", come)):
            rows = set(frame["row"].filter(frame["row"].is_in([r for r, _ in self.examples[kind]])))
            told[kind] = [text for row, text in self.examples[kind] if row in rows][: self.limit]
        if self.keys:
            told["changed"] = [text for _, text in self.examples["changed"]]
        return told

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        return {c: self._value(c, v) for c, v in row.items() if c not in ("_key", "_row", "_at")}

    def _value(self, column: str, value: Any) -> Any:
        return HIDDEN if column in self.hidden and value is not None else _plain(value)


def _hashed(
    assets: "Assets", version: Version, files: list[DataFile], shared: set[str], found: _Found
) -> pl.DataFrame:
    """The rows of the files that the other version does not have, with their hashes."""
    frame = assets._open_files(version, [f for f in files if f.path not in shared])
    both = pl.struct(found.both) if found.both else pl.lit(0)
    row = both.hash()
    key = pl.struct(found.keys).hash() if found.keys else row
    blobs = [
        pl.format("<{} bytes, {}>", pl.col(c).bin.size(), pl.col(c).hash()).alias(c)
        for c, kind in version.schema.items()
        if kind == "Binary"
    ]
    made = frame.with_columns(_row=row, _key=key).with_columns(blobs).collect(engine="streaming")
    return made.with_row_index("_at")


def _surplus(of: pl.DataFrame, over: pl.DataFrame, by: str) -> pl.DataFrame:
    """The rows of `of` beyond as many in `over` with the same value of `by`: a multiset difference."""
    counts = over.group_by(by).agg(_had=pl.len())
    return (
        of.with_columns(_nth=pl.int_range(pl.len()).over(by))
        .join(counts, on=by, how="left", maintain_order="left")
        .filter(pl.col("_nth") >= pl.col("_had").fill_null(0))
        .drop("_nth", "_had")
    )


# columns


def _columns(assets: "Assets", a: Version, b: Version, hidden: set[str]) -> dict[str, Any]:
    """Column by column, so that one column is in memory at a time."""
    old, new = (assets._open_files(version, assets._data_files(version)) for version in (a, b))
    told: dict[str, Any] = {}
    for column in dict.fromkeys([*b.schema, *a.schema]):
        one = _profile(old, a, column, column in hidden)
        two = _profile(new, b, column, column in hidden)
        told[column] = {"a": one, "b": two}
        if one is not None and two is not None and a.schema[column] == b.schema[column]:
            told[column]["psi"] = _psi(old, new, column, a.schema[column], one, two)
    return told


def _profile(
    frame: pl.LazyFrame, version: Version, column: str, hidden: bool
) -> dict[str, Any] | None:
    if column not in version.schema:
        return None
    rows = version.rows or 0
    kind = frame.collect_schema()[column]
    value = pl.col(column)
    asked = {"nulls": value.null_count()}
    if not kind.is_nested() and kind != pl.Binary:
        exact = rows <= EXACT_ROWS
        known = value.drop_nulls()
        asked["distinct"] = known.n_unique() if exact else known.approx_n_unique()
    if kind.is_numeric() and not hidden:
        asked["mean"] = value.mean()
        asked |= {f"q{q:g}": value.quantile(q, "nearest") for q in QUANTILES}
    elif kind.is_temporal() and not hidden:
        asked |= {"min": value.min(), "max": value.max()}
    found = frame.select(**asked).collect().row(0, named=True)
    told = {name: _plain(value) for name, value in found.items()}
    if "distinct" in told and rows > EXACT_ROWS:
        told["distinct_about"] = told.pop("distinct")
    return told


def _psi(
    old: pl.LazyFrame,
    new: pl.LazyFrame,
    column: str,
    kind: str,
    one: dict[str, Any],
    two: dict[str, Any],
) -> float | None:
    """Population stability index of a category; nulls are a category of their own.

    Sum over categories of (share in b - share in a) * ln(share in b / share in a); a share of zero
    counts as 0.0001. Under 0.1 is usually called stable, over 0.25 a shift.
    """
    if kind not in ("String", "Boolean"):
        return None
    sizes = [side.get("distinct", side.get("distinct_about", 0)) for side in (one, two)]
    if not 0 < max(sizes) <= CATEGORIES:
        return None
    a, b = (_shares(frame, column) for frame in (old, new))
    total = 0.0
    for value in a.keys() | b.keys():
        p, q = (max(shares.get(value, 0.0), _SMALLEST_SHARE) for shares in (a, b))
        total += (q - p) * math.log(q / p)
    return round(total, 6)


def _shares(frame: pl.LazyFrame, column: str) -> dict[Any, float]:
    counted = frame.group_by(column).agg(rows=pl.len()).collect()
    total = max(int(counted["rows"].sum()), 1)
    return {value: rows / total for value, rows in counted.iter_rows()}


def _plain(value: Any) -> Any:
    """A value as JSON knows it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, datetime | date):
        return value.isoformat()
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= TEXT else text[:TEXT] + "…"
