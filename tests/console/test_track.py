"""The browser script: what is shipped is the source, it fits in 2 kB, and in a real browser nothing
it noticed is lost or counted twice."""

import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from shopkeeper.api.app import create_app
from shopkeeper.console import track
from shopkeeper.governance.clients import Clients, KeyType
from shopkeeper.shop import Shop

CHROMIUM = Path("/usr/bin/chromium")
TOML = 'models = ["popularity"]\nbuckets = 1\n[serving]\nexploration = 0.0\n'


def test_the_shipped_script_is_the_source_and_fits_in_two_kilobytes() -> None:
    source = (track.folder() / "track.src.js").read_text(encoding="utf-8")
    shipped = (track.folder() / "track.js").read_bytes()
    assert shipped.decode() == track.shipped(source), "run: python -m shopkeeper.console.track"
    assert len(shipped) < track.LIMIT


class Site:
    """A foreign shop's pages on one port, Shopkeeper on another; the first calls the second."""

    def __init__(self, folder: Path) -> None:
        self.pages: dict[str, str] = {}
        self.web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.origin = f"http://127.0.0.1:{self.web.server_port}"
        self.shop = Shop.open(folder)
        self.clients = Clients.of(folder)
        _, self.key = self.clients.add("page", KeyType.PUBLISHABLE, origins=[self.origin])
        self.bound = socket.socket()
        self.bound.bind(("127.0.0.1", 0))
        self.port = self.bound.getsockname()[1]
        self.server: uvicorn.Server | None = None
        threading.Thread(target=self.web.serve_forever, daemon=True).start()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        pages = self.pages

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(pages.get(self.path, "").encode())

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        return Handler

    def serve(self) -> None:
        app = create_app(self.shop, clients=self.clients)
        self.server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        self.thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self.bound]}, daemon=True
        )
        self.thread.start()
        wait_for(lambda: self.server is not None and self.server.started)

    def page(self, path: str, body: str, user: str = "u1") -> str:
        """Put a page with the script on the foreign site; its address."""
        script = f"http://127.0.0.1:{self.port}/static/track.js"
        self.pages[path] = (
            f'<!doctype html><body>{body}<script src="{script}" data-key="{self.key}" '
            f'data-user="{user}"></script></body>'
        )
        return self.origin + path

    def events(self, user: str = "u1") -> list[dict[str, Any]]:
        """What the log of acknowledged events holds of a user."""
        return [event for event in self.shop.service.events.read() if event["user_id"] == user]

    def close(self) -> None:
        if self.server is not None:
            self.server.should_exit = True
            self.thread.join(timeout=20)
        self.web.shutdown()
        self.web.server_close()
        self.shop.close()
        self.clients.close()


def wait_for(ready: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("track") / "shop"
    folder.mkdir()
    lines = [f"u{n % 7},i{n % 11}" for n in range(120)]
    (folder / "user_behavior.csv").write_text("\n".join(["user_id,item_id", *lines]) + "\n")
    items = [f"i{n},{n}" for n in range(11)]
    (folder / "item_data.csv").write_text("\n".join(["item_id,item_feature", *items]) + "\n")
    (folder / "shop.toml").write_text(TOML)
    with Shop.open(folder) as shop:
        shop.run()
    made = Site(folder)
    made.serve()
    yield made
    made.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip("no Chromium here; apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as play:
        opened = play.chromium.launch(
            executable_path=str(CHROMIUM), headless=True, args=["--no-sandbox"]
        )
        yield opened
        opened.close()


@pytest.fixture
def browser(chromium: Any) -> Iterator[Any]:
    context = chromium.new_context(viewport={"width": 600, "height": 400})
    yield context
    context.close()


def card(item: str, position: int) -> str:
    return (
        f'<div data-sk-item="{item}" data-sk-position="{position}" data-sk-price="1290" '
        f'style="height:150px"><a href="/item-{item}">open</a>'
        f'<button data-sk-kind="cart">cart</button></div>'
    )


@pytest.mark.browser
def test_cards_clicks_views_and_dwell_arrive_once_with_their_answer_and_place(
    site: Site, browser: Any
) -> None:
    cards = "".join(card(f"i{n}", n + 1) for n in range(6))  # 900 px high: the last ones unseen
    home = site.page("/", f'<div data-sk-answer="a-1">{cards}</div>')
    site.page("/item-i1", '<h1 data-sk-view="i1">an item</h1>')
    site.page("/found", '<p data-sk-query="红色 台灯" data-sk-answer="a-2">results</p>')
    page = browser.new_page()
    page.goto(home)
    page.locator("button").first.click()
    wait_for(lambda: len(site.events()) >= 3)
    page.locator("a").nth(1).click()
    page.wait_for_url("**/item-i1")
    page.wait_for_timeout(700)
    page.goto(site.origin + "/found")
    wait_for(lambda: "search" in {event["kind"] for event in site.events()})
    page.wait_for_timeout(1200)
    events = site.events()
    shown = [event for event in events if event["kind"] == "impression"]
    assert [event["item_id"] for event in shown] == ["i0", "i1"] or [
        event["item_id"] for event in shown
    ] == ["i0", "i1", "i2"]
    assert {event["answer_id"] for event in shown} == {"a-1"}
    assert [event["position"] for event in shown][:2] == [1, 2]
    (cart,) = (event for event in events if event["kind"] == "cart")
    assert (cart["item_id"], cart["answer_id"], cart["position"]) == ("i0", "a-1", 1)
    assert cart["price_minor"] == 1290
    (view,) = (event for event in events if event["kind"] == "view")
    assert (view["item_id"], view["answer_id"], view["position"]) == ("i1", "a-1", 2)
    (leave,) = (event for event in events if event["kind"] == "leave")
    assert leave["item_id"] == "i1"
    assert 600 < leave["dwell_ms"] < 60_000
    (search,) = (event for event in events if event["kind"] == "search")
    assert (search["query"], search["answer_id"]) == ("红色 台灯", "a-2")
    assert len({event["session_id"] for event in events}) == 1
    assert {event["channel"] for event in events} == {"web"}


@pytest.mark.browser
def test_what_happens_offline_waits_and_arrives_when_the_net_is_back(
    site: Site, browser: Any
) -> None:
    page = browser.new_page()
    page.goto(site.page("/offline", "<p>empty</p>", user="u2"))
    browser.set_offline(True)
    page.evaluate('sk("favorite", {item_id: "i3"}); sk("share", {item_id: "i4"})')
    page.wait_for_timeout(900)
    assert site.events("u2") == []
    assert len(page.evaluate("JSON.parse(localStorage.sk_q)")) == 2
    browser.set_offline(False)
    wait_for(lambda: len(site.events("u2")) == 2)
    page.wait_for_function("JSON.parse(localStorage.sk_q).length == 0")
    assert {event["item_id"] for event in site.events("u2")} == {"i3", "i4"}


@pytest.mark.browser
def test_a_lost_answer_is_asked_again_and_counts_once(site: Site, browser: Any) -> None:
    page = browser.new_page()
    page.goto(site.page("/lost", "<p>empty</p>", user="u3"))
    sent = []

    def swallow(route: Any) -> None:
        sent.append(route.request.post_data)
        route.fetch()  # the server gets it, the page never hears of it
        route.abort()

    page.route("**/v1/events*", swallow, times=1)
    page.evaluate('sk("favorite", {item_id: "i5"})')
    page.wait_for_function("JSON.parse(localStorage.sk_q).length == 0", timeout=8000)
    assert len(sent) == 1
    assert len(site.events("u3")) == 1


@pytest.mark.browser
def test_a_bad_event_is_dropped_alone_and_the_others_arrive(site: Site, browser: Any) -> None:
    page = browser.new_page()
    page.goto(site.page("/bad", "<p>empty</p>", user="u4"))
    page.evaluate(
        'sk("view", {item_id: "i1"}); sk("view", {item_id: ""}); sk("view", {item_id: "i2"})'
    )
    wait_for(lambda: len(site.events("u4")) == 2)
    page.wait_for_function("JSON.parse(localStorage.sk_q).length == 0")
    assert [event["item_id"] for event in site.events("u4")] == ["i1", "i2"]


@pytest.mark.browser
def test_without_local_storage_events_are_sent_all_the_same(site: Site, browser: Any) -> None:
    page = browser.new_page()
    page.add_init_script(
        'Object.defineProperty(window, "localStorage", {get() { throw new Error("forbidden") }})'
    )
    page.goto(site.page("/private", "<p>empty</p>", user="u5"))
    page.evaluate('sk("view", {item_id: "i1"})')
    wait_for(lambda: len(site.events("u5")) == 1)
