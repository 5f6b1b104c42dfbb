"""POST /v1/hooks/NAME: a signature opens the door; an acknowledged delivery outlives the server."""

import base64
import hmac
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import polars as pl
import pytest

from shopkeeper.governance.access import OWNER
from shopkeeper.shop import Shop
from shopkeeper.words import Purpose

TOML = """
buckets = 2
[[sources]]
table = "events"
format = "webhook"
stream = "orders"
columns = { user_id = "buyer.id", item_id = "sku" }
constants = { kind = "purchase" }
signature = { secret = "${ORDERS_SECRET}" }
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORDERS_SECRET", "sesame")
    (tmp_path / "shop.toml").write_text(TOML)
    return tmp_path


def order(buyer: str) -> bytes:
    return json.dumps({"buyer": {"id": buyer}, "sku": "i1"}).encode()


def signed(body: bytes, id: str) -> dict[str, str]:
    stamp = str(int(time.time()))
    mac = hmac.digest(b"sesame", f"{id}.{stamp}.".encode() + body, "sha256")
    value = "v1," + base64.b64encode(mac).decode()
    return {"webhook-id": id, "webhook-timestamp": stamp, "webhook-signature": value}


def collected(folder: Path) -> pl.DataFrame:
    with Shop.open(folder) as shop:
        shop.run(["collect"])
        return shop.assets.read("raw.events", by=OWNER, purpose=Purpose.AUDIT).sort("seq")


def test_a_delivery_becomes_rows_by_the_mapping_and_the_next_run_takes_it_once(
    shop: Path, serving: Callable
) -> None:
    with serving(shop) as running:

        def post(body: bytes, headers: dict[str, str]) -> httpx.Response:
            return running.http.post("/v1/hooks/orders", content=body, headers=headers)

        response = post(order("a"), signed(order("a"), "d1"))
        assert response.status_code == 202
        assert response.json() == {"accepted": 1, "duplicate": False}
        assert post(order("a"), signed(order("a"), "d1")).json() == {
            "accepted": 0,
            "duplicate": True,
        }
        assert post(order("b"), {}).status_code == 401
        for body, id, status in (
            (b"{", "d2", 422),
            (order("b"), "d1", 409),
            (b"x" * 5_000_000, "", 413),
        ):
            response = post(body, signed(body, id))
            assert response.status_code == status
            assert response.json()["error"]["next"]
        rows = collected(shop)
        told = rows.select("user_id", "item_id", "kind", "source", "file", "line").rows()
        assert told == [("a", "i1", "purchase", "orders", "hook:orders", 1)]
        assert collected(shop).height == 1
        body = b'[{"buyer": {"id": "b"}, "sku": "i2"}, {"colour": "red"}]'
        assert post(body, signed(body, "d3")).json()["accepted"] == 2
    rows = collected(shop)
    assert rows.select("user_id", "line").rows() == [("a", 1), ("b", 2), (None, 3)]


@pytest.mark.slow
def test_what_was_acknowledged_is_taken_exactly_once_after_the_server_was_killed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORDERS_SECRET", "sesame")
    block = TOML[TOML.index("[[sources]]") :].replace('"events"', '"campaign_participation"')
    block = block.replace("item_id", "campaign_id").replace("purchase", "joined")
    text = (folder / "shop.toml").read_text(encoding="utf-8")
    (folder / "shop.toml").write_text(text.replace("[serving]", block + "[serving]"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = str(Path(sys.executable).with_name("shopkeeper"))
    command = [program, "serve", "--shop", str(folder), "--port", str(port)]
    acknowledged = []
    for life in range(2):
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        until = time.monotonic() + 60
        n = 0
        while n < 20:
            body, id = order(f"{life}-{n}"), f"{life}-{n}"
            try:
                response = httpx.post(
                    f"http://127.0.0.1:{port}/v1/hooks/orders",
                    content=body,
                    headers=signed(body, id),
                    timeout=5,
                )
            except httpx.TransportError:
                assert time.monotonic() < until, "the server did not start"
                assert server.poll() is None
                time.sleep(0.1)
                continue
            assert response.status_code == 202
            acknowledged.append(id)
            n += 1
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
        with Shop.open(folder) as shop:
            shop.run(["collect.campaign_participation"])
            rows = shop.assets.read("raw.campaign_participation", by=OWNER, purpose=Purpose.AUDIT)
        assert sorted(rows["user_id"]) == sorted(acknowledged)
