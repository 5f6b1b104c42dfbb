"""A Kafka topic: every partition a part (kafka:orders/0), every message a line: its offset.

Partitions are assigned, not subscribed to: where reading goes on is what the catalogue says, never
what a consumer group remembers. Offsets are committed to the group (`group.id`, "shopkeeper") only
behind rows that are saved, so that the usual tools show how far behind a shop is.

The last message read is read again and compared, so a topic that was deleted and made anew is
noticed; messages that its retention deleted before they were read are told as a `gap`.
"""

import logging
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from shopkeeper.collect import messages
from shopkeeper.collect.environment import filled
from shopkeeper.collect.messages import Messages, gap
from shopkeeper.collect.sources import name_of
from shopkeeper.config import Source
from shopkeeper.errors import InputError, SourceError

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message

ANSWER = 10.0  # seconds a broker has to answer a question
PATIENCE = 30.0  # seconds without a message, though there are some, after which it is given up
_OURS = {  # what the reading stands on; not for shop.toml to change
    "enable.auto.commit": "false",
    "enable.partition.eof": "true",
    "auto.offset.reset": "error",
}
_DEFAULT = {
    "group.id": "shopkeeper",
    "client.id": "shopkeeper",
    "isolation.level": "read_committed",
    "queued.max.messages.kbytes": "65536",  # of messages fetched ahead
}


@contextmanager
def open_topic(source: Source, _: Path) -> Iterator["Topic"]:
    """The topic of a source. InputError: no driver, a bad setting, no such topic; SourceError: no
    broker answers."""
    where = f"source {name_of(source)!r}"
    if find_spec("confluent_kafka") is None:
        raise InputError(
            "nothing here can speak to Kafka",
            where=where,
            next="install it with: pip install 'shopkeeper[kafka]'",
        )
    from confluent_kafka import Consumer, KafkaException

    brokers = unquote(filled(str(source.url), where)).partition("://")[2].strip("/")
    told: list[str] = []
    options = {
        name: filled(value, where, f"options.{name}") for name, value in source.options.items()
    }
    settings: dict[str, Any] = {**_DEFAULT, **options, **_OURS, "bootstrap.servers": brokers}
    settings["error_cb"] = lambda error: told.append(error.str())
    try:
        consumer = Consumer(settings, logger=logging.getLogger("shopkeeper.kafka"))
    except KafkaException as error:
        raise InputError(
            f"Kafka's client does not take these settings: {error.args[0].str()}",
            where=where,
            next="correct `url` and `options` in shop.toml",
        ) from error
    try:
        yield Topic(consumer, str(source.stream), where, told)
    except KafkaException as error:
        raise SourceError(
            f"Kafka did not answer as it should: {error.args[0].str()}"
            + (f" ({told[-1][:200]})" if told else ""),
            where=f"{where}, {source.url}",
            next="check that the brokers run and may be reached; what was read is kept, and the "
            "next run goes on behind it",
            retryable=True,
        ) from error
    finally:
        consumer.close()


class Topic:
    """One topic, as streams.Stream."""

    def __init__(self, consumer: "Consumer", topic: str, where: str, told: list[str]) -> None:
        self.consumer, self.topic, self.where, self.told = consumer, topic, where, told
        self._edges: dict[str, tuple[int, int]] = {}

    def parts(self) -> list[str]:
        found = self.consumer.list_topics(self.topic, timeout=ANSWER).topics[self.topic]
        if found.error is not None:
            known = sorted(
                t for t in self.consumer.list_topics(timeout=ANSWER).topics if t[0] != "_"
            )
            raise InputError(
                f"no topic {self.topic!r} ({found.error.str()}); found: "
                f"{', '.join(known[:20]) or 'none'}",
                where=self.where,
                next="correct `stream` in shop.toml; `skip = true` keeps the block without reading it",
            )
        return [f"kafka:{self.topic}/{number}" for number in sorted(found.partitions)]

    def first(self, part: str) -> tuple[int, dict[str, Any]]:
        low, _ = self._between(part)
        return low, {"offset": low}

    def _between(self, part: str) -> tuple[int, int]:
        """The offset of the oldest message, and the one that the next new message will get."""
        if part not in self._edges:
            edges = self.consumer.get_watermark_offsets(self._at(part), timeout=ANSWER)
            if edges is None:
                raise SourceError(
                    f"no broker told the offsets of {part} within {ANSWER:.0f} s",
                    where=self.where,
                    next="check that the partition has a leader; it is tried again on the next run",
                    retryable=True,
                )
            self._edges[part] = edges
        return self._edges[part]

    def _at(self, part: str, offset: int = 0) -> Any:
        from confluent_kafka import TopicPartition

        return TopicPartition(self.topic, int(part.rpartition("/")[2]), offset)

    def read(self, part: str, position: dict[str, Any] | None) -> Iterator[Messages]:
        """Up to the newest message of now, or of what committed transactions wrote."""
        low, high = self._between(part)
        offset = start = int(position["offset"]) if position else low
        crc, lost = (position or {}).get("crc"), []
        if offset > high:
            raise self._anew(part, f"read up to offset {offset:,}, but its newest is {high - 1:,}")
        if offset < low:
            lost = [
                gap(
                    offset,
                    f"{low - offset:,} messages (offsets {offset:,} to {low - 1:,}) were deleted by "
                    "the topic's retention before they were read; run more often or keep them longer",
                )
            ]
            offset, crc = low, None
            if low == high:
                yield Messages([], [], {"offset": low}, low - start, high - start, rejects=lost)
        if offset >= high:
            return
        back = 1 if crc is not None and offset > low else 0
        self.consumer.assign([self._at(part, offset - back)])
        ended = False
        while not ended and offset < high:
            found, ended = self._some(part, offset - back, high)
            if back and found and _offset(found[0]) == offset - 1 and _crc(found.pop(0)) != crc:
                raise self._anew(part, f"another message stands at offset {offset - 1:,} now")
            back = 0
            if not found:
                continue
            offset, crc = _offset(found[-1]) + 1, _crc(found[-1])
            yield Messages(
                [_offset(message) for message in found],
                [message.value() for message in found],
                {"offset": offset, "crc": crc},
                offset - start,
                high - start,
                {
                    "@key": [_text(message.key()) for message in found],
                    "@timestamp": [_instant(message) for message in found],
                },
                lost,
            )
            lost = []
            self._tell_group(
                part, offset
            )  # the rows are saved, or the next batch were not asked for

    def _some(self, part: str, offset: int, high: int) -> tuple[list["Message"], bool]:
        """The next messages below `high`, and whether no more will come."""
        from confluent_kafka import KafkaError, KafkaException

        found: list[Message] = []
        size, deadline = 0, time.monotonic() + PATIENCE
        while len(found) < messages.TOGETHER and size < messages.BYTES:
            left = min(1000, messages.TOGETHER - len(found))
            for message in self.consumer.consume(left, timeout=0.5):
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    return found, True
                if error is not None and error.code() == KafkaError._AUTO_OFFSET_RESET:
                    raise SourceError(
                        f"messages behind offset {offset:,} were deleted while they were read",
                        where=f"{self.where}, {part}",
                        next="the next run goes on behind them and tells how many they were",
                        retryable=True,
                    )
                if error is not None:
                    raise KafkaException(error)
                if _offset(message) >= high:
                    return found, True
                found.append(message)
                size += len(message.value() or b"")
                deadline = time.monotonic() + PATIENCE
            if found and _offset(found[-1]) + 1 >= high:
                return found, True
            if time.monotonic() > deadline:
                raise SourceError(
                    f"no message within {PATIENCE:.0f} s, though there are some up to offset "
                    f"{high - 1:,}" + (f" ({self.told[-1][:200]})" if self.told else ""),
                    where=f"{self.where}, {part}",
                    next="what was read is kept; the next run goes on behind it",
                    retryable=True,
                )
        return found, False

    def _tell_group(self, part: str, offset: int) -> None:
        """For those who watch the group's lag; that it fails is no reason to stop."""
        from confluent_kafka import KafkaException

        try:
            self.consumer.commit(offsets=[self._at(part, offset)], asynchronous=True)
        except KafkaException as error:
            logging.getLogger("shopkeeper.kafka").warning("offsets not told: %s", error)

    def _anew(self, part: str, found: str) -> InputError:
        return InputError(
            f"{found}: the topic was deleted and made anew since",
            where=f"{self.where}, {part}",
            next='give the block another `name = "…"` to read the new topic beside what is there, or '
            "give the old rows up with: shopkeeper run collect --force",
        )


def _offset(message: "Message") -> int:
    offset = message.offset()
    assert offset is not None  # of a message that was fetched
    return offset


def _crc(message: "Message") -> int:
    return zlib.crc32(message.value() or b"", zlib.crc32(message.key() or b""))


def _text(key: bytes | None) -> str | None:
    return key.decode("utf-8", "replace") or None if key else None


def _instant(message: "Message") -> str | None:
    kind, at = message.timestamp()
    return str(at) if kind else None
