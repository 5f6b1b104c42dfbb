"""Sources that are read message by message: a Kafka topic, a Redis stream, a webhook's log.

A stream has parts (a topic's partitions), each a "file" of its own: kafka:orders/0. A message stands
in a line of it: its offset. Batches carry the place read up to, which land.py saves in the same
transaction as the rows; that place, not what a broker remembers, is what counts as read: a message
is taken exactly once, whenever a run is killed.

A message is a JSON object (jsonlines.py); what is none goes to `unread` with the reason, and so does
what a stream gave up before it was read (rule `gap`). A new kind of stream is one file and one line
in OPEN.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from shopkeeper.collect import jsonlines, kafka, redis_streams, webhook
from shopkeeper.collect.batch import Batch, Reject, rejects_frame
from shopkeeper.collect.encodings import decode_lines
from shopkeeper.collect.mapping import plan
from shopkeeper.collect.messages import Messages
from shopkeeper.collect.sources import name_of
from shopkeeper.collect.text import LONGEST, SHOWN, Lines
from shopkeeper.config import Settings, Source

Position = dict[str, Any]


class Stream(Protocol):
    """One stream, opened for one reading."""

    def parts(self) -> list[str]:
        """Its parts as positions, lineage and quarantine call them, in reading order."""

    def first(self, part: str) -> tuple[int, Position]:
        """The line of the oldest message that `part` still holds, or will hold; and its position."""

    def read(self, part: str, position: Position | None) -> Iterator[Messages]:
        """Messages behind `position` up to the newest one of now."""


OPEN: dict[str, Callable[[Source, Path], AbstractContextManager[Stream]]] = {
    "kafka": kafka.open_topic,
    "redis": redis_streams.open_stream,
    "webhook": webhook.open_log,
}


def parts(source: Source, folder: Path) -> dict[str, tuple[int, Position]]:
    """Every part of a stream, with the line and the position of the oldest message it still holds."""
    with OPEN[str(source.format)](source, folder) as stream:
        return {part: stream.first(part) for part in stream.parts()}


def read(
    source: Source, settings: Settings, folder: Path, positions: Mapping[str, Position]
) -> Iterator[Batch]:
    """Batches of messages that were not read before, part after part.

    Raises:
        InputError: no such stream, it was made anew, or no message of its first batch has a column
            that the table cannot do without. Later ones that lack it are for clean/ to quarantine.
        SourceError: the stream does not answer.
    """
    name, columns, done = name_of(source), list[str](), 0
    with OPEN[str(source.format)](source, folder) as stream:
        for part in stream.parts():
            total = 0
            for messages in stream.read(part, positions.get(part)):
                total = messages.total
                frame, rejects = parsed(messages, source)
                fresh = not positions and not columns
                columns += [c for c in frame.columns if c not in (*columns, "line")]
                if fresh and columns:
                    plan(source, settings, part, columns)  # or tells what is missing
                named = [c for c in _named(source) if c not in columns]
                mapping = plan(source, settings, part, [*columns, *named], strict=False)
                missing = [c for c in mapping.needs if c not in frame.columns]
                frame = frame.with_columns(pl.lit(None, pl.String).alias(c) for c in missing)
                yield Batch(
                    file=part,
                    frame=mapping.apply(frame),
                    rejects=rejects_frame([*messages.rejects, *rejects], name, part),
                    position=messages.position,
                    done_bytes=done + messages.done,
                    total_bytes=done + total,
                )
            done += total


def parsed(messages: Messages, source: Source) -> tuple[pl.DataFrame, list[Reject]]:
    """Messages -> text columns and `line`, and those that are no JSON objects.

    Columns that shop.toml names by a path ("customer.id") are taken out of nested objects; those
    that begin with "@" say something about the message ("@key", "@timestamp").
    """
    kept: list[int] = []
    texts: list[bytes] = []
    rejects: list[Reject] = []
    for at, (line, value) in enumerate(zip(messages.lines, messages.values, strict=True)):
        problem, text = _line_of(value)
        if problem is None:
            kept.append(at)
            texts.append(text)
        else:
            rejects.append(Reject(line, *problem, text[:SHOWN].decode("utf-8", "replace")))
    data, bad = decode_lines(b"\n".join(texts), "utf-8", 1)
    read = jsonlines.parse(Lines(data, 1, True, bad))
    lines = [messages.lines[at] for at in kept]
    rejects += [reject._replace(line=lines[reject.line - 1]) for reject in read.rejects]
    place = read.frame["line"] - 1
    frame = read.frame.with_columns(line=pl.Series(lines, dtype=pl.Int64).gather(place))
    wanted = [c for c in _named(source) if c not in frame.columns]
    for column in wanted:
        if (about := messages.about.get(column)) is not None:
            told = pl.Series(column, [about[at] for at in kept], pl.String).gather(place)
            frame = frame.with_columns(told)
        elif (inner := _inside(frame, column)) is not None:
            frame = frame.with_columns(inner.alias(column))
    return frame, sorted(rejects, key=lambda reject: reject.line)


def _named(source: Source) -> list[str]:
    """The columns that shop.toml names in this source."""
    named = [*source.columns.values(), *(rule.column for rule in source.when)]
    return list(dict.fromkeys([*named, *(source.attributes or ())]))


def _line_of(value: bytes | None) -> tuple[tuple[str, str] | None, bytes]:
    """A message as one line of JSON, or the rule it breaks, what was found, and what it holds."""
    if value is None:
        return ("tombstone", "a message without a value; rows are not deleted by it"), b""
    if not value.strip():
        return ("empty", "a message without content where a JSON object was wanted"), value
    if len(value) > LONGEST:
        found = f"{len(value):,} bytes; at most {LONGEST:,} are taken"
        return ("too_long", found), value
    if b"\n" not in value:
        return None, value
    try:  # over several lines; a line end within a text is no JSON
        return None, json.dumps(json.loads(value), ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        return ("not_json", f"not a JSON value: {error}"), value


def _inside(frame: pl.DataFrame, column: str) -> pl.Series | None:
    """What stands at the path `column` ("customer.id") within a column of JSON objects."""
    head, _, path = column.partition(".")
    while path:
        if head in frame.columns:
            steps = "".join(f"[{json.dumps(step)}]" for step in path.split("."))
            objects = frame[head].str.contains(r"^\s*[\[{]").fill_null(False)
            nested = pl.select(pl.when(objects).then(frame[head])).to_series()
            return nested.str.json_path_match("$" + steps).replace("", None)
        more, _, path = path.partition(".")
        head = f"{head}.{more}"
    return None
