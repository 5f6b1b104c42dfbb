"""Texts that count as the same: folded; and how many typing errors apart two words are."""

import re
import threading
import unicodedata
from typing import Any

import opencc

MAX_TEXT = 20_000
"""characters of one field that are read; more is a pasted book, not a product"""
HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002ffff\u3007"
HAN_CHARACTER = re.compile(f"[{HAN}]")
_SIGNS = str.maketrans("", "", "™®©℠")
_LOCAL = threading.local()  # OpenCC converters are not shared between threads


def fold(text: str) -> str:
    """Lower case, compatibility forms and Latin accents off, traditional Chinese made simplified."""
    text = unicodedata.normalize("NFKC", text[:MAX_TEXT].translate(_SIGNS)).casefold()
    if text.isascii():
        return text
    parts = unicodedata.normalize("NFD", text)
    kept = [
        char
        for before, char in zip("\0" + parts, parts, strict=False)
        if not (unicodedata.combining(char) and before.isascii())
    ]
    text = unicodedata.normalize("NFC", "".join(kept))
    if HAN_CHARACTER.search(text):
        converted: str = _converter().convert(text.encode("utf-8", "replace").decode("utf-8"))
        return converted
    return text


def _converter() -> Any:
    if not hasattr(_LOCAL, "opencc"):
        _LOCAL.opencc = opencc.OpenCC("tw2sp")
    return _LOCAL.opencc


def distance(a: str, b: str, limit: int) -> int:
    """Edits (adjacent swaps count one) from a to b; limit + 1 where there are more than `limit`."""
    if abs(len(a) - len(b)) > limit:
        return limit + 1
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, before, row = before, row, [i] + [0] * len(b)
        for j, y in enumerate(b, 1):
            row[j] = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                row[j] = min(row[j], last[j - 2] + 1)
        if min(row) > limit:
            return limit + 1
    return min(row[-1], limit + 1)
