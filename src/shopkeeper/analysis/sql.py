"""One SELECT over assets, with DuckDB.

    query(assets, "SELECT kind, count(*) AS n FROM clean.events GROUP BY kind", by=OWNER).text()

Tables are assets (`clean.events`) and their versions (`"clean.events@3"`). Only those the query
names are handed out, only the columns it speaks of, through the one read path. DuckDB itself can
reach no file, no network, no extension and no setting.

What people type runs in a process of its own (`apart`). DuckDB's memory limit counts what its buffer
manager holds, not the lists and texts that an expression makes, and an interrupt is heard between
two pieces of work: `list_sum(range(300000000))` takes 15 GB and a minute under a limit of 1 GB and
5 s. A process can be watched and ended.
"""

import difflib
import json
import pickle
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import duckdb
import polars as pl

from shopkeeper.analysis.arrow import Answered, Lazy
from shopkeeper.assets.parts import Rows
from shopkeeper.assets.store import Assets
from shopkeeper.engine.local import Worker
from shopkeeper.errors import InputError
from shopkeeper.governance.access import Principal, check_read
from shopkeeper.words import Purpose

FUNCTIONS = ("range", "generate_series", "unnest")  # in FROM; all others reach beyond assets
# duckdb types that Polars cannot take from it, or only as something nobody expects
_AS_TEXT = ("INTERVAL", "JSON", "UUID", "ENUM", "MAP", "UNION", "BIT", "TIME WITH TIME ZONE", '"NULL"')  # fmt: skip
LOOK = 0.01  # seconds between two looks at the process of a query
START = 5.0  # seconds it may take to begin, and to end by itself once it was interrupted
_LATIN = re.compile(r"^(?:[A-Z][A-Za-z]* )+Error: |^INTERRUPT Error: ")


@dataclass(frozen=True)
class Limits:
    """What one query may use; every one set on purpose, since people share the machine."""

    rows: int = 10_000  # of the result; what is beyond is cut, and said
    seconds: float = 60.0
    memory_mb: int = 1024  # DuckDB's own; nothing is written to disk, as personal rows would be
    spare_mb: int = (
        1024  # of its process beside that: Python, rows on their way in, lists and texts
    )
    answer_mb: int = 128  # of the result, which is held several times over on its way out
    threads: int = 2


@dataclass(frozen=True)
class Result:
    """What a query answered."""

    frame: pl.DataFrame
    types: tuple[str, ...]  # of the columns, in DuckDB's words
    cut: bool  # there are more rows
    seconds: float
    read: tuple[str, ...]  # ids of the versions read

    def as_dict(self) -> dict[str, Any]:
        """{"columns": [{"name", "type"}], "rows", "row_count", "cut", "seconds", "read"}."""
        names = zip(self.frame.columns, self.types, strict=True)
        return {
            "columns": [{"name": name, "type": kind} for name, kind in names],
            "rows": json.loads(_plain(self.frame).write_json()),
            "row_count": self.frame.height,
            "cut": self.cut,
            "seconds": round(self.seconds, 3),
            "read": list(self.read),
        }

    def text(self, rows: int = 40) -> str:
        """The first rows as a table of text, and one line of counts."""
        shown = _plain(self.frame).head(rows)
        with pl.Config(
            tbl_rows=rows, tbl_cols=-1, tbl_width_chars=160, tbl_hide_dataframe_shape=True,
            tbl_hide_column_data_types=True, tbl_formatting="ASCII_MARKDOWN",
            fmt_str_lengths=60, set_fmt_float="mixed",
        ):  # fmt: skip
            table = str(shown)
        count = f"{self.frame.height:,} row{'s' * (self.frame.height != 1)}"
        more = f"; the first {shown.height:,} shown" if shown.height < self.frame.height else ""
        cut = "; there are more: raise the limit or ask for fewer" if self.cut else ""
        return f"{table}\n{count} in {self.seconds:.2f} s from {', '.join(self.read) or 'no asset'}{more}{cut}"

    def write(self, out: Path) -> None:
        """Write to `out`: .csv, .parquet, .json, .jsonl or .svg. InputError: another suffix."""
        from shopkeeper.analysis.chart import chart

        frame, part = self.frame, out.with_name(f".{out.name}.part")
        if out.suffix == ".csv":
            _flat(_plain(frame)).write_csv(part)
        elif out.suffix == ".parquet":
            frame.write_parquet(part)
        elif out.suffix == ".json":
            told = json.dumps(self.as_dict(), ensure_ascii=False, indent=1)
            part.write_text(told + "\n", encoding="utf-8")
        elif out.suffix in (".jsonl", ".ndjson"):
            _plain(frame).write_ndjson(part)
        elif out.suffix == ".svg":
            part.write_text(chart(frame), encoding="utf-8")
        else:
            raise InputError(
                f"cannot write {out.suffix or 'a file without a suffix'}", where=str(out),
                next="name a file that ends in .csv, .parquet, .json, .jsonl or .svg",
            )  # fmt: skip
        part.replace(out)


@dataclass(frozen=True)
class Handed:
    """One asset version as a query may read it, under the name that the query gives it."""

    schema: str
    table: str
    rows: Rows | pl.LazyFrame
    columns: tuple[str, ...]  # those that it may read

    def lazy(self) -> pl.LazyFrame:
        rows = self.rows.scan() if isinstance(self.rows, Rows) else self.rows
        return rows.select(self.columns)


@dataclass(frozen=True)
class Question:
    """All that a process needs to answer a query."""

    sql: str
    limits: Limits
    timezone: str
    handed: tuple[Handed, ...]
    columns: frozenset[str]  # of all that is named, to tell the nearest of a wrong one


def query(
    assets: Assets,
    sql: str,
    *,
    by: Principal,
    limits: Limits | None = None,
    timezone: str = "UTC",
    instead: Mapping[str, pl.LazyFrame] | None = None,
    apart: bool = False,
) -> Result:
    """Run one SELECT.

    Args:
        instead: asset -> rows that stand for its current version: what a run is about to commit.
        apart: in a process of its own, which is ended where it takes more time or memory than
            `limits` allow, whatever it is at. It costs some 0.3 s of CPU; `instead` does not go with it.
        timezone: the shop's, in which `date_trunc`, `::date` and the like cut instants.
    Raises:
        InputError: no single SELECT, an unknown table or column, a mistake (with its place), or more
            time or memory than `limits` allow.
        Denied: `by` may not read an asset that the query names.
    """
    limits = limits or Limits()
    started = time.monotonic()
    with _Session(sql, limits, timezone) as session:
        tree = session.parse()
        tables = _tables(tree)
        _known(assets, tables, instead or {})
        wanted = _wanted(tree)
        found = [_hand_out(assets, by, *table, wanted, instead or {}) for table in tables]
        columns = frozenset(name for _, _, every in found for name in every)
        handed = tuple(one for one, _, _ in found)
        question = Question(session.sql, limits, timezone, handed, columns)
        frame, types = _apart(question) if apart else session.answer(question)
    cut = frame.height > limits.rows
    ids = tuple(dict.fromkeys(version for _, version, _ in found))
    return Result(frame.head(limits.rows), types, cut, time.monotonic() - started, ids)


def _hand_out(
    assets: Assets,
    by: Principal,
    schema: str,
    table: str,
    words: set[str] | None,
    instead: Mapping[str, pl.LazyFrame],
) -> tuple[Handed, str, tuple[str, ...]]:
    """One asset version to be read, its id, and all its columns."""
    name, version = asset_of(schema, table)
    new = instead.get(name) if version is None else None
    rows: Rows | pl.LazyFrame
    if new is None:
        rows = assets.rows(name, by=by, purpose=Purpose.ANALYSE, version=version)
        every = tuple(rows.columns)
    else:
        check_read(by, Purpose.ANALYSE, name)
        rows, every = new, tuple(new.collect_schema().names())
    columns = every if words is None else tuple(c for c in every if c.lower() in words) or every[:1]
    id_ = f"{name}@new" if new is not None else assets.version(name, version).id
    return Handed(schema, table, rows, columns), id_, every


def _apart(question: Question) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """`_Session.answer` in a process of its own. InputError: it was ended, or as that says."""
    limits = question.limits
    worker = Worker(limits.threads)
    try:
        worker.do(pickle.dumps(("begin", _answered, None)), 0, question, 1)
        until = time.monotonic() + limits.seconds + START
        while not worker.connection.poll(LOOK):
            if time.monotonic() > until:
                raise _too_long(limits)
            if _resident_mb(worker.process.pid) > limits.memory_mb + limits.spare_mb:
                raise _too_much(limits.memory_mb + limits.spare_mb)
        state, told = worker.connection.recv()
    except (EOFError, OSError):
        raise InputError(
            f"the process of the query was ended ({_ended(worker.end())})", where="SQL",
            next="the machine may have run out of memory: group or filter earlier, name fewer columns",
        ) from None  # fmt: skip
    finally:
        worker.process.kill()
        worker.end()
    if state == "failed":
        raise told
    answer: tuple[pl.DataFrame, tuple[str, ...]] = told[0]
    return answer


def _answered(shared: None, question: Question) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """What the process of a query does. Should nobody be left to end it, the system does."""
    signal.alarm(int(question.limits.seconds + 2 * START))
    with _Session(question.sql, question.limits, question.timezone) as session:
        session.parse()
        return session.answer(question)


def _resident_mb(pid: int) -> float:
    """Memory of a process that is its own, not files it maps; 0 where the system does not tell."""
    try:
        told = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0.0
    found = re.search(r"^RssAnon:\s*(\d+) kB", told, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def _ended(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit status {status}"


def _too_long(limits: Limits) -> InputError:
    return InputError(
        f"the query took longer than {limits.seconds:g} s and was stopped", where="SQL",
        next="narrow it (a WHERE on ts, fewer joins), or raise the time limit",
    )  # fmt: skip


def _too_much(memory_mb: int) -> InputError:
    return InputError(
        f"the query needs more than {memory_mb:,} MB", where="SQL",
        next="group or filter earlier, name fewer columns, or raise the memory limit",
    )  # fmt: skip


class _Session:
    """A DuckDB of its own for one query, locked, interrupted when its time is up."""

    def __init__(self, sql: str, limits: Limits, timezone: str) -> None:
        self.sql = sql.strip().rstrip(";").rstrip()
        self.limits = limits
        self.columns: frozenset[str] = frozenset()
        self.late = False
        self.tree: dict[str, Any] = {}
        self.duck = duckdb.connect(":memory:")
        for key, value in {
            "TimeZone": timezone,
            "threads": limits.threads,
            "memory_limit": f"{limits.memory_mb}MB",
            "temp_directory": "",
            "enable_progress_bar": False,
            "python_enable_replacements": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
            "enable_external_access": False,
        }.items():
            self.duck.execute(f"SET {key} = '{value}'")
        self.timer = threading.Timer(limits.seconds, self._interrupt)
        self.timer.daemon = True

    def __enter__(self) -> Self:
        self.timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.timer.cancel()
        self.duck.close()

    def _interrupt(self) -> None:
        self.late = True
        self.duck.interrupt()

    def parse(self) -> Mapping[str, Any]:
        """The query as a tree. InputError: it is not one SELECT."""
        found = self.duck.execute("SELECT json_serialize_sql(?)", [self.sql]).fetchall()
        tree: dict[str, Any] = json.loads(found[0][0])
        self.tree = tree
        if tree.get("error_type") == "parser":
            raise self._wrong(tree["error_message"], place=int(tree.get("position", -1)))
        count = len(self.duck.extract_statements(self.sql))
        if count != 1:
            raise InputError(
                f"{count} statements, wanted one SELECT", where="SQL",
                next="ask one question at a time",
            )  # fmt: skip
        if tree.get("error"):
            word = (self.sql.split() or [""])[0].upper()
            word = "PIVOT, or the like," if word in ("SELECT", "WITH", "FROM") else word
            raise InputError(
                f"{word} is refused: only SELECT is answered here", where="SQL",
                next="ask with SELECT (or WITH … SELECT); assets change through the steps of the loop",
            )  # fmt: skip
        for node in _nodes(tree):
            name = str(node.get("function", {}).get("function_name", "")).lower()
            if node.get("type") == "TABLE_FUNCTION" and name not in FUNCTIONS:
                raise InputError(
                    f"{name}() is refused: a query reads assets, no files, network or settings",
                    where=self._at(node["function"].get("query_location", -1)) or "SQL",
                    next="name an asset, as in FROM clean.events; see them with: shopkeeper assets ls",
                )  # fmt: skip
        return tree

    def _take(self, handed: Handed) -> None:
        """Make one asset version readable under the name the query gives it."""
        schema, table = handed.schema, handed.table
        key = f"{schema}.{table}" if schema else table
        self.duck.register(key, Lazy(handed.lazy()))
        if schema:
            self.duck.execute(f"CREATE SCHEMA IF NOT EXISTS {_quoted(schema)}")
            self.duck.execute(
                f"CREATE VIEW {_quoted(schema)}.{_quoted(table)} AS FROM {_quoted(key)}"
            )

    def answer(self, question: Question) -> tuple[pl.DataFrame, tuple[str, ...]]:
        """The rows, one more than the limit, and the types of the columns."""
        self.columns = question.columns
        for handed in question.handed:
            self._take(handed)
        self.duck.execute("SET lock_configuration = true")
        try:
            asked = self.duck.sql(self.sql)
            names, types = list(asked.columns), [str(kind) for kind in asked.types]
            inside = [f"c{place}" for place in range(len(names))]
            carried = ", ".join(map(_carried, inside, types))
            # the query begins on a line of its own, so that a comment at its end ends there; its
            # answer is taken whole by DuckDB first, whose memory has a limit
            self.duck.execute(
                f"CREATE TEMP TABLE taken AS SELECT {carried} "
                f"FROM (\n{self.sql}\n) AS answer({', '.join(inside)}) LIMIT {self.limits.rows + 1}"
            )
            frame = pl.DataFrame(Answered(self.duck.sql("FROM temp.main.taken")))
        except duckdb.Error as error:
            raise self._explained(error) from error
        if (size := frame.estimated_size("mb")) > self.limits.answer_mb:
            raise InputError(
                f"the answer has {size:,.0f} MB, at most {self.limits.answer_mb:,} may go out",
                where="SQL", next="name fewer columns (pictures and long texts weigh most) or ask for "
                "fewer rows; whole tables go out with: shopkeeper assets export",
            )  # fmt: skip
        frame.columns = list(_distinct(names))
        return frame, tuple(types)

    def _explained(self, error: duckdb.Error) -> InputError:
        text = str(error)
        if self.late or isinstance(error, duckdb.InterruptException):
            return _too_long(self.limits)
        if isinstance(error, duckdb.OutOfMemoryException):
            return _too_much(self.limits.memory_mb)
        head, _, told = text.partition("\n\nLINE ")
        message = _LATIN.sub("", head.split("\n")[0]).rstrip("!")
        return self._wrong(message, line=told)

    def _wrong(self, message: str, *, place: int = -1, line: str = "") -> InputError:
        """A mistake in the SQL: where it stands, and the nearest name where one is unknown."""
        named = re.search(
            r'(?:[Cc]olumn (?:named |with name )?"|with name |Referenced table ")([^"\s]+)', message
        )
        if named and place < 0:
            place = _place(self.tree, named[1].lower())
        where = self._at(place)
        if not where and (found := re.match(r"(\d+): (.*)\n( *)\^", line)):
            row, column = int(found[1]) - 1, len(found[3]) - len(f"LINE {found[1]}: ")
            if self.sql.split("\n")[row - 1 : row] == [found[2]]:  # the wrapped query's line
                where = f"SQL line {row}, column {column + 1}"
            else:
                where = f"SQL, at {found[2][column : column + 20]!r}"
        near: list[str] = []
        if named and "olumn" in message:
            near = difflib.get_close_matches(
                named[1].lower(), sorted(self.columns), n=3, cutoff=0.5
            )
            also = f"columns: {', '.join(sorted(self.columns))}"
            step = f"did you mean {' or '.join(map(repr, near))}?" if near else also
        else:
            step = "correct it and ask again"
        return InputError(message, where=where or "SQL", next=step)

    def _at(self, place: int) -> str:
        """Line and column of a place in the query; "" where it is not known."""
        if not 0 <= place <= len(self.sql):
            return ""
        before = self.sql.encode()[:place].decode(errors="ignore").split("\n")
        return f"SQL line {len(before)}, column {len(before[-1]) + 1}"


def asset_of(schema: str, table: str) -> tuple[str, str | None]:
    """The asset and version a table name means: ("", "clean.events@3") -> ("clean.events", "3")."""
    name, _, version = table.partition("@")
    return (f"{schema}.{name}" if schema else name), version or None


def _nodes(tree: Any) -> Iterator[Mapping[str, Any]]:
    """Every object of the tree."""
    todo = [tree]
    while todo:
        at = todo.pop()
        if isinstance(at, dict):
            yield at
            todo += at.values()
        elif isinstance(at, list):
            todo += at


def _place(tree: Any, name: str) -> int:
    """Where the query first speaks of a column, table or function of this name; -1: nowhere."""
    found = [
        int(node["query_location"])
        for node in _nodes(tree)
        for spoken in (*node.get("column_names", ()), node.get("function_name"))
        if "query_location" in node and str(spoken).lower() == name
    ]
    return min(found, default=-1)


def _tables(tree: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(schema, table) of every table the query names, those that it makes itself left out."""
    made = {
        entry["key"].lower() for node in _nodes(tree) for entry in _entries(node.get("cte_map"))
    }
    found: dict[tuple[str, str], None] = {}
    for node in _nodes(tree):
        if node.get("type") == "BASE_TABLE" or (node.get("type") == "SHOW_REF" and node.get("table_name")):  # fmt: skip
            parts = [str(node.get(k) or "") for k in ("catalog_name", "schema_name", "table_name")]
            schema, table = ".".join(part for part in parts[:-1] if part), parts[-1].strip('"')
            if schema or table.lower() not in made:
                found[schema, table] = None
    return sorted(found)


def _entries(cte_map: Any) -> Sequence[Mapping[str, Any]]:
    return cte_map.get("map", []) if isinstance(cte_map, dict) else []


def _known(
    assets: Assets, tables: Sequence[tuple[str, str]], instead: Mapping[str, pl.LazyFrame]
) -> None:
    names = [*assets.catalog.asset_names(), *instead]
    for schema, table in tables:
        name, _ = asset_of(schema, table)
        if name not in names:
            tails = {known.partition(".")[2]: known for known in reversed(names)}
            near = difflib.get_close_matches(name, names, n=2, cutoff=0.8)
            near = near or ([f"clean.{name}"] if f"clean.{name}" in names else [])
            near = near or [tails[t] for t in difflib.get_close_matches(name, tails, n=2)]
            step = f"did you mean {' or '.join(near)}? " if near else ""
            raise InputError(
                f"no asset {name!r}", where="SQL", next=f"{step}see all with: shopkeeper assets ls"
            )


def _wanted(tree: Mapping[str, Any]) -> set[str] | None:
    """Words of the query that may be columns, in small letters; None: it may mean any column.

    A superset: every text of the tree. Rows as a whole (`*`, a table's name as a value), natural
    joins and DESCRIBE mean all columns.
    """
    words: set[str] = set()
    tables: set[str] = set()
    single: set[str] = set()
    for node in _nodes(tree):
        kind = node.get("type")
        if node.get("class") == "STAR" or kind in ("STAR", "SHOW_REF") or node.get("ref_type") == "NATURAL":  # fmt: skip
            return None
        if kind == "BASE_TABLE":
            tables |= {str(node.get(key) or "").lower() for key in ("alias", "table_name")}
        if kind == "COLUMN_REF" and len(node.get("column_names", ())) == 1:
            single.add(node["column_names"][0].lower())
        for value in node.values():
            words |= {v.lower() for v in (value if isinstance(value, list) else [value]) if isinstance(v, str)}  # fmt: skip
    return None if tables & single else words


def _carried(column: str, kind: str) -> str:
    """A column of the answer as a type that Polars has."""
    if kind == "HUGEINT":  # what a sum of whole numbers is; an answer beyond 64 bits is refused
        return f"CAST({column} AS BIGINT) AS {column}"
    if any(word in kind for word in _AS_TEXT):
        return f"CAST({column} AS VARCHAR) AS {column}"
    return column


def _distinct(names: Sequence[str]) -> Iterator[str]:
    """Names, the second of a kind as name_2."""
    seen: set[str] = set()
    for name in names:
        given, place = name, 1
        while given in seen:
            place += 1
            given = f"{name}_{place}"
        seen.add(given)
        yield given


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Bytes as hexadecimal text, so that JSON and CSV can hold them."""
    return frame.with_columns(pl.selectors.binary().bin.encode("hex"))


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    """Lists and structs as JSON text, so that CSV can hold them."""
    nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
    return frame.with_columns(
        pl.Series(
            name,
            [None if value is None else json.dumps(value, ensure_ascii=False, default=str) for value in frame[name].to_list()],
            dtype=pl.String,
        )
        for name in nested
    )  # fmt: skip
