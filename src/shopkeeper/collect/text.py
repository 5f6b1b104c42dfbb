"""Text files by the block: bytes in, whole UTF-8 lines out, nothing dropped in silence.

Holds what all line formats share: encodings, byte-order marks, lines that do not decode, endless
lines, a last line without line end, gzip, and resuming at a byte. What a line means is the
format's affair (delimited.py, jsonlines.py).

A last line without line end may still be being written. It is read once the file has been left
alone for `SETTLE` seconds (at most that long is waited). Grows the file later in the middle of that
line, then it counts as rewritten (positions.py), unless the line had been rejected: then it is
simply read again, whole.
"""

import codecs
import gzip
import io
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import polars as pl

from shopkeeper.collect import positions
from shopkeeper.collect.batch import Chunk, Reject
from shopkeeper.collect.encodings import check_encoding, decode_lines, is_line_safe, known_codec
from shopkeeper.config import Source
from shopkeeper.errors import InputError

BLOCK = 32 << 20  # bytes read at a time
LONGEST = 16 << 20  # bytes of one record; a longer one is rejected and skipped
SHOWN = 1000  # characters kept of a record that is too long
SETTLE = 1.0  # seconds without a change after which a last line without line end counts as whole

_MARKS = (  # longest first: the mark of UTF-32 begins like that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NOT_TEXT = (
    (b"PK\x03\x04", "an Excel workbook or a zip archive", 'format = "xlsx", or unpack it'),
    (b"PAR1", "a Parquet file", 'format = "parquet"'),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls)", "save it as .xlsx or .csv"),
    (b"%PDF", "a PDF", "export the table as .csv or .xlsx"),
    (b"SQLite format 3", "an SQLite database", "export the table as .csv"),
)


@dataclass(frozen=True)
class Lines:
    """Whole lines of a file, as UTF-8. A line that did not decode holds a NUL and is in `bad`."""

    data: bytes
    first: int  # the line number of the first one
    final: bool = True  # nothing follows
    bad: dict[int, str] = field(default_factory=dict)  # line number -> why it did not decode


@dataclass(frozen=True)
class Parsed:
    frame: pl.DataFrame
    rejects: Sequence[Reject]
    used: int  # bytes of `data` that are done with; the rest is offered again with more behind it


Parse = Callable[[Lines], Parsed]


@dataclass
class _Cursor:
    """Where reading stands: bytes done with, their CRC, the number of the next line."""

    offset: int = 0
    line: int = 1
    crc: int = 0

    def over(self, data: bytes | memoryview, lines: int) -> None:
        self.offset += len(data)
        self.line += lines
        self.crc = zlib.crc32(data, self.crc)


class TextFile:
    """One text file; gzip is unpacked on the way."""

    def __init__(self, path: Path, name: str, source: Source) -> None:
        """`name`: as positions, quarantine and errors call it. InputError: not a text file."""
        self.path, self.name = path, name
        self.stamp = positions.stamp(path)
        self.codec = known_codec(source.encoding, name)
        with self._unpacking(), closing(self._bytes()) as file:
            head = file.read(4096)
        for magic, what, remedy in _NOT_TEXT:
            if head.startswith(magic):
                raise InputError(f"this is {what}, not text", where=name, next=remedy)
        self.mark = b""
        for mark, codec in _MARKS:
            if head.startswith(mark):
                self.mark, self.codec = mark, codec
                break
        old_mac = b"\r" in head and b"\n" not in head and len(head) > 1
        self.through_decoder = not is_line_safe(self.codec) or old_mac
        if self.through_decoder:
            self.codec, self._outer = "utf-8", self.codec
        check_encoding(self.head_bytes(), self.codec, name, source)

    def head_bytes(self, size: int = 1 << 20) -> bytes:
        """The first whole lines, without byte-order mark, at most about `size` bytes."""
        with self._unpacking(), closing(self._open()) as file:
            file.read(len(self.mark) if not self.through_decoder else 0)
            data = file.read(size)
        if len(data) < size:
            return data
        if cut := data.rfind(b"\n") + 1:
            return data[:cut]
        raise InputError(
            f"no line end in the first {size:,} bytes",
            where=self.name,
            next="this does not look like a table in text; check `path` and `format`",
        )

    def head(self) -> Lines:
        """The first lines, for finding the header."""
        data, bad = decode_lines(self.head_bytes(), self.codec, 1)
        return Lines(data, 1, True, bad)

    def read(
        self, position: dict[str, Any] | None, header_lines: int, parse: Parse, keyed: bool
    ) -> Iterator[Chunk]:
        """Chunks of parsed lines from `position` on; the last one's position says `done`.

        keyed: rows carry their own key, so a rewritten file may be read again from the start.
        """
        if position and position["done"] and positions.untouched(position, self.stamp):
            return
        with self._unpacking(), closing(self._open()) as file:
            at = self._resume(file, position, keyed)
            if at is None:
                file.seek(0)
                at = self._begin(file, header_lines)
            buffer, final = b"", False
            while not final:
                buffer += file.read(BLOCK)
                if buffer and not buffer.endswith(b"\n") and not _more(file):
                    self._wait_for_more(file)
                final = not _more(file)
                for chunk, rest in self._consume(file, buffer, at, parse, final):
                    buffer = rest
                    yield chunk

    def _consume(
        self, file: IO[bytes], buffer: bytes, at: _Cursor, parse: Parse, final: bool
    ) -> Iterator[tuple[Chunk, bytes]]:
        """Parse what is whole in `buffer`; with each chunk, what is left of the buffer."""
        empty = pl.DataFrame()
        while buffer or final:
            if (huge := _huge_line(buffer)) == 0:
                raw = buffer[: SHOWN * 4].decode(self.codec, "replace")[:SHOWN]
                buffer = self._skip_line(file, buffer, at)
                detail = f"longer than {LONGEST >> 20} MB; its first {SHOWN} characters are kept"
                reject = Reject(at.line - 1, "too_long", detail, raw)
                yield Chunk(empty, [reject], self._position(at, False), at.offset), buffer
                continue
            whole = buffer if final else buffer[: buffer.rfind(b"\n") + 1]
            if huge is not None:
                whole = buffer[:huge]
            last = final and len(whole) == len(buffer)
            data, bad = decode_lines(whole, self.codec, at.line)
            parsed = parse(Lines(data, at.line, last or huge is not None, bad))
            lines = data.count(b"\n", 0, parsed.used)
            used = parsed.used
            if data is not whole:  # the same lines, other bytes
                used = len(whole) if used == len(data) else _after(whole, lines)
            if not used and not last:
                return
            buffer = buffer[used:]
            unended = last and not whole.endswith(b"\n") and bool(whole)
            if unended and any(reject.line == at.line + lines for reject in parsed.rejects):
                used = whole.rfind(b"\n") + 1  # rejected: a whole line may come in its place
                unended = False
            at.over(memoryview(whole)[:used], lines + unended)
            place = self._position(at, last) | ({"open": True} if unended else {})
            yield Chunk(parsed.frame, parsed.rejects, place, at.offset), buffer
            if last:
                return

    def _resume(
        self, file: IO[bytes], position: dict[str, Any] | None, keyed: bool
    ) -> _Cursor | None:
        """Where to go on, `file` standing there; None: from the start."""
        if not position:
            return None
        at = _Cursor(position["offset"], position["line"], position["crc"])
        if positions.untouched(position, self.stamp):
            file.seek(at.offset)
        elif not positions.begins_the_same(file, position):
            if keyed:
                return None
            raise positions.rewritten(self.name, "the file was rewritten since it was read")
        if position.get("open"):
            end = file.read(1)
            end += file.read(1) if end == b"\r" else b""
            if end not in (b"", b"\n", b"\r\n"):
                if keyed:
                    return None
                raise positions.rewritten(self.name, f"line {at.line - 1} was read half-written")
            at.over(end, 0)
        return at

    def _begin(self, file: IO[bytes], header_lines: int) -> _Cursor:
        at = _Cursor()
        if not self.through_decoder:
            at.over(file.read(len(self.mark)), 0)
        for _ in range(header_lines):
            at.over(file.readline(), 1)
        return at

    def _wait_for_more(self, file: IO[bytes]) -> None:
        """Return when the line being written right now goes on, or the file is left alone."""
        deadline = time.monotonic() + SETTLE
        while not _more(file) and time.monotonic() < deadline:
            if time.time() - self.path.stat().st_mtime >= SETTLE:
                return
            time.sleep(0.05)

    def _skip_line(self, file: IO[bytes], buffer: bytes, at: _Cursor) -> bytes:
        """Move behind the line that `buffer` begins with; what follows of the bytes read."""
        while (end := buffer.find(b"\n")) < 0 and buffer:
            at.over(buffer, 0)
            buffer = file.read(BLOCK)
        at.over(memoryview(buffer)[: end + 1], 1)
        return buffer[end + 1 :]

    def _position(self, at: _Cursor, done: bool) -> dict[str, Any]:
        place = {"offset": at.offset, "line": at.line, "crc": at.crc, "done": done}
        return self.stamp | place

    def _bytes(self) -> IO[bytes]:
        with self.path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        return cast(IO[bytes], gzip.open(self.path)) if packed else self.path.open("rb")

    def _open(self) -> IO[bytes]:
        file = self._bytes()
        if not self.through_decoder:
            return file
        return cast(IO[bytes], io.BufferedReader(_Decoded(file, len(self.mark), self._outer)))

    @contextmanager
    def _unpacking(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(
                f"the gzip file is cut off or damaged ({error})",
                where=self.name,
                next="copy or export it again; what was read before it broke is kept",
            ) from error


class _Decoded(io.RawIOBase):
    """A file as UTF-8 with line ends "\\n"; what does not decode becomes NUL."""

    def __init__(self, file: IO[bytes], mark: int, codec: str) -> None:
        self.file, self.mark = file, mark
        self.make = codecs.getincrementaldecoder(codec)
        self._rewind()

    def _rewind(self) -> None:
        self.file.seek(self.mark)
        self.decoder = io.IncrementalNewlineDecoder(self.make("shopkeeper-nul"), translate=True)
        self.rest, self.at, self.ended = b"", 0, False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Forward by decoding and dropping; only from the start."""
        if whence != 0:
            raise io.UnsupportedOperation("only absolute positions")
        if offset < self.at:
            self._rewind()
        while self.at < offset and self.read(min(offset - self.at, 1 << 20)):
            pass
        return self.at

    def readinto(self, into: Any) -> int:
        while not self.rest and not self.ended:
            data = self.file.read(1 << 20)
            self.ended = not data
            self.rest = self.decoder.decode(data, final=self.ended).encode()
        size = min(len(into), len(self.rest))
        into[:size], self.rest = self.rest[:size], self.rest[size:]
        self.at += size
        return size

    def close(self) -> None:
        self.file.close()
        super().close()


def _nul(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\0", error.end


codecs.register_error("shopkeeper-nul", _nul)


def _more(file: IO[bytes]) -> bool:
    return bool(cast(io.BufferedReader, file).peek(1))


def _after(data: bytes, lines: int) -> int:
    """The offset behind so many lines."""
    if not lines:
        return 0
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == 10)
    return int(ends[lines - 1]) + 1


def _huge_line(buffer: bytes) -> int | None:
    """Where the first line longer than LONGEST begins. Such a line covers a multiple of LONGEST."""
    for probe in range(LONGEST, len(buffer), LONGEST):
        start = buffer.rfind(b"\n", 0, probe) + 1
        end = buffer.find(b"\n", probe)
        if (end if end >= 0 else len(buffer)) - start > LONGEST:
            return start
    return None
