"""The quarantine browser: rows whole, by rule and by text, and as a file."""

from typing import Any

import polars as pl
import pytest

from shopkeeper.console import quarantine
from shopkeeper.shop import Shop

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


def test_a_rule_is_repaired_replayed_and_taken_back(fresh) -> None:
    where, rule = "/console/quarantine/events", "impossible:price_minor"
    form = {"rule": rule, "column": "price_minor", "how": "=", "value": "199", "why": "NaN is 1.99"}
    shown = fresh.http.post(f"{where}/try", data=form, headers=HTML).text
    assert "<html" not in shown
    assert "1 rows" in shown
    assert "199" in shown
    kept = fresh.http.post(f"{where}/repair", data=form, headers=HTML)
    assert kept.status_code == 303
    assert "NaN is 1.99" in page(fresh, kept.headers["location"])
    done = fresh.http.post(f"{where}/replay", data={"rule": rule}, headers=HTML)
    told = page(fresh, done.headers["location"])
    assert "1 rows were in quarantine: 1 are clean now" in told
    repair = told.split('name="repair" value="')[1].split('"')[0]
    back = {"repair": repair, "why": "it was not"}
    assert fresh.http.post(f"{where}/undo", data=back, headers=HTML).status_code == 303
    assert "Taken back: it was not" in page(fresh, "/console/quarantine")


def test_what_is_wrong_with_a_repair_is_told_in_the_page(served) -> None:
    form = {"rule": "future:ts", "column": "ts", "how": ":=", "value": "MAX(ts)"}
    told = served.http.post("/console/quarantine/events/try", data=form, headers=HTML)
    assert told.status_code == 200
    assert "looks at more than its own row" in told.text
    refused = served.http.post("/console/quarantine/events/repair", data=form, headers=HTML)
    assert refused.status_code == 422
    foreign = {"origin": "http://evil.example"}
    answer = served.http.post("/console/quarantine/events/repair", data=form, headers=foreign)
    assert answer.status_code == 403


def test_the_page_says_which_rows_of_how_many(served) -> None:
    assert "Rows 1–1 of 1" in page(served, "/console/quarantine/events?rule=future:ts")
    assert "Rows 1–1<" in page(served, "/console/quarantine/events?q=NOWHERE")


def test_lines_nobody_could_read_are_shown_where_nothing_else_is_wrong(
    served, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {"quarantine.events": {}, "unread.events": {"too_many_fields": 2}}
    monkeypatch.setattr(quarantine, "_counts", lambda shop, name: counts[name])
    asked: list[str] = []
    ask = Shop.sql

    def seen(self: Shop, text: str, *limits: Any) -> Any:
        asked.append(text)
        return ask(self, text.replace("unread.", "quarantine."), *limits)

    monkeypatch.setattr(Shop, "sql", seen)
    page(served, "/console/quarantine/events")
    assert "FROM unread.events" in asked[-1]


def test_counts_that_are_no_numbers_are_passed_over(served) -> None:
    page(served, "/console/quarantine/events?replayed=²,²,²,²")
