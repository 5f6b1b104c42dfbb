"""`run --every`: what everybody can see of how it goes, and that it stops when asked."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from shopkeeper import schedule
from shopkeeper.assets import durable
from shopkeeper.errors import InputError, NotReady
from shopkeeper.schedule import message, read, run_every, seconds_of
from shopkeeper.shop import Shop

TOML = 'models = ["popularity"]\nbuckets = 2\n'


class Hook(BaseHTTPRequestHandler):
    """A real webhook that remembers what it was told."""

    told: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Hook.told.append(json.loads(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[str]:
    Hook.told.clear()
    server = HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.toml").write_text(TOML)
    events = [f"u{n % 7},i{n % 5}" for n in range(70)]
    (tmp_path / "user_behavior.csv").write_text("\n".join(["user_id,item_id", *events]) + "\n")
    (tmp_path / "item_data.csv").write_text(
        "item_id\n" + "\n".join(f"i{n}" for n in range(5)) + "\n"
    )
    return tmp_path


def rounds(folder: Path, count: int = 1, every: float = 0.01) -> tuple[int, list[str]]:
    said: list[str] = []
    code = run_every(
        folder, every, lambda shop: shop.run(scheduled=True), say=said.append, rounds=count
    )
    return code, said


def test_a_round_that_went_well_says_when_and_what_serves(folder: Path) -> None:
    code, said = rounds(folder, every=3600)
    state = read(folder)
    assert code == 0
    assert state is not None
    assert (state["failures"], state["error"], state["stale"]) == (0, None, False)
    assert state["release"] in said[0]


def test_a_failure_is_the_exit_code_and_reaches_the_webhook_once_and_so_does_its_end(
    folder: Path, hook: str
) -> None:
    with (folder / "shop.toml").open("a") as file:
        file.write(f'[schedule]\nwebhook = "{hook}"\n')
    good = (folder / "user_behavior.csv").read_text()
    (folder / "user_behavior.csv").write_text("nobody,knows\n1,2\n")
    code, _ = rounds(folder, count=3)
    state = read(folder)
    assert code == InputError.exit_code
    assert state is not None
    assert state["failures"] == 3
    assert "no column" in state["error"] or "user_id" in state["error"]
    assert len(Hook.told) == 1
    assert "the loop failed" in Hook.told[0]["text"]
    (folder / "user_behavior.csv").write_text(good)
    assert rounds(folder)[0] == 0
    assert "well again after 3 failures" in Hook.told[-1]["text"]


def test_only_sources_that_brought_something_count_as_new_data(folder: Path) -> None:
    assert "new data from 2 sources" in rounds(folder)[1][0]
    assert "new data from 0 sources" in rounds(folder)[1][0]
    with (folder / "user_behavior.csv").open("a") as file:
        file.write("u1,i2\n")
    assert "new data from 1 sources" in rounds(folder)[1][0]


def test_old_versions_are_given_up_when_it_is_time_and_not_before(folder: Path) -> None:
    def kept() -> int:
        with Shop.open(folder) as shop:
            history = shop.assets.catalog.history("quality.events")
            return sum(version.removed_at is None for version in history)

    def one_more(n: int) -> list[str]:
        with (folder / "user_behavior.csv").open("a") as file:
            file.write(f"new{n},i2\n")
        return rounds(folder)[1]

    with (folder / "shop.toml").open("a") as file:
        file.write("[schedule]\nkeep_versions = 1\nkeep_days = 0\n")
    for n in range(4):
        one_more(n)
    assert kept() == 4  # the first round tidied, when there was nothing to give up
    toml = (folder / "shop.toml").read_text()
    (folder / "shop.toml").write_text(toml + "tidy_hours = 1e-9\n")
    assert "tidied:" in one_more(5)[0]
    assert kept() < 4
    (folder / "shop.toml").write_text(toml + "tidy_hours = 0\n")
    left = kept()
    assert "tidied:" not in one_more(6)[0]
    assert kept() == left + 1


def test_data_staler_than_they_may_be_reach_the_webhook_once_and_so_does_their_end(
    folder: Path, hook: str
) -> None:
    with (folder / "shop.toml").open("a") as file:
        file.write(f'[schedule]\nstale_minutes = 1e-6\nwebhook = "{hook}"\n')
    said = [line for _ in range(3) for line in rounds(folder, every=3600)[1]]
    state = read(folder)
    assert state is not None
    assert state["stale"]
    assert len(Hook.told) == 1
    assert "the data are stale: nothing new came in since 20" in Hook.told[0]["text"]
    assert sum("stale: nothing new" in line for line in said) == 1
    toml = (folder / "shop.toml").read_text()
    (folder / "shop.toml").write_text(toml.replace("1e-6", "60"))
    for _ in range(2):
        rounds(folder, every=3600)
    assert [told["text"] for told in Hook.told[1:]] == [f"{folder.name}: the data are fresh again"]


def test_a_shop_that_another_run_holds_for_rounds_becomes_stale_and_that_is_told(
    folder: Path, hook: str
) -> None:
    with (folder / "shop.toml").open("a") as file:
        file.write(f'[schedule]\nwebhook = "{hook}"\n')
    rounds(folder, every=3600)
    with durable.lock(folder / "store" / "run.lock", wait=False):
        rounds(folder, count=3, every=1e-6)
    assert len(Hook.told) == 1
    assert "the data are stale: no round went well since 20" in Hook.told[0]["text"]


def test_robots_of_dingtalk_and_wecom_get_their_own_form() -> None:
    for form in ("dingtalk", "wecom"):
        told = message(form, "hello")
        assert told["msgtype"] == "text"
        assert told["text"]["content"].endswith("hello")
    assert message("generic", "hello")["text"] == "hello"


def test_models_younger_than_they_may_be_are_left_alone_but_new_events_serve(folder: Path) -> None:
    rounds(folder)
    with (folder / "user_behavior.csv").open("a") as file:
        file.write("new,i1\nnew,i2\nnew,i3\n")
    from shopkeeper.shop import Shop

    with Shop.open(folder) as shop:
        before = shop.assets.current("models.popularity").id
        release = shop.status()["release"]
    rounds(folder)
    with Shop.open(folder) as shop:
        assert shop.assets.current("models.popularity").id == before
        assert shop.status()["release"] != release
        assert "new" in shop.service.trace(shop.service.recommend(user_id="new").answer_id)["request"].values()  # fmt: skip


def test_a_round_beside_another_run_waits_for_the_next_and_is_no_failure(folder: Path) -> None:
    rounds(folder)
    with durable.lock(folder / "store" / "run.lock", wait=False):
        code, said = rounds(folder)
    assert code == 0
    assert "another run is at work" in said[0]


def test_a_span_of_time_is_a_number_and_a_unit() -> None:
    assert [seconds_of(text) for text in ("30s", "15m", "1.5h", "1d")] == [30, 900, 5400, 86400]
    for text in ("15", "0m", "soon", "-1m"):
        with pytest.raises(InputError, match="is no span of time; write e"):
            seconds_of(text)


def test_what_never_went_well_or_not_for_long_is_stale(folder: Path) -> None:
    path = folder / "store" / schedule.FILE
    old = {
        "last_ok": "2026-01-01T00:00:00+00:00",
        "every_seconds": 60,
        "failures": 0,
        "error": None,
    }
    for state in (old, old | {"last_ok": None}):
        durable.write_bytes(path, json.dumps(state).encode())
        found = read(folder)
        assert found is not None
        assert found["stale"]


@pytest.mark.slow
def test_sigterm_ends_it_after_the_round_with_exit_code_0(folder: Path) -> None:
    command = [sys.executable, "-c", "from shopkeeper.cli import main; main()"]
    child = subprocess.Popen(
        [*command, "run", "--shop", str(folder), "--every", "1h"], stderr=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    with child.stderr:
        assert "done in" in child.stderr.readline()
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait(timeout=30) == 0


def test_no_shop_is_told_with_the_next_step(tmp_path: Path) -> None:
    code, said = rounds(tmp_path)
    assert code == 2
    assert "make one with: shopkeeper init" in said[0]
    assert NotReady.exit_code == 3
