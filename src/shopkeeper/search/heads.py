"""Which word of a product title names the product: the case of "notebook case", not the notebook.

A word is the head of its phrase unless another noun follows it, or it stands after "for" and the
like. Which words are nouns is learned from the catalogue itself: a word that an item's own
attribute values mostly explain (black, bluetooth, a4) describes, it does not name; neither does a
word that mostly stands behind a number (pixels, pages). English and the like only: Chinese titles
stack words without order.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from shopkeeper.search.tokens import Word, stem

BEFORE_OBJECT = frozenset(
    ["for", "with", "to", "from", "without", "on", "in", "by", "of", "fits", "compatible", "f", "w"]
)
_SMALL = frozenset(["and", "or", "the", "a", "an", "&", "plus"])
# nouns that only repeat what the word before them said: a tablet pc is a tablet
_TRANSPARENT = frozenset(stem(w) for w in ("pc", "computer", "device", "unit", "system", "set"))
_COLOURS = frozenset(
    stem(w)
    for w in [
        "black",
        "white",
        "gray",
        "grey",
        "silver",
        "red",
        "blue",
        "green",
        "yellow",
        "pink",
        "orange",
        "purple",
        "brown",
        "beige",
        "gold",
        "cyan",
        "magenta",
        "violet",
        "transparent",
        "multicolour",
        "multicolor",
        "colour",
        "color",
    ]
)
MIN_COUNT = 3
MAX_EXPLAINED = 0.3
MIN_DESCRIBED_SHARE = 0.1


@dataclass
class Learner:
    """Counts over titles and attribute values; `nouns` is what came out."""

    items: int = 0
    described: int = 0  # items that have text attributes at all
    seen: Counter[str] = field(default_factory=Counter)
    explained: Counter[str] = field(default_factory=Counter)
    numbered: Counter[str] = field(default_factory=Counter)

    def see(self, title: Sequence[Word], attribute_words: Iterable[str]) -> None:
        """One item: the words of its title and of its short attribute values."""
        values = set(attribute_words)
        self.items += 1
        self.described += bool(values)
        before = ""
        counted: set[str] = set()
        for word in title:
            text = word.text
            if text not in counted:
                counted.add(text)
                self.seen[text] += 1
                self.explained[text] += text in values
                self.numbered[text] += before.isdigit()
            before = text

    def nouns(self) -> frozenset[str]:
        """Words that can name a product; none where too few items have attributes to learn from."""
        if self.described < MIN_DESCRIBED_SHARE * self.items:
            return frozenset()
        return frozenset(
            word
            for word, count in self.seen.items()
            if count >= MIN_COUNT
            and word.isascii()
            and word.isalpha()
            and (len(word) > 2 or word in _TRANSPARENT)
            and word not in _SMALL
            and word not in BEFORE_OBJECT
            and word not in _COLOURS
            and self.explained[word] < MAX_EXPLAINED * count
            and self.numbered[word] < 0.5 * count
        )


def heads(title: Sequence[Word], brand: Iterable[str], nouns: frozenset[str]) -> list[str]:
    """Words of one title that no other noun makes a mere description, in order, without repeats."""
    if not nouns:
        return []
    brands = set(brand)
    found: dict[str, None] = {}
    for here, word in enumerate(title):
        text = word.text
        if word.surface in BEFORE_OBJECT:
            break
        if not text.isalpha() or text in _SMALL or word.han:
            continue
        after = next((w.text for w in title[here + 1 :] if w.position > word.position), "")
        if after not in nouns or after in _TRANSPARENT or after in brands:
            found[text] = None
    return list(found)
