"""Typed tables (Parquet, SQL) -> text, one spelling a value: 17850.0 is "17850", lists are JSON."""

import polars as pl

from shopkeeper.collect.times import spelled


def texts(frame: pl.DataFrame) -> pl.DataFrame:
    """Every column as String; "" becomes null, NaN stays "NaN" for clean/ to name."""
    return pl.DataFrame({column.name: _text(column) for column in frame.iter_columns()})


def _text(column: pl.Series) -> pl.Series:
    kind = column.dtype
    if kind == pl.String:
        return column.replace("", None) if (column == "").any() else column
    if kind.is_float():
        whole = column.is_finite() & (column == column.round()) & (column.abs() < 2**53)
        number = pl.when(whole).then(pl.lit(column)).cast(pl.Int64).cast(pl.String)
        return pl.select(pl.coalesce(number, pl.lit(column).cast(pl.String))).to_series()
    if isinstance(kind, pl.Datetime):
        if kind.time_zone:
            return spelled(column.dt.convert_time_zone("UTC").dt.cast_time_unit("us"))
        local = spelled(column.dt.cast_time_unit("us").dt.replace_time_zone("UTC"))
        return local.str.head(-1)  # no Z: it is a time of the source's zone
    if kind == pl.Duration:
        return column.dt.total_milliseconds().cast(pl.String)
    if kind.is_nested():
        encoded = pl.select(pl.struct(pl.lit(column).alias("v")).struct.json_encode())
        inner = encoded.to_series().str.slice(len('{"v":')).str.head(-1)
        return inner.set(column.is_null(), None)
    if kind == pl.Binary:
        return column.cast(pl.String, strict=False)
    return column.cast(pl.String)
