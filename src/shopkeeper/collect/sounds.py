"""Recordings: what their headers say. WAV and FLAC tell their length; MP3 and Ogg are taken as they are.

`folder/DIALOGUE.wav` and `folder/DIALOGUE/anything.wav` belong to dialogue DIALOGUE.
"""

import struct
from typing import Any

from shopkeeper.collect.batch import Reject

Header = tuple[str, int | None, int | None, int | None]  # format, ms, samples a second, channels


def look(dialogue_id: str, stands: str, content: bytes, digest: str) -> tuple[Any, ...] | Reject:
    """Columns of `audio`, or why the bytes are no recording."""
    try:
        header = _header(content)
    except (ValueError, struct.error) as error:
        what = f"no recording that can be read: {error}" if content else "an empty file"
        return Reject(1, "unreadable_audio", what, repr(content[:40]))
    kind, *numbers = header
    told = [None if number is None else str(number) for number in numbers]
    return dialogue_id, stands, kind, *told, digest


def _header(content: bytes) -> Header:
    """ValueError: none of the four formats, or cut off."""
    if content[:4] == b"RIFF" and content[8:12] == b"WAVE":
        return _wav(content)
    if content[:4] == b"fLaC":
        packed = int.from_bytes(
            content[18:26], "big"
        )  # 20 bits rate, 3 channels, 5 size, 36 samples
        rate, channels, samples = packed >> 44, (packed >> 41 & 7) + 1, packed & (1 << 36) - 1
        if len(content) < 42 or not rate:
            raise ValueError("its FLAC header is cut off")
        length = samples * 1000 // rate if samples else None
        return ("flac", length, rate, channels)
    if content[:4] == b"OggS":
        return ("ogg", None, None, None)
    if content[:3] == b"ID3" or (content[:1] == b"\xff" and content[1:2] >= b"\xe0"):
        return ("mp3", None, None, None)
    raise ValueError("wanted WAV, FLAC, MP3 or Ogg")


def _wav(content: bytes) -> Header:
    at, rate, channels, bytes_a_second = 12, 0, 0, 0
    while at + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, at)
        if name == b"fmt ":
            _, channels, rate, bytes_a_second = struct.unpack_from("<HHII", content, at + 8)
        elif name == b"data":
            if not bytes_a_second:
                raise ValueError("its samples come before their format")
            if at + 8 + size > len(content):
                there = len(content) - at - 8
                raise ValueError(f"cut off: {there:,} of {size:,} bytes of sound")
            return ("wav", size * 1000 // bytes_a_second, rate, channels)
        at += 8 + size + size % 2
    raise ValueError("no sound in it")
