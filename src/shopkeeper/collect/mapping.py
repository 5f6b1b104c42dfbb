"""A source's own columns -> canonical ones: names, units, times, kinds, constants, rules.

Order: columns (shop.toml first, then equal names, then aliases), units, kinds, constants, `when`
rules, defaults (`kind` is view; an event_id from source, file and line). What cannot be converted
is passed on as it was, so that clean/ can quarantine it with the shop's own spelling.
"""

import difflib
import hashlib
import json
import re
from dataclasses import dataclass

import polars as pl

from shopkeeper.collect import times
from shopkeeper.collect.sources import block_of, name_of
from shopkeeper.collect.tables import ALIAS_UNITS, ALIASES, COLUMNS, KIND_ALIASES, REQUIRED, TIMES
from shopkeeper.config import Settings, Source, When
from shopkeeper.errors import InputError
from shopkeeper.words import KIND_CODES, KINDS

NUMBER = r"^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$"  # as JSON writes one


@dataclass(frozen=True)
class Mapping:
    """How one file's columns become canonical ones."""

    source: Source
    settings: Settings
    file: str
    names: dict[str, str]  # canonical -> the file's column
    units: dict[str, str]
    extra: tuple[str, ...]  # the file's columns that become `attributes`

    @property
    def needs(self) -> list[str]:
        """The file's columns that are read at all."""
        ruled = [rule.column for rule in self.source.when]
        return list(dict.fromkeys([*self.names.values(), *self.extra, *ruled]))

    def apply(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Text columns and `line` -> canonical columns (String), source, file, line."""
        table, source = self.source.table, self.source
        if not frame.width:  # nothing but rejects
            frame = pl.DataFrame(schema=dict.fromkeys(self.needs, pl.String) | {"line": pl.Int64})
        columns = {ours: frame[theirs].alias(ours) for ours, theirs in self.names.items()}
        for ours in columns:
            columns[ours] = self._converted(ours, columns[ours])
        made = pl.DataFrame(columns) if columns else frame.select()
        constant = {
            ours: pl.lit(value or None, pl.String) for ours, value in source.constants.items()
        }
        missing = [name for name in COLUMNS[table] if name not in made.columns]
        made = frame.select("line").hstack(made)
        made = made.with_columns(
            *(pl.lit(None, pl.String).alias(name) for name in missing if name not in constant),
        ).with_columns(**constant)
        for rule in source.when:
            hit = frame.select(_hit(rule)).to_series()
            made = made.with_columns(
                pl.when(pl.lit(hit))
                .then(pl.lit(value or None, pl.String))
                .otherwise(pl.col(ours))
                .alias(ours)
                for ours, value in rule.set.items()
            )
        if self.extra:
            made = made.with_columns(attributes(frame.select(self.extra)))
        name = name_of(source)
        if table == "events":
            made = made.with_columns(
                pl.col("kind").fill_null("view"),
                pl.coalesce("event_id", line_id(name, self.file)),
            )
        return made.select(
            *COLUMNS[table], source=pl.lit(name), file=pl.lit(self.file), line=pl.col("line")
        )

    def _converted(self, ours: str, text: pl.Series) -> pl.Series:
        unit = self.units.get(ours)
        if ours in TIMES:
            return times.canonical(text, unit, self.source.timezone or self.settings.timezone)
        if ours == "kind" and self.source.table == "events":
            return _kinds(text, self.source.kinds)
        factor = {("dwell_ms", "s"): 1000}.get((ours, unit or ""))
        if ours.endswith("_minor") and unit == "major":
            factor = self.settings.minor_units
        return text if factor is None else _scaled(text, factor)


def plan(
    source: Source, settings: Settings, file: str, found: list[str], *, strict: bool = True
) -> Mapping:
    """How a file with the columns `found` is read.

    Not `strict`: what the table cannot do without may be missing (a stream, whose next message may
    hold it); its column is then to be null in every row.

    InputError: a column that shop.toml names, or that the table cannot do without, is not there.
    """
    table = source.table
    names = dict(source.columns)
    named = [*((theirs, f"columns.{ours}") for ours, theirs in names.items())]
    named += [(rule.column, "when") for rule in source.when]
    named += [(theirs, "attributes") for theirs in source.attributes or ()]
    for theirs, where in named:
        if theirs not in found:
            raise InputError(
                f"no column {theirs!r}, which shop.toml names in {where}{_near(theirs, found)}; "
                f"found: {_listed(found)}",
                where=file,
                next="correct the name in shop.toml",
            )
    units = dict(source.units)
    for ours in COLUMNS[table]:
        if ours not in names and ours in found:
            names[ours] = ours
    taken = {*names.values()}
    for ours, theirs in source.columns.items():  # naming a column leaves its unit what it was
        known = map(_plain, ALIASES[table].get(ours, ()))
        if (unit := ALIAS_UNITS.get(_plain(theirs))) and _plain(theirs) in known:
            units.setdefault(ours, unit)
    for ours in COLUMNS[table]:
        if ours in names or ours in source.constants:
            continue
        spellings = {_plain(ours), *map(_plain, ALIASES[table].get(ours, ()))}
        hits = [name for name in found if name not in taken and _plain(name) in spellings]
        if len(hits) == 1:
            names[ours] = hits[0]
            taken.add(hits[0])
            if unit := ALIAS_UNITS.get(_plain(hits[0])):
                units.setdefault(ours, unit)
    given = {*names, *source.constants}
    if missing := [ours for ours in REQUIRED[table] if ours not in given]:
        if strict:
            raise _missing(missing, source, file, found, taken)
        names |= {ours: ours for ours in missing}
    extra = [name for name in found if name not in taken]
    if source.attributes is not None:
        extra = [name for name in found if name in source.attributes]
    if "attributes" not in COLUMNS[table] or {"attributes"} & {*names, *source.constants}:
        extra = []
    names = {ours: theirs for ours, theirs in names.items() if ours not in source.constants}
    return Mapping(source, settings, file, names, units, tuple(extra))


def line_id(source: str, file: str) -> pl.Expr:
    """An event_id of 32 hexadecimal signs that (source, file, line) always give again.

    15 signs of the BLAKE2b digest of source and file, then the line number behind a 1, in 17
    digits: one addition and one concatenation a row, and the line can be read off the id.
    """
    return pl.lit(file_digest(source, file)) + (pl.col("line") + 10**16).cast(pl.String)


def file_digest(source: str, file: str) -> str:
    """What the `line_id` of every line of a file begins with."""
    return hashlib.blake2b(f"{source}\0{file}".encode(), digest_size=8).hexdigest()[:15]


def attributes(frame: pl.DataFrame) -> pl.Series:
    """All columns of a frame as one JSON object a row; null where a row has none.

    Numbers stay numbers, lists and objects in brackets stay what they are (also NumPy's
    "[0.1 0.2]"), everything else is text.
    """
    parts = []
    for column in frame.iter_columns():
        text = column.cast(pl.String)
        bracketed = text.str.contains(r"^\s*[\[{]").fill_null(False)
        value = pl.select(
            pl.when(text.str.contains(NUMBER)).then(text).otherwise(_json_text(pl.lit(text)))
        ).to_series()
        if bracketed.any():
            nested = [_nested(one) for one in text.filter(bracketed)]
            value = value.scatter(bracketed.arg_true(), pl.Series(nested, dtype=pl.String))
        key = json.dumps(column.name, ensure_ascii=False) + ":"
        parts.append(pl.lit(key) + pl.lit(value))
    joined = pl.concat_str(parts, separator=",", ignore_nulls=True)
    made = pl.select(joined.alias("all")).select(
        pl.when(pl.col("all") != "").then("{" + pl.col("all") + "}").alias("attributes")
    )
    return made.to_series()


def _json_text(text: pl.Expr) -> pl.Expr:
    plain = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    control = {chr(c): f"\\u{c:04x}" for c in range(32) if chr(c) not in plain}
    signs = plain | control
    return '"' + text.str.replace_many(list(signs), list(signs.values())) + '"'


def _nested(text: str) -> str:
    """Text in brackets as JSON where it is JSON or a row of numbers; else as a JSON string."""
    listed = re.fullmatch(r"\[([\s\d.eE+-]+)\]", text.strip())  # NumPy: blanks, no commas
    candidates = [text]
    if listed:
        candidates.append(
            "[" + ",".join(re.sub(r"\.(?!\d)", ".0", n) for n in listed[1].split()) + "]"
        )
    for candidate in candidates:
        try:
            value = json.loads(candidate, parse_constant=_refuse)
        except (ValueError, RecursionError):
            continue
        return json.dumps(value, ensure_ascii=False)
    return json.dumps(text, ensure_ascii=False)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _kinds(text: pl.Series, kinds: dict[str, str]) -> pl.Series:
    """The shop's own words by `kinds`; then ours in any case, and what trackers call them."""
    change = {}
    for word in text.unique().drop_nulls().to_list():
        lower = word.strip().lower()
        ours = kinds.get(word) or (lower if lower in KIND_CODES else KIND_ALIASES.get(lower))
        if ours and ours != word:
            change[word] = ours
    return text.replace(change) if change else text


def _scaled(text: pl.Series, factor: int) -> pl.Series:
    """Decimal text times `factor`, rounded, as integer text; what is no number stays."""
    number = (text.cast(pl.Float64, strict=False) * factor).round()
    sound = number.is_finite() & (number.abs() < 2**53)
    scaled = pl.when(sound).then(pl.lit(number)).cast(pl.Int64).cast(pl.String)
    return pl.select(pl.coalesce(scaled, text).alias(text.name)).to_series()


def _hit(rule: When) -> pl.Expr:
    column = pl.col(rule.column)
    if rule.starts_with is not None:
        test = column.str.starts_with(rule.starts_with)
    elif rule.equals is not None:
        test = column == rule.equals
    else:
        test = column.cast(pl.Float64, strict=False) < rule.below
    return test.fill_null(False)


def _missing(
    missing: list[str], source: Source, file: str, found: list[str], taken: set[str]
) -> InputError:
    ours = missing[0]
    if len(found) == 1 and (sign := re.search(r"[;\t|]", found[0])):
        return InputError(
            f"no column {ours!r}; the only column found is {found[0]!r}",
            where=file,
            next=block_of(source, delimiter=f'"{sign[0]}"'.replace("\t", "\\t")),
        )
    if all(re.fullmatch(r"[-\d.: T]+|[a-z]{1,4}", name) for name in found) and any(
        any(sign.isdigit() for sign in name) for name in found
    ):
        return InputError(
            f"no column {ours!r}; the first line looks like data: {_listed(found)}",
            where=file,
            next=block_of(source, header='["user_id", "item_id", …]'),
        )
    free = [name for name in found if name not in taken]
    guessed: dict[str, str] = {}
    for name in missing:
        left = [column for column in free if column not in guessed.values()]
        known = (name, *ALIASES[source.table].get(name, ()))
        hits = (hit for word in known for hit in difflib.get_close_matches(word, left, n=1))
        # what nothing resembles may well be called anything; but no title is called "id"
        guessed[name] = next(hits, left[0] if left and name.endswith("_id") else "…")
    columns = ", ".join(f'{name} = "{theirs}"' for name, theirs in guessed.items())
    wanted = " and no column ".join(map(repr, missing))
    return InputError(
        f"no column {wanted}, which {source.table} need{_near(ours, free)}; found: {_listed(found)}",
        where=file,
        next=block_of(source, columns=f"{{ {columns} }}")
        + ("; or skip = true, if these are no " + source.table if source.table in KINDS else ""),
    )


def _near(name: str, found: list[str]) -> str:
    near = difflib.get_close_matches(name, found, n=2, cutoff=0.5)
    return f" (nearest: {', '.join(map(repr, near))})" if near else ""


def _listed(found: list[str]) -> str:
    shown = ", ".join(found[:20])
    return shown + (f", … ({len(found)} columns)" if len(found) > 20 else "")


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()
