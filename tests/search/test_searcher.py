import random
import threading
from pathlib import Path

import polars as pl
import pytest

from shopkeeper.errors import InputError, NotReady
from shopkeeper.search import Searcher, build
from shopkeeper.search.searcher import FILL


def ids(searcher: Searcher, query: str, **more: object) -> list[str]:
    return [item for item, _ in searcher.search(query, **more).hits]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("query", "item"),
    [
        ("wireless mouse", "mouse"),
        ("mice black", "mouse"),
        ("wd40", "spray"),
        ("WD-40", "spray"),
        ("wd 40", "spray"),
        ("500ml", "spray"),
        ("MX5500", "mouse"),
        ("mx 5500", "mouse"),
        ("cafe creme", "coffee"),
        ("powerbank", "bank"),
        ("power-bank", "bank"),
        ("notebook", "book"),
        ("ps 4", "ps4"),
        ("无线鼠标", "mouse"),
        ("無線滑鼠", "mouse"),
        ("充电", "bank"),
        ("咖", "coffee"),
        ("Lux 台灯", "lamp"),
        ("the lamp for my desk", "lamp"),
    ],
)
def test_a_query_finds_the_item_meant_first(searcher: Searcher, query: str, item: str) -> None:
    assert ids(searcher, query)[0] == item


def test_items_with_all_words_come_before_items_with_some(searcher: Searcher) -> None:
    found = searcher.search("mouse pad", 1)
    assert (found.hits[0][0], found.stage) == ("pad", "all")
    assert (ids(searcher, "mouse pad"), searcher.search("mouse pad").stage) == (
        ["pad", "mouse"],
        "any",
    )


def test_a_misspelt_word_is_corrected_and_the_correction_told(searcher: Searcher) -> None:
    found = searcher.search("wirless mouse")
    assert (found.hits[0][0], found.stage, found.corrected) == ("mouse", "fuzzy", "wireless mouse")


def test_nothing_found_shows_what_is_popular(searcher: Searcher) -> None:
    found = searcher.search("zzzzzzzz")
    assert (found.stage, found.total) == ("popular", 8)
    assert [item for item, _ in found.hits[:2]] == ["ps4", "pad"]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "   ",
        "😀",
        "!!! ???",
        "\x00\x01",
        "\ud800abc",
        "a" * 10_000,
        "无" * 10_000,
        "word " * 3_000,
        'title:mouse AND (x OR "y',
        "+-*/~^[]{}\\",
        "-" * 5_000,
        "a-" * 5_000,
        "9" * 100,
        "\u202e\u200b",
    ],
)
def test_any_input_gets_a_page(searcher: Searcher, query: str) -> None:
    assert searcher.search(query).hits
    assert isinstance(searcher.suggest(query), list)


def test_random_input_gets_a_page(searcher: Searcher) -> None:
    rng = random.Random(0)
    for _ in range(300):
        query = "".join(chr(rng.choice([rng.randrange(0x3000), rng.randrange(0x4E00, 0x4F00)]))
                        for _ in range(rng.randrange(30)))  # fmt: skip
        assert searcher.search(query, 1).hits, repr(query)


def test_filters_keep_out_what_they_exclude_and_leave_the_score(searcher: Searcher) -> None:
    free = dict(searcher.search("mouse").hits)
    kept = searcher.search("mouse", filters={"brand": ["Acme", "Lux"], "price": {"max": 600}})
    assert kept.hits == [("pad", pytest.approx(free["pad"]))]
    assert ids(searcher, "zzz", filters={"shop": "s2"}) == ["lamp", "spray"]
    assert set(ids(searcher, "", filters={"in_stock": True})) == set(ids(searcher, "")) - {"pad"}
    assert searcher.search("mouse", filters={"brand": "nobody"}).hits == []
    for wrong in ({"price": {"min": 1, "max": 10**20}}, {"brand": {"min": 1}}, {"brand": [1]}):
        with pytest.raises(InputError, match="search filter"):
            searcher.search("mouse", filters=wrong)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"filters": {"colour": "red"}}, "no filter 'colour'; use category"),
        ({"filters": {"price": 5}}, "in minor units"),
        ({"filters": {"price": {"min": float("nan")}}}, "in minor units"),
        ({"sort": "cheap"}, "no sort 'cheap'; use relevance, price, -price, newest"),
        ({"k": 0}, "k goes from 1"),
        ({"page": 0}, "page starts at 1"),
    ],
)
def test_a_wrong_request_is_told_what_there_is(
    searcher: Searcher, more: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError) as error:
        searcher.search("mouse", **more)  # type: ignore[arg-type]
    assert message in str(error.value)


def test_sorting_by_price_puts_unknown_prices_last_both_ways(searcher: Searcher) -> None:
    up, down = ids(searcher, "", sort="price"), ids(searcher, "", sort="-price")
    assert (up[0], up[-1]) == ("pad", "spray")
    assert (down[0], down[-1]) == ("ps4", "spray")


def test_facets_count_what_matches(searcher: Searcher) -> None:
    facets = searcher.search("mouse").facets
    assert facets["brand"] == {"Acme": 2}
    assert facets["category"] == {"mice": 1, "pads": 1}
    assert facets["price"] == {"min": 500, "max": 1900}


def test_html_in_a_description_is_no_text(searcher: Searcher) -> None:
    searcher.upsert(
        [{"item_id": "lamp", "description": "<div class='big'>R&eacute;tro&nbsp;style</div>"}]
    )
    assert ids(searcher, "retro")[0] == "lamp"
    assert searcher.search("div").stage == "popular"


def test_pages_run_on_without_gap_or_repeat(tmp_path: Path) -> None:
    many = pl.DataFrame(
        {
            "item_id": [str(at) for at in range(300)],
            "title": ["blue mug" if at % 5 == 0 else "blue cup" for at in range(300)],
        }
    )
    build(many, tmp_path / "search")
    searcher = Searcher.open(tmp_path / "search")
    whole = ids(searcher, "blue mug", k=100)
    paged = [item for page in range(1, 9) for item in ids(searcher, "blue mug", k=13, page=page)]
    assert paged == whole
    assert len(set(whole)) == FILL == searcher.search("blue mug").total
    assert {int(item) % 5 for item in whole[:60]} == {0}
    assert searcher.search("blue", k=7, page=43).total == 300
    assert len(ids(searcher, "blue", k=7, page=43)) == 300 - 42 * 7


def test_a_boost_lifts_an_item_and_leaves_pages_whole(searcher: Searcher) -> None:
    plain = ids(searcher, "mouse")
    boosted = ids(searcher, "mouse", boost={plain[-1]: 9.0})
    assert boosted[0] == plain[-1]
    assert sorted(boosted) == sorted(plain)
    assert [ids(searcher, "mouse", k=1, page=page, boost={plain[-1]: 9.0})[0] for page in (1, 2)] \
        == boosted  # fmt: skip


def test_suggestions_are_frequent_queries_then_completions_then_names(searcher: Searcher) -> None:
    assert searcher.suggest("wire") == [
        "wireless charger",
        "wireless mouse",
        "wireless",
        "wireless mouse black",
    ]
    assert "鼠标垫" in searcher.suggest("鼠")
    assert searcher.suggest("") == []


def test_a_live_change_shows_in_the_next_search(searcher: Searcher) -> None:
    row = {"item_id": "pad", "title": "Mouse mat", "brand": "Acme", "price_minor": 100, "stock": 1}
    searcher.upsert([row])
    assert ids(searcher, "mat") == ["pad"]
    assert ids(searcher, "mouse", filters={"price": {"max": 100}, "in_stock": True}) == ["pad"]
    searcher.delete(["pad", "never seen"])
    assert "pad" not in ids(searcher, "")
    assert len(searcher) == 7


def test_a_change_keeps_what_it_leaves_out_and_empties_what_is_null(searcher: Searcher) -> None:
    searcher.upsert([{"item_id": "mouse", "price_minor": 1}, {"item_id": "mouse", "stock": 0}])
    found = searcher.search("wireless MX5500 无线", filters={"price": {"max": 1}, "brand": "Acme"})
    assert [item for item, _ in found.hits] == ["mouse"]
    assert "mouse" not in ids(searcher, "", filters={"in_stock": True})
    searcher.upsert([{"item_id": "mouse", "brand": None, "title_zh": None}])
    assert ids(searcher, "mouse", filters={"brand": "Acme"}) == ["pad"]
    assert ids(searcher, "无线")[:1] != ["mouse"]


def test_changes_are_all_or_none(searcher: Searcher) -> None:
    with pytest.raises(InputError, match="price_minor = 'free' is no whole number that fits"):
        searcher.upsert([{"item_id": "new"}, {"item_id": "bad", "price_minor": "free"}])
    with pytest.raises(InputError, match="stock = 1000000000000000000000 is no whole number"):
        searcher.upsert([{"item_id": "new", "stock": 10**21}])
    with pytest.raises(InputError, match="an item without item_id"):
        searcher.upsert([{"title": "new"}])
    assert len(searcher) == 8


def test_live_changes_leave_the_built_folder_as_it_is(shelf_folder: Path, tmp_path: Path) -> None:
    def content() -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in shelf_folder.rglob("*") if p.is_file()}

    before = content()
    searcher = Searcher.open(shelf_folder, live=tmp_path / "live")
    searcher.delete(["mouse"])
    searcher.upsert([{"item_id": "new", "title": "umbrella"}])
    searcher.close()
    assert content() == before
    assert len(Searcher.open(shelf_folder)) == 8


def test_readers_see_whole_states_while_one_writes(searcher: Searcher) -> None:
    stop = threading.Event()
    wrong: list[str] = []

    def read() -> None:
        while not stop.is_set():
            try:
                if len(searcher.search("lamp 台灯 umbrela batteries").hits) < 1:
                    wrong.append("no lamp")
            except Exception as error:
                wrong.append(repr(error))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for price in range(15):
        searcher.upsert([{"item_id": "lamp", "title": "Desk lamp", "price_minor": price}])
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert searcher.search("desk lamp", 1).facets["price"]["min"] == 14


def test_no_index_a_damaged_one_and_a_strange_one_say_what_to_do(
    shelf: pl.DataFrame, tmp_path: Path
) -> None:
    with pytest.raises(NotReady, match="no search index; build it again with: shopkeeper run"):
        Searcher.open(tmp_path / "nothing")
    folder = tmp_path / "search"
    build(shelf, folder)
    (folder / "search.json").write_text('{"format": 1}')
    with pytest.raises(NotReady, match="search index of format 1, this version reads"):
        Searcher.open(folder)
    (folder / "search.json").write_text("{")
    with pytest.raises(NotReady, match="damaged search index"):
        Searcher.open(folder)
    build(shelf, folder)
    (folder / "index" / "meta.json").write_text("{}")
    with pytest.raises(NotReady, match="damaged search index"):
        Searcher.open(folder)


@pytest.mark.parametrize("suffix", [".term", ".fast", ".store", ".idx", ".fieldnorm"])
def test_a_truncated_index_file_is_noticed_when_opened(
    shelf: pl.DataFrame, tmp_path: Path, suffix: str
) -> None:
    folder = tmp_path / "search"
    build(shelf, folder)
    (broken,) = (folder / "index").glob(f"*{suffix}")
    broken.write_bytes(broken.read_bytes()[:20])
    with pytest.raises(NotReady, match="damaged search index"):
        Searcher.open(folder)


def test_an_empty_catalogue_can_be_built_and_searched(shelf: pl.DataFrame, tmp_path: Path) -> None:
    build(shelf.clear(), tmp_path / "search")
    found = Searcher.open(tmp_path / "search").search("mouse")
    assert (found.hits, found.total, found.stage) == ([], 0, "popular")


def test_building_reports_progress_and_replaces_what_was_there(
    shelf: pl.DataFrame, tmp_path: Path
) -> None:
    seen: list[tuple[float, float, str]] = []
    folder = tmp_path / "search"
    for _ in range(2):
        assert build(shelf, folder, lambda *at: seen.append(at)) == 8
    assert seen[-1] == (8, 8, "indexing items")
    assert [p.name for p in tmp_path.iterdir()] == ["search"]
