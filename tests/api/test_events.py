import sqlite3

import polars as pl
import pytest

from shopkeeper.governance.access import OWNER
from shopkeeper.shop import Shop
from shopkeeper.words import Purpose


def test_an_event_is_acknowledged_with_its_id_and_once(served) -> None:
    event = {
        "event_id": "once-1",
        "user_id": "n1",
        "item_id": "i00",
        "kind": "view",
        "dwell_ms": 900,
    }
    first = served.http.post("/v1/events", json=event)
    assert first.status_code == 202
    assert first.json() == {"accepted": 1, "duplicates": 0, "event_ids": ["once-1"]}
    again = served.http.post("/v1/events", json=event)
    assert again.json() == {"accepted": 0, "duplicates": 1, "event_ids": ["once-1"]}


def test_an_acknowledged_event_stands_in_the_file_on_disk(served) -> None:
    body = {"events": [{"user_id": "n2", "item_id": f"i0{n}", "kind": "cart"} for n in range(3)]}
    ids = served.http.post("/v1/events", json=body).json()["event_ids"]
    with sqlite3.connect(served.folder / "store" / "online" / "events.db") as file:
        rows = file.execute(
            "SELECT event_id FROM events WHERE user_id = 'n2' ORDER BY seq"
        ).fetchall()
    file.close()
    assert [row[0] for row in rows] == ids


def test_the_next_answer_already_knows_of_the_event(served) -> None:
    before = served.http.get("/v1/recommendations?user_id=n3&k=8").json()["items"]
    for item in ("i02", "i06", "i10"):  # notebooks
        event = {"user_id": "n3", "item_id": item, "kind": "purchase", "quantity": 1}
        assert served.http.post("/v1/events", json=event).status_code == 202
        after = served.http.get("/v1/recommendations?user_id=n3&k=8").json()["items"]
        assert [hit["item_id"] for hit in after] != [hit["item_id"] for hit in before]
        assert item not in [hit["item_id"] for hit in after]
        before = after
    reasons = {hit["reason"]["key"] for hit in after}
    assert "because_purchase" in reasons


@pytest.mark.parametrize(
    ("body", "where", "says"),
    [
        ({"kind": "view", "item_id": "i00"}, "body", "user_id or session_id"),
        ({"kind": "glance", "user_id": "u"}, "body.kind", "found 'glance'"),
        ({"user_id": "u", "item_id": "i00"}, "body.kind", "required"),
        ({"kind": "view", "user_id": 7, "item_id": "i00"}, "body.user_id", "found 7"),
        ({"kind": "view", "user_id": "u", "dwell_ms": "3"}, "body.dwell_ms", "found '3'"),
        ({"kind": "view", "user_id": "u", "dwell_ms": -1}, "body.dwell_ms", "greater"),
        ({"kind": "view", "user_id": "u", "ts": "2026-01-01T00:00:00"}, "body.ts", "timezone"),
        ({"kind": "view", "user_id": "u", "propensity": 2.0}, "body.propensity", "found 2.0"),
        ({"kind": "view", "user_id": "u", "userid": "u"}, "body.userid", "unknown name 'userid'"),
        ({"kind": "view", "user_id": "u\x00"}, "body.user_id", "pattern"),
        ({"kind": "view", "user_id": "u" * 201}, "body.user_id", "200"),
        ({"kind": "view", "user_id": "u"}, "", "item_id"),
        ({"events": []}, "body.events", "at least 1"),
        ({"events": [{"kind": "view", "user_id": "u", "item_id": "i"}, {"kind": "x"}]}, "body.events.1.kind", "found 'x'"),
    ],
)  # fmt: skip
def test_a_bad_event_is_refused_with_its_place(served, body, where, says) -> None:
    response = served.http.post("/v1/events", json=body)
    assert response.status_code == 422, response.text
    error = response.json()["error"]
    assert error["where"] == where or not where
    assert says in error["message"]


def test_nothing_of_a_batch_with_one_bad_event_is_written(served) -> None:
    good = {"event_id": "half-1", "user_id": "n4", "item_id": "i00", "kind": "view"}
    bad = {"user_id": "n4", "kind": "view"}
    assert served.http.post("/v1/events", json={"events": [good, bad]}).status_code == 422
    assert served.http.post("/v1/events", json=good).json()["accepted"] == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b'{"kind": "view", "user_id": "u", "propensity": NaN}', "finite"),
        (b'{"kind": "view", "user_id": "u", "propensity": Infinity}', "finite"),
        (b'{"kind": "view", "user_id": "\xff\xfe"}', "not valid JSON"),
        (b"[1, 2]", ""),
        (b"null", ""),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_what_is_no_json_is_refused_in_words(served, content: bytes, says: str) -> None:
    response = served.http.post("/v1/events", content=content)
    assert response.status_code == 422
    assert says in response.json()["error"]["message"]


def test_a_body_over_the_limit_is_refused_without_reading_it_all(served) -> None:
    response = served.http.post("/v1/events", content=b" " * (4 * 1024 * 1024 + 1))
    assert response.status_code == 413
    assert "smaller batches" in response.json()["error"]["message"]

    def chunks():
        for _ in range(80):
            yield b" " * 65_536

    response = served.http.post("/v1/events", content=chunks())
    assert response.status_code == 413


def test_a_thousand_events_go_in_one_call_and_one_more_does_not(served) -> None:
    event = {"user_id": "n5", "item_id": "i00", "kind": "view"}
    response = served.http.post("/v1/events", json={"events": [event] * 1000})
    assert response.json()["accepted"] == 1000
    response = served.http.post("/v1/events", json={"events": [event] * 1001})
    assert response.status_code == 422
    assert "1000" in response.json()["error"]["message"]


def test_every_kind_of_event_comes_in_by_http_and_back_as_clean_data(fresh) -> None:
    said: dict[str, dict[str, str]] = {
        "review": {"item_id": "i01"},
        "share": {"item_id": "i01"},
        "follow": {"shop_id": "s1"},
        "leave": {},
        "campaign_view": {},
        "campaign_join": {},
    }
    for kind, about in said.items():
        answer = fresh.http.post("/v1/events", json={"user_id": "u01", "kind": kind, **about})
        assert answer.status_code == 202, answer.text
    for kind in ("review", "share"):
        refused = fresh.http.post("/v1/events", json={"user_id": "u01", "kind": kind})
        assert refused.status_code == 422
        assert f"a {kind} needs item_id" in refused.text
    with Shop.open(fresh.folder) as shop:
        shop.run(["collect.feedback", "clean.events"])
        events = shop.assets.read("clean.events", by=OWNER, purpose=Purpose.ANALYSE)
    came = events.filter(pl.col("kind").is_in(list(said)))
    assert dict(came.select("kind", "item_id").rows()) == {
        kind: about.get("item_id") for kind, about in said.items()
    }
