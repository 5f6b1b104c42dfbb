"""Alerts: once when a rule newly fails, once when it is well again, kept until taken, without values."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from shopkeeper.clean import alerts
from shopkeeper.config import AlertSettings
from shopkeeper.shop import Shop


@pytest.fixture
def told(folder):
    """A shop with a command that keeps what it is told, and what it was told so far."""
    script = folder / "tell.py"
    script.write_text("import sys; open('told.jsonl', 'a').write(sys.stdin.read() + '\\n')\n")
    with (folder / "shop.toml").open("a", encoding="utf-8") as file:
        file.write(f"\n[alerts]\ncommand = {json.dumps([sys.executable, 'tell.py'])}\n")

    def read() -> list[dict]:
        path = folder / "told.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    return read


def test_a_rule_that_newly_fails_and_one_that_recovers_are_told_once(folder, told) -> None:
    with Shop.open(folder) as shop:
        shop.run(["clean.events"])
        (first,) = told()
        assert first["asset"] == "clean.events"
        failed = {rule["rule"] for rule in first["failed"]}
        assert failed == {"future:ts", "impossible:price_minor", "reference:item_id"}
        shop.run(["clean.events"], force=True)
        assert len(told()) == 1
        shop.quarantine_repair("events", "impossible:price_minor", "price_minor=", why="NaN")
        shop.quarantine_replay("events")
        assert [rule["rule"] for rule in told()[1]["recovered"]] == ["impossible:price_minor"]
        assert told()[1]["failed"] == []


def test_no_value_of_a_row_is_told(folder, told) -> None:
    with Shop.open(folder) as shop:
        shop.run(["clean.events"])
    text = json.dumps(told())
    assert "nowhere" not in text
    assert "2090" not in text
    assert "u01" not in text


def test_a_run_that_a_promise_stopped_is_told(folder, told) -> None:
    (folder / "contracts").mkdir()
    (folder / "contracts" / "items.odcs.yaml").write_text(
        "apiVersion: v3.1.0\nkind: DataContract\nid: mine\nversion: 1.0.0\nstatus: active\nname: items\n"
        "schema:\n  - name: items\n    quality: [{metric: rowCount, mustBe: 7}]\n"
    )
    with Shop.open(folder) as shop, pytest.raises(Exception, match="breaks 1 promise"):
        shop.run(["clean.items"], accept_change=True)
    (alert,) = [one for one in told() if one["asset"] == "clean.items"]
    assert alert["stopped"]
    assert [(rule["rule"], rule["value"]) for rule in alert["failed"]] == [("rows", 48.0)]


def test_what_a_hook_does_not_take_waits_for_the_next_run(folder, told, monkeypatch) -> None:
    monkeypatch.setattr(alerts, "PAUSES", (0.0,))
    (folder / "tell.py").rename(folder / "away.py")
    with Shop.open(folder) as shop:
        shop.run(["clean.events"])  # goes well all the same
        assert told() == []
        (folder / "away.py").rename(folder / "tell.py")
        shop.run(["clean.events"])
        assert len(told()) == 1


def test_a_webhook_gets_the_same(folder) -> None:
    got = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append(json.loads(body))
            self.send_response(500 if len(got) == 1 else 204)  # the first try fails
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        settings = AlertSettings(webhook=f"http://127.0.0.1:{server.server_port}/")
        with Shop.open(folder) as shop:
            sent = alerts.after_run(shop.assets.catalog, settings, "corner", folder)
        assert sent["delivered"] == sent["queued"]
        assert sent["waiting"] == 0
        assert got[0] == got[1]
        assert got[0]["source"] == "shopkeeper"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
