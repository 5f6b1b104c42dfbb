"""A word nobody sells -> the nearest word of the catalogue's own vocabulary, or none."""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from shopkeeper.alike import distance

MIN_LENGTH = 4


class Speller:
    """Words of one catalogue with the number of items that have them."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        known = [w for w in counts if len(w) >= MIN_LENGTH - 1 and w.isascii() and w.isalpha()]
        self._words = known
        self._counts = [counts[word] for word in known]
        self._lengths = np.array([len(word) for word in known], dtype=np.int16)
        self._letters = np.array([_letters(word) for word in known], dtype=np.uint32)
        self.nearest = lru_cache(maxsize=4096)(self._nearest)

    def _nearest(self, word: str) -> str | None:
        """The word one edit away (two from eight letters on): fewest edits, then most items.

        An edit is a letter added, left out, changed, or swapped with its neighbour. The first
        letter is rarely wrong, so words that share it go first.
        """
        if len(word) < MIN_LENGTH or not word.isascii() or not word.isalpha():
            return None
        allowed = 1 if len(word) < 8 else 2
        differing = np.bitwise_count(self._letters ^ np.uint32(_letters(word)))
        near = (np.abs(self._lengths - len(word)) <= allowed) & (differing <= 2 * allowed)
        best: tuple[int, bool, int, str] | None = None
        for row in np.flatnonzero(near).tolist():
            other = self._words[row]
            edits = distance(word, other, allowed)
            if 0 < edits <= allowed:
                key = (edits, other[0] != word[0], -self._counts[row], other)
                best = key if best is None or key < best else best
        return best[3] if best else None


def _letters(word: str) -> int:
    """The set of letters of a word, one bit each."""
    mask = 0
    for letter in word:
        mask |= 1 << (ord(letter) - 97 & 31)
    return mask
