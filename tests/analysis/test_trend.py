"""The trend of quality: the worst rules by share of rows, or one by what was measured."""

import pytest

from shopkeeper.analysis.trend import draw, trend
from shopkeeper.errors import InputError


def state(day: int, rows: int | None = 100, **counts: int) -> dict:
    rules = [
        {"rule": name, "level": "FAIL" if n else "PASS", "count": n, "rows": rows, "value": None}
        for name, n in counts.items()
    ]
    rules.append({"rule": "volume", "level": "PASS", "count": 0, "rows": rows, "value": float(day)})
    at = f"2026-01-{day:02d}T00:00:00+00:00"
    return {"asset": "clean.items", "created_at": at, "rows": rows, "rules": rules}


def test_shares_of_rows_by_version_worst_rule_first() -> None:
    made = trend([state(1, a=10, b=50, c=0), state(2, 200, a=10, b=0, c=0)])
    assert made["rule"].to_list() == ["b", "a", "b", "a"]
    assert made["share of rows"].to_list() == [0.5, 0.1, 0.0, 0.05]


def test_one_promise_by_what_it_measured() -> None:
    assert trend([state(1), state(3)], "volume")["volume"].to_list() == [1.0, 3.0]
    with pytest.raises(InputError, match="no rule 'volme' was measured; known: a, volume"):
        trend([state(1, a=1)], "volme")


def test_it_is_drawn_as_svg_and_nothing_else(tmp_path) -> None:
    draw([state(1, a=10), state(2, a=5)], tmp_path / "t.svg")
    assert "clean.items: share of rows by rule" in (tmp_path / "t.svg").read_text("utf-8")
    with pytest.raises(InputError, match=r"ends in \.svg"):
        draw([state(1, a=10)], tmp_path / "t.png")
    with pytest.raises(InputError, match="no rule has hit a row yet"):
        draw([state(1, a=0)], tmp_path / "t.svg")
