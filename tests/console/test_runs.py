"""Runs as bars over time."""

import re
from typing import Any

from shopkeeper.console.runs import sittings

HTML = {"accept": "text/html", "accept-language": "en"}


def run(name: str, started_at: str, seconds: float) -> dict[str, Any]:
    return {
        "id": name, "step": name, "outcome": "done", "started_at": f"2026-03-01T{started_at}+00:00",
        "seconds": seconds, "cpu_seconds": 2.0, "peak_rss_mb": 100.0,
    }  # fmt: skip


def test_a_long_pause_begins_another_picture_and_bars_are_where_their_time_was() -> None:
    told = sittings([run("c", "10:00:00", 5), run("b", "08:00:10", 30), run("a", "08:00:00", 10)])
    assert [[one["step"] for one in sitting["runs"]] for sitting in told] == [["c"], ["a", "b"]]
    a, b = told[1]["runs"]
    assert (a["left"], a["width"]) == (0.0, 25.0)
    assert (b["left"], b["width"]) == (25.0, 75.0)
    assert (told[1]["seconds"], told[1]["cpu_seconds"]) == (40.0, 4.0)


def test_a_very_short_run_is_still_seen_and_stays_inside() -> None:
    told = sittings([run("a", "08:00:00", 100), run("b", "08:01:40", 0.001)])
    last = told[0]["runs"][1]
    assert last["width"] >= 0.4
    assert last["left"] + last["width"] <= 100


def test_a_run_shows_what_it_read_and_made(served) -> None:
    page = served.http.get("/console/runs?step=clean.events", headers=HTML).text
    address = re.search(r'href="(/console/runs\?[^"#]*run=\w+)#run">clean.events', page)
    assert address is not None
    shown = served.http.get(address[1].replace("&amp;", "&"), headers=HTML).text
    assert 'href="/console/assets/raw.events">raw.events@1</a>' in shown
    assert 'href="/console/assets/quarantine.events">' in shown


def test_a_run_that_is_none_is_not_found(served) -> None:
    assert served.http.get("/console/runs?run=nope", headers=HTML).status_code == 404
