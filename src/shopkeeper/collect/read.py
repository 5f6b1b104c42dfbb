"""Read a source: its files one after another, each from where it was left, as canonical batches."""

from collections.abc import Iterator
from collections.abc import Mapping as MappingType
from pathlib import Path
from typing import Any

import polars as pl

from shopkeeper.collect import jsonlines, pictures, remote, sounds, streams, wholefiles
from shopkeeper.collect.batch import Batch, Chunk, rejects_frame
from shopkeeper.collect.delimited import DelimitedParser, Header, header_of
from shopkeeper.collect.mapping import Mapping, plan
from shopkeeper.collect.positions import untouched
from shopkeeper.collect.sources import files_of, format_of, name_of, objects_of
from shopkeeper.collect.sql import SqlTable
from shopkeeper.collect.tablefile import ExcelFile, ParquetFile
from shopkeeper.collect.text import TextFile
from shopkeeper.config import Settings, Source
from shopkeeper.errors import InputError
from shopkeeper.words import WHOLE_FILES

Positions = MappingType[str, dict[str, Any]]
Chunks = Iterator[tuple[Chunk, Mapping]]


def read(source: Source, settings: Settings, folder: Path, positions: Positions) -> Iterator[Batch]:
    """Batches of rows that were not read before, in file order.

    Args:
        positions: file name -> the position of the last batch that was kept; {} reads everything.
    Raises:
        InputError: a file is missing, unreadable, or lacks a column; says which and what to do.
        SourceError: a database, a stream or a bucket does not answer.
    """
    if source.format == "sql":
        yield from _sql(source, settings, positions)
        return
    if source.format in streams.OPEN:
        yield from streams.read(source, settings, folder, positions)
        return
    if "://" in (source.path or ""):
        yield from _bucket(source, settings, folder, positions)
        return
    files = files_of(source, folder)
    total = sum(path.stat().st_size for _, path in files)
    before = 0
    for name, path in files:
        position = positions.get(name)
        form = format_of(source, path)
        if form in WHOLE_FILES:
            look = pictures.look if form == "images" else sounds.look
            yield from wholefiles.read(form, look, name_of(source), name, path, position)
            continue
        if path.stat().st_size == 0 and len(files) > 1:
            continue  # one of many parts, and there is nothing in it
        for chunk, mapping in _file(source, settings, name, path, position):
            yield _batch(chunk, mapping, name, before, total)
        before += path.stat().st_size


def _bucket(
    source: Source, settings: Settings, folder: Path, positions: Positions
) -> Iterator[Batch]:
    """Objects of a bucket, each fetched when it is read, and only if it is new or changed."""
    found = objects_of(source)
    total = sum(one.size for one in found)
    before = 0
    for one in found:
        position = positions.get(one.name)
        read = position is not None and position["done"] and untouched(position, one.stamp)
        if not read and (one.size or len(found) == 1):
            with remote.spooled(one, folder) as path:
                for chunk, mapping in _file(source, settings, one.name, path, position):
                    yield _batch(chunk, mapping, one.name, before, total)
        before += one.size


def _file(
    source: Source, settings: Settings, name: str, path: Path, position: dict[str, Any] | None
) -> Chunks:
    try:
        yield from _chunks(source, settings, name, path, position)
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror or error}",
            where=name,
            next="check that the file is there and that you may read it",
        ) from error


def _batch(chunk: Chunk, mapping: Mapping, file: str, before: int, total: int) -> Batch:
    return Batch(
        file=file,
        frame=mapping.apply(chunk.frame),
        rejects=rejects_frame(chunk.rejects, name_of(mapping.source), file),
        position=chunk.position,
        done_bytes=min(before + chunk.done_bytes, total),
        total_bytes=total,
    )


def _chunks(
    source: Source, settings: Settings, name: str, path: Path, position: dict[str, Any] | None
) -> Chunks:
    form = format_of(source, path)
    if form == "parquet":
        parquet = ParquetFile(path, name)
        mapping = plan(source, settings, name, parquet.columns)
        chunks = parquet.read(position, mapping.needs, _keyed(mapping))
    elif form == "xlsx":
        excel = ExcelFile(path, name, source.sheet)
        mapping = plan(source, settings, name, excel.columns)
        chunks = excel.read(position, _keyed(mapping))
    elif form == "csv":
        file = TextFile(path, name, source)
        delimiter = source.delimiter
        if ".tsv" in path.name.lower() and "delimiter" not in source.model_fields_set:
            delimiter = "\t"
        header = header_of(file, delimiter) if source.header is None else Header(source.header, 0)
        mapping = plan(source, settings, name, list(header.columns))
        parser = DelimitedParser(header.columns, delimiter)
        chunks = file.read(position, header.lines, parser, _keyed(mapping))
    else:
        yield from _json_lines(source, settings, name, path, position)
        return
    for chunk in chunks:
        yield chunk, mapping


def _json_lines(
    source: Source, settings: Settings, name: str, path: Path, position: dict[str, Any] | None
) -> Chunks:
    """Keys may come and go from line to line, so each chunk is mapped by what it has."""
    file = TextFile(path, name, source)
    head = file.head()
    if not head.data.strip():
        raise InputError(
            "the file is empty; every line must be a JSON object",
            where=name,
            next="export it again, or take it away",
        )
    parsed = jsonlines.parse(head)
    array = head.data.lstrip().startswith(b"[")
    if parsed.rejects and (array or not parsed.frame.height):
        raise InputError(
            f"its lines are not JSON objects; line {parsed.rejects[0].line}: "
            f"{parsed.rejects[0].detail}",
            where=name,
            next="write one object a line, e.g. with: jq -c '.[]' FILE",
        )
    columns = [column for column in parsed.frame.columns if column != "line"]
    mapping = plan(source, settings, name, columns)
    for chunk in file.read(position, 0, jsonlines.parse, _keyed(mapping)):
        new = [column for column in chunk.frame.columns if column not in (*columns, "line")]
        if new:
            columns += new
            mapping = plan(source, settings, name, columns)
        missing = {column for column in mapping.needs if column not in chunk.frame.columns}
        if chunk.frame.width:
            frame = chunk.frame.with_columns(
                pl.lit(None, pl.String).alias(column) for column in sorted(missing)
            )
            chunk = Chunk(frame, chunk.rejects, chunk.position, chunk.done_bytes)
        yield chunk, mapping


def _sql(source: Source, settings: Settings, positions: Positions) -> Iterator[Batch]:
    table = SqlTable(source)
    mapping = plan(source, settings, table.name, table.columns)
    if source.watermark is not None and source.watermark not in table.columns:
        raise InputError(
            f"no column {source.watermark!r} to be the watermark; found: {', '.join(table.columns)}",
            where=f"source {name_of(source)!r}, table {table.name}",
            next="correct `watermark` in shop.toml",
        )
    if source.watermark is None and not _keyed(mapping):
        raise InputError(
            "events of this table have neither an event_id nor a `watermark`, so reading it a second "
            "time would count them twice",
            where=f"source {name_of(source)!r}, table {table.name}",
            next='name a column that only grows: watermark = "id"',
        )
    position = positions.get(table.name)
    for chunk, total in table.read(position, mapping.needs, source.watermark):
        yield _batch(chunk, mapping, table.name, 0, total)


def _keyed(mapping: Mapping) -> bool:
    """Rows that are read twice merge: by their own event_id, or because the newest row wins."""
    return mapping.source.table != "events" or "event_id" in mapping.names
