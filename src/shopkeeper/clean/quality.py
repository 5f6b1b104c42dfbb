"""Promises of a whole table, measured: keys, nulls, volume, age, drift, and what SQL counts.

`measure` looks at rows that are about to become a version, and at the versions before it. Rows stay
where they are: columns are counted by streaming, keys as 64-bit hashes, so that memory does not grow
with the table.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from shopkeeper.assets.contracts.dataset import DatasetRule
from shopkeeper.clean.checks import CHECKS

HASHED = 20_000_000  # rows whose keys are hashed at a time
CUTS = 10  # a column of numbers is compared in so many parts that held equal shares before
WORDS = 50  # words that are compared one by one; all others are one
LEAST = 100  # rows below which a distribution says nothing
SMALLEST_SHARE = 1e-4  # stands for a share of zero, as everywhere in the population stability index
_SAMPLE = 1_000_000  # rows that the parts of a column of numbers are cut by

Ask = Callable[[DatasetRule], Any]  # the one value that a rule's SELECT over the new rows answers


@dataclass(frozen=True)
class Before:
    """A version before the one that is about to be made."""

    id: str
    rows: int
    scan: Callable[[], pl.LazyFrame]


@dataclass(frozen=True)
class Finding:
    """What one rule measured."""

    rule: DatasetRule
    value: float | str | None  # None: there was nothing to compare with
    count: int  # rows that it is about; 0 where the promise is kept
    rows: int
    said: str  # no value of a row

    @property
    def level(self) -> str:
        if self.value is None or self.rule.holds(self.value):
            return "PASS"
        return "FAIL" if self.rule.severity == "error" else "WARN"


def measure(
    rules: Sequence[DatasetRule],
    frame: pl.LazyFrame,
    *,
    now: datetime,
    before: Sequence[Before] = (),
    ask: Ask | None = None,
) -> list[Finding]:
    """Every rule, in order.

    Args:
        frame: the rows that are about to become a version, typed.
        now: aware.
        before: earlier versions, the newest first.
        ask: answers SQL; None: rules of SQL are left out.
    """
    asked: dict[str, pl.Expr] = {"rows": pl.len()}
    for rule in rules:
        column = pl.col(rule.columns[0]) if rule.columns else pl.len()
        if rule.kind == "nulls":
            asked[rule.name] = column.null_count()
        elif rule.kind == "missing":
            words = [str(word) for word in rule.missing if word is not None]
            gone = column.cast(pl.String).is_in(words).fill_null(None in rule.missing)
            asked[rule.name] = gone.sum()
        elif rule.kind == "freshness":
            asked[rule.name] = column.max()
    counted = frame.select(**asked).collect(engine="streaming").row(0, named=True)
    rows = int(counted["rows"])
    found = []
    for rule in rules:
        if rule.kind == "sql":
            if ask is not None:
                found.append(_answered(rule, ask(rule), rows))
            continue
        value: float | None = None
        count = rows
        if rule.kind in ("nulls", "missing"):
            value = count = int(counted[rule.name])
        elif rule.kind == "unique":
            value = count = _repeated(frame, rule.columns, rows)
        elif rule.kind == "rows":
            value = rows
        elif rule.kind == "freshness":
            value = _age_hours(counted[rule.name], now)
        elif rule.kind == "volume":
            value = _grown(rows, before[: rule.versions])
        elif rule.kind == "drift":
            value = _drifted(rule, frame, rows, before[: rule.versions])
        if rule.percent and value is not None:
            value = 100.0 * value / max(rows, 1)
        found.append(_finding(rule, value, count, rows))
    return found


def frame_of(findings: Sequence[Finding], asset: str) -> pl.DataFrame:
    """Findings as rows of a quality table."""
    made = [
        (asset, one.rule.name, "+".join(one.rule.columns), one.level, one.count, one.rows, one.said,
         float(one.value) if isinstance(one.value, int | float) else None)
        for one in findings
    ]  # fmt: skip
    return pl.DataFrame(made, schema=CHECKS, orient="row")


def _finding(rule: DatasetRule, value: float | None, count: int, rows: int) -> Finding:
    if value is None:
        why = "no row has a time" if rule.kind == "freshness" else "nothing to compare with yet"
        return Finding(rule, None, 0, rows, why)
    unit = {"freshness": " hours", "volume": " %"}.get(rule.kind, " %" * rule.percent)
    said = f"{value:,.4g}{unit}" if isinstance(value, float) else f"{value:,}{unit}"
    kept = rule.holds(value)
    return Finding(rule, value, 0 if kept else count, rows, f"{said}, wanted {rule.wanted}")


def _answered(rule: DatasetRule, value: Any, rows: int) -> Finding:
    """What a SELECT answered; a text may be somebody's, so it is not repeated."""
    if isinstance(value, bool):
        value = int(value)
    shown = f"{value:,g}" if isinstance(value, int | float) else "null" if value is None else "a text"  # fmt: skip
    told = value if value is None or isinstance(value, int | float) else str(value)
    kept = rule.holds(told)
    made = Finding(
        rule, told if told is not None else "null", 0, rows, f"{shown}, wanted {rule.wanted}"
    )
    if kept:
        return made
    count = int(value) if isinstance(value, int) and 0 < value <= rows else rows
    return Finding(rule, made.value, count, rows, made.said)


def _repeated(frame: pl.LazyFrame, columns: Sequence[str], rows: int) -> int:
    """Rows beyond the first of their key; a key with a null in it is none."""
    whole = frame.select(*columns).drop_nulls()
    hashed = pl.struct(columns).hash() if len(columns) > 1 else pl.col(columns[0]).hash()
    key = whole.select(key=hashed)
    passes = max(1, math.ceil(rows / HASHED))
    twice = 0
    for part in range(passes):
        some = key.filter(pl.col("key") % passes == part) if passes > 1 else key
        found = some.collect(engine="streaming")["key"]  # then distinct ones at once: twice as fast
        twice += len(found) - found.n_unique()
    return twice


def _age_hours(newest: Any, now: datetime) -> float | None:
    if not isinstance(newest, datetime):
        return None
    at = newest if newest.tzinfo else newest.replace(tzinfo=UTC)
    return (now - at).total_seconds() / 3600


def _grown(rows: int, before: Sequence[Before]) -> float | None:
    """By how many percent there are more rows than in the middle one of the versions before."""
    counts = sorted(one.rows for one in before)
    if not counts:
        return None
    middle = (counts[(len(counts) - 1) // 2] + counts[len(counts) // 2]) / 2
    return 100.0 * (rows - middle) / middle if middle else None


# drift


def _drifted(
    rule: DatasetRule, frame: pl.LazyFrame, rows: int, before: Sequence[Before]
) -> float | None:
    """How far a column's distribution is from that of earlier versions together."""
    column = rule.columns[0]
    was = [one for one in before if one.rows and column in one.scan().collect_schema().names()]
    known = sum(one.rows for one in was)
    if min(rows, known) < LEAST:
        return None
    old = pl.concat([one.scan().select(column) for one in was])
    new = frame.select(column)
    kind = new.collect_schema()[column]
    if kind.is_numeric():
        cuts = _cuts(old, column, known)
        shares = [_numbers(side, column, cuts) for side in (old, new)]
    else:
        shares = [_words(side, column) for side in (old, new)]
        shares = _frequent(*shares)
    return divergence(rule.measure, *shares)


def divergence(measure: str, old: Mapping[Any, int], new: Mapping[Any, int]) -> float:
    """How far two distributions, given as counts, are apart; 0: the same.

    psi: the population stability index, sum of (q - p) ln(q / p), a share of zero counting as 0.0001;
    under 0.1 is usually called stable, over 0.25 a shift. js: the Jensen-Shannon divergence in bits,
    0 to 1 (Lin, "Divergence measures based on the Shannon entropy", 1991).
    """
    total = [max(sum(side.values()), 1) for side in (old, new)]
    found = 0.0
    for key in sorted({*old, *new}, key=str):
        p, q = (side.get(key, 0) / n for side, n in zip((old, new), total, strict=True))
        if measure == "psi":
            p, q = max(p, SMALLEST_SHARE), max(q, SMALLEST_SHARE)
            found += (q - p) * math.log(q / p)
        else:
            middle = (p + q) / 2
            found += sum(x / 2 * math.log2(x / middle) for x in (p, q) if x)
    return found


def _cuts(old: pl.LazyFrame, column: str, rows: int) -> list[float]:
    """Where the parts begin: deciles of what was there, each once."""
    every = max(1, rows // _SAMPLE)
    value = pl.col(column).cast(pl.Float64)
    some = old.gather_every(every) if every > 1 else old
    asked = [
        value.filter(value.is_finite()).quantile(n / CUTS).alias(str(n)) for n in range(1, CUTS)
    ]
    found = some.select(asked).collect(engine="streaming").row(0)
    return sorted({float(cut) for cut in found if cut is not None})


def _numbers(frame: pl.LazyFrame, column: str, cuts: Sequence[float]) -> dict[Any, int]:
    """Rows by part; rows without a number are a part of their own."""
    value = pl.col(column).cast(pl.Float64)
    known = pl.when(value.is_finite()).then(value)
    # two parts a cut: up to it and beyond, and those that are it, which many rows may be
    place = pl.sum_horizontal(
        [pl.lit(0), *((known > cut).cast(pl.Int32) + (known >= cut).cast(pl.Int32) for cut in cuts)]
    )
    part = pl.when(known.is_not_null()).then(place)
    return _by(frame.select(part=part), "part")


def _words(frame: pl.LazyFrame, column: str) -> dict[Any, int]:
    return _by(frame.select(part=pl.col(column).hash()), "part")


def _by(frame: pl.LazyFrame, key: str) -> dict[Any, int]:
    counted = frame.group_by(key).agg(n=pl.len()).collect(engine="streaming")
    return {value: int(n) for value, n in counted.iter_rows()}


def _frequent(old: Mapping[Any, int], new: Mapping[Any, int]) -> list[dict[Any, int]]:
    """Counts of the most frequent words of either side; the others are one."""
    kept = {
        word
        for side in (old, new)
        for word in sorted(side, key=lambda one: (-side[one], str(one)))[:WORDS]
    }
    made = []
    for side in (old, new):
        few = {word: n for word, n in side.items() if word in kept}
        rest = sum(side.values()) - sum(few.values())
        made.append({**few, "others": rest} if rest else few)
    return made
