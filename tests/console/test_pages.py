"""Pages without a browser: every one in both languages, every text there, nothing unescaped."""

import re
from importlib import resources
from typing import Any

import pytest

from shopkeeper.console.lineage import placed
from shopkeeper.console.pictures import tile
from shopkeeper.console.templating import money, number, short, size, words

PAGES = (
    "/",
    "/?q=lamp",
    "/?q=zzzzqqq",
    "/?q=lamp&filter=brand:Lumora&sort=price&low=10&high=90&page=1",
    "/ui/for-you",
    "/ui/for-you?scene=cart",
    "/ui/suggest?q=la",
    "/ui/known",
    "/item/i00",
    "/item/i01?answer=x&position=3",
    "/cart",
    "/console",
    "/console/live",
    "/console/quality",
    "/console/quality?table=events&rule=future:ts",
    "/console/leaderboard",
    "/console/releases",
    "/console/assets/clean.events",
    "/console/assets/models.item_knn",
    "/console/assets/clean.images",
    "/console/assets/clean.events?tab=columns",
    "/console/assets/clean.events?tab=quality",
    "/console/assets/clean.events?tab=lineage&up=1&down=3",
    "/console/assets/clean.events?tab=versions",
    "/console/assets/clean.events?tab=rows",
    "/console/assets/models.item_knn?tab=rows",
    "/console/quarantine",
    "/console/quarantine/events",
    "/console/quarantine/events?rule=future:ts&q=bad1",
    "/console/quarantine/shops",
    "/console/contracts",
    "/console/contracts/events",
    "/console/runs",
    "/console/runs?step=clean.events&outcome=done",
    "/console/runs?outcome=failed",
    "/console/sql",
    "/console/sql?q=SELECT%20kind,%20count(*)%20AS%20n%20FROM%20clean.events%20GROUP%20BY%20kind",
    "/console/sql?q=SELECT%20kond%20FROM%20clean.events",
    "/console/reports",
    "/console/reports/funnel",
    "/console/reports/basket",
    "/docs",
    "/signin",
)
TEMPLATES = resources.files("shopkeeper.console").joinpath("templates")


@pytest.mark.parametrize("address", PAGES)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_page_is_there_in_both_languages(served, address: str, language: str) -> None:
    joined = "&" if "?" in address else "?"
    response = served.http.get(f"{address}{joined}lang={language}", headers={"accept": "text/html"})
    assert response.status_code == 200, response.text[:400]
    assert response.headers["content-type"].startswith("text/html")
    if address.startswith(("/ui/", "/console/live")):
        return
    assert f'<html lang="{"zh-CN" if language == "zh" else "en"}">' in response.text
    assert ("掌柜" if language == "zh" else "Shopkeeper") in response.text


def test_both_languages_have_the_same_texts_with_the_same_parts() -> None:
    english, chinese = words("en"), words("zh")
    assert sorted(english) == sorted(chinese)
    for key, text in english.items():
        parts = set(re.findall(r"{\w+}", text))
        assert parts == set(re.findall(r"{\w+}", chinese[key])), key
        assert text.strip()
        assert chinese[key].strip()


def test_no_text_is_written_down_that_no_page_uses() -> None:
    files = (*TEMPLATES.iterdir(), *TEMPLATES.parent.glob("*.py"))
    source = "".join(file.read_text("utf-8") for file in files)
    families = set(re.findall(r"""["']([\w.]+\.)["'] ~""", source))
    families |= set(re.findall(r'f"([\w.]+\.){', source))
    quoted = set(re.findall(r"""["']([\w.-]+)["']""", source))
    unused = [
        key
        for key in words("en")
        if key not in quoted and not any(key.startswith(family) for family in families)
    ]
    assert unused == []


def test_what_the_shop_wrote_cannot_become_markup(served) -> None:
    nasty = '<script>alert("x")</script>'
    item = {"item_id": 'n"><b>', "title": nasty, "category": nasty, "brand": nasty, "price_minor": 1, "stock": 1}  # fmt: skip
    assert served.http.post("/v1/items", json={"items": [item]}).status_code == 200
    for address in (
        "/item/n%22%3E%3Cb%3E",
        "/?q=alert",
        "/?q=%3Cscript%3E",
        f"/ui/suggest?q={nasty}",
    ):
        page = served.http.get(address, headers={"accept": "text/html"})
        assert page.status_code == 200
        assert "<script>alert" not in page.text
        assert "<b>" not in page.text
    drawn = served.http.get("/images/n%22%3E%3Cb%3E").text
    assert "<script" not in drawn


def test_pages_load_nothing_from_elsewhere(served) -> None:
    for address in PAGES:
        page = served.http.get(address, headers={"accept": "text/html"})
        assert not re.findall(r'(?:src|href)="(?:https?:)?//', page.text), address
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert not re.findall(r"<script(?![^>]*\bsrc=)", page.text), "a script inside the page"
        assert not re.findall(r"\son\w+=", page.text), "a handler inside the page"


def test_the_language_is_remembered_and_else_the_browsers(served) -> None:
    http = served.http
    http.cookies.clear()
    zh = {"accept-language": "zh-CN,zh;q=0.9", "accept": "text/html"}
    assert "为您推荐" in http.get("/", headers=zh).text
    assert "For you" in http.get("/?lang=en", headers=zh).text
    assert "For you" in http.get("/", headers=zh).text
    http.cookies.clear()


def test_switching_the_user_changes_who_the_page_is_for(served) -> None:
    http = served.http
    response = http.post("/as", data={"user": "u05 甲;x"})
    assert response.status_code == 303
    page = http.get("/?lang=en").text
    assert "For u05 甲;x" in page
    http.post("/as", data={"user": ""})
    assert "u05" not in http.get("/?lang=en").text
    http.cookies.clear()


def test_a_broken_cart_cookie_is_an_empty_cart(served) -> None:
    for cookie in ("%7B", "%5B1%2C%22ghost%22%5D", "x" * 3000):
        page = served.http.get("/cart?lang=en", headers={"cookie": f"cart={cookie}"})
        assert page.status_code == 200
        assert "Your cart is empty." in page.text


def test_lineage_is_drawn_from_left_to_right(served) -> None:
    told: dict[str, Any] = placed(served.http.get("/v1/assets/releases.main/lineage").json())
    column = {node["name"]: node["column"] for node in told["nodes"]}
    assert column["raw.events"] == 0
    assert len(told["edges"]) > 8
    for edge in told["edges"]:
        assert column[edge["from"]] < column[edge["to"]]
    places = [(node["column"], node["row"]) for node in told["nodes"]]
    assert len(places) == len(set(places))


def test_numbers_are_written_for_people() -> None:
    assert money(1990, "CNY", 100) == "¥19.90"
    assert money(1234567, "USD", 100) == "$12,345.67"
    assert money(500, "JPY", 1) == "¥500"
    assert money(5, "CHF", 100) == "CHF 0.05"
    assert money(None, "CNY", 100) == ""
    assert [number(n) for n in (None, 1234567, 0.03172, 2.5, 3.0)] == [
        "–",
        "1,234,567",
        "0.0317",
        "2.50",
        "3",
    ]
    assert [short(n) for n in (None, 0.53, 355.81, 4.0)] == ["–", "0.5", "356", "4"]
    assert [size(n) for n in (None, 512, 1536, 2_500_000)] == ["", "512 B", "1.5 kB", "2.5 MB"]


def test_a_tile_is_the_same_every_time_and_needs_no_title() -> None:
    card = {"item_id": "7", "title": None, "title_zh": None, "category": None}
    assert tile(card) == tile(card)
    assert ">7</text>" in tile(card)
    assert ">DL</text>" in tile(card | {"title": "Desk Lamp"})
    assert ">台灯</text>" in tile(card | {"title_zh": "台灯 黑"})
