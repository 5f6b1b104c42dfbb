"""Trace pages: from an answer to raw rows and back, in both languages, with personal values hidden."""

import json

import pytest

HTML = {"accept": "text/html", "accept-language": "en"}


def page(served, address: str, status: int = 200, language: str = "en") -> str:
    response = served.http.get(address, headers=HTML | {"accept-language": language})
    assert response.status_code == status, response.text[:500]
    return response.text


def test_an_answer_leads_to_its_rows_and_a_row_to_what_it_reached(served) -> None:
    answer = served.http.get("/v1/recommendations", params={"user_id": "u05"}).json()["answer_id"]
    assert f"/console/trace?answer={answer}" in page(served, f"/why/{answer}")
    told = page(served, f"/console/trace?answer={answer}")
    assert "match the answer&#39;s" in told or "match the answer's" in told
    assert "models.item_knn@1" in told
    assert "u05" not in told.replace("raw/events.csv", "")
    as_json = served.http.get(f"/v1/trace/answers/{answer}").json()
    event = as_json["input"]["events"][0]
    address = f"file={event['file'].replace('/', '%2F')}&amp;line={event['line']}"
    assert address in told
    row = page(served, "/console/trace?" + address.replace("&amp;", "&"))
    assert "releases.main@1" in row
    assert "serves now" in row
    found = served.http.get("/v1/trace/rows", params={"file": event["file"], "line": event["line"]})
    assert found.json()["rows"][0]["cleaned"][0]["state"] == "clean"


def test_a_quarantined_row_is_linked_from_its_table(served) -> None:
    rows = page(served, "/console/quarantine/events?rule=reference:item_id")
    assert 'href="/console/trace?file=raw%2Fevents.csv&amp;line=' in rows
    told = page(served, "/console/trace?event=bad2")
    assert "reference:item_id" in told
    assert served.http.get("/v1/trace/events/bad2").json()["rows"][0]["reached"] == []


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_is_not_there_is_said_in_the_page(served, language: str) -> None:
    assert "no answer" in page(served, "/console/trace?answer=nope", 404, language)
    assert "99999" in page(served, "/console/trace?file=raw/events.csv&line=99999", 404, language)
    assert served.http.get("/v1/trace/events/nope").status_code == 404
    title = {"en": "Trace one row", "zh": "追溯一行数据"}[language]
    assert title in page(served, "/console/trace", 200, language)


def test_columns_stand_in_the_lineage_tab(served) -> None:
    told = page(served, "/console/assets/features.sequences?tab=lineage")
    assert "/console/assets/clean.events?tab=lineage&amp;column=dwell_ms" in told
    one = page(served, "/console/assets/features.sequences?tab=lineage&column=dwell_ms")
    assert "raw.events" in one
    assert page(served, "/console/assets/models.item_knn?tab=lineage").count("what is in it") == 1
    told = served.http.get(
        "/v1/assets/features.sequences/columns/lineage", params={"column": "dwell_ms"}
    )
    assert {"from": ["raw.events", "dwell_ms"], "to": ["clean.events", "dwell_ms"], "how": "computed"} in told.json()["edges"]  # fmt: skip
    bad = served.http.get("/v1/assets/features.sequences/columns/lineage", params={"column": "no"})
    assert bad.status_code == 404
    assert "it has" in json.dumps(bad.json())
