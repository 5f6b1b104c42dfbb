"""The tabs of an asset: its versions side by side and made current again, its lineage walked."""

import re

import polars as pl
import pytest

from shopkeeper.console.asset import lines
from shopkeeper.console.lineage import around
from shopkeeper.errors import InputError
from shopkeeper.governance.access import OWNER
from shopkeeper.shop import Shop
from shopkeeper.words import Purpose

HTML = {"accept": "text/html", "accept-language": "en"}
PROMISE = """    quality:
      - {metric: rowCount, mustBeGreaterThan: 1000000}
    properties:
"""
CHAIN = {
    "nodes": [{"name": name} for name in "abcde"],
    "edges": [{"from": a, "to": b} for a, b in ("ab", "bc", "cd", "de", "ad")],
}


def text_of(served, address: str) -> str:
    response = served.http.get(address, headers=HTML)
    assert response.status_code == 200, response.text
    return response.text


def two_versions(served) -> None:
    """A second version of clean.shops-like data: one row dearer, one gone."""
    with Shop.open(served.folder) as shop:
        frame = shop.assets.read("clean.items", by=OWNER, purpose=Purpose.ANALYSE).sort("item_id")
        dearer = frame.with_columns(
            price_minor=pl.col("price_minor") + (pl.col("item_id") == "i01").cast(pl.Int64)
        ).filter(pl.col("item_id") != "i47")
        with shop.assets.run("by hand") as run:
            run.table("reports.tried", description="tried").put(frame)
        with shop.assets.run("by hand", parameters={"again": True}) as run:
            run.table("reports.tried", description="tried").put(dearer)


def test_a_walk_goes_so_many_steps_and_says_what_is_beyond() -> None:
    near = around(CHAIN, "c", up=1, down=1)
    assert [node["name"] for node in near["nodes"]] == ["b", "c", "d"]
    assert [node["name"] for node in near["nodes"] if node["focus"]] == ["c"]
    assert near["more"] == {"up": 1, "down": 1}
    assert around(CHAIN, "d", up=9, down=0)["more"] == {"up": 0, "down": 1}


def test_the_neighbours_of_an_asset_are_links_too(served) -> None:
    page = text_of(served, "/console/assets/clean.events?tab=lineage&up=1&down=1")
    assert 'href="/console/assets/raw.events?tab=lineage&amp;up=1&amp;down=1"' in page
    assert 'href="/console/assets/features.sequences?tab=lineage&amp;up=1&amp;down=1"' in page


def test_two_versions_are_compared_and_an_old_one_is_restored_after_a_question(served) -> None:
    two_versions(served)
    address = "/console/assets/reports.tried"
    page = text_of(served, f"{address}?tab=versions&a=1&b=2")
    told = re.findall(r"<dt>Rows (\w+)</dt><dd>(\d+)</dd>", page)
    assert told == [("added", "1"), ("gone", "2")]
    asked = text_of(served, f"{address}?tab=versions&restore=1")
    assert "Make reports.tried@1 current again?" in asked
    assert "reports.tried@3" not in asked, "asking changes nothing"
    answered = served.http.post(f"{address}/restore", data={"version": 1}, headers=HTML)
    assert answered.status_code == 303
    history = served.http.get("/v1/assets/reports.tried").json()["history"]
    assert [version["number"] for version in history] == [3, 2, 1]
    assert history[0]["digest"] == history[2]["digest"]


def test_a_page_of_another_site_restores_nothing(served) -> None:
    before = served.http.get("/v1/assets/clean.items").json()["number"]
    response = served.http.post(
        "/console/assets/clean.items/restore",
        data={"version": 1},
        headers={"origin": "http://evil.example"},
    )
    assert response.status_code == 403
    assert served.http.get("/v1/assets/clean.items").json()["number"] == before


def test_columns_tell_grade_and_promise(served) -> None:
    page = text_of(served, "/console/assets/clean.events?tab=columns")
    row = page.partition("<code>user_id</code>")[2].partition("</tr>")[0]
    assert "personal" in row
    assert "required" in row


def test_the_trend_draws_the_shares_of_the_rules_that_hit_most() -> None:
    history = [
        {
            "created_at": "2026-01-01",
            "state": "done",
            "rows": 100,
            "rules": {"range:price_minor": 10, "key": 1},
        },
        {"created_at": "2026-01-02", "state": "failed", "rows": None, "rules": {}},
        {"created_at": "2026-01-03", "state": "stopped", "rows": 200, "rules": {"key": 2}},
    ]
    told = lines(history, "en")
    assert told["times"] == ["2026-01-01", "2026-01-02", "2026-01-03"]
    assert [line["points"] for line in told["lines"]] == [[0.1, None, 0.0], [0.01, None, 0.01]]
    assert [mark["points"] for mark in told["marks"]] == [[2], [1]]


def test_runs_that_a_promise_stopped_and_runs_that_failed_stand_in_the_trend(fresh) -> None:
    with Shop.open(fresh.folder) as shop:
        text = shop.contract("events")["yaml"]
        shop.contract_save("events", text.replace("    properties:\n", PROMISE, 1))
        with pytest.raises(InputError, match="breaks 1 promise: rows: 840"):
            shop.run(["clean.events"], accept_change=True)
        with (
            pytest.raises(ZeroDivisionError),
            shop.assets.run("clean.events") as run,
        ):
            run.note("tried", 1 / 0)
    page = text_of(fresh, "/console/assets/clean.events?tab=quality")
    rows = page.partition("<tbody>")[2].partition("</tbody>")[0].split("<tr>")[1:]
    assert [re.search(r'class="pill (\w+)">([^<]+)', row).groups() for row in rows] == [
        ("bad", "failed"), ("bad", "stopped by a promise"), ("good", "cleaned"),
    ]  # fmt: skip
    assert "ZeroDivisionError" in rows[0]
    assert "number of rows" in rows[1]
