"""docs/send-events.md: its curl and Python examples run as they stand, against a real server."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from shopkeeper.api.app import create_app
from shopkeeper.governance.clients import BROWSER_KINDS, Clients
from shopkeeper.shop import Shop
from shopkeeper.words import Kind

DOC = Path(__file__).parents[1] / "docs" / "send-events.md"
TOML = 'models = ["popularity"]\nbuckets = 1\n'


def example(language: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", DOC.read_text(encoding="utf-8"), re.S)
    assert len(found) == 1
    return str(found[0])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shop, dict[str, str]]]:
    """A running shop with a secret key, and the environment that the examples expect."""
    folder = tmp_path_factory.mktemp("doc") / "shop"
    folder.mkdir()
    lines = [f"u{n % 7},i{n % 11}" for n in range(120)]
    (folder / "user_behavior.csv").write_text("\n".join(["user_id,item_id", *lines]) + "\n")
    items = [f"i{n},{n}" for n in range(11)]
    (folder / "item_data.csv").write_text("\n".join(["item_id,item_feature", *items]) + "\n")
    (folder / "shop.toml").write_text(TOML)
    shop = Shop.open(folder)
    shop.run()
    clients = Clients.of(folder)
    _, key = clients.add("my-server")
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    port = bound.getsockname()[1]
    app = create_app(shop, clients=clients)
    running = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.02)
    yield shop, {**os.environ, "SHOPKEEPER": f"http://127.0.0.1:{port}", "SHOPKEEPER_KEY": key}
    running.should_exit = True
    thread.join()
    shop.close()
    clients.close()


def test_the_curl_example_is_accepted_and_the_same_line_again_changes_nothing(
    server: tuple[Shop, dict[str, str]],
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl here; apt-get install curl")
    _, environment = server
    said = [
        subprocess.run(
            ["sh", "-c", example("sh")], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert all(answer in DOC.read_text(encoding="utf-8") for answer in said), said
    assert [json.loads(answer)["accepted"] for answer in said] == [1, 0]


def test_the_python_example_runs_as_it_stands(server: tuple[Shop, dict[str, str]]) -> None:
    shop, environment = server
    before = shop.service.events.last()
    done = subprocess.run(
        [sys.executable, "-c", example("python")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "'accepted': 2" in done.stdout
    kinds = [event["kind"] for event in shop.service.events.read(before)]
    assert kinds == ["view", "cart"]


def test_the_python_example_repeats_what_was_lost_and_explains_what_is_wrong(
    server: tuple[Shop, dict[str, str]],
) -> None:
    _, environment = server
    code = example("python").split("receipt = send(")[0]
    wrong = code + 'send([{"kind": "viewed", "user_id": "u1"}])'
    done = subprocess.run(
        [sys.executable, "-c", wrong], env=environment, capture_output=True, text=True, check=False
    )
    assert "events.0.kind" in done.stderr, done.stderr
    nobody = {**environment, "SHOPKEEPER": "http://127.0.0.1:9"}
    lost = code + 'send([{"kind": "view", "user_id": "u1", "item_id": "i1"}], tries=1)'
    done = subprocess.run(
        [sys.executable, "-c", lost], env=nobody, capture_output=True, text=True, check=False
    )
    assert "keep the events and send them again" in done.stderr


def test_the_page_names_all_kinds_and_all_that_a_browser_may_send() -> None:
    text = DOC.read_text(encoding="utf-8")
    for kind in Kind:
        assert kind.value in text
    promised = re.search(r"what a browser can know \(`([^`]*)`\)", text)
    assert promised is not None
    assert set(promised[1].split()) == {kind.value for kind in BROWSER_KINDS}


def test_every_attribute_of_the_script_stands_in_the_page() -> None:
    source = Path(__file__).parents[1] / "src/shopkeeper/console/static/track.src.js"
    names = set(re.findall(r'(data-sk-[a-z]+)="', source.read_text(encoding="utf-8")))
    assert len(names) == 7
    text = DOC.read_text(encoding="utf-8")
    assert {name for name in names if name not in text} == set()
