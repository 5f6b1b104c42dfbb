"""The pages of ready reports: each drawn by the SELECT it shows, or saying what would make it."""

import pytest

from shopkeeper.analysis.steps import REPORTS
from shopkeeper.console.reports import DRAWN
from shopkeeper.shop import Shop

HTML = {"accept": "text/html", "accept-language": "en"}


@pytest.mark.parametrize("name", REPORTS)
def test_every_report_shows_its_rows_and_the_select_that_is_drawn(served, name: str) -> None:
    response = served.http.get(f"/console/reports/{name}", headers=HTML)
    assert response.status_code == 200
    assert DRAWN[name].partition("\n")[0].replace("{minor}", "100.0").replace("'", "&#39;") in response.text  # fmt: skip
    assert f'href="/console/assets/reports.{name}"' in response.text


def test_a_chart_is_named_in_the_language_of_the_page(served) -> None:
    chinese = {"accept": "text/html", "accept-language": "zh"}
    assert (
        ">用户数与购买人数<" in served.http.get("/console/reports/channels", headers=chinese).text
    )
    assert ">Users and buyers<" in served.http.get("/console/reports/channels", headers=HTML).text


def test_the_rows_of_a_report_can_be_taken_along(served) -> None:
    csv = served.http.get("/console/reports/channels?format=csv")
    assert csv.text.startswith("channel,users,")
    assert 'filename="channels.csv"' in csv.headers["content-disposition"]


def test_a_report_that_is_none_names_those_that_are(served) -> None:
    response = served.http.get("/console/reports/funel", headers=HTML)
    assert response.status_code == 404
    assert "funnel" in response.text


def test_a_shop_that_never_ran_is_told_what_makes_the_report(tmp_path) -> None:
    from fastapi.testclient import TestClient

    from shopkeeper.api.app import create_app
    from shopkeeper.governance.clients import Clients

    (tmp_path / "shop.toml").write_text('name = "new"\n', encoding="utf-8")
    app = create_app(Shop.open(tmp_path), clients=Clients.of(tmp_path))
    with TestClient(app, base_url="http://127.0.0.1") as http:
        for address in ("/console", "/console/reports", "/console/sql", "/console/reports/funnel"):
            page = http.get(address, headers=HTML)
            assert page.status_code == 200, address
            assert "shopkeeper run" in page.text, address
