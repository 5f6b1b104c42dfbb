import random

import pytest

from shopkeeper.alike import distance
from shopkeeper.search.spelling import Speller


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("keybord", "keyboard"), ("moniter", "monitor"), ("mnoitor", "monitor"), ("lampp", "lamp")],
)
def test_the_nearest_word_is_found(typed: str, meant: str) -> None:
    assert Speller({"keyboard": 5, "monitor": 9, "lamp": 2}).nearest(typed) == meant


def test_of_equally_near_words_the_one_on_more_items_wins() -> None:
    assert Speller({"cable": 1, "table": 90, "fable": 1}).nearest("xable") == "table"


@pytest.mark.parametrize("word", ["zzzzzz", "abc", "充电宝", "a4b7c", "monitor"])
def test_what_is_far_short_or_right_is_left_alone(word: str) -> None:
    assert Speller({"monitor": 1}).nearest(word) is None


def test_distance_equals_the_plain_recursion() -> None:
    def plain(a: str, b: str) -> int:
        if not a or not b:
            return len(a) + len(b)
        best = min(
            plain(a[:-1], b) + 1, plain(a, b[:-1]) + 1, plain(a[:-1], b[:-1]) + (a[-1] != b[-1])
        )
        if len(a) > 1 and len(b) > 1 and a[-1] == b[-2] and a[-2] == b[-1]:
            best = min(best, plain(a[:-2], b[:-2]) + 1)
        return best

    rng = random.Random(1)
    for _ in range(200):
        a, b = ("".join(rng.choices("ab", k=rng.randrange(6))) for _ in range(2))
        assert distance(a, b, 2) == min(plain(a, b), 3)
