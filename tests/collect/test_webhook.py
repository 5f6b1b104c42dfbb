"""Deliveries that are collected go from the log after a while; none is lost or taken twice."""

import base64
import hashlib
import hmac
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from shopkeeper.collect.webhook import HOOK_LOG
from shopkeeper.governance.access import OWNER
from shopkeeper.serving.hooks import Hooks, Receipt
from shopkeeper.shop import Shop
from shopkeeper.words import Purpose

TOML = """
buckets = 2
[[sources]]
table = "events"
format = "webhook"
stream = "orders"
signature = { secret = "${ORDERS_SECRET}" }
columns = { item_id = "what" }
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORDERS_SECRET", "whsec_" + base64.b64encode(b"secret").decode())
    (tmp_path / "shop.toml").write_text(TOML, "utf-8")
    return tmp_path


def deliver(folder: Path, *names: str) -> list[Receipt]:
    """A delivery each; all of one call are written by one server."""
    with Shop.open(folder) as shop:
        hooks = Hooks(folder, shop.settings)
    told = []
    for name in names:
        body = json.dumps({"user_id": name, "what": "i1", "kind": "view"}).encode()
        stamp = str(int(time.time()))
        mac = hmac.digest(b"secret", f"{name}.{stamp}.".encode() + body, hashlib.sha256)
        headers = {"webhook-id": name, "webhook-timestamp": stamp}
        headers["webhook-signature"] = "v1," + base64.b64encode(mac).decode()
        told.append(hooks.receive("orders", headers, body))
    hooks.close()
    return told


def collect(folder: Path, **how: Any) -> list[str]:
    with Shop.open(folder) as shop:
        shop.run(["collect"], **how)
        raw = shop.assets.read("raw.events", by=OWNER, purpose=Purpose.AUDIT)
        assert raw["seq"].sort().to_list() == list(range(raw.height))
        return sorted(raw["user_id"])


def tidy(folder: Path, **how: Any) -> int:
    with Shop.open(folder) as shop:
        return int(shop.tidy(**how)["deleted_deliveries"])


def logged(folder: Path) -> int:
    with sqlite3.connect(folder / HOOK_LOG) as log:
        found = log.execute("SELECT count(*) FROM rows").fetchone()[0]
    log.close()
    return int(found)


def test_what_is_collected_and_old_goes_and_what_is_not_stays(shop: Path) -> None:
    deliver(shop, "a", "b", "c")
    assert tidy(shop, days=0) == 0  # nothing is collected yet
    assert collect(shop) == ["a", "b", "c"]
    deliver(shop, "d", "e")
    assert tidy(shop, days=30) == 0  # too young
    assert tidy(shop, days=0, dry_run=True) == 3
    assert logged(shop) == 5
    assert tidy(shop, days=0) == 3
    assert logged(shop) == 2
    assert collect(shop) == ["a", "b", "c", "d", "e"]
    assert tidy(shop, days=0) == 1
    assert logged(shop) == 1  # the last one tells how far the webhook came
    assert collect(shop) == ["a", "b", "c", "d", "e"]
    assert deliver(shop, "a", "f")[0].duplicate  # it came before, though its row is gone
    assert collect(shop) == ["a", "b", "c", "d", "e", "f"]


@pytest.mark.parametrize("forced", [False, True])
def test_rows_whose_deliveries_went_stay_when_all_is_read_anew(shop: Path, forced: bool) -> None:
    deliver(shop, "a", "b", "c")
    collect(shop)
    tidy(shop, days=0)
    deliver(shop, "d")
    if not forced:
        text = (shop / "shop.toml").read_text("utf-8")
        (shop / "shop.toml").write_text('timezone = "Asia/Shanghai"\n' + text, "utf-8")
    assert collect(shop, force=forced) == ["a", "b", "c", "d"]
    assert collect(shop, force=forced) == ["a", "b", "c", "d"]


CHILD = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[2]]
from test_webhook import collect, deliver, tidy
folder, first = Path(sys.argv[1]), int(sys.argv[3])
for n in range(first, first + 1000):
    deliver(folder, f"{n:04d}-a", f"{n:04d}-b")
    print(n, flush=True)
    collect(folder)
    tidy(folder, days=0)
"""


@pytest.mark.slow
def test_killed_while_the_log_is_pruned_every_delivery_is_there_once(shop: Path) -> None:
    dice, reached = random.Random(11), 0
    for _ in range(5):
        child = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", CHILD, str(shop), str(Path(__file__).parent), str(reached + 1)],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "POLARS_MAX_THREADS": "1"},
        )  # fmt: skip
        assert child.stdout is not None
        with child.stdout:
            reached = int(child.stdout.readline())
            time.sleep(dice.uniform(0.0, 1.5))
            assert child.poll() is None, "the child ended by itself"
            os.kill(child.pid, signal.SIGKILL)
            reached = max(reached, *map(int, child.stdout.read().split()), 0)
        child.wait(timeout=60)
        deliver(shop, f"{reached + 1:04d}-a", f"{reached + 1:04d}-b")  # as a sender tries again
        reached += 1
    wanted = [f"{n:04d}-{part}" for n in range(1, reached + 1) for part in "ab"]
    assert collect(shop) == wanted
    assert tidy(shop, days=0) >= 1
    assert collect(shop) == wanted
