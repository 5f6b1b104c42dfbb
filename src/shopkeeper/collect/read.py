"""Read a source: its files one after another, each from where it was left, as canonical batches."""

from collections.abc import Iterator
from collections.abc import Mapping as MappingType
from pathlib import Path
from typing import Any

from shopkeeper.collect import jsonlines
from shopkeeper.collect.batch import Batch, Chunk, rejects_frame
from shopkeeper.collect.delimited import DelimitedParser, Header, header_of
from shopkeeper.collect.mapping import Mapping, plan
from shopkeeper.collect.sources import files_of, format_of, name_of
from shopkeeper.collect.text import TextFile
from shopkeeper.config import Settings, Source
from shopkeeper.errors import InputError

Positions = MappingType[str, dict[str, Any]]


def read(source: Source, settings: Settings, folder: Path, positions: Positions) -> Iterator[Batch]:
    """Batches of rows that were not read before, in file order.

    Args:
        positions: file name -> the position of the last batch that was kept; {} reads everything.
    Raises:
        InputError: a file is missing, unreadable, or lacks a column; says which and what to do.
        SourceError: a database does not answer.
    """
    files = files_of(source, folder)
    total = sum(path.stat().st_size for _, path in files)
    before = 0
    for name, path in files:
        position = positions.get(name)
        for chunk, mapping in _chunks(
            source, settings, name, path, position, alone=len(files) == 1
        ):
            yield Batch(
                file=name,
                frame=mapping.apply(chunk.frame),
                rejects=rejects_frame(chunk.rejects, name_of(source), name),
                position=chunk.position,
                done_bytes=min(before + chunk.done_bytes, total),
                total_bytes=total,
            )
        before += path.stat().st_size


def _chunks(
    source: Source,
    settings: Settings,
    name: str,
    path: Path,
    position: dict[str, Any] | None,
    alone: bool,
) -> Iterator[tuple[Chunk, Mapping]]:
    form = format_of(source, path)
    if form == "csv":
        if not alone and path.stat().st_size == 0:
            return  # one of many parts, and there is nothing in it
        file = TextFile(path, name, source.encoding)
        delimiter = source.delimiter
        if ".tsv" in path.name.lower() and "delimiter" not in source.model_fields_set:
            delimiter = "\t"
        header = header_of(file, delimiter) if source.header is None else Header(source.header, 0)
        mapping = plan(source, settings, name, list(header.columns))
        parser = DelimitedParser(header.columns, delimiter)
        for chunk in file.read(position, header.lines, parser, _keyed(source, mapping)):
            yield chunk, mapping
    elif form == "jsonl":
        file = TextFile(path, name, source.encoding)
        head = jsonlines.parse(file.head())
        mapping = plan(source, settings, name, head.frame.columns)
        for chunk in file.read(position, 0, jsonlines.parse, _keyed(source, mapping)):
            yield chunk, mapping
    else:
        raise InputError(f"format {form} is not read yet", where=name)


def _keyed(source: Source, mapping: Mapping) -> bool:
    """Rows that are read twice merge: by their own event_id, or because the newest row wins."""
    return source.table != "events" or "event_id" in mapping.names
