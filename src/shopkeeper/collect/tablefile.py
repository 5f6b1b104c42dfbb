"""Parquet and Excel: whole tables in one file, read by the row from where reading was left."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fastexcel
import polars as pl

from shopkeeper.collect import positions
from shopkeeper.collect.batch import Chunk
from shopkeeper.collect.cells import texts
from shopkeeper.errors import InputError

ROWS = 250_000  # rows of a chunk


class ParquetFile:
    """A Parquet file. It is written once: with other bytes it counts as rewritten."""

    def __init__(self, path: Path, name: str) -> None:
        """InputError: cut off, or no Parquet file."""
        self.path, self.name = path, name
        self.stamp = positions.stamp(path)
        with self._sound():
            self.scan = pl.scan_parquet(path)
            self.columns = self.scan.collect_schema().names()
            self.rows = int(self.scan.select(pl.len()).collect().item())

    def read(
        self, position: dict[str, Any] | None, columns: list[str], keyed: bool
    ) -> Iterator[Chunk]:
        """Chunks of `columns` as text from `position` on; `line` is the row, the first is 1."""
        if position and position["done"] and positions.untouched(position, self.stamp):
            return
        crc = positions.crc_of(self.path)
        row = 0
        if position:
            if crc == position["crc"]:
                row = int(position["row"])
            elif not keyed:
                raise positions.rewritten(self.name, "the file was rewritten since it was read")
        place = self.stamp | {"crc": crc}
        if row >= self.rows:
            yield Chunk(pl.DataFrame(), [], place | {"row": row, "done": True}, self.stamp["size"])
            return
        left = self.scan.select(columns).slice(row)
        with self._sound():
            batches = iter(left.collect_batches(chunk_size=ROWS, maintain_order=True))
        while True:
            with self._sound():
                frame = next(batches, None)
                if frame is None:
                    return
                frame = texts(frame)
            lines = pl.int_range(row + 1, row + frame.height + 1, eager=True).alias("line")
            row += frame.height
            here = place | {"row": row, "done": row == self.rows}
            done = self.stamp["size"] * row // self.rows
            yield Chunk(frame.with_columns(lines), [], here, done)

    @contextmanager
    def _sound(self) -> Iterator[None]:
        try:
            yield
        except pl.exceptions.PolarsError as error:
            raise InputError(
                f"not a sound Parquet file ({str(error).splitlines()[0]})",
                where=self.name,
                next="it was cut off or damaged on the way: copy or export it again, then run again; "
                "rows of other files are kept",
            ) from error


class ExcelFile:
    """One sheet of a workbook; the first row that is not blank names the columns.

    Excel rewrites the whole file when a row is added, so it is the rows that are compared: when
    those read before are still the same, only the new ones are read.
    """

    def __init__(self, path: Path, name: str, sheet: str | None) -> None:
        """InputError: no workbook, no such sheet, an empty sheet."""
        self.path, self.name = path, name
        self.stamp = positions.stamp(path)
        try:
            book = fastexcel.read_excel(path)
            wanted = sheet or book.sheet_names[0]
            if wanted not in book.sheet_names:
                raise InputError(
                    f"no sheet {wanted!r}; found: {', '.join(book.sheet_names)}",
                    where=name,
                    next="correct `sheet` in shop.toml",
                )
            cells = book.load_sheet(
                wanted, header_row=None, skip_rows=0, dtypes="string"
            ).to_polars()
        except fastexcel.FastExcelError as error:
            raise InputError(
                f"not a readable Excel workbook ({str(error).splitlines()[0]})",
                where=name,
                next="open it in a spreadsheet program, take off any password, save it as .xlsx",
            ) from error
        cells = cells.with_row_index("line", offset=1).with_columns(pl.col("line").cast(pl.Int64))
        inside = pl.exclude("line")
        cells = cells.with_columns(inside.replace("", None)).filter(
            ~pl.all_horizontal(pl.lit(True), inside.is_null())
        )
        if cells.is_empty():
            raise InputError(
                "the sheet is empty; the first row must name its columns",
                where=name,
                next="export it again, name another `sheet` in shop.toml, or take the file away",
            )
        heads = cells.row(0)[1:]
        names: list[str] = []
        for index, head in enumerate(heads):
            title = (head or "").strip() or f"column_{index + 1}"
            names.append(title if title not in names else f"{title}_{index + 1}")
        self.columns = names
        self.cells = cells.slice(1).rename(dict(zip(cells.columns[1:], names, strict=True)))

    def read(self, position: dict[str, Any] | None, keyed: bool) -> Iterator[Chunk]:
        """Chunks of all columns as text from `position` on; `line` is the row of the sheet."""
        if position and position["done"] and positions.untouched(position, self.stamp):
            return
        row = crc = 0
        if position:
            row, crc = int(position["row"]), int(position["crc"])
            if row > self.cells.height or _crc(self.cells.head(row), 0) != crc:
                if not keyed:
                    raise positions.rewritten(self.name, "rows read before were changed since")
                row = crc = 0
        while True:
            frame = self.cells.slice(row, ROWS)
            row += frame.height
            crc = _crc(frame, crc)
            place = self.stamp | {"row": row, "crc": crc, "done": row == self.cells.height}
            done = self.stamp["size"] * row // max(1, self.cells.height)
            yield Chunk(frame, [], place, done)
            if place["done"]:
                return


def _crc(frame: pl.DataFrame, crc: int) -> int:
    return zlib.crc32(frame.write_csv(include_header=False).encode(), crc)
