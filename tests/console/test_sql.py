"""The SQL page and its files: what a query answers, what is wrong with it, and who may ask."""

import io
from urllib.parse import quote

import polars as pl

KINDS = "SELECT kind, count(*) AS n FROM clean.events GROUP BY kind ORDER BY kind"
HTML = {"accept": "text/html", "accept-language": "en"}


def ask(served, query: str, **headers: str) -> str:
    response = served.http.get(f"/console/sql?q={quote(query)}", headers={**HTML, **headers})
    assert response.status_code == 200
    return response.text


def test_the_answer_is_a_table_and_a_chart(served) -> None:
    page = ask(served, KINDS)
    assert "<td >purchase</td>" in page
    assert page.count("<svg") == 1, "one chart"
    assert 'href="/console/assets/clean.events">clean.events@' in page


def test_a_mistake_is_told_with_its_place_and_the_nearest_name(served) -> None:
    page = ask(served, "SELECT user_id,\n  kond\nFROM clean.events")
    assert "SQL line 2, column 3" in page
    assert "did you mean &#39;kind&#39;?" in page
    assert "SELECT user_id,\n  kond" in page, "what was written is still there"


def test_an_answer_can_be_taken_along(served) -> None:
    csv = served.http.get(f"/console/sql/result.csv?q={quote(KINDS)}")
    assert 'filename="result.csv"' in csv.headers["content-disposition"]
    parquet = served.http.get(f"/console/sql/result.parquet?q={quote(KINDS)}")
    told = pl.read_parquet(io.BytesIO(parquet.content))
    assert told.rows() == pl.read_csv(io.BytesIO(csv.content)).rows()
    assert told["kind"].to_list() == ["cart", "purchase", "view"]


def test_a_link_from_another_site_runs_nothing(served) -> None:
    page = ask(served, KINDS, **{"sec-fetch-site": "cross-site"})
    assert "count(*) AS n" in page
    assert "<svg" not in page
    assert "Read it, then press Run" in page


def test_rows_beyond_the_limit_are_cut_and_said(served) -> None:
    page = ask(served, "SELECT a.range AS n FROM range(2000) a")
    assert "1,000 rows" in page
    assert "there are more" in page


def test_a_table_of_people_says_so_at_the_side(served) -> None:
    page = served.http.get("/console/sql", headers=HTML).text
    assert '<code>clean.events</code> <span class="pill warn">personal</span>' in page
    assert "<code>clean.items</code></summary>" in page
