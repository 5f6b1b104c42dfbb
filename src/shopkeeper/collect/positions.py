"""What was read of a file, and whether it is still the same file.

A position is JSON: {"size", "mtime_ns", "offset", "line", "crc", "done", …}. `offset` counts the
bytes that are read (of the unpacked file), `crc` is the CRC-32 of exactly those bytes, so "it only
grew" is checked over all of them and never assumed:

- size and time of change as they were: nothing is opened;
- the first `offset` bytes still have this CRC: only what follows is read;
- otherwise the file was rewritten. Tables with a key (items, users, shops, images), and events that
  bring their own event_id, are read again from the start: the newer row wins, equal ids merge.
  Events whose id would come from (file, line) are refused: they could double in silence.
"""

import zlib
from pathlib import Path
from typing import IO, Any

from shopkeeper.errors import InputError


def stamp(path: Path) -> dict[str, int]:
    """Size in bytes and time of change, which tell a touched file from an untouched one."""
    stat = path.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def untouched(position: dict[str, Any], now: dict[str, int]) -> bool:
    return all(position.get(key) == value for key, value in now.items())


def begins_the_same(file: IO[bytes], position: dict[str, Any]) -> bool:
    """Whether the bytes read before still stand at the head of `file`; leaves it behind them."""
    left, crc = int(position["offset"]), 0
    while left:
        data = file.read(min(left, 1 << 24))
        if not data:
            return False
        crc = zlib.crc32(data, crc)
        left -= len(data)
    return crc == int(position["crc"])


def rewritten(file: str, what: str) -> InputError:
    """The error for events that cannot be told from those already collected."""
    return InputError(
        f"{what}; its rows have no event_id of their own, so reading it again could count events "
        "twice",
        where=file,
        next="put new events into a new file (or append to this one), give rows an event_id "
        "column, or collect everything afresh with: shopkeeper run collect --force",
    )


def crc_of(path: Path) -> int:
    """CRC-32 of all bytes of a file."""
    crc = 0
    with path.open("rb") as file:
        while data := file.read(1 << 24):
            crc = zlib.crc32(data, crc)
    return crc
