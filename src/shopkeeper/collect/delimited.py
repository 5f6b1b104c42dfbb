"""CSV and its kin: comma, tab, semicolon; quotes as in RFC 4180.

Polars parses what is whole. It fills short lines with nulls in silence and takes every quote for an
opening one, so each block is checked first: a block without quotes whose delimiters and line ends
alternate as the header demands goes to Polars as it is; otherwise NumPy finds the regular lines and
a plain scanner reads the others (quoted line breaks, stray quotes), or rejects them with a reason.
"""

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from shopkeeper.collect import text
from shopkeeper.collect.batch import Reject
from shopkeeper.collect.text import Lines, Parsed, TextFile
from shopkeeper.errors import InputError

_NEWLINE, _RETURN, _QUOTE = 10, 13, 34
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Header:
    columns: tuple[str, ...]
    lines: int  # lines it takes in the file; 0 where shop.toml names the columns


class Malformed(Exception):
    """A record that breaks the quoting rules. `rule`, `detail` as in Reject."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(detail)
        self.rule, self.detail = rule, detail


class Unclosed(Malformed):
    """The data ends within a quoted field; more data may close it."""


def header_of(file: TextFile, delimiter: str) -> Header:
    """The first line that is not blank, as column names. InputError: empty, or not a header."""
    head = file.head()
    start, lines = 0, 0
    while (match := _BLANK.match(head.data, start)) and match.end() > start:
        start, lines = match.end(), lines + 1
    if start >= len(head.data):
        raise InputError(
            "the file is empty; the first line must name its columns",
            where=file.name,
            next="export it again, or take it away",
        )
    try:
        fields, end = scan(head.data, start, delimiter.encode())
    except Malformed as error:
        raise InputError(f"the header cannot be read: {error.detail}", where=file.name) from error
    if b"\0" in head.data[:end]:
        raise InputError(
            "the header holds NUL bytes: a binary file, or UTF-16 without its mark",
            where=file.name,
            next='for UTF-16 write encoding = "utf-16" into its [[sources]] block in shop.toml',
        )
    names: list[str] = []
    for index, value in enumerate(fields):
        name = value.decode().strip() or f"column_{index + 1}"
        names.append(name if name not in names else f"{name}_{index + 1}")
    return Header(tuple(names), lines + max(1, head.data.count(b"\n", start, end)))


_BLANK = re.compile(rb"[ \t]*\r?\n|[ \t\r]*\Z")


class DelimitedParser:
    """Blocks of lines -> frames of `columns` (String) and `line`."""

    def __init__(self, columns: tuple[str, ...], delimiter: str) -> None:
        self.columns = columns
        self.delimiter = delimiter
        self.schema = {name: pl.String() for name in columns}
        self.one_row = delimiter.encode() * (len(columns) - 1) + b"\n"
        self.not_structure = bytes(set(range(256)) - set(self.one_row))

    def __call__(self, lines: Lines) -> Parsed:
        data = lines.data
        if not lines.bad and b'"' not in data and b"\0" not in data:
            ended = data if data.endswith(b"\n") else data + b"\n"
            structure = ended.translate(None, self.not_structure)
            rows = len(structure) // len(self.one_row)
            blank = len(self.columns) == 1 and _blank_line(ended)
            if data and not blank and structure == self.one_row * rows:
                frame = self._by_polars(data, quoted=False)
                if frame.height == rows:
                    numbers = pl.int_range(lines.first, lines.first + rows, eager=True)
                    return Parsed(frame.with_columns(numbers.alias("line")), [], len(data))
        return self._by_line(lines)

    def _by_polars(self, data: bytes, quoted: bool) -> pl.DataFrame:
        if not data:
            return pl.DataFrame(schema=self.schema)
        return pl.read_csv(
            data,
            has_header=False,
            schema=self.schema,
            separator=self.delimiter,
            quote_char='"' if quoted else None,
        )

    def _by_line(self, lines: Lines) -> Parsed:
        data = lines.data
        ended = data if data.endswith(b"\n") or not data else data + b"\n"
        signs = np.frombuffer(ended, np.uint8)
        ends = np.flatnonzero(signs == _NEWLINE)
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])[: len(ends)]
        regular, blank, quoted = self._regular(signs, starts, ends)
        rejects: list[Reject] = []
        rows: list[list[str]] = []
        numbers: list[int] = []
        used, behind = len(data), 0
        for index in np.flatnonzero(~regular & ~blank).tolist():
            start = int(starts[index])
            if start < behind:
                continue  # within a quoted field that the line above opened
            number = lines.first + index
            problem: Malformed | None
            try:
                fields, behind = scan(ended, start, self.delimiter.encode())
            except Unclosed as error:
                if not lines.final and len(data) - start <= text.LONGEST:
                    used = start
                    break
                fields, behind, problem = [], int(ends[index]) + 1, error
            except Malformed as error:
                fields, behind, problem = [], int(ends[index]) + 1, error
            else:
                problem = self._count(fields)
            last = index + ended.count(b"\n", start, behind)
            regular[index:last] = False
            if b"\0" in ended[start:behind]:
                reasons = [
                    lines.bad[n] for n in range(number, lines.first + last) if n in lines.bad
                ]
                problem = Malformed("encoding", reasons[0]) if reasons else _NUL
            if problem:
                raw = ended[start:behind].rstrip(b"\r\n").decode().replace("\0", "")
                rejects.append(Reject(number, problem.rule, problem.detail, raw))
            else:
                rows.append([field.decode() for field in fields])
                numbers.append(number)
        regular &= starts < used
        lengths = np.diff(np.append(starts, len(ended)))
        good = signs[np.repeat(regular, lengths)].tobytes()
        frame = self._by_polars(good, quoted)
        at = np.flatnonzero(regular) + lines.first
        if frame.height != len(at):  # Polars sees other lines than we do: trust the plain scanner
            rows += [
                [
                    field.decode()
                    for field in scan(ended, int(starts[i]), self.delimiter.encode())[0]
                ]
                for i in np.flatnonzero(regular)
            ]
            numbers += at.tolist()
            frame, at = self._by_polars(b"", quoted), at[:0]
        frame = frame.with_columns(pl.Series("line", at, pl.Int64))
        if rows:
            table = dict(zip(self.columns, zip(*rows, strict=True), strict=True))
            others = pl.DataFrame(table, schema=self.schema)
            others = others.with_columns(pl.Series("line", numbers, pl.Int64))
            frame = pl.concat([frame, others]).sort("line")
        if quoted:  # "" is as empty as nothing
            frame = frame.with_columns(pl.col(pl.String).replace("", None))
        return Parsed(frame, rejects, used)

    def _regular(
        self, signs: npt.NDArray[np.uint8], starts: Positions, ends: Positions
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], bool]:
        """(lines,) bool: a record by itself, well quoted, with the right number of fields;
        (lines,) bool: blank; and whether there are quotes at all."""
        count = len(ends)
        lengths = ends - starts
        returns = (lengths == 1) & (signs[starts] == _RETURN) if count else lengths == 1
        blank = (lengths == 0) | returns
        delimiter = self.delimiter.encode()[0]
        delimiters = np.flatnonzero(signs == delimiter)
        quotes = np.flatnonzero(signs == _QUOTE)
        strange = np.zeros(count, dtype=bool)
        strange[np.searchsorted(ends, np.flatnonzero(signs == 0))] = True
        if quotes.size:
            line = np.searchsorted(ends, quotes)
            first = np.searchsorted(quotes, starts)  # (lines,) its first quote's number
            opening = (np.arange(quotes.size) - first[line]) % 2 == 0
            before = np.where(quotes > 0, signs[quotes - 1], _NEWLINE)
            after = signs[quotes + 1]
            well = np.where(
                opening,
                (before == delimiter) | (before == _NEWLINE) | (before == _QUOTE),
                (after == delimiter) | (after == _NEWLINE) | (after == _RETURN) | (after == _QUOTE),
            )
            strange[line[~well]] = True
            strange |= np.diff(np.append(first, quotes.size)) % 2 == 1
            inside = np.searchsorted(quotes, delimiters)
            of = np.searchsorted(ends, delimiters)
            delimiters = delimiters[(inside - first[of]) % 2 == 0]
        fields = np.diff(np.searchsorted(delimiters, np.append(starts, signs.size))) + 1
        return (fields == len(self.columns)) & ~strange & ~blank, blank, quotes.size > 0

    def _count(self, fields: list[bytes]) -> Malformed | None:
        found, wanted = len(fields), len(self.columns)
        if found == wanted:
            return None
        rule = "too_few_fields" if found < wanted else "too_many_fields"
        return Malformed(rule, f"{found} fields where the header names {wanted}")


_NUL = Malformed("nul_byte", "holds NUL bytes: cut off by a crash, or binary data")


def scan(data: bytes, start: int, delimiter: bytes) -> tuple[list[bytes], int]:
    """The fields of the record at `start`, and where the next one begins.

    A quote opens a field only at the field's start; elsewhere it is a sign like any other.
    Raises Unclosed, or Malformed for text behind a closing quote.
    """
    fields: list[bytes] = []
    at = start
    while True:
        if data[at : at + 1] == b'"':
            parts, at = [], at + 1
            while True:
                quote = data.find(b'"', at)
                if quote < 0:
                    raise Unclosed("unclosed_quote", "a quote opens a field and never closes it")
                if data[quote + 1 : quote + 2] != b'"':
                    break
                parts.append(data[at : quote + 1])
                at = quote + 2
            parts.append(data[at:quote])
            fields.append(b"".join(parts))
            at = quote + 1
            end = at + (data[at : at + 1] == b"\r")
            if data[at : at + 1] == delimiter:
                at += 1
            elif end >= len(data) or data[end : end + 1] == b"\n":
                return fields, min(end + 1, len(data))
            else:
                raise Malformed(
                    "text_after_quote",
                    "text stands between a closing quote and the "
                    "next delimiter; a quote within a field is written twice",
                )
        else:
            line_end = data.find(b"\n", at)
            line_end = len(data) if line_end < 0 else line_end
            comma = data.find(delimiter, at, line_end)
            if comma < 0:
                fields.append(data[at:line_end].removesuffix(b"\r"))
                return fields, min(line_end + 1, len(data))
            fields.append(data[at:comma])
            at = comma + 1


def _blank_line(ended: bytes) -> bool:
    return ended.startswith((b"\n", b"\r\n")) or b"\n\n" in ended or b"\n\r\n" in ended
