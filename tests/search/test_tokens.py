import pytest

from shopkeeper.alike import MAX_TEXT
from shopkeeper.search import tokens


def texts(text: str) -> list[str]:
    return [word.text for word in tokens.words(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Batteries battery", ["batteri", "batteri"]),
        ("mice Mouse", ["mous", "mous"]),
        ("Café crème", ["cafe", "creme"]),
        ("8 GB 8gb 8-GB", ["8gb", "8gb", "8gb"]),
        ('17" 17 inch 17in', ["17inch", "17inch", "17inch"]),
        ("1,000 pcs USB 2.0", ["1000", "pcs", "usb", "2.0"]),
        ("500毫升 500 ml", ["500ml", "500ml"]),
        ("Core™ i7", ["core", "i7"]),
        ("Ｗｉｆｉ", ["wifi"]),
        ("無線滑鼠", ["无线", "鼠标"]),
        ("desktop/laptop", ["desktop", "laptop"]),
        ("😀 \x00 !?", []),
        ("", []),
    ],
)
def test_words_of_products_and_queries_are_cut_alike(text: str, found: list[str]) -> None:
    assert texts(text) == found


def test_a_model_number_is_its_parts_and_the_whole_at_one_place() -> None:
    found = [(w.text, w.position, w.span) for w in tokens.words("WD-40 spray")]
    assert found == [("wd", 0, 1), ("40", 1, 1), ("wd40", 0, 2), ("spray", 2, 1)]


def test_a_long_chinese_word_is_also_its_parts() -> None:
    assert texts("办公室")[-1] == "办公室"
    assert "办公" in texts("办公室")


def test_catalogue_names_stay_whole_when_chinese_is_cut() -> None:
    assert "伽墨" not in texts("伽墨油墨")
    named = [w.text for w in tokens.words("伽墨油墨", tokens.Cutter(("伽墨",)))]
    assert named == ["伽墨", "油墨"]


def test_text_beyond_the_limit_is_not_read() -> None:
    assert len(tokens.words("a " * 1_000_000)) <= MAX_TEXT
