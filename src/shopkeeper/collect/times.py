"""Times as shops write them -> instants (UTC, microseconds) -> one canonical text.

A time without an offset is in the source's time zone. The hour that a clock repeats in autumn is
read as its first occurrence; an hour that it skips in spring is read with the offset before the
change, so 02:30 becomes 03:30. What is no time stays as it was, for clean/ to name.
"""

from functools import cache

import polars as pl

INSTANT = pl.Datetime("us", "UTC")
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}

# Tried in this order, the one that reads the first value first. %#z takes "+08", "+0800", "+08:00".
LOCAL = (
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y/%m/%d %H:%M:%S%.f",
    "%Y/%m/%d %H:%M",
)
DAYS = ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d")
WITH_OFFSET = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z")
CANONICAL = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$"
DIGITS = {10: 1_000_000, 13: 1_000, 16: 1}  # digits of an epoch of today -> microseconds in one


def instants(text: pl.Series, unit: str | None, timezone: str) -> pl.Series:
    """Text -> INSTANT; null where `text` is null or cannot be read.

    unit: "iso"; "s", "ms", "us" since 1970 (fractions allowed); a strptime format; None: iso, and
    whole numbers of 10, 13 or 16 digits are seconds, milliseconds, microseconds since 1970.
    """
    if unit in PER_SECOND:
        return _epoch(text, 1_000_000 // PER_SECOND[unit])
    if unit not in (None, "iso"):
        assert unit is not None
        return _parse(text, unit, timezone)
    found = pl.Series(text.name, [None], INSTANT).new_from_index(0, len(text))
    left = text
    formats = [*LOCAL, *DAYS, *WITH_OFFSET]
    sample = text.drop_nulls().head(1)
    formats.sort(key=lambda form: bool(_parse(sample, form, timezone).null_count()))
    if unit is None and len(sample) and sample[0].isdigit() and len(sample[0]) in DIGITS:
        found = _by_digits(text)
        left = pl.select(pl.when(found.is_null()).then(text)).to_series()
    for form in formats:
        if left.null_count() == len(left):
            break
        read = _parse(left, form, timezone)
        if read.null_count() < len(read):
            found = (
                read
                if found.null_count() == len(found)
                else found.zip_with(found.is_not_null(), read)
            )
            left = pl.select(pl.when(found.is_null()).then(text)).to_series()
    if unit is None and left.null_count() < len(left):
        found = found.zip_with(found.is_not_null(), _by_digits(left))
    return found


def canonical(text: pl.Series, unit: str | None, timezone: str) -> pl.Series:
    """Text -> "2026-01-31T09:30:00.000000Z"; what cannot be read stays as it was."""
    sample = text.drop_nulls().head(1)
    if unit is None and sample.str.contains(CANONICAL).all() and text.str.contains(CANONICAL).all():
        return text
    found = instants(text, unit, timezone)
    made = spelled(found).alias(text.name)
    if found.null_count() == text.null_count():
        return made
    return pl.select(pl.coalesce(made, text).alias(text.name)).to_series()


def spelled(instant: pl.Series) -> pl.Series:
    """INSTANT -> ISO 8601 text with microseconds and Z.

    Days and seconds of a day are few, so they are looked up instead of formatted a row at a time.
    """
    micros = instant.to_physical()
    day = micros // 86_400_000_000
    rest = micros - day * 86_400_000_000
    second = rest // 1_000_000
    fraction = rest - second * 1_000_000
    frame = pl.DataFrame({"day": day, "second": second, "fraction": fraction})
    days = frame.select(pl.col("day").unique().drop_nulls())
    days = days.with_columns(pl.col("day").cast(pl.Date).dt.to_string("%Y-%m-%d").alias("date"))
    if fraction.max() in (0, None):
        tail = pl.lit(".000000Z")
    else:
        padded = (pl.col("fraction") + 1_000_000).cast(pl.String).str.slice(1)
        tail = pl.concat_str(pl.lit("."), padded, pl.lit("Z"))
    return frame.select(
        pl.concat_str(
            pl.col("day").replace_strict(days["day"], days["date"], return_dtype=pl.String),
            pl.lit(_clock()).gather(pl.col("second")),
            tail,
        )
    ).to_series()


@cache
def _clock() -> pl.Series:
    """ "T00:00:00" … "T23:59:59" by the second of the day."""
    return pl.Series([f"T{s // 3600:02}:{s // 60 % 60:02}:{s % 60:02}" for s in range(86_400)])


def _epoch(text: pl.Series, micros: int) -> pl.Series:
    whole = text.cast(pl.Int64, strict=False) * micros
    if whole.null_count() > text.null_count():
        parts = (text.cast(pl.Float64, strict=False) * micros).round()
        parts = parts.set(parts.is_nan() | parts.is_infinite(), None)
        whole = whole.zip_with(whole.is_not_null(), parts.cast(pl.Int64, strict=False))
    return (
        whole.set(whole.abs() > 250_000_000_000_000_000, None)
        .cast(pl.Datetime("us"))
        .dt.replace_time_zone("UTC")
    )


def _by_digits(text: pl.Series) -> pl.Series:
    number = text.cast(pl.Int64, strict=False)
    size = text.str.len_bytes()
    micros = pl.select(
        pl.coalesce(
            pl.when(size == digits).then(number * scale) for digits, scale in DIGITS.items()
        )
    ).to_series()
    return micros.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _parse(text: pl.Series, form: str, timezone: str) -> pl.Series:
    if any(sign in form for sign in ("%z", "%#z", "%:z", "%+")):
        return text.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False)
    if any(sign in form for sign in ("%H", "%I", "%T", "%R", "%s", "%M", "%c")):
        local = text.str.to_datetime(form, time_unit="us", strict=False)
    else:
        local = text.str.to_date(form, strict=False).cast(pl.Datetime("us"))
    if timezone == "UTC":
        return local.dt.replace_time_zone("UTC")
    there = local.dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
    if there.null_count() > local.null_count():
        hour = pl.duration(hours=1)
        before = pl.select(
            (pl.lit(local) - hour).dt.replace_time_zone(
                timezone, ambiguous="earliest", non_existent="null"
            )
            + hour
        ).to_series()
        there = there.zip_with(there.is_not_null(), before)
    return there.dt.convert_time_zone("UTC")
