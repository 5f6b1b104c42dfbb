"""Text -> words, the same way for products and for queries, Chinese and English mixed.

- everything: Unicode NFKC, lower case, accents off Latin letters;
- Chinese: traditional to simplified (OpenCC tw2sp), cut by rjieba in search mode without HMM (with
  it product words get lost), and every single character apart, for a field of low weight;
- English and the like: Snowball stems (batteries, battery -> batteri);
- a number and its unit are one word (8 GB -> 8gb, 500毫升 -> 500ml), a model number is its parts
  and the whole (wd-40 -> wd, 40, wd40).
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import rjieba
import tantivy

from shopkeeper.alike import HAN, HAN_CHARACTER, fold

MAX_WORD = 40
"""characters of one word that are kept"""

_IRREGULAR = {
    "mice": "mouse",
    "feet": "foot",
    "geese": "goose",
    "teeth": "tooth",
    "men": "man",
    "women": "woman",
    "children": "child",
    "knives": "knife",
    "shelves": "shelf",
    "scarves": "scarf",
    "wolves": "wolf",
    "loaves": "loaf",
}
_UNITS = {
    "gb": "gb gigabyte gigabytes",
    "tb": "tb terabyte terabytes",
    "mb": "mb megabyte megabytes",
    "ghz": "ghz",
    "mhz": "mhz",
    "hz": "hz",
    "mah": "mah",
    "wh": "wh",
    "kw": "kw",
    "w": "w watt watts 瓦",
    "v": "v volt volts 伏",
    "ml": "ml milliliter milliliters millilitre millilitres 毫升",
    "l": "l liter liters litre litres 升",
    "kg": "kg kilogram kilograms kilo kilos 公斤 千克",
    "mg": "mg 毫克",
    "g": "g gram grams 克",
    "mm": "mm millimeter millimeters millimetre millimetres 毫米",
    "cm": "cm centimeter centimeters centimetre centimetres 厘米 公分",
    "m": "m meter meters metre metres 米",
    "inch": "inch inches 英寸 寸",
    "oz": "oz ounce ounces 盎司",
    "lb": "lb lbs pound pounds 磅",
    "ft": "ft feet foot",
    "mp": "mp megapixel megapixels",
    "fps": "fps",
    "rpm": "rpm",
    "dpi": "dpi",
    "mbps": "mbps",
}
_UNIT = {spelling: unit for unit, spellings in _UNITS.items() for spelling in spellings.split()}
_UNIT_WORDS = "|".join(sorted(map(re.escape, _UNIT), key=len, reverse=True))
_PIECES = re.compile(
    rf'(?P<number>\d+(?:[.,]\d+)*)(?:[ \-]?(?P<unit>{_UNIT_WORDS})(?![a-z0-9])|(?P<inch>"|″|in\b))'
    r"|(?P<decimal>\d+(?:[.,]\d+)+)(?![\w\-/])"
    rf"|(?P<han>[{HAN}]+)"
    rf"|(?P<word>[^\W_{HAN}]+(?:[.\-_'&+][^\W_{HAN}]+)*\+*)"
)
_SPLIT = re.compile(r"[^\W\d_]+|\d+")
_CONNECTORS = re.compile(r"[.\-_'&+]+")
_THOUSANDS = re.compile(r",(?=\d{3}(?!\d))")
_STEMMER = (
    tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.raw())
    .filter(tantivy.Filter.stemmer("english"))
    .build()
)


class Word(NamedTuple):
    """One word of a text. `position` counts words; the parts and the whole of a model share it."""

    text: str  # what is indexed: folded, stemmed
    surface: str  # folded, not stemmed: what a correction shows
    position: int
    span: int = 1  # positions it covers: the parts of the whole
    han: bool = False


@lru_cache(maxsize=200_000)
def stem(word: str) -> str:
    """The English stem of a folded word; words with digits or other scripts stay as they are."""
    if len(word) < 3 or not word.isascii() or not word.isalpha():
        return word
    found = _STEMMER.analyze(_IRREGULAR.get(word, word))
    return found[0] if found else word


def shown(text: str) -> str:
    """A folded text as one printable line, for suggestions."""
    return " ".join("".join(c if c.isprintable() else " " for c in fold(text)).split())


_PLAIN = rjieba.Jieba()  # without words of ours; never changed


class Cutter:
    """Cuts Chinese; holds its own dictionary, which never changes (rjieba refuses changes in use)."""

    def __init__(self, words: tuple[str, ...] = ()) -> None:
        self._jieba = rjieba.Jieba() if words else _PLAIN
        for word in words:
            self._jieba.add_word(word, None, None)

    def cut(self, text: str) -> list[str]:
        """Words of a folded Chinese run, in order, without overlaps."""
        return list(self._jieba.cut(text, False))

    def parts(self, word: str) -> list[str]:
        """The shorter dictionary words inside one word, the word itself last."""
        return list(self._jieba.cut_for_search(word, False)) if len(word) > 2 else [word]


CUTTER = Cutter()


def words(text: str, cutter: Cutter = CUTTER) -> list[Word]:
    """Words of a product text, parts of long ones included, in order."""
    return list(_words(fold(text), cutter))


def _words(text: str, cutter: Cutter) -> Iterator[Word]:
    at = 0
    for piece in _PIECES.finditer(text):
        if piece["number"]:
            unit = "inch" if piece["inch"] else _UNIT[piece["unit"]]
            whole = _number(piece["number"]) + unit
            yield Word(whole, whole, at)
            at += 1
        elif piece["decimal"]:
            whole = _number(piece["decimal"])
            yield Word(whole, whole, at)
            at += 1
        elif piece["han"]:
            for cut in cutter.cut(piece["han"]):
                for part in cutter.parts(cut):
                    yield Word(part, part, at, han=True)
                at += 1
        else:
            raw = piece["word"]
            if raw.isalnum():
                yield Word(stem(raw[:MAX_WORD]), raw[:MAX_WORD], at)
                at += 1
                continue
            pieces = [part for part in _CONNECTORS.split(raw) if part]
            for offset, part in enumerate(pieces):
                part = part[:MAX_WORD]
                yield Word(stem(part), part, at + offset)
            if len(pieces) > 1:
                whole = "".join(pieces)[:MAX_WORD]
                yield Word(stem(whole), whole, at, span=len(pieces))
            at += len(pieces)


def _number(text: str) -> str:
    """1,000 -> 1000; 2,5 -> 2.5."""
    return _THOUSANDS.sub("", text).replace(",", ".")[:MAX_WORD]


def characters(text: str) -> list[str]:
    """The single Chinese characters of a text, in order."""
    return HAN_CHARACTER.findall(fold(text))


def words_in(text: str) -> list[str]:
    """The typed words of a text, folded, uncut: what a corrected query is put together from."""
    return [piece.group() for piece in _PIECES.finditer(fold(text))]


def all_chinese(text: str) -> bool:
    """Is every character Chinese, and is there one?"""
    return bool(text) and len(HAN_CHARACTER.findall(text)) == len(text)


def halves(word: str) -> list[str]:
    """Letter and digit runs of a word: ps4 -> ps, 4."""
    return _SPLIT.findall(word)
