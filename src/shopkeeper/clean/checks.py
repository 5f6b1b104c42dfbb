"""What all tables share: text -> typed values, contract rules, safe repairs, and the accounts.

Whatever is wrong with a row is found here or in the table's own file as a mask over its rows. Only
rows of some mask are looked at again: the message with the value found and what was wanted is
written for them alone, so clean rows cost no more than the bare expressions.
"""

from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from shopkeeper.assets import contracts
from shopkeeper.assets.contracts import Column, Contract, Rule
from shopkeeper.assets.profile import OPEN

CHECKS = {
    "asset": pl.String(),
    "rule": pl.String(),
    "column": pl.String(),
    "level": pl.String(),
    "count": pl.Int64(),
    "rows": pl.Int64(),
    "example": pl.String(),
    "value": pl.Float64(),  # of a promise of the whole table: what was measured
}
TRACE = ("seq", "source", "file", "line")  # columns that every row carries besides its table's

# Words that programs write where there is no value. An id that reads so is none either.
MISSING_WORDS = ("null", "NULL", "Null", "None", "none", "N/A", "n/a", "#N/A", "\\N", "undefined")
NOT_A_NUMBER = ("nan", "inf", "-inf", "infinity", "-infinity", "+inf", "-nan")
SHOWN = 80  # characters of a found value that a message shows


class Unaccounted(AssertionError):
    """Rows in are not clean + merged + quarantined: a defect of ours."""


@dataclass(frozen=True)
class Cleaned:
    """What became of the rows of one table, or of one bucket of it."""

    clean: pl.DataFrame
    quarantine: pl.DataFrame  # all raw columns, rule, detail
    checks: pl.DataFrame  # CHECKS
    merged: int
    repaired: dict[str, int]
    last: datetime | None = None  # newest time of a row that broke no rule by itself


@dataclass
class Finding:
    """Rows that break one rule."""

    rule: str
    column: str
    mask: pl.Series  # (rows,) Boolean
    detail: pl.Expr  # text, over the raw columns and those of `beside`


@dataclass
class Ledger:
    """The accounts of one call: raw rows, their typed values, and what was found so far."""

    asset: str
    raw: pl.DataFrame
    typed: pl.DataFrame  # same rows, same order
    findings: list[Finding] = field(default_factory=list)
    repaired: dict[str, int] = field(default_factory=dict)
    noticed: dict[str, tuple[str, int, str]] = field(default_factory=dict)
    """rule: level, count, example"""
    checked: dict[str, str] = field(
        default_factory=dict
    )  # every rule that was looked at: its column
    beside: dict[str, pl.Series] = field(default_factory=dict)  # values that details speak of
    hidden: frozenset[str] = frozenset()  # columns whose values stay where the rows are

    def look(self, rule: str, column: str) -> None:
        """Remember that `rule` was looked at: it is in the report even where nothing breaks it."""
        self.checked.setdefault(rule, column)

    def quarantine(self, rule: str, column: str, mask: pl.Series, detail: pl.Expr) -> None:
        """Rows of `mask` go to quarantine."""
        self.look(rule, column)
        mask = mask.fill_null(False)
        if mask.any():
            self.findings.append(Finding(rule, column, mask, detail))

    def repair(self, rule: str, column: str, count: int, example: str = "") -> None:
        """`count` values were put right."""
        self.notice(rule, column, count, example)
        if count:
            self.repaired[rule] = self.repaired.get(rule, 0) + count

    def notice(
        self, rule: str, column: str, count: int, example: str = "", level: str = "WARN"
    ) -> None:
        """`count` rows are worth a look; they stay as they are, or were merged into others."""
        self.look(rule, column)
        if count:
            _, before, first = self.noticed.get(rule, (level, 0, ""))
            self.noticed[rule] = (level, before + count, first or example)

    def put(self, column: str, values: pl.Series) -> None:
        """Replace the typed values of `column`."""
        self.typed = self.typed.with_columns(values.alias(column))

    def broken(self) -> pl.Series | None:
        """(rows,) True where the row goes to quarantine; None where none does."""
        if not self.findings:
            return None
        mask = self.findings[0].mask
        for finding in self.findings[1:]:
            mask = mask | finding.mask
        return mask

    def quarantined(self) -> pl.DataFrame:
        """Raw rows with `rule` (the first broken) and `detail` (all broken, the first first)."""
        mask = self.broken()
        if mask is None:
            empty = [pl.lit(None, pl.String).alias(name) for name in ("rule", "detail")]
            return self.raw.clear().with_columns(empty)
        flags = {f"broken {n}": finding.mask for n, finding in enumerate(self.findings)}
        extra = {f"beside {name}": values for name, values in self.beside.items()}
        rows = self.raw.with_columns(**flags, **extra).filter(mask)
        rules = [
            pl.when(pl.col(flag)).then(pl.lit(finding.rule))
            for flag, finding in zip(flags, self.findings, strict=True)
        ]
        details = [
            pl.when(pl.col(flag)).then(finding.detail)
            for flag, finding in zip(flags, self.findings, strict=True)
        ]
        return rows.with_columns(
            rule=pl.coalesce(rules),
            detail=pl.concat_str(details, separator="; ", ignore_nulls=True),
        ).drop(*flags, *extra)

    def close(self, clean: pl.DataFrame, merged: int) -> Cleaned:
        """The accounts, balanced. Unaccounted where they do not add up."""
        quarantine = self.quarantined()
        if self.raw.height != clean.height + merged + quarantine.height:
            raise Unaccounted(
                f"{self.asset}: {self.raw.height} rows in, but {clean.height} clean + {merged} merged "
                f"+ {quarantine.height} quarantined"
            )
        return Cleaned(
            clean, quarantine, self._checks(), merged, dict(sorted(self.repaired.items()))
        )

    def _checks(self) -> pl.DataFrame:
        found: dict[str, tuple[int, str]] = {}
        for finding in self.findings:
            row = int(finding.mask.arg_max() or 0)
            extra = [
                values[row : row + 1].alias(f"beside {n}") for n, values in self.beside.items()
            ]
            example = (
                self.raw[row : row + 1].with_columns(extra).select(detail=finding.detail).item()
            )
            if finding.column in self.hidden:
                example = self._stands(row)
            before, first = found.get(finding.rule, (0, ""))
            found[finding.rule] = (before + int(finding.mask.sum()), first or str(example))
        rows = []
        for rule, column in sorted(self.checked.items()):
            if rule in found:
                level, (count, example) = "FAIL", found[rule]
            elif rule in self.noticed:
                level, count, example = self.noticed[rule]
                if column in self.hidden:
                    example = ""
            else:
                level, count, example = "PASS", 0, ""
            rows.append((self.asset, rule, column, level, count, self.raw.height, example, None))
        return pl.DataFrame(rows, schema=CHECKS, orient="row")

    def _stands(self, row: int) -> str:
        """Where a raw row stands, for an example that may not show its value."""
        if not {"file", "line"} <= set(self.raw.columns):
            return ""
        file, line = self.raw.select("file", "line").row(row)
        return f"{file}:{line}"


def found(column: str, wanted: str) -> pl.Expr:
    """Text "price_minor is '-5', wanted at least 0" over the raw columns."""
    value = pl.col(column).cast(pl.String, strict=False)
    shown = (
        pl.when(value.str.len_chars() > SHOWN)
        .then(pl.format("'{}…'", value.str.slice(0, SHOWN)))
        .otherwise(pl.format("'{}'", value))
        .fill_null("missing")
    )
    return pl.format("{} is {}, wanted {}", pl.lit(column), shown, pl.lit(wanted))


def open_ledger(asset: str, raw: pl.DataFrame | pl.LazyFrame, contract: Contract) -> Ledger:
    """Read text into types: blanks trimmed, words for "no value" dropped, known words respelled.

    The contract's rules are not applied yet: a table may first repair what only it understands.

    Columns of the contract that `raw` lacks count as empty. Nothing raises for what stands in a
    cell: it is repaired (and counted), or its row goes to quarantine.
    """
    frame = raw.collect() if isinstance(raw, pl.LazyFrame) else raw
    absent = [name for name in contract.names if name not in frame.columns]
    if absent:
        frame = frame.with_columns(pl.lit(None, pl.String).alias(name) for name in absent)
    text = [name for name in contract.names if frame.schema[name] != pl.String]
    if text:
        frame = frame.with_columns(pl.col(name).cast(pl.String) for name in text)
    trace = [name for name in TRACE if name in frame.columns]
    ledger = Ledger(asset, frame, frame.select(*contract.names, *trace))
    ledger.hidden = frozenset(c.name for c in contract.columns if c.grade not in OPEN)
    _trim(ledger, contract)
    _drop_missing_words(ledger, contract)
    _respell(ledger, contract)
    _cast(ledger, contract)
    return ledger


def _trim(ledger: Ledger, contract: Contract) -> None:
    """White space at either end of a value is never meant; an empty text is no value."""
    before = ledger.typed
    names = [name for name in contract.names if before[name].null_count() < before.height]
    after = before.with_columns(pl.col(names).str.strip_chars())
    for name in contract.names:
        ledger.look(f"blank:{name}", name)
    for name in names:
        sizes = (values.str.len_bytes() for values in (before[name], after[name]))
        was, now = ((size.sum(), size.min()) for size in sizes)
        if was == now and now[1] != 0:
            continue
        changed = (after[name] != before[name]).fill_null(False)
        empty = (after[name] == "").fill_null(False)
        spaced = int((changed & ~empty).sum())
        ledger.repair(f"blank:{name}", name, spaced, _first(before[name], changed))
        after = after.with_columns(pl.when(~empty).then(pl.col(name)).alias(name))
    ledger.typed = after


def _first(values: pl.Series, mask: pl.Series) -> str:
    row = mask.arg_max()
    return "" if row is None else f"'{str(values[row])[:SHOWN]}'"


def _drop_missing_words(ledger: Ledger, contract: Contract) -> None:
    """A key or a reference that reads "null" is no id: it counts as missing."""
    for column in contract.columns:
        if column.type != "string" or not (column.required or column.reference):
            continue
        values = ledger.typed[column.name]
        if values.null_count() == values.len():
            continue
        word = values.is_in([*MISSING_WORDS, "NaN", "nan"]).fill_null(False)
        rule = f"missing:{column.name}"
        ledger.look(rule, column.name)
        if word.any():
            ledger.repair(rule, column.name, int(word.sum()), _first(values, word))
            ledger.put(column.name, values.set(word, None))


def _respell(ledger: Ledger, contract: Contract) -> None:
    """Where only certain words are allowed, "Add-To Cart" in other letters is still that word."""
    for column in contract.columns:
        if column.allowed is None:
            continue
        values = ledger.typed[column.name]
        odd = ~values.is_in(column.allowed).fill_null(True)
        if not odd.any():
            continue
        again = values.str.to_lowercase().str.replace_all(r"[\s-]+", "_")
        known = odd & again.is_in(column.allowed)
        if known.any():
            ledger.repair(
                f"form:{column.name}", column.name, int(known.sum()), _first(values, known)
            )
            ledger.put(column.name, values.zip_with(~known, again))


def _cast(ledger: Ledger, contract: Contract) -> None:
    """Text -> types. What does not read as its type is tried again, gently; the rest is broken."""
    text = ledger.typed
    ledger.typed = text.with_columns(contracts.casts(contract))
    for column in contract.columns:
        if column.type == "string":
            if column.format == "json":
                _check_json(ledger, column)
            continue
        ledger.look(f"type:{column.name}", column.name)
        if ledger.typed[column.name].null_count() > text[column.name].null_count():
            _cast_again(ledger, column, text[column.name])


def _cast_again(ledger: Ledger, column: Column, text: pl.Series) -> None:
    """Second look at the few values that the fast cast refused."""
    name = column.name
    failed = text.is_not_null() & ledger.typed[name].is_null()
    rows = failed.arg_true()
    values = text.gather(rows)
    missing = values.is_in([*MISSING_WORDS, "-", "--"])
    again = _gently(values, column)
    absurd = values.str.to_lowercase().is_in(NOT_A_NUMBER)
    if column.type == "boolean":
        absurd = pl.Series(values=[False] * len(values), dtype=pl.Boolean)
    repaired = again.is_not_null()
    if repaired.any():
        ledger.put(name, ledger.typed[name].scatter(rows.filter(repaired), again.filter(repaired)))
        ledger.repair(f"form:{name}", name, int(repaired.sum()), _first(values, repaired))
    if missing.any():
        ledger.repair(f"missing:{name}", name, int(missing.sum()), _first(values, missing))
    wrong = ~(repaired | missing)
    if not wrong.any():
        return
    empty = "" if column.required else ", or an empty cell where it is unknown"
    money = " of minor units (fen, cents)" if name.endswith("_minor") else ""
    if column.on_invalid == "false":
        ledger.put(name, ledger.typed[name].scatter(rows.filter(wrong), False))
        ledger.repair(f"type:{name}", name, int(wrong.sum()), _first(values, wrong))
        return
    not_number = wrong & absurd
    if not_number.any():
        if column.on_invalid == "null":
            ledger.repair(
                f"impossible:{name}", name, int(not_number.sum()), _first(values, not_number)
            )
        else:
            mask = mask_of(ledger.raw.height, rows.filter(not_number))
            ledger.quarantine(f"impossible:{name}", name, mask, found(name, f"a number{empty}"))
    wrong = wrong & ~absurd
    ledger.quarantine(
        f"type:{name}",
        name,
        mask_of(ledger.raw.height, rows.filter(wrong)),
        found(name, contracts.WANTED[column.type] + money),
    )


def mask_of(height: int, rows: pl.Series) -> pl.Series:
    """(height,) Boolean, True at `rows`. Always a new one: `scatter` writes in place."""
    mask = pl.repeat(False, height, dtype=pl.Boolean, eager=True)
    return mask.scatter(rows, True) if len(rows) else mask


def _gently(values: pl.Series, column: Column) -> pl.Series:
    """Whole numbers written as 3.0 or 1e3; other spellings of an ISO time; null where neither."""
    if column.type == "integer":
        number = values.cast(pl.Float64, strict=False)
        exact = number.is_finite() & (number == number.round()) & (number.abs() < 2.0**53)
        whole = number.set(~exact.fill_null(False), None)
        return whole.cast(pl.Int64, strict=False).cast(column.dtype, strict=False)
    if column.type == "timestamp":
        frame = pl.DataFrame({"text": values})
        text = (
            pl.col("text")
            .str.replace(r"^(\d{4}-\d\d-\d\d) ", "${1}T")
            .str.replace(r"[zZ]$", "+00:00")
        )
        forms = [
            text.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False)
            for form in ("%Y-%m-%dT%H:%M:%S%.f%:z", "%Y-%m-%dT%H:%M%:z")
        ]
        return frame.select(pl.coalesce(forms)).to_series()
    return pl.repeat(None, len(values), dtype=column.dtype, eager=True)


def _check_json(ledger: Ledger, column: Column) -> None:
    """A column of JSON objects: whatever is none is broken. Each distinct text is read once."""
    name = column.name
    values = ledger.typed[name]
    ledger.look(f"type:{name}", name)
    distinct = values.drop_nulls().unique()
    wrong = [text for text in distinct if not contracts.is_json_object(text)]
    if wrong:
        mask = values.is_in(wrong)
        ledger.quarantine(f"type:{name}", name, mask, found(name, "a JSON object"))


def apply(ledger: Ledger, rules: list[Rule]) -> None:
    """All rules in one pass over the typed rows; then repair or quarantine what they found."""
    if not rules:
        return
    flags = ledger.typed.select(
        rule.broken.fill_null(False).alias(str(n)) for n, rule in enumerate(rules)
    )
    any_of = flags.select(pl.all().any()).row(0)
    for n, rule in enumerate(rules):
        ledger.look(rule.name, rule.column)
        if not any_of[n]:
            continue
        mask = flags[str(n)]
        if rule.action == "quarantine":
            mask = _without_worse(ledger, rule, mask)
            ledger.quarantine(rule.name, rule.column, mask, found(rule.column, rule.wanted))
            continue
        to = {"null": None, "zero": 0, "false": False}[rule.action]
        values = ledger.typed[rule.column]
        ledger.repair(rule.name, rule.column, int(mask.sum()), _first(values, mask))
        fixed = ledger.typed.select(
            pl.when(mask).then(pl.lit(to, dtype=values.dtype)).otherwise(pl.col(rule.column))
        ).to_series()
        ledger.put(rule.column, fixed)


def _without_worse(ledger: Ledger, rule: Rule, mask: pl.Series) -> pl.Series:
    """A value that does not even read as its type is not also reported as missing."""
    if not rule.name.startswith("required:"):
        return mask
    for finding in ledger.findings:
        if finding.column == rule.column and not finding.rule.startswith("required:"):
            mask = mask & ~finding.mask
    return mask
