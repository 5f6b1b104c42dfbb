"""A table of a PostgreSQL, MySQL/MariaDB or SQLite database.

With `watermark` (a column that only grows and is never null: the primary key, best) only rows beyond
the last seen value are read; rows that share that value are told apart by digest, so late ones of
the same instant are not lost. Rows of a transaction that commits after a higher value was read
are, unless `overlap` says how far back to look again: rows read before are told apart the same way.
Without `watermark` the whole table is read again whenever its content changed.
"""

import base64
import hashlib
import json
import math
import re
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

import numpy as np
import polars as pl
import sqlalchemy as sa

from shopkeeper.collect import adbc
from shopkeeper.collect.batch import Chunk
from shopkeeper.collect.environment import filled
from shopkeeper.collect.sources import name_of
from shopkeeper.config import Source
from shopkeeper.errors import InputError, SourceError

ROWS = 50_000  # rows of a chunk, and what the driver holds at a time
DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"} | dict.fromkeys(
    ("mysql", "mariadb"), "mysql+pymysql"
)
_MAY_PASS = re.compile(
    r"refused|timed? ?out|starting up|too many|lost connection|can't connect|deadlock"
    r"|server closed|gone away|unreachable|locked"
)


class Part(Protocol):
    """Some rows of a query; of a watermark query, the watermark comes first and is no cell."""

    def __len__(self) -> int: ...

    def row(self, at: int) -> tuple[Any, ...]:
        """The watermark, typed, and the cells."""

    def frame(self, rows: Sequence[int] | None = None) -> pl.DataFrame:
        """The cells as texts, of some rows."""

    def digest(self) -> int:
        """The sum of the CRC-32 of all rows: the same whatever their order."""


class Session(Protocol):
    """A connection to the database, all queries of which see the same state of it."""

    def scalar(self, query: Any) -> Any:
        """The one value of a query."""

    def parts(
        self, query: sa.Select[Any], columns: Sequence[Any], rows: int, *, watermark: bool
    ) -> Iterator[Part]:
        """The query's rows, `rows` at a time, in its order; `columns` are those it selects."""


class SqlTable:
    """One table, opened for one reading; a context manager."""

    def __init__(self, source: Source) -> None:
        """InputError: an unset ${NAME}, no driver, no such table; SourceError: no answer."""
        assert source.url is not None
        assert source.sql_table is not None
        self.name = source.sql_table
        self.where = f"source {name_of(source)!r}"
        self.overlap = source.overlap
        try:
            url = sa.make_url(filled(source.url, self.where))
        except sa.exc.ArgumentError as error:
            raise InputError(
                "`url` is not of the form postgresql://user:password@host:5432/database",
                where=self.where,
                next="a password with special signs is written percent-encoded, or as ${NAME}",
            ) from error
        self.secret = str(url.password or "")
        backend = url.drivername.split("+")[0]
        url = url.set(drivername=DRIVERS.get(backend, url.drivername))
        arguments = {} if backend == "sqlite" else {"connect_timeout": 10}
        try:
            self.engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args=arguments)
            if backend in DRIVERS:  # both passes over a table see the same rows
                self.engine = self.engine.execution_options(isolation_level="REPEATABLE READ")
        except (ImportError, sa.exc.NoSuchModuleError) as error:
            raise InputError(
                f"no driver for {backend}:// databases",
                where=self.where,
                next="install it with: pip install 'shopkeeper[sql]' (PostgreSQL and MySQL)",
            ) from error
        schema, _, table = source.sql_table.rpartition(".")
        with self._answering(), self.engine.connect() as connection:
            inspector = sa.inspect(connection)
            if not (inspector.has_table(table, schema or None)):
                known = [
                    *inspector.get_table_names(schema or None),
                    *inspector.get_view_names(schema or None),
                ]
                raise InputError(
                    f"no table {source.sql_table!r}; found: {', '.join(sorted(known)[:20]) or 'none'}",
                    where=self.where,
                    next="correct `sql_table` in shop.toml (schema.table outside the default schema)",
                )
            described = inspector.get_columns(table, schema or None)
        self.columns = [str(column["name"]) for column in described]
        self.nullable = {
            str(column["name"]): bool(column.get("nullable", True)) for column in described
        }
        self.types = {str(column["name"]): column["type"] for column in described}
        self.table = sa.table(
            table, *(sa.column(column) for column in self.columns), schema=schema or None
        )

    def read(
        self, position: dict[str, Any] | None, columns: list[str], watermark: str | None
    ) -> Iterator[tuple[Chunk, int]]:
        """Chunks of `columns` as text, and how many rows there are to read in all."""
        if watermark is not None:
            yield from self._beyond(position, columns, watermark)
        else:
            yield from self._whole(position, columns)

    def _whole(
        self, position: dict[str, Any] | None, columns: list[str]
    ) -> Iterator[tuple[Chunk, int]]:
        cells = [self.table.c[name] for name in columns]
        query = sa.select(*cells)
        with self._answering(), self._session(columns) as session:
            digest, count = 0, 0
            for part in session.parts(query, cells, ROWS, watermark=False):
                digest = (digest + part.digest()) % 2**63
                count += len(part)
            place = {"rows": count, "digest": digest}
            if (
                position
                and position["done"]
                and all(position.get(k) == v for k, v in place.items())
            ):
                return
            row = 0
            for part in session.parts(query, cells, ROWS, watermark=False):
                frame = _numbered(part.frame(), row)
                row += len(part)
                yield Chunk(frame, [], place | {"done": False}, row), count
            yield Chunk(pl.DataFrame(), [], place | {"done": True}, row), count

    def _beyond(
        self, position: dict[str, Any] | None, columns: list[str], watermark: str
    ) -> Iterator[tuple[Chunk, int]]:
        column = self.table.c[watermark]
        selected = [column, *(self.table.c[name] for name in columns)]
        query = sa.select(*selected).order_by(column)
        row, window = 0, _Window(self.overlap, position, self.where)
        if position:
            row = int(position["rows"])
            query = query.where(column >= window.edge())
        with self._answering(), self._session([watermark, *columns]) as session:
            if self.nullable[watermark]:
                nulls = session.scalar(
                    sa.select(sa.func.count()).select_from(self.table).where(column.is_(None))
                )
                if nulls:
                    raise InputError(
                        f"watermark {watermark!r} is null in {nulls:,} rows, which would never be read",
                        where=f"{self.where}, table {self.name}",
                        next="use a column that is never null as `watermark`, the primary key best",
                    )
            count = session.scalar(
                sa.select(sa.func.count()).select_from(query.order_by(None).subquery())
            )
            for part in session.parts(query, selected, ROWS, watermark=True):
                fresh = window.new(part)
                if not fresh:
                    continue
                frame = _numbered(part.frame(fresh if len(fresh) < len(part) else None), row)
                row += len(fresh)
                place = {"rows": row, "watermark": _stored(window.last), "done": True}
                yield Chunk(frame, [], place | window.stored(), row), max(row, count)

    def _session(self, columns: Sequence[str]) -> AbstractContextManager[Session]:
        reader = adbc.open_reader(self.engine.url, self.types, columns, self.engine)
        return _by_sqlalchemy(self.engine) if reader is None else reader.session()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except adbc.errors() as error:
            told = str(getattr(error, "orig", None) or error).strip().replace("\n", " ")
            if self.secret:
                told = told.replace(self.secret, "***")
            passing = _MAY_PASS.search(told.lower()) is not None
            raise SourceError(
                f"the database did not answer as it should: {told[:300]}",
                where=f"{self.where}, {self.engine.url.render_as_string(hide_password=True)}",
                next="it is tried again on the next run"
                if passing
                else "check the user, the password and the rights on the table",
                retryable=passing,
            ) from None


def _numbered(cells: pl.DataFrame, before: int) -> pl.DataFrame:
    return cells.with_columns(line=pl.int_range(before + 1, before + cells.height + 1))


@contextmanager
def _by_sqlalchemy(engine: sa.Engine) -> Iterator[Session]:
    with engine.connect() as connection:
        yield _Connected(connection)


class _Connected:
    """A `Session` of SQLAlchemy, whatever the database."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection

    def scalar(self, query: Any) -> Any:
        return self.connection.execute(query).scalar_one()

    def parts(
        self, query: sa.Select[Any], columns: Sequence[Any], rows: int, *, watermark: bool
    ) -> Iterator[Part]:
        streaming = self.connection.execution_options(stream_results=True, yield_per=rows)
        result = streaming.execute(query)
        names = [column.name for column in columns[int(watermark) :]]
        for part in result.partitions():
            yield _Rows(names, [tuple(row) for row in part])


class _Rows:
    """A `Part` of Python rows."""

    def __init__(self, columns: Sequence[str], rows: list[tuple[Any, ...]]) -> None:
        self.columns, self.rows = columns, rows

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, at: int) -> tuple[Any, ...]:
        return self.rows[at]

    def frame(self, rows: Sequence[int] | None = None) -> pl.DataFrame:
        table = list(zip(*(self.rows if rows is None else map(self.rows.__getitem__, rows))))  # noqa: B905
        cells = table[len(table) - len(self.columns) :]
        return pl.DataFrame(
            {
                name: pl.Series(_texts(values), dtype=pl.String)
                for name, values in zip(self.columns, cells, strict=True)
            }
        )

    def digest(self) -> int:
        return sum(map(_digest, self.rows))


def _texts(values: Sequence[Any]) -> list[str | None]:
    """As `_text` of each; columns of one plain type take a shorter way."""
    kinds = set(map(type, values)) - {type(None)}
    if kinds == {str}:
        return [value or None for value in values]
    if len(kinds) == 1 and (spell := _PLAIN.get(next(iter(kinds)))):
        return [None if value is None else spell(value) for value in values]
    return list(map(_text, values))


_PLAIN: dict[type, Callable[[Any], str]] = {
    int: str,
    Decimal: str,
    datetime: datetime.isoformat,
    date: date.isoformat,
}


def _text(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(round(value.total_seconds() * 1000))
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).decode("utf-8", "replace")
    return str(value)


class _Window:
    """Which rows near the newest watermark were read, so that those looked at again are told apart.

    Rows come in the order of their watermark. Those of the newest value, or of `overlap` before it,
    are remembered by digest (64 bits of BLAKE2b over value and cells), also across runs.
    """

    def __init__(self, overlap: float, position: dict[str, Any] | None, where: str) -> None:
        self.overlap, self.where = overlap, where
        self.last: Any = _unstored(position["watermark"]) if position else None
        self.before = self.last  # where the reading before this one ended
        packed = base64.b64decode(position["seen"]) if position else b""
        self.known = Counter(np.frombuffer(packed, np.uint64).tolist())  # and not met again yet
        self.recent: deque[tuple[Any, int]] = deque()  # watermark and digest, as they came

    def edge(self) -> Any:
        """The lowest watermark that is looked at again. InputError: nothing can be taken from it."""
        if not self.overlap:
            return self.last
        if isinstance(self.last, datetime):
            return self.last - timedelta(seconds=self.overlap)
        if isinstance(self.last, date):
            return self.last - timedelta(days=math.ceil(self.overlap / 86_400))
        if isinstance(self.last, int):
            return self.last - math.ceil(self.overlap)
        if isinstance(self.last, Decimal):
            return self.last - Decimal(str(self.overlap))
        raise InputError(
            "`overlap` needs a watermark of times or numbers, and this one is text",
            where=self.where,
            next="name another column as `watermark`, or take `overlap` away",
        )

    def new(self, rows: Part) -> list[int]:
        """Which of the rows were not read before; now they are."""
        fresh, at = [], 0
        while at < len(rows) and self._looked_at_again((row := rows.row(at))[0]):
            digest = _digest64(row)
            if self.known[digest]:
                self.known[digest] -= 1
            else:
                fresh.append(at)
            self.recent.append((row[0], digest))
            at += 1
        if at == len(rows):
            return fresh
        self.known.clear()  # what was not met again is gone or was changed
        self.last = rows.row(len(rows) - 1)[0]
        edge, near = self.edge(), []
        for back in range(len(rows) - 1, at - 1, -1):
            if not self._near((row := rows.row(back))[0], edge):
                break
            near.append((row[0], _digest64(row)))
        while self.recent and not self._near(self.recent[0][0], edge):
            self.recent.popleft()
        self.recent.extend(reversed(near))
        return [*fresh, *range(at, len(rows))]

    def _looked_at_again(self, value: Any) -> bool:
        """Whether a row of this watermark may have been read by the reading before this one."""
        if self.before is None:
            return False
        return bool(value <= self.before) if self.overlap else bool(value == self.before)

    def _near(self, value: Any, edge: Any) -> bool:
        return bool(value >= edge) if self.overlap else bool(value == self.last)

    def stored(self) -> dict[str, str]:
        """As JSON, for the next reading."""
        digests = [digest for _, digest in self.recent] + list(self.known.elements())
        packed = np.array(sorted(digests), np.uint64).tobytes()
        return {"seen": base64.b64encode(packed).decode()}


def _digest64(cells: Any) -> int:
    text = "\x1f".join(str(_text(cell)) for cell in cells).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _digest(cells: Any) -> int:
    return zlib.crc32("\x1f".join(str(_text(cell)) for cell in cells).encode())


_WATERMARKS: dict[str, tuple[type, Callable[[str], Any]]] = {
    "time": (datetime, datetime.fromisoformat),  # before date: every datetime is a date
    "date": (date, date.fromisoformat),
    "number": (int, int),
    "decimal": (Decimal, Decimal),
    "text": (str, str),
}


def _stored(value: Any) -> list[str]:
    """A watermark as JSON: its kind and its text."""
    for kind, (type_, _) in _WATERMARKS.items():
        if isinstance(value, type_):
            return [kind, value.isoformat() if isinstance(value, date) else str(value)]
    raise InputError(
        f"a watermark of type {type(value).__name__} cannot be kept",
        next="use a column of whole numbers, times or text as `watermark`",
    )


def _unstored(stored: list[str]) -> Any:
    kind, text = stored
    return _WATERMARKS[kind][1](text)
