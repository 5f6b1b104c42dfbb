"""Rows handed over as Arrow, to DuckDB and back.

Apart from sql.py for a reason: Polars remembers the classes it was given to the end of the process,
and a class whose module holds `duckdb` makes that report leaks on stderr when Python ends.
"""

from typing import Any, Protocol

import polars as pl

BATCH = 65_536  # rows at a time


class Lazy:
    """A lazy frame as DuckDB takes it: its columns at once, its rows at each scan, by batches."""

    def __init__(self, rows: pl.LazyFrame) -> None:
        self.rows = rows

    def __arrow_c_schema__(self) -> Any:
        return self.rows.collect_schema().__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        batches: Any = self.rows.collect_batches(lazy=True, chunk_size=BATCH)
        return batches.__arrow_c_stream__()


class _Streamed(Protocol):
    def __arrow_c_stream__(self) -> Any: ...


class Answered:
    """A relation as Polars takes it; the relation's own `.pl()` would want pyarrow."""

    def __init__(self, relation: _Streamed) -> None:
        self.relation = relation

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.relation.__arrow_c_stream__()
