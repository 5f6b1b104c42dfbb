import re


def counted(text: str, name: str) -> float:
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if re.match(name + r"[{ ]", line)
    )


def test_metrics_count_requests_events_and_answers(served) -> None:
    before = served.http.get("/metrics").text
    for _ in range(3):
        served.http.get("/v1/recommendations?k=2")
    served.http.post("/v1/events", json={"user_id": "m", "item_id": "i00", "kind": "view"})
    served.http.get("/v1/recommendations?k=0")
    after = served.http.get("/metrics").text
    for name, grew in (
        ("shopkeeper_answers_total", 3),
        ('shopkeeper_events_total{outcome="accepted"}', 1),
        (
            'shopkeeper_http_requests_total{method="GET",route="/v1/recommendations",status="200"}',
            3,
        ),
        (
            'shopkeeper_http_requests_total{method="GET",route="/v1/recommendations",status="422"}',
            1,
        ),
    ):
        pattern = re.escape(name)
        assert counted(after, pattern) - counted(before, pattern) == grew, name
    assert counted(after, "shopkeeper_service_ready") == 1
    assert counted(after, "shopkeeper_service_counts_recommendations") >= 3


def test_addresses_do_not_make_new_series(served) -> None:
    for n in range(5):
        served.http.get(f"/v1/items/i0{n}")
        served.http.get(f"/nowhere/{n}")
    text = served.http.get("/metrics").text
    assert 'route="/v1/items/{item_id:path}"' in text
    assert "/nowhere/" not in text


def test_readiness_names_the_release(served) -> None:
    told = served.http.get("/readyz").json()
    assert told["status"] == "ready"
    assert told["release"] == served.http.get("/v1/recommendations").json()["release"]
    assert told["reload_failed"] is False


def test_every_answer_carries_a_request_id_and_keeps_the_callers(served) -> None:
    assert re.fullmatch("[0-9a-f]{32}", served.http.get("/healthz").headers["x-request-id"])
    kept = served.http.get("/healthz", headers={"x-request-id": "abc-1.2_3"})
    assert kept.headers["x-request-id"] == "abc-1.2_3"
    changed = served.http.get("/healthz", headers={"x-request-id": "a b<script>"})
    assert re.fullmatch("[0-9a-f]{32}", changed.headers["x-request-id"])


def test_live_counters_have_rates_and_latency(served) -> None:
    served.http.get("/v1/recommendations")
    told = served.http.get("/v1/counters").json()
    assert told["totals"]["answers"] >= 1
    assert told["latency_ms"]["p50"] > 0
    assert told["per_second"]["requests"] > 0
    assert told["service"]["release"]
