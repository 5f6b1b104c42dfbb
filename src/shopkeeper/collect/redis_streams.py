"""A Redis stream (redis:orders): every entry a line, its id 1795510763068-2 as 1795510763068000002.

An entry with a field `json` is that object; else its fields are the columns. Batches are read by
XRANGE from the last id on, and together with the stream's own count of all entries ever added, so
that entries trimmed (MAXLEN, XTRIM) before they were read are noticed and told as a `gap`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from shopkeeper.collect import messages
from shopkeeper.collect.batch import Reject
from shopkeeper.collect.environment import filled
from shopkeeper.collect.messages import Messages, gap
from shopkeeper.collect.sources import name_of
from shopkeeper.config import Source
from shopkeeper.errors import InputError, SourceError

ANSWER = 10.0  # seconds the server has to answer
EACH_MS = 10**6  # entries of one millisecond that a line can tell apart
LATEST_MS = 9 * 10**12  # of an id that fits into a line: the year 2255
TOGETHER = 5_000  # entries of one call


@contextmanager
def open_stream(source: Source, _: Path) -> Iterator["Entries"]:
    """The stream of a source. InputError: no driver, no such stream; SourceError: no answer."""
    where = f"source {name_of(source)!r}"
    if find_spec("redis") is None:
        raise InputError(
            "nothing here can speak to Redis",
            where=where,
            next="install it with: pip install 'shopkeeper[redis]'",
        )
    import redis

    try:
        client = redis.Redis.from_url(
            filled(str(source.url), where),
            socket_timeout=ANSWER,
            socket_connect_timeout=ANSWER,
            client_name="shopkeeper",
        )
    except ValueError as error:
        raise InputError(
            "`url` is not of the form redis://host:6379/0",
            where=where,
            next="write rediss:// for TLS, redis://user:${NAME}@host:6379/0 with a password",
        ) from error
    try:
        yield Entries(client, str(source.stream), where)
    except redis.RedisError as error:
        passing = isinstance(error, (redis.ConnectionError, redis.TimeoutError)) and not isinstance(
            error, redis.AuthenticationError
        )
        raise SourceError(
            f"Redis did not answer as it should: {str(error)[:300]}",
            where=f"{where}, {source.url}",
            next="it is tried again on the next run"
            if passing
            else "check the user, the password and the right to read the stream",
            retryable=passing,
        ) from None
    finally:
        client.close()


class Entries:
    """One stream, as streams.Stream."""

    def __init__(self, client: Any, key: str, where: str) -> None:
        self.client, self.key, self.where = client, key, where

    def parts(self) -> list[str]:
        return [f"redis:{self.key}"]

    def first(self, part: str) -> tuple[int, dict[str, Any]]:
        told, _ = self._some("0-0", "0-0")
        oldest = told["recorded-first-entry-id"] if told["length"] else told["last-generated-id"]
        ms, number = _id(oldest)
        gone = told["entries-added"] - told["length"]
        return _line(ms, number + (not told["length"])), {"id": "0-0", "added": gone}

    def read(self, part: str, position: dict[str, Any] | None) -> Iterator[Messages]:
        """Up to the newest entry of now."""
        last = str(position["id"]) if position else "0-0"
        added = int(position["added"]) if position else 0  # entries ever added, up to `last`
        newest, done, total = "", 0, 0
        while True:
            told, found = self._some(last, newest or "+")
            if not newest:
                newest, total = told["last-generated-id"], told["entries-added"] - added
                self._all_there(position, told, last)
            lost = []
            oldest = told["recorded-first-entry-id"] if told["length"] else None
            if position and (oldest is None or _id(oldest) > _id(last)):
                missing = told["entries-added"] - added - told["length"]
                if missing > 0:
                    added, done = added + missing, done + missing
                    lost = [
                        gap(
                            _line(*_id(last)),
                            f"{missing:,} entries behind id {last} were trimmed before they were read; "
                            "run more often or keep more entries",
                        )
                    ]
            if not found:
                if lost:
                    place = {"id": last, "added": added}
                    yield Messages([], [], place, done, max(done, total), rejects=lost)
                return
            last, added, done = _text(found[-1][0]), added + len(found), done + len(found)
            if last == newest and last == told["last-generated-id"]:
                added = told["entries-added"]  # deleted ones are no gap
            position = {"id": last, "added": added}
            yield _messages(found, position, done, max(done, total), lost)
            if last == newest:
                return

    def _some(self, last: str, newest: str) -> tuple[dict[str, Any], list[Any]]:
        """What the stream says of itself, and the entries behind `last`, both of one instant."""
        import redis

        both = self.client.pipeline(transaction=True)
        both.xinfo_stream(self.key)
        both.xrange(self.key, f"({last}", newest, min(TOGETHER, messages.TOGETHER))
        try:
            told, found = both.execute()
        except redis.ResponseError as error:
            raise self._no_stream(error) from None
        return self._told(told), found

    def _no_stream(self, error: Exception) -> Exception:
        said = str(error)
        if "no such key" in said:
            found = f"no stream {self.key!r}"
        elif "WRONGTYPE" in said:
            found = f"{self.key!r} is no stream but another type of value"
        else:
            return error
        return InputError(
            found,
            where=self.where,
            next="correct `stream` in shop.toml; `skip = true` keeps the block without reading it",
        )

    def _told(self, info: dict[Any, Any]) -> dict[str, Any]:
        told = {_text(key): value for key, value in info.items()}
        if "entries-added" not in told:
            raise InputError(
                "this Redis does not count the entries of a stream, so lost ones would go unnoticed",
                where=self.where,
                next="use Redis 7 or newer, or Valkey",
            )
        for key in ("last-generated-id", "recorded-first-entry-id"):
            told[key] = _text(told[key])
        return told

    def _all_there(self, position: dict[str, Any] | None, told: dict[str, Any], last: str) -> None:
        """InputError where the stream is not the one that was read."""
        if position and (
            _id(told["last-generated-id"]) < _id(last) or told["entries-added"] < position["added"]
        ):
            raise InputError(
                f"read up to id {last}, {position['added']:,} entries, but its newest is "
                f"{told['last-generated-id']}, of {told['entries-added']:,}: the stream was deleted "
                "and made anew since",
                where=f"{self.where}, redis:{self.key}",
                next='give the block another `name = "…"` to read the new stream beside what is '
                "there, or give the old rows up with: shopkeeper run collect --force",
            )


def _messages(
    found: list[Any], position: dict[str, Any], done: int, total: int, lost: list[Reject]
) -> Messages:
    lines: list[int] = []
    values: list[bytes | None] = []
    ids: list[str] = []
    rejects = list(lost)
    for raw, fields in found:
        ms, number = _id(_text(raw))
        if number >= EACH_MS or ms >= LATEST_MS:
            what = f"id {_text(raw)} fits no line: wanted milliseconds below {LATEST_MS:,} and a "
            rejects.append(
                Reject(0, "odd_id", what + f"number below {EACH_MS:,}", repr(fields)[:1000])
            )
            continue
        lines.append(_line(ms, number))
        ids.append(_text(raw))
        values.append(fields[b"json"] if b"json" in fields else _object(fields))
    about = {"@id": ids, "@timestamp": [one.partition("-")[0] for one in ids]}
    return Messages(lines, values, position, done, total, about, rejects)


def _object(fields: dict[bytes, bytes]) -> bytes:
    """Flat fields as JSON; what does not decode stays undecodable, for the parser to name."""
    try:
        told = {key.decode(): value.decode() for key, value in fields.items()}
    except UnicodeDecodeError:
        return b" ".join(key + b"=" + value for key, value in fields.items()).replace(b"\n", b" ")
    return json.dumps(told, ensure_ascii=False).encode()


def _id(text: str) -> tuple[int, int]:
    ms, _, number = text.partition("-")
    return int(ms), int(number)


def _line(ms: int, number: int) -> int:
    return ms * EACH_MS + number


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
