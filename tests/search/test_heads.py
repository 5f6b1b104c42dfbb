from shopkeeper.search.heads import Learner, heads
from shopkeeper.search.tokens import words

TITLES = [
    ("Notebook case black", "black"),
    ("Notebook lamp black", "black"),
    ("Phone case black", "black"),
    ("Phone case red", "red"),
    ("Notebook silver", "silver"),
    ("Desk lamp silver", "silver"),
    ("Floor lamp 20 pages", ""),
    ("Notepad 50 pages", ""),
    ("Block 80 pages", ""),
]


def learned() -> frozenset[str]:
    learner = Learner()
    for title, colour in TITLES:
        learner.see(words(title), [w.text for w in words(colour)])
    return learner.nouns()


def test_words_that_attributes_explain_or_numbers_count_are_no_nouns() -> None:
    assert {"notebook", "case", "lamp"} <= learned()
    assert not {"black", "silver", "page"} & learned()


def test_the_head_is_the_noun_that_no_other_noun_follows() -> None:
    assert "case" in heads(words("Acme notebook case black"), ["acm"], learned())
    assert "notebook" not in heads(words("Acme notebook case black"), ["acm"], learned())
    assert "notebook" in heads(words("Acme notebook silver"), ["acm"], learned())


def test_what_stands_behind_for_is_no_head() -> None:
    assert heads(words("Case for notebook"), [], learned()) == ["case"]


def test_without_attributes_nothing_is_learned() -> None:
    learner = Learner()
    for title, _ in TITLES:
        learner.see(words(title), [])
    assert learner.nouns() == frozenset()
    assert heads(words("Notebook case"), [], frozenset()) == []
