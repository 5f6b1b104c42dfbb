"""The pages in a real Chromium: what a person clicks, types and sees."""

import html
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no Chromium at {CHROMIUM}"),
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(served, chromium) -> Iterator[Any]:
    """A new visitor's page. Afterwards: nothing failed to load, no script or policy complained."""
    context = chromium.new_context(
        base_url=served.url, viewport={"width": 1280, "height": 900}, locale="en-GB"
    )
    opened = context.new_page()
    opened.set_default_timeout(20_000)
    problems: list[str] = []
    opened.on(
        "console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None
    )
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on(
        "response", lambda r: problems.append(f"{r.status} {r.url}") if r.status >= 400 else None
    )
    opened.on(
        "request",
        lambda r: (
            None if r.url.startswith((served.url, "data:")) else problems.append(f"asked {r.url}")
        ),
    )
    yield opened
    context.close()
    assert problems == []


def shown(page: Any) -> list[str]:
    return page.locator("#for-you [data-item]").evaluate_all("all => all.map(e => e.dataset.item)")


def act(page: Any, item: str, what: str) -> None:
    page.locator(f'#for-you [data-item="{item}"] [data-act="{what}"]').click()
    page.wait_for_selector("#for-you.changed")


def test_an_act_changes_the_list_and_marks_what_is_new(page) -> None:
    page.goto("/")
    before = shown(page)
    assert len(before) == 12
    act(page, before[0], "cart")
    after = shown(page)
    assert after != before
    new = page.locator("#for-you .is-new").evaluate_all("all => all.map(e => e.dataset.item)")
    assert set(new) == set(after) - set(before)
    assert page.locator("#for-you .fresh").count() == len(new)
    assert "Added to the cart" in page.locator("#toast").text_content()
    assert page.locator("#cart-count").text_content() == "1"
    assert "is in your cart" in page.locator("#for-you .why").all_text_contents().__str__()


def test_what_was_bought_leaves_the_list_and_the_cart(page) -> None:
    page.goto("/")
    item = shown(page)[2]
    act(page, item, "purchase")
    assert item not in shown(page)
    page.reload()
    assert item not in shown(page)
    assert "Because you bought" in page.locator("#for-you").text_content()


def test_opening_an_item_is_a_view_that_joins_its_answer(page, served) -> None:
    page.goto("/")
    answer = page.locator("#for-you .goods").get_attribute("data-answer")
    first = shown(page)[0]
    with page.expect_response(
        lambda r: r.url.endswith("/v1/events") and "view" in (r.request.post_data or "")
    ):
        page.locator("#for-you h3 a").first.click()
    page.wait_for_selector("#took:not([hidden])")
    events = served.http.get(f"/v1/answers/{answer}").json()["events"]
    views = [event for event in events if event["kind"] == "view"]
    assert [(view["item_id"], view["position"]) for view in views] == [(first, 1)]
    shown_first = {event["item_id"] for event in events if event["kind"] == "impression"}
    assert first in shown_first, "what was shown is recorded too"


@pytest.mark.parametrize(("words", "title"), [("kettle", "Kettle"), ("水壶", "Kettle")])
def test_search_finds_in_both_languages(page, words: str, title: str) -> None:
    page.goto("/")
    page.fill("#q", words)
    page.press("#q", "Enter")
    page.wait_for_url(re.compile(r"\?q="))
    titles = page.locator("#results h3").all_text_contents()
    assert len(titles) == 12
    assert all(title in text for text in titles)


def test_facets_narrow_the_results_in_place(page) -> None:
    page.goto("/?q=red")
    page.get_by_label("Kitchen").check()
    page.wait_for_url(re.compile("filter=category%3AKitchen"))
    metas = page.locator("#results .meta").all_text_contents()
    assert metas
    assert all("Kitchen" in meta for meta in metas)
    page.go_back()
    page.wait_for_url(re.compile(r"\?q=red$"))


def test_suggestions_are_chosen_by_keyboard(page) -> None:
    page.goto("/")
    page.locator("#q").press_sequentially("ket", delay=40)
    page.wait_for_selector("#suggestions [role=option]")
    assert page.locator("#q").get_attribute("aria-expanded") == "true"
    page.press("#q", "ArrowDown")
    chosen = page.locator('#suggestions [aria-selected="true"]').text_content()
    page.press("#q", "Enter")
    page.wait_for_url(re.compile(r"\?q="))
    assert page.locator("#q").input_value() == chosen


def test_the_language_switch_turns_every_word(page) -> None:
    page.goto("/")
    page.get_by_role("link", name="中文").click()
    page.wait_for_load_state()
    assert page.locator("h1").text_content() == "为您推荐"
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    assert "水壶" in page.locator("#for-you").text_content()
    page.goto("/console")
    assert page.get_by_role("link", name="数据质量").is_visible()
    page.get_by_role("link", name="English").click()
    page.wait_for_load_state()
    assert page.get_by_role("link", name="Quality", exact=True).is_visible()


def test_the_cart_shows_what_goes_with_it_and_buys_all(page) -> None:
    page.goto("/")
    first, second = shown(page)[:2]
    act(page, first, "cart")
    page.goto("/")
    if second in shown(page):
        page.locator(f'#for-you [data-item="{second}"] [data-act="cart"]').click()
        sync_api.expect(page.locator("#cart-count")).to_have_text("2")
    page.goto("/cart")
    in_cart = page.locator("tr[data-item]").count()
    assert in_cart >= 1
    assert first not in shown(page)
    page.get_by_role("button", name="Buy all").click()
    page.wait_for_selector("text=Your cart is empty.")


def test_switching_the_user_shows_that_users_list(page) -> None:
    page.goto("/")
    page.wait_for_selector("#known option", state="attached")
    user = page.locator("#known option").first.get_attribute("value")
    page.fill("#user", user)
    page.get_by_role("button", name="Switch").click()
    page.wait_for_selector(f"h1:has-text('For {user}')")
    page.get_by_role("button", name="Be somebody new").click()
    page.wait_for_selector("h1:has-text('For you')")


def test_why_tells_where_an_item_came_from(page) -> None:
    page.goto("/")
    page.locator('#for-you a[title="Why this?"]').first.click()
    page.wait_for_selector("h1:has-text('Why this?')")
    assert page.locator("tr.best").count() >= 1
    page.get_by_role("link", name=re.compile(r"^models\.item_knn@")).click()
    page.wait_for_selector("h1:has-text('models.item_knn')")


def test_lineage_is_drawn_and_a_node_opens_its_asset(page) -> None:
    page.goto("/console")
    page.wait_for_selector('[data-chart="lineage"][data-drawn="yes"] svg')
    texts = page.locator('[data-chart="lineage"] svg text').all_text_contents()
    assert {"raw.events", "clean.events", "releases.main"} <= set(texts)
    chart = page.locator('[data-chart="lineage"]')
    chart.scroll_into_view_if_needed()
    label = page.locator('[data-chart="lineage"] svg text', has_text=re.compile("^releases.main$"))
    box = label.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] - 9)
    page.wait_for_url(re.compile("/console/assets/releases.main"))


def test_live_numbers_move_without_a_reload(page, served) -> None:
    page.goto("/console")
    field = page.locator('[data-live-number="accepted"]')
    before = int(field.text_content().strip().replace(",", ""))
    event = {"user_id": "live", "item_id": "i00", "kind": "view"}
    served.http.post("/v1/events", json={"events": [event] * 7})
    sync_api.expect(field).to_have_text(f"{before + 7:,}", timeout=10_000)


def test_the_leaderboard_plots_every_model(page) -> None:
    page.goto("/console/leaderboard")
    page.wait_for_selector('[data-chart="intervals"][data-drawn="yes"] svg')
    texts = page.locator('[data-chart="intervals"] svg text').all_text_contents()
    assert "item_knn" in texts


def test_quarantined_rows_are_one_click_away(page) -> None:
    page.goto("/console/quality")
    page.get_by_role("link", name="time: from the future").click()
    page.wait_for_selector("#rows")
    assert "2090-01-01" in page.locator("#rows").text_content()


def test_the_api_page_sends_a_request(page) -> None:
    page.goto("/docs")
    endpoint = page.locator(
        "details.endpoint", has=page.locator("code", has_text=re.compile("^/v1/search$"))
    )
    endpoint.locator("summary").first.click()
    endpoint.locator('input[name="q"]').fill("tent")
    endpoint.get_by_role("button", name="Send").click()
    endpoint.locator("output pre").wait_for()
    assert "HTTP 200" in endpoint.locator("output").text_content()


@pytest.mark.parametrize(
    "address",
    [
        "/", "/?q=lamp", "/item/i00", "/cart", "/console", "/console/quality", "/console/sql?q=SELECT%201%20AS%20a",
        "/console/reports", "/console/contracts/events", "/console/runs", "/console/quarantine/events",
        "/console/assets/clean.events?tab=lineage", "/console/assets/clean.events?tab=versions",
    ],
)  # fmt: skip
def test_a_telephone_needs_no_sideways_scrolling(page, address: str) -> None:
    page.set_viewport_size({"width": 375, "height": 720})
    page.goto(address)
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375


@pytest.mark.parametrize("width", [1024, 1200, 1440])
def test_no_button_leaves_its_card(page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.goto("/?q=lamp")
    page.wait_for_selector(".ware [data-act]")
    over = page.locator(".ware").evaluate_all(
        """all => all.flatMap(card => [...card.querySelectorAll(".acts button, .acts a")]
             .map(b => b.getBoundingClientRect().right - card.getBoundingClientRect().right)
             .filter(beyond => beyond > 0))"""
    )
    assert over == []


def test_everything_can_be_reached_by_keyboard(page) -> None:
    page.goto("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "document.activeElement.id || document.activeElement.dataset.act || document.activeElement.tagName"
            )
        )
    assert {"q", "user", "favorite", "cart", "purchase"} <= reached
    unnamed = page.locator("button:visible, a:visible, input:visible").evaluate_all(
        "all => all.filter(e => !(e.textContent.trim() || e.ariaLabel || e.title || (e.labels && e.labels.length))).length"
    )
    assert unnamed == 0


CONSOLE = (
    "/console",
    "/console/reports",
    "/console/reports/channels",
    "/console/sql",
    "/console/quality",
    "/console/quarantine",
    "/console/quarantine/events",
    "/console/contracts",
    "/console/contracts/items",
    "/console/runs",
    "/console/branches",
    "/console/leaderboard",
    "/console/releases",
    *(f"/console/assets/clean.events?tab={tab}" for tab in ("overview", "columns", "quality", "lineage", "versions", "rows")),
)  # fmt: skip


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_console_page_opens_without_a_complaint_and_speaks_one_language(
    page, language: str
) -> None:
    for address in CONSOLE:
        page.goto(f"{address}{'&' if '?' in address else '?'}lang={language}")
        assert page.locator("h1").count() == 1, address
        shown = page.locator("nav.below").text_content()
        assert ("隔离区" in shown) == (language == "zh"), address
        assert page.locator("nav.below [aria-current=page]").count() == 1, address
        waiting = page.locator("[data-chart]:not([data-drawn])")
        sync_api.expect(waiting).to_have_count(0)


def test_a_query_is_typed_inserted_and_run_by_keyboard(page) -> None:
    page.goto("/console/sql")
    page.locator("#sql").focus()
    page.keyboard.type("SELECT kind, count(*) AS n FROM ")
    page.locator("#narrow").fill("clean.eve")
    page.locator("#tables summary:visible").first.click()
    page.get_by_role("button", name="+ clean.events").click()
    assert page.evaluate("document.activeElement.id") == "sql"
    page.keyboard.type(" GROUP BY kind")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#answer")
    assert "FROM clean.events GROUP BY kind" in page.locator("#sql").input_value()
    assert page.locator("#answer tbody tr").count() == 3
    bars = page.locator("#answer svg rect").count()
    assert bars >= 3, "a bar for each kind"
    page.reload()
    assert page.locator("#answer tbody tr").count() == 3, "the query stands in the address"


def test_a_mistake_puts_the_caret_where_it_is(page) -> None:
    page.goto("/console/sql")
    page.fill("#sql", "SELECT item_id,\n  kond FROM clean.events")
    page.press("#sql", "Control+Enter")
    page.wait_for_selector("#sql-problem")
    assert page.evaluate("document.activeElement.id") == "sql"
    assert page.evaluate("document.activeElement.selectionStart") == len("SELECT item_id,\n  ")


def test_a_contract_is_checked_as_one_types_and_the_line_is_one_click_away(page) -> None:
    page.goto("/console/contracts/shops")
    text = page.locator("#yaml").input_value()
    page.fill("#yaml", text.replace("maxLength: 256", "maxLength: 25"))
    sync_api.expect(page.locator("#check")).to_contain_text("256 → 25")
    sync_api.expect(page.locator("#check")).to_contain_text("breaking")
    page.fill("#yaml", text.replace("- name: region\n", "- name: regoin\n"))
    sync_api.expect(page.locator("#check")).to_contain_text("did you mean 'region'?")
    page.locator("#check [data-line]").first.click()
    chosen = page.evaluate("getSelection().toString() || document.activeElement.value.slice(document.activeElement.selectionStart, document.activeElement.selectionEnd)")  # fmt: skip
    assert "regoin" in chosen


def test_a_breaking_change_is_accepted_by_keyboard_and_told_in_both_languages(page, served) -> None:
    text = served.http.get("/console/contracts/events", headers={"accept": "text/html"}).text
    yaml = html.unescape(
        text.partition("<textarea")[2].partition(">")[2].partition("</textarea>")[0]
    )
    stricter = yaml.replace("maximum: 10000000}", "maximum: 5000}")
    served.http.post("/console/contracts/events", data={"text": stricter})
    try:
        page.goto("/console/contracts/events?lang=zh")
        sync_api.expect(page.locator("#pending")).to_contain_text("10000000 → 5000")
        sync_api.expect(page.locator("#pending")).to_contain_text("下次运行会因此停下")
        page.goto("/console/contracts/events?lang=en")
        page.get_by_role("button", name="Accept the change").focus()
        page.keyboard.press("Enter")
        sync_api.expect(page.locator("#pending")).to_contain_text("Accepted by console")
        assert page.get_by_role("button", name="Accept the change").count() == 0
    finally:
        shutil.rmtree(served.folder / "contracts")


def test_lineage_is_walked_by_click_and_by_link(page) -> None:
    page.goto("/console/assets/clean.events?tab=lineage&up=1&down=1")
    page.wait_for_selector('[data-chart="lineage"][data-drawn="yes"] svg')
    label = page.locator(
        '[data-chart="lineage"] svg text', has_text=re.compile("^features.sequences$")
    )
    label.scroll_into_view_if_needed()
    box = label.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] - 9)
    page.wait_for_url(re.compile(r"features.sequences\?tab=lineage&up=1&down=1"))
    page.get_by_role("link", name="clean.events", exact=True).click()
    page.wait_for_url(re.compile(r"clean.events\?tab=lineage&up=1&down=1"))


def test_a_run_opens_from_the_timeline_and_closes(page) -> None:
    page.goto("/console/runs")
    page.get_by_role("link", name="train.item_knn", exact=True).first.click()
    page.wait_for_selector("#run")
    assert "models.item_knn@" in page.locator("#run").text_content()
    page.get_by_role("link", name="Close").click()
    sync_api.expect(page.locator("#run")).to_have_count(0)


@pytest.mark.parametrize("address", ["/console/sql", "/console/contracts/shops", "/console/runs"])
def test_the_console_is_walked_by_keyboard(page, address: str) -> None:
    page.goto(address)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    rings, main = [], False
    for _ in range(26):
        page.keyboard.press("Tab")
        told = page.evaluate(
            """(() => { const e = document.activeElement;
            return [e === document.body ? "out" : getComputedStyle(e).outlineStyle, !!e.closest("main")]; })()"""
        )
        rings.append(told[0])
        main = main or told[1]
    assert "none" not in rings, "what has the focus is seen"
    assert main, "the page itself is reached"
    unnamed = page.locator("button, a, input:not([type=hidden]), select, textarea").evaluate_all(
        "all => all.filter(e => !(e.textContent.trim() || e.ariaLabel || e.title || (e.labels && e.labels.length))).length"
    )
    assert unnamed == 0


NEW = (
    "/console/find",
    "/console/find?q=price",
    "/console/glossary",
    *(f"/console/assets/clean.items?tab={tab}" for tab in ("about", "profile", "usage", "columns")),
    "/console/assets/clean.items?tab=lineage&column=price_minor",
    "/console/trace",
    "/console/trace?answer={answer}",
    "/console/trace?file=raw/events.csv&line=2",
    "/console/trace?event=e5",
    "/console/value",
    "/console/loop",
    "/console/quarantine/events?rule=future:ts",
    "/console/contracts/items",
)  # fmt: skip


@pytest.mark.parametrize("language", ["en", "zh"])
def test_pages_of_the_catalogue_value_and_trace_fit_speak_and_name_what_they_ask(
    page, served, language: str
) -> None:
    told = served.http.get("/v1/recommendations", params={"user_id": "u05"}).json()
    foreign = {"en": "[\u4e00-\u9fff]", "zh": "[A-Za-z]{4,} [a-z]{2,} [a-z]{2,}"}[language]
    for address in NEW:
        address = address.format(answer=told["answer_id"])
        page.set_viewport_size({"width": 1280, "height": 900})
        page.goto(f"{address}{'&' if '?' in address else '?'}lang={language}")
        assert page.locator("h1").count() == 1, address
        sync_api.expect(page.locator("[data-chart]:not([data-drawn])")).to_have_count(0)
        headings = page.locator("main :is(h1, h2, h3, label, thead th)").all_text_contents()
        assert not [text for text in headings if re.search(foreign, text)], address
        assert not page.locator(
            "main :is(input, select, textarea):not([type=hidden])"
        ).evaluate_all(
            "all => all.filter(e => !e.labels.length && !e.ariaLabel).map(e => e.outerHTML)"
        ), address
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280, address
        page.set_viewport_size({"width": 500, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= 500, address


def test_slash_goes_to_the_search_for_data(page) -> None:
    page.goto("/console")
    page.keyboard.press("/")
    page.keyboard.type("price")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/console/find\?q=price"))
    page.get_by_role("link", name="clean.items").click()
    page.wait_for_selector("h1:has-text('clean.items')")
