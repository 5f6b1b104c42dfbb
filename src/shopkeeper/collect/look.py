"""The first rows of a file as text, read as sources are, without a mapping: for whoever drafts a contract."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from shopkeeper.collect import jsonlines
from shopkeeper.collect.batch import Chunk
from shopkeeper.collect.delimited import DelimitedParser, header_of
from shopkeeper.collect.sources import format_of
from shopkeeper.collect.tablefile import ExcelFile, ParquetFile
from shopkeeper.collect.text import TextFile
from shopkeeper.config import Source
from shopkeeper.errors import InputError, NotFound
from shopkeeper.words import WHOLE_FILES


def rows_of(path: Path, rows: int) -> pl.DataFrame:
    """At most about `rows` rows, every column as text.

    Raises:
        NotFound: there is no such file. InputError: it cannot be read as a table.
    """
    if not path.is_file():
        raise NotFound(
            "no such file", where=str(path), next="name a .csv, .parquet, .jsonl or .xlsx"
        )
    source = Source(table="items", path=path.name)
    form = format_of(source, path)
    if form in WHOLE_FILES:
        raise InputError(f"{form} are no table", where=str(path))
    found, seen = [], 0
    for chunk in _chunks(form, source, path):
        if chunk.frame.width:
            found.append(chunk.frame.drop("line", strict=False))
            seen += chunk.frame.height
        if seen >= rows:
            break
    if not found:
        raise InputError("no rows below the header", where=str(path), next="export it again")
    return pl.concat(found, how="diagonal").head(rows)


def _chunks(form: str, source: Source, path: Path) -> Iterator[Chunk]:
    name = str(path)
    if form == "parquet":
        parquet = ParquetFile(path, name)
        return parquet.read(None, parquet.columns, True)
    if form == "xlsx":
        return ExcelFile(path, name, None).read(None, True)
    file = TextFile(path, name, source)
    if form == "csv":
        delimiter = "\t" if ".tsv" in path.name.lower() else source.delimiter
        header = header_of(file, delimiter)
        return file.read(None, header.lines, DelimitedParser(header.columns, delimiter), True)
    return file.read(None, 0, jsonlines.parse, True)
