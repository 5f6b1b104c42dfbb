"""Which bytes are which letters: decoding by the line, and naming a likelier encoding."""

import codecs
import re

from shopkeeper.collect.sources import block_of
from shopkeeper.config import Source
from shopkeeper.errors import InputError

# In these a line end is always the byte 10 and nothing else is, so blocks can be cut before decoding.
_LINE_SAFE = re.compile(
    r"utf-8|gb|big5|cp9\d\d|cp12\d\d|cp8\d\d|cp4\d\d|iso8859|latin|euc|shift_jis|koi8|mac-"
)
_CANDIDATES = ("utf-8", "gb2312", "big5", "gb18030", "shift_jis", "euc_kr", "cp1252")
_SAID = {"gb2312": "gb18030"}  # the superset is what to write into shop.toml


def known_codec(encoding: str, where: str) -> str:
    """Python's name of an encoding; InputError for one it does not know."""
    try:
        codec = codecs.lookup(encoding).name
        b"".decode(codec)
    except LookupError as error:
        raise InputError(
            f"encoding = {encoding!r} is no known encoding",
            where=where,
            next='use e.g. "utf-8", "gb18030", "big5", "utf-16", "cp1252"',
        ) from error
    return "utf-8" if codec in ("utf-8-sig", "ascii") else codec


def is_line_safe(codec: str) -> bool:
    return _LINE_SAFE.match(codec) is not None


def decode_lines(data: bytes, codec: str, first: int) -> tuple[bytes, dict[int, str]]:
    """Lines as UTF-8, and {line number: reason} of those that do not decode; these hold a NUL.

    `data` itself comes back where nothing had to change.
    """
    if data.isascii():
        return data, {}
    try:
        text = data.decode(codec)
        return (data if codec == "utf-8" else text.encode()), {}
    except UnicodeDecodeError:
        pass
    lines, bad = data.split(b"\n"), {}
    for index, line in enumerate(lines):
        try:
            text = line.decode(codec)
        except UnicodeDecodeError as error:
            text = "\0" + line.decode(codec, "replace")
            hint = likely(line, codec)
            bad[first + index] = f"byte {error.start + 1} of the line is not {codec}" + (
                f"; the line would be readable as {hint}" if hint else ""
            )
        lines[index] = text.encode()
    return b"\n".join(lines), bad


def likely(sample: bytes, codec: str) -> str | None:
    """The encoding that reads `sample`, tried from the strictest to the laxest; None: none does."""
    for candidate in _CANDIDATES:
        if candidate == codec:
            continue
        try:
            text = sample.decode(candidate)
        except UnicodeDecodeError:
            continue
        if candidate != "cp1252" or not any(0x80 <= ord(sign) < 0xA0 for sign in text):
            return _SAID.get(candidate, candidate)
    return None


def check_encoding(head: bytes, codec: str, where: str, source: Source) -> None:
    """InputError where `codec` is plainly the wrong one for a file that begins with `head`.

    Plainly: the header does not decode, or most lines with anything but ASCII do not and they are
    no rare sight (one in a hundred); or it is valid UTF-8 while another encoding is asked for.
    """
    if head.isascii():
        return
    telling = [line for line in head.split(b"\n") if not line.isascii()]
    if codec != "utf-8":
        signs = sum(len(line) - line.isascii() for line in telling)
        if signs >= 24 and _decodes(head, "utf-8"):
            raise _wrong(codec, "utf-8", "the file is valid UTF-8", where, source)
    wrong = [line for line in telling if not _decodes(line, codec)]
    header = head.lstrip(b"\r\n").split(b"\n", 1)[0]
    rare = len(wrong) * 100 < head.count(b"\n")
    if _decodes(header, codec) and (len(wrong) * 2 <= len(telling) or rare):
        return
    hint = likely(b"\n".join(wrong[:200]), codec) or likely(header, codec)
    raise _wrong(
        codec,
        hint,
        f"{len(wrong):,} of its first {head.count(10):,} lines do not decode",
        where,
        source,
    )


def _decodes(data: bytes, codec: str) -> bool:
    try:
        data.decode(codec)
    except UnicodeDecodeError:
        return False
    return True


def _wrong(codec: str, hint: str | None, found: str, where: str, source: Source) -> InputError:
    return InputError(
        f"this is not {codec}: {found}",
        where=where,
        next=block_of(source, encoding=f'"{hint}"')
        if hint
        else "save the file as UTF-8, or name its `encoding` in shop.toml",
    )
