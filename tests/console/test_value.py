"""The pages of value and of the loop: every word in both languages, and what is not measured says how."""

from pathlib import Path

import pytest

from shopkeeper.console.loop import drawn
from shopkeeper.console.templating import words
from shopkeeper.shop import Shop


@pytest.fixture
def measured(folder: Path) -> Path:
    with Shop.open(folder) as shop:
        small = shop.settings.value.model_copy(update={"max_minutes": 1e-6, "seeds": 1})
        shop.settings = shop.settings.model_copy(update={"value": small})
        shop.measure_values()
    return folder


@pytest.mark.parametrize(
    ("language", "title", "worth", "loop"),
    [
        ("en", "What data is worth", "valuable", "Quality of the loop"),
        ("zh", "数据值多少", "有价值", "闭环质量"),
    ],
)
def test_values_and_checks_are_shown_in_both_languages(
    measured: Path, serving, language: str, title: str, worth: str, loop: str
) -> None:
    headers = {"accept": "text/html", "accept-language": language}
    with serving(measured) as running:
        page = running.http.get("/console/value", headers=headers)
        assert page.status_code == 200
        assert title in page.text
        assert worth in page.text
        assert 'href="/console/assets/clean.events"' in page.text
        own = running.http.get("/console/assets/clean.events?tab=value", headers=headers)
        assert own.status_code == 200
        assert worth in own.text
        other = running.http.get("/console/assets/clean.items", headers=headers)
        assert "?tab=value" not in other.text  # nothing of it was measured
        checks = running.http.get("/console/loop", headers=headers)
        assert checks.status_code == 200
        assert loop in checks.text
        assert "drift.price" in checks.text
        assert running.http.get("/console/assets/quality.loop", headers=headers).status_code == 200
        if language == "zh":
            assert "at most" not in checks.text
            assert "最多 0.2；高于 0.5 为错误" in checks.text


def test_nothing_measured_says_what_measures(served) -> None:
    page = served.http.get("/console/value", headers={"accept": "text/html"})
    assert page.status_code == 200
    assert "shopkeeper value --measure" in page.text


def test_the_history_of_checks_is_drawn_by_their_names() -> None:
    past = [
        {"at": "2026-01-01", "level": "ok", "value": 0.1},
        {"at": "2026-01-02", "level": "ok", "value": None},
    ]
    checks = [{"check": "bots", "history": past}, {"check": "skew", "history": past[1:]}]
    told = drawn(checks, words("en"))
    assert told["times"] == ["2026-01-01", "2026-01-02"]
    assert told["lines"] == [{"name": "Events by robots", "points": [0.1, None]}]
