"""The quarantine browser: rows whole, by rule and by text, and as a file."""

import polars as pl

HTML = {"accept": "text/html", "accept-language": "en"}


def page(served, address: str) -> str:
    response = served.http.get(address, headers=HTML)
    assert response.status_code == 200
    return response.text


def test_every_rule_leads_to_its_rows(served) -> None:
    assert 'href="/console/quarantine/events?rule=future%3Ats"' in page(
        served, "/console/quarantine"
    )
    rows = page(served, "/console/quarantine/events?rule=future:ts")
    assert "<td >bad1</td>" in rows
    assert "<td >bad2</td>" not in rows


def test_a_text_is_looked_for_in_the_whole_row(served) -> None:
    assert "<td >bad2</td>" in page(served, "/console/quarantine/events?q=NOWHERE")
    assert "No row like this" in page(served, "/console/quarantine/events?q=%27%20OR%20true--")


def test_the_rows_shown_can_be_taken_along(served) -> None:
    csv = served.http.get("/console/quarantine/events?rule=future:ts&format=csv")
    assert pl.read_csv(csv.content)["event_id"].to_list() == ["bad1"]


def test_a_table_that_is_none_is_not_found(served) -> None:
    assert served.http.get("/console/quarantine/evnts", headers=HTML).status_code == 404
