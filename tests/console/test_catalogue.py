"""Finding assets, saying what they are, their profile, usage and cost, and the glossary, as pages."""

import json
import sys

import pytest

from shopkeeper import cli
from shopkeeper.assets import contracts
from shopkeeper.console.catalogue import bars, logarithmic
from shopkeeper.console.templating import saying, type_name, words
from shopkeeper.shop import Shop
from shopkeeper.words import TABLES

EN = {"accept": "text/html", "accept-language": "en"}
ZH = {"accept": "text/html", "accept-language": "zh"}


def text(served, address: str, headers=EN) -> str:
    response = served.http.get(address, headers=headers)
    assert response.status_code == 200, response.text
    return response.text


def test_a_search_in_either_language_leads_to_the_asset(served) -> None:
    for query in ("items", "itmes", "商品", "price_minor"):
        page = text(served, f"/console/find?q={query}")
        assert '<a href="/console/assets/clean.items">' in page, query
    assert "没有名称" in text(served, "/console/find?q=zzzzqqq", ZH)
    assert 'action="/console/find"' in text(served, "/console")


def test_the_profile_tab_draws_numbers_and_hides_people(served) -> None:
    page = text(served, "/console/assets/clean.items?tab=profile")
    assert page.count("<svg") >= 1
    assert "price_minor" in page
    users = text(served, "/console/assets/clean.events?tab=profile")
    assert "hidden by grade" in users
    assert "u01" not in users
    assert "按分级隐藏" in text(served, "/console/assets/clean.events?tab=profile", ZH)


def test_usage_and_cost_name_the_steps_that_read_and_made_it(served) -> None:
    page = text(served, "/console/assets/clean.items?tab=usage")
    assert 'step <a href="/console/runs?step=clean.events">clean.events</a>' in page
    assert "clean.items@1" in page


def test_what_is_typed_of_an_asset_and_a_column_is_kept_and_found(fresh) -> None:
    here = "/console/assets/clean.items/about"
    typed = {
        "description": "what <we> sell",
        "owner": "王芳",
        "tags": "gold，nightly",
        "terms": "item",
        "fresh_hours": "24",
    }
    assert fresh.http.post(here, data=typed).status_code == 303
    one = {"column": "brand", "description": "the maker", "grade": "personal", "tags": "zeta"}
    assert fresh.http.post(here, data=one).status_code == 303
    page = text(fresh, "/console/assets/clean.items?tab=about")
    assert "what &lt;we&gt; sell" in page
    assert "gold, nightly" in page
    assert "clean.items" in text(fresh, "/console/find?q=zeta")
    assert "clean.items" in text(fresh, "/console/find?q=王芳")
    refused = fresh.http.post(here, data={"column": "brand", "grade": "nonsense"})
    assert refused.status_code == 422
    assert fresh.http.post(here, data={"fresh_hours": "soon"}).status_code == 422
    with Shop.open(fresh.folder) as shop:
        told = shop.about("clean.items")
        assert told["tags"] == ["gold", "nightly"]
        assert told["columns"]["brand"]["grade"] == "personal"
        found = {one["column"]: one for one in shop.profile("clean.items")["columns"]}
        assert found["brand"]["top"] == found["brand"]["examples"] == []
        assert not told["freshness"]["overdue"]


def test_the_glossary_is_written_and_read_as_a_page(fresh) -> None:
    typed = {"term": "GMV", "definition": "All that was paid", "synonyms": "成交总额、turnover"}
    assert fresh.http.post("/console/glossary", data=typed).status_code == 303
    page = text(fresh, "/console/glossary")
    assert "All that was paid" in page
    assert "成交总额, turnover" in page
    assert "店里卖的东西" in text(fresh, "/console/glossary", ZH)
    gone = {"term": "GMV", "definition": "-", "remove": "true"}
    assert fresh.http.post("/console/glossary", data=gone).status_code == 303
    assert "All that was paid" not in text(fresh, "/console/glossary")


def test_bars_fill_their_box_and_no_row_is_too_small_to_see() -> None:
    drawn = bars({"edges": [0, 1, 2, 3], "counts": [1000, 1, 0]})
    assert [bar["height"] for bar in drawn] == [48, 1, 0]
    assert drawn[-1]["x"] + drawn[-1]["width"] <= 220
    assert bars(None) == []


@pytest.mark.parametrize(
    "command",
    [
        ["find", "商品"],
        ["assets", "profile", "clean.items"],
        ["assets", "describe", "clean.items", "brand", "--description", "maker", "--tag", "t"],
        ["assets", "describe", "clean.items", "--fresh-hours", "0.0000001", "--term", "item"],
        ["assets", "usage", "clean.items"],
        ["assets", "cost", "clean.items"],
        ["glossary", "add", "GMV", "All that was paid", "--also", "成交总额"],
        ["glossary", "rm", "GMV"],
        ["glossary", "ls"],
    ],
    ids=" ".join,
)
def test_the_shell_says_the_same_as_text_and_as_json(served, command, capsys, monkeypatch) -> None:
    for form in ([], ["--json"]):
        if command[:2] == ["glossary", "rm"]:
            with Shop.open(served.folder) as shop:
                shop.define("GMV", "x")
        arguments = [*command, "--shop", str(served.folder), *form]
        monkeypatch.setattr(sys, "argv", ["shopkeeper", *arguments])
        capsys.readouterr()
        cli.app(standalone_mode=False)
        told = capsys.readouterr().out
        assert told.strip()
        if form:
            json.loads(told)


def test_a_promise_of_freshness_that_is_broken_is_told_by_status(served) -> None:
    with Shop.open(served.folder) as shop:
        shop.describe("clean.items", fresh_hours=1e-9)
        told = shop.status()
        assert [one["asset"] for one in told["overdue"]] == ["clean.items"]
        shop.describe("clean.items", fresh_hours=0)
        assert shop.status()["overdue"] == []


def test_only_bars_that_grow_wider_are_logarithmic() -> None:
    assert logarithmic({"edges": [1, 2, 4, 8], "counts": [1, 1, 1]})
    assert not logarithmic({"edges": [0, 1, 2], "counts": [1, 1]})
    assert not logarithmic({"edges": ["2026-01-01", "2026-01-02"], "counts": [1]})


def test_what_contracts_and_steps_say_is_told_in_chinese_and_what_people_say_as_it_is(
    fresh,
) -> None:
    for table in TABLES:
        for column in contracts.built_in(table).columns:
            if column.description:
                assert saying(column.description, "zh") != column.description, column
    with Shop.open(fresh.folder) as shop:
        for one in shop.assets_list():
            assert saying(one["description"], "zh") != one["description"], one["name"]
    assert saying("what we sell", "zh") == "what we sell"
    assert saying("Brand", "en") == "Brand"


def test_types_are_words() -> None:
    told = words("en")
    assert type_name("Datetime(time_unit='us', time_zone='UTC')", told) == "time, UTC"
    assert type_name("List(Int16)", told) == "list of whole number"
    assert type_name("Struct({'a': String})", told) == "Struct({'a': String})"


def test_a_tab_that_an_asset_has_not_shows_the_first(served) -> None:
    page = text(served, "/console/assets/models.item_knn?tab=profile")
    assert 'href="?tab=overview" aria-current="page"' in page
    assert 'href="?tab=profile"' not in page
