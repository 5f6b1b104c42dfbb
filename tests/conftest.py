"""Small real things that several rooms' tests share: a shop run once, and a server over a copy."""

import csv
import random
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import uvicorn
from PIL import Image, ImageDraw

from shopkeeper.api.app import create_app
from shopkeeper.api.server import configure_logs
from shopkeeper.governance.clients import Clients
from shopkeeper.shop import Shop

WORDS = {
    "Lighting": ("灯具", "Lamp", "台灯", "Lumora"),
    "Kitchen": ("厨具", "Kettle", "水壶", "Wrenly"),
    "Stationery": ("文具", "Notebook", "笔记本", "Haverly"),
    "Outdoor": ("户外", "Tent", "帐篷", "Panda"),
}
COLOURS = (
    ("red", "红色"),
    ("blue", "蓝色"),
    ("green", "绿色"),
    ("black", "黑色"),
    ("white", "白色"),
)
SETTINGS = """
name = "Corner shop 街角小店"
models = ["item_knn"]
buckets = 4

[[sources]]
table = "events"
path = "raw/events.csv"

[[sources]]
table = "items"
path = "raw/items.csv"

[[sources]]
table = "images"
path = "raw/images"

[serving]
exploration = 0.0
"""


def _write(folder: Path) -> None:
    """48 items in four categories, 60 people who each like one of them, and a little dirt."""
    dice = random.Random(3)
    (folder / "raw" / "images").mkdir(parents=True)
    (folder / "shop.toml").write_text(SETTINGS, encoding="utf-8")
    groups: dict[str, list[str]] = {category: [] for category in WORDS}
    with (folder / "raw" / "items.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(
            ["item_id", "title", "title_zh", "description", "category", "brand", "price_minor",
             "stock", "category_zh", "brand_zh"]
        )  # fmt: skip
        for n in range(48):
            category = list(WORDS)[n % 4]
            zh, what, what_zh, brand = WORDS[category]
            colour, colour_zh = COLOURS[n // 4 % 5]
            item = f"i{n:02d}"
            groups[category].append(item)
            out.writerow(
                [item, f"{brand} {colour.title()} {what} {n}", f"{colour_zh}{what_zh} {n}",
                 f"A {colour} {what.lower()} by {brand}", category, brand, 1000 + 250 * n, 5 + n, zh,
                 f"{brand}牌"]
            )  # fmt: skip
    for n in range(0, 48, 2):
        picture = Image.new("RGB", (120, 120), (200 - 3 * n, 120 + 2 * n, 150))
        ImageDraw.Draw(picture).ellipse((30, 30, 90, 90), fill=(250, 240, 220))
        picture.save(folder / "raw" / "images" / f"i{n:02d}.png")
    start = datetime(2026, 3, 1, 8, tzinfo=UTC)
    with (folder / "raw" / "events.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["event_id", "user_id", "item_id", "kind", "ts", "dwell_ms", "price_minor"])
        n = 0
        for user in range(60):
            liked = groups[list(WORDS)[user % 4]]
            at = start + timedelta(hours=dice.randrange(24 * 10))
            for _ in range(14):
                item = dice.choice(liked) if dice.random() < 0.85 else f"i{dice.randrange(48):02d}"
                at += timedelta(hours=dice.randrange(1, 40), seconds=dice.randrange(3000))
                kind = dice.choice(["view", "view", "view", "cart", "purchase"])
                out.writerow([f"e{n}", f"u{user:02d}", item, kind, at.isoformat(), 4000 + n, 1999])
                n += 1
        out.writerow(["bad1", "u01", "i01", "view", "2090-01-01T00:00:00+00:00", 10, 10])
        out.writerow(["bad2", "u01", "nowhere", "view", start.isoformat(), 10, 10])
        out.writerow(["bad3", "u02", "i02", "purchase", start.isoformat(), 10, "NaN"])


@pytest.fixture(scope="session")
def ran_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that went through the whole loop once. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("shop") / "corner"
    folder.mkdir()
    _write(folder)
    with Shop.open(folder) as shop:
        assert shop.run()["release"] is not None
    return folder


@dataclass
class Served:
    """A running server: its address, its workspace, its clients, and an HTTP client on it."""

    url: str
    folder: Path
    clients: Clients
    http: httpx.Client


@contextmanager
def _serving(folder: Path, host: str = "127.0.0.1", log_requests: bool = False) -> Iterator[Served]:
    configure_logs()
    clients = Clients.of(folder)
    app = create_app(Shop.open(folder), clients=clients, host=host, log_requests=log_requests)
    bound = socket.socket()  # handed over bound, so that nobody takes the port in between
    bound.bind(("127.0.0.1", 0))
    port = bound.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not server.started and time.monotonic() < until:
        time.sleep(0.02)
    assert server.started, "the server did not start"
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, timeout=20) as http:
        try:
            yield Served(url, folder, clients, http)
        finally:
            http.close()
            server.should_exit = True
            thread.join(timeout=20)
    assert not thread.is_alive(), "the server did not stop"


@pytest.fixture(scope="module")
def served(ran_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server over a copy of the shop, open on loopback, for one test file."""
    folder = tmp_path_factory.mktemp("served") / "corner"
    shutil.copytree(ran_shop, folder)
    with _serving(folder) as running:
        yield running


@pytest.fixture
def serving() -> Callable[..., AbstractContextManager[Served]]:
    """`with serving(folder, host=...) as running`: a server over that workspace."""
    return _serving


@pytest.fixture
def folder(ran_shop: Path, tmp_path: Path) -> Path:
    """A copy of the shop, for one test to change."""
    copy = tmp_path / "corner"
    shutil.copytree(ran_shop, copy)
    return copy


@pytest.fixture
def fresh(folder: Path) -> Iterator[Served]:
    """As `served`, for one test: to make keys, say."""
    with _serving(folder) as running:
        yield running
