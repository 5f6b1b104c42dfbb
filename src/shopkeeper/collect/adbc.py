"""PostgreSQL through ADBC: rows come as Arrow, and no Python object is made of a cell.

What comes out is what `sql` gets through SQLAlchemy and psycopg, to the byte: the same texts, chunks of
the same size, the same digests. So it is taken only where that can be kept: columns of `KINDS`, and a
session in UTC where there are instants. Exact numbers are cast to text by the server. Otherwise, and
for every other database, SQLAlchemy reads.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from importlib.util import find_spec
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from shopkeeper.assets.buckets import crc32

BATCH_BYTES = 16 << 20  # the driver holds about that much
_UTC = ("UTC", "Etc/UTC")
_FIRST, _LAST = (date.toordinal(day) - 719_163 for day in (date.min, date.max))  # days from 1970
_SMALL = r"^-?0\.000000"  # Python's Decimal writes such a number with an exponent


class TimeRange(Exception):
    """A time that Python has no value for; psycopg raises an error of its own."""


@dataclass(frozen=True)
class Kind:
    """How a column of some type is read."""

    text: Callable[[pl.Series], pl.Series]  # as `sql._text` of what psycopg gives
    value: Callable[[pl.Series], list[Any]]  # as psycopg gives them, for watermarks
    cast: bool = False  # to text, by the server


def _plain(column: pl.Series) -> pl.Series:
    return column.cast(pl.String)


def _texts(column: pl.Series) -> pl.Series:
    return column.replace("", None) if column.dtype == pl.String else column.cast(pl.String)


def _truth(column: pl.Series) -> pl.Series:
    return column.replace_strict({True: "true", False: "false"}, return_dtype=pl.String)


def _numeric(column: pl.Series) -> pl.Series:
    small = column.str.contains(_SMALL).fill_null(False)
    if not small.any():
        return column
    told = {text: str(Decimal(text)) for text in column.filter(small).unique()}
    return column.replace(told)


def _floats(column: pl.Series) -> pl.Series:
    def text(value: float) -> str:
        whole = value.is_integer() and abs(value) < 2**53
        return str(int(value)) if whole else str(value)

    told = [None if value is None else text(value) for value in column.to_list()]
    return pl.Series(column.name, told, dtype=pl.String)


def _dates(column: pl.Series) -> pl.Series:
    return _within(column).dt.strftime("%Y-%m-%d").str.zfill(10)


def _times(offset: str) -> Callable[[pl.Series], pl.Series]:
    def text(column: pl.Series) -> pl.Series:
        column = _within(column.dt.cast_time_unit("us").dt.replace_time_zone(None))
        whole = column.dt.strftime(f"%Y-%m-%dT%H:%M:%S{offset}")
        parts = column.dt.strftime(f"%Y-%m-%dT%H:%M:%S%.6f{offset}")
        return parts.zip_with((column.dt.microsecond() != 0).fill_null(False), whole)

    return text


def _within(column: pl.Series) -> pl.Series:
    days = 1 if column.dtype == pl.Date else 86_400_000_000  # Polars itself gives up on infinity
    least, most = column.to_physical().min(), column.to_physical().max()
    assert least is None or isinstance(least, int)
    assert most is None or isinstance(most, int)
    if (least or 0) < _FIRST * days or (most or 0) >= (_LAST + 1) * days:
        raise TimeRange("a time before year 1 or after year 9999, or infinity")
    return column


def _instants(column: pl.Series) -> list[Any]:
    zone = ZoneInfo("UTC")
    return [value and value.replace(tzinfo=zone) for value in _naive(column)]


def _naive(column: pl.Series) -> list[datetime | None]:
    return column.dt.cast_time_unit("us").dt.replace_time_zone(None).to_list()


def _kind(type_: Any) -> Kind | None:
    """How a column of this type is read; None: not here."""
    if isinstance(type_, (sa.SmallInteger, sa.Integer, sa.BigInteger)):
        return Kind(_plain, pl.Series.to_list)
    if type(type_) in (sa.NUMERIC, postgresql.NUMERIC):
        return Kind(_numeric, lambda column: [text and Decimal(text) for text in column], cast=True)
    if type(type_) in (sa.VARCHAR, sa.TEXT):
        return Kind(_texts, pl.Series.to_list)
    if type(type_) is sa.BOOLEAN:
        return Kind(_truth, pl.Series.to_list)
    if type(type_) is sa.DOUBLE_PRECISION or type(type_) is postgresql.DOUBLE_PRECISION:
        return Kind(_floats, pl.Series.to_list)
    if type(type_) is sa.DATE:
        return Kind(_dates, pl.Series.to_list)
    if type(type_) is postgresql.TIMESTAMP:
        return Kind(_times("+00:00"), _instants) if type_.timezone else Kind(_times(""), _naive)
    if type(type_) in (sa.UUID, postgresql.UUID):
        return Kind(_texts, pl.Series.to_list, cast=True)
    return None


class Reader:
    """Reads some columns of one table; made by `open_reader`."""

    def __init__(self, url: sa.URL, kinds: dict[str, Kind]) -> None:
        self.url = url
        self.kinds = kinds

    @contextmanager
    def session(self) -> Iterator["Session"]:
        """A connection that sees one state of the database throughout."""
        from adbc_driver_postgresql import StatementOptions, dbapi

        address = self.url.set(drivername="postgresql").update_query_dict({"connect_timeout": "10"})
        options = {StatementOptions.BATCH_SIZE_HINT_BYTES.value: str(BATCH_BYTES)}
        with dbapi.connect(address.render_as_string(hide_password=False)) as connection:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield Session(connection, self.kinds, options)


class Session:
    """As a `sa.Connection`, for the queries that `sql` asks."""

    def __init__(self, connection: Any, kinds: dict[str, Kind], options: dict[str, str]) -> None:
        self.connection, self.kinds, self.options = connection, kinds, options

    def scalar(self, query: Any) -> Any:
        """The one value of a query."""
        with self.connection.cursor() as cursor:
            cursor.execute(_text(query))
            return cursor.fetchone()[0]

    def parts(
        self, query: sa.Select[Any], columns: Sequence[Any], rows: int, *, watermark: bool
    ) -> Iterator["Part"]:
        """The query's rows, `rows` at a time, in its order; `columns` are those it selects."""
        names = [column.name for column in columns]
        shown = [
            sa.cast(column, sa.Text).label(f"c{n}")
            if self.kinds[column.name].cast
            else column.label(f"c{n}")
            for n, column in enumerate(columns)
        ]
        held: list[pl.DataFrame] = []
        with self.connection.cursor(adbc_stmt_kwargs=self.options) as cursor:
            cursor.execute(_text(query.with_only_columns(*shown, maintain_column_froms=True)))
            for batch in cursor.fetch_record_batch():
                held.append(pl.DataFrame(batch))
                while sum(part.height for part in held) >= rows:
                    together = pl.concat(held)
                    yield Part(together[:rows], names, self.kinds, watermark)
                    held = [together[rows:]]
        if held and (rest := pl.concat(held)).height:
            yield Part(rest, names, self.kinds, watermark)


class Part:
    """Some rows: the watermark, where there is one, and the cells as texts."""

    def __init__(
        self, frame: pl.DataFrame, names: Sequence[str], kinds: dict[str, Kind], watermark: bool
    ) -> None:
        columns = frame.get_columns()
        self._values = (kinds[names[0]], columns[0]) if watermark else None
        cells = list(zip(names, columns, strict=True))[int(watermark) :]
        self.cells = pl.DataFrame([kinds[name].text(c).alias(name) for name, c in cells])
        self.height = frame.height

    def __len__(self) -> int:
        return self.height

    def row(self, at: int) -> tuple[Any, ...]:
        """The watermark and the cells of one row."""
        assert self._values is not None
        kind, column = self._values
        return (kind.value(column[at : at + 1])[0], *self.cells.row(at))

    def frame(self, rows: Sequence[int] | None = None) -> pl.DataFrame:
        """The cells, of some rows."""
        return self.cells if rows is None else self.cells[list(rows)]

    def digest(self) -> int:
        """The sum of the CRC-32 of all rows, as `sql._digest` of each."""
        joined = self.cells.select(
            pl.concat_str(pl.all().fill_null("None"), separator="\x1f").alias("row")
        )["row"]
        return int(crc32(joined).sum(dtype="uint64"))


def open_reader(
    url: sa.URL, types: dict[str, Any], columns: Sequence[str], engine: sa.Engine
) -> Reader | None:
    """A reader of `columns`; None where SQLAlchemy has to read.

    Args:
        types: of all columns, as SQLAlchemy tells them.
    """
    if url.get_backend_name() != "postgresql" or not _installed():
        return None
    kinds = {name: _kind(types[name]) for name in columns}
    if any(kind is None for kind in kinds.values()):
        return None
    if any(getattr(types[name], "timezone", False) for name in columns):
        with engine.connect() as connection:
            zone = connection.exec_driver_sql("SHOW timezone").scalar()
        if zone not in _UTC:
            return None
    return Reader(url, {name: kind for name, kind in kinds.items() if kind is not None})


def _installed() -> bool:
    return all(find_spec(name) is not None for name in ("adbc_driver_postgresql", "pyarrow"))


def _text(query: Any) -> str:
    """A query as SQL, its values written as psycopg writes them."""
    from psycopg import sql

    dialect: Any = postgresql.dialect
    compiled = query.compile(dialect=dialect(paramstyle="pyformat"))
    values = {name: sql.Literal(value).as_string(None) for name, value in compiled.params.items()}
    return str(compiled) % values


def errors() -> tuple[type[Exception], ...]:
    """What is raised of a database that does not answer as it should, through either."""
    if not _installed():
        return (sa.exc.SQLAlchemyError,)
    from adbc_driver_manager import Error

    return (sa.exc.SQLAlchemyError, Error, TimeRange)
