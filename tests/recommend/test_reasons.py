"""Reasons are sentences in two languages."""

from shopkeeper.recommend.reasons import TEXTS, reason
from shopkeeper.words import INTEREST_KINDS


def test_every_kind_that_enters_histories_can_be_a_reason_in_both_languages() -> None:
    for kind in INTEREST_KINDS:
        made = reason(f"because_{kind.value}", item="Lamp")
        assert "Lamp" in str(made["en"])
        assert "Lamp" in str(made["zh"])


def test_no_sentence_keeps_a_hole() -> None:
    for key in TEXTS:
        made = reason(key, item="x", category="y")
        assert "{" not in f"{made['en']}{made['zh']}"
