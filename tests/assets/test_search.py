"""Finding assets: by name, column, words of people and glossary, typed wrongly or in Chinese."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shopkeeper.assets import about, search
from shopkeeper.assets.catalog import Catalog, Version, make_current, now
from shopkeeper.assets.schema import descriptions, search_postings, versions
from shopkeeper.assets.usage import Reads
from shopkeeper.errors import InputError, NotFound
from shopkeeper.words import Grade

TABLES = {
    "clean.events": ("events, checked and repaired", ["event_id", "user_id", "item_id", "kind"]),
    "clean.items": ("items, checked and repaired", ["item_id", "title", "price_minor", "brand"]),
    "raw.items": ("items as they came", ["item_id", "title", "price_minor"]),
    "reports.funnel": ("from shown to bought", ["day", "impressions", "purchases"]),
    "models.transformer": ("learns sequences", []),
}


def add(catalog: Catalog, name: str, description: str, columns: list[str], number: int = 1) -> None:
    version = Version(
        asset=name,
        number=number,
        digest=f"{name}{columns}",
        delta_version=0,
        schema=dict.fromkeys(columns, "String"),
        rows=1,
        bytes=1,
        contract_version=None,
        quality=None,
        notes={},
        run_id="r",
        created_at=now(),
    )
    said = {"kind": "table", "owner": "local-owner", "description": description}
    with catalog.write() as connection:
        values = {f: getattr(version, f) for f in Version.__dataclass_fields__}
        connection.execute(versions.insert().values(id=version.id, **values))
        make_current(connection, version, said | {"grade": "internal", "contract": None})


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = Catalog(tmp_path / "catalog.db")
    for name, (description, columns) in TABLES.items():
        add(opened, name, description, columns)
    yield opened
    opened.close()


def names(catalog: Catalog, query: str, **asked: str) -> list[str]:
    return [hit["name"] for hit in search.find(catalog, query, **asked)]  # type: ignore[arg-type]


def test_words_are_those_of_identifiers_whole_and_in_parts_and_pairs_of_characters() -> None:
    assert search.words("price_minor") == ("price_minor", "price", "minor")
    assert search.words("OrderTotal 訂單金額") == ("order", "total", "订单", "单金", "金额")
    assert search.words("ＵＳＥＲ") == ("user",)
    assert search.words("") == ()


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("clean.items", "clean.items"),
        ("events", "clean.events"),
        ("funel", "reports.funnel"),
        ("transfromer", "models.transformer"),
        ("impresions", "reports.funnel"),
        ("brand", "clean.items"),
        ("trans", "models.transformer"),
        ("user id", "clean.events"),
        ("userid", "clean.events"),
        ("行为", "clean.events"),
        ("商品", "clean.items"),
        ("品牌", "clean.items"),
        ("漏斗", "reports.funnel"),
        ("曝光", "reports.funnel"),
        ("exposure", "reports.funnel"),
        ("ITEMS title", "clean.items"),
    ],
)
def test_what_is_asked_is_found_first(catalog: Catalog, query: str, first: str) -> None:
    assert names(catalog, query)[0] == first


def test_a_query_of_nothing_known_finds_nothing(catalog: Catalog) -> None:
    for query in ("", "  ", "%%%", "zzzzqqqq", "龘龘"):
        assert search.find(catalog, query) == []


def test_an_asset_that_matches_all_words_stands_before_one_that_matches_one_often(
    catalog: Catalog,
) -> None:
    assert names(catalog, "price brand")[0] == "clean.items"
    assert set(names(catalog, "price")) == {"clean.items", "raw.items"}


def test_a_hit_says_where_it_matched(catalog: Catalog) -> None:
    hit = search.find(catalog, "brand")[0]
    assert {"what": "column", "text": "brand"} in hit["matched"]
    assert hit["layer"] == "clean"
    assert hit["kind"] == "table"


def test_what_is_read_more_often_comes_first(catalog: Catalog) -> None:
    assert names(catalog, "title")[0] == "clean.items"
    reads = Reads(catalog)
    for _ in range(200):
        reads.note("raw.items", "somebody", "analyse")
    reads.flush()
    assert names(catalog, "title")[0] == "raw.items"


def test_layer_kind_and_tag_narrow_what_is_found(catalog: Catalog) -> None:
    assert names(catalog, "items", layer="raw") == ["raw.items"]
    assert names(catalog, "items", kind="model") == []
    about.describe(catalog, "clean.items", tags=["Gold"])
    assert names(catalog, "items", tag="gold") == ["clean.items"]


def test_what_people_say_is_found_and_what_they_take_back_is_not(catalog: Catalog) -> None:
    about.describe(catalog, "raw.items", description="merchandise 每日库存快照", tags=["nightly"])
    about.describe(catalog, "raw.items", "title", description="as printed on the box")
    about.describe(catalog, "clean.items", owner="Wang Fang 王芳")
    for query in ("merchandise", "快照", "nightly", "nihgtly", "printed"):
        assert names(catalog, query) == ["raw.items"], query
    assert names(catalog, "王芳") == names(catalog, "fang") == ["clean.items"]
    about.describe(catalog, "raw.items", description="", tags=[])
    assert names(catalog, "merchandise") == []
    assert search.find(catalog, "items")[0]["description"]


def test_terms_of_the_workspace_find_by_their_synonyms(catalog: Catalog) -> None:
    about.define(catalog, "GMV", "All that was paid", ["turnover", "成交总额"])
    about.describe(catalog, "reports.funnel", "purchases", terms=["gmv"])
    for query in ("GMV", "turnover", "成交总额"):
        assert names(catalog, query)[0] == "reports.funnel", query
    about.define(catalog, "gmv", "All that was paid", ["takings"])
    assert names(catalog, "takings") == ["reports.funnel"]
    assert names(catalog, "turnover") == []


def test_a_new_version_with_other_columns_is_found_by_those(catalog: Catalog) -> None:
    add(catalog, "raw.items", "items as they came", ["item_id", "weight_grams"], number=2)
    assert names(catalog, "weight") == ["raw.items"]
    assert names(catalog, "price") == ["clean.items"]


def test_a_catalogue_without_an_index_gets_one_when_it_is_opened(
    catalog: Catalog, tmp_path: Path
) -> None:
    with catalog.write() as connection:
        for table in ("search_postings", "search_words", "search_grams", "search_documents"):
            connection.exec_driver_sql(f"DROP TABLE {table}")
    again = Catalog(tmp_path / "catalog.db")
    assert names(again, "funel") == ["reports.funnel"]
    again.close()


def test_indexing_again_changes_nothing(catalog: Catalog) -> None:
    def rows() -> list[tuple[str, str, float]]:
        with catalog.reader.connect() as connection:
            return [tuple(row) for row in connection.execute(search_postings.select()).all()]

    before = rows()
    with catalog.write() as connection:
        search.index_assets(connection)
    assert rows() == before


def test_a_grade_that_people_give_may_be_stricter_never_weaker(catalog: Catalog) -> None:
    about.describe(catalog, "clean.items", "brand", grade="sensitive", promised=Grade.INTERNAL)
    assert about.said(catalog, "clean.items")["brand"]["grade"] == "sensitive"
    with pytest.raises(InputError, match=r"clean\.items\.brand is personal by its contract"):
        about.describe(catalog, "clean.items", "brand", grade="public", promised=Grade.PERSONAL)
    with pytest.raises(InputError, match="no grade 'secret'"):
        about.describe(catalog, "clean.items", grade="secret")
    about.describe(catalog, "clean.items", grade="personal")
    record = catalog.asset("clean.items")
    assert record is not None
    assert record["grade"] == "personal"
    plain = catalog.asset("clean.items", told=False)
    assert plain is not None
    assert plain["grade"] == "internal"


def test_what_is_said_of_nothing_is_refused(catalog: Catalog) -> None:
    with pytest.raises(NotFound, match=r"no asset .clean\.nothing."):
        about.describe(catalog, "clean.nothing", description="x")
    with pytest.raises(NotFound, match="no column 'colour'; it has item_id, title"):
        about.describe(catalog, "clean.items", "colour", description="x")
    with pytest.raises(NotFound, match="no term 'nonsense'"):
        about.describe(catalog, "clean.items", terms=["nonsense"])
    with pytest.raises(InputError, match="those of a whole asset"):
        about.describe(catalog, "clean.items", "brand", owner="me")
    with catalog.reader.connect() as connection:
        assert connection.execute(descriptions.select()).all() == []


def test_a_term_that_is_carried_stays_and_a_built_in_one_cannot_be_removed(
    catalog: Catalog,
) -> None:
    about.define(catalog, "basket size", "Pieces bought at once", [])
    about.describe(catalog, "reports.funnel", terms=["basket size"])
    with pytest.raises(InputError, match=r"reports\.funnel carries it"):
        about.undefine(catalog, "basket size")
    about.describe(catalog, "reports.funnel", terms=[])
    about.undefine(catalog, "Basket Size")
    with pytest.raises(NotFound, match="built in"):
        about.undefine(catalog, "item")
    about.define(catalog, "item", "What we sell", ["thing"])
    told = {one["term"]: one for one in about.listed(catalog)}
    assert told["item"]["definition"] == "What we sell"
    assert not told["item"]["built_in"]
    about.undefine(catalog, "item")
    assert {one["term"]: one["built_in"] for one in about.listed(catalog)}["item"]


def test_a_promise_of_freshness_is_kept_by_the_last_run_or_overdue(catalog: Catalog) -> None:
    about.describe(catalog, "clean.items", fresh_hours=24)
    told = about.freshness(catalog)["clean.items"]
    assert told["overdue"]  # no run made it
    assert told["fresh_hours"] == 24
    about.describe(catalog, "clean.items", fresh_hours=0)
    assert about.freshness(catalog) == {}
