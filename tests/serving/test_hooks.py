"""Deliveries: proved, durable, each once; the forms in which others sign."""

import base64
import hashlib
import hmac
import json
import sqlite3
import time
from pathlib import Path

import pytest

from shopkeeper.config import Settings, Signature, Source
from shopkeeper.errors import Conflict, InputError, NotReady, Unauthenticated
from shopkeeper.serving.hooks import Hooks, proved

SECRET = "whsec_" + base64.b64encode(b"a shared secret").decode()
ROW = b'{"user_id": "u1", "item_id": "i1", "price_minor": 12.30}'


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERS_SECRET", SECRET)
    monkeypatch.setenv("PLAIN", "plain secret")


@pytest.fixture
def hooks(tmp_path: Path) -> Hooks:
    signature = Signature(secret="${ORDERS_SECRET}")
    source = Source(table="events", format="webhook", stream="orders", signature=signature)
    made = Hooks(tmp_path, Settings(sources=(source,)))
    yield made
    made.close()


def signed(body: bytes, id: str = "d1", at: float | None = None) -> dict[str, str]:
    """Headers as Standard Webhooks has them."""
    stamp = str(int(time.time() if at is None else at))
    mac = hmac.digest(b"a shared secret", f"{id}.{stamp}.".encode() + body, "sha256")
    value = f"v1a,other v1,{base64.b64encode(mac).decode()}"
    return {"webhook-id": id, "webhook-timestamp": stamp, "webhook-signature": value}


def rows(tmp_path: Path) -> list[bytes]:
    with sqlite3.connect(tmp_path / "store" / "online" / "hooks.db") as log:
        found = [bytes(row[0]) for row in log.execute("SELECT value FROM rows ORDER BY seq")]
    log.close()
    return found


def test_a_signed_delivery_is_kept_byte_for_byte_and_once(hooks: Hooks, tmp_path: Path) -> None:
    assert hooks.receive("orders", signed(ROW), ROW).accepted == 1
    again = hooks.receive("orders", signed(ROW, at=time.time() - 60), ROW)  # signed anew, same id
    assert (again.accepted, again.duplicate) == (0, True)
    assert rows(tmp_path) == [ROW]
    other = ROW.replace(b"u1", b"u2")
    with pytest.raises(Conflict, match="'d1' came before with other content"):
        hooks.receive("orders", signed(other), other)
    assert hooks.receive("orders", signed(other, "d2"), other).accepted == 1
    assert rows(tmp_path) == [ROW, other]


def test_a_list_is_a_row_each_all_or_none(hooks: Hooks, tmp_path: Path) -> None:
    body = b'[{"user_id": "a"}, {"user_id": "\xe7\x81\xaf"}]'
    assert hooks.receive("orders", signed(body), body).accepted == 2
    assert [json.loads(row) for row in rows(tmp_path)] == [{"user_id": "a"}, {"user_id": "灯"}]
    for n, (bad, says) in enumerate(
        [
            (b'[{"user_id": "a"}, 3]', "list of other things"),
            (b"[]", "0 rows"),
            (b'"x"', "JSON str"),
            (b"{oops", "not JSON"),
            (b'{"a": NaN}', "NaN is not JSON"),
            (b"\xff\xfe\xfa", "not JSON"),
        ]
    ):
        with pytest.raises(InputError, match=says):
            hooks.receive("orders", signed(bad, f"bad{n}"), bad)
    assert len(rows(tmp_path)) == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"webhook-signature": ""}, "no header webhook-signature"),
        ({"webhook-id": ""}, "no header webhook-id"),
        ({"webhook-id": "d9"}, "not of this content"),
        ({"webhook-timestamp": "1"}, "not of this content"),
        ({"webhook-signature": "v1,AAAA"}, "not of this content"),
        ({"webhook-signature": "v1,no base64!"}, "not of this content"),
        ({"webhook-signature": "灯"}, "not of this content"),
    ],
)
def test_what_is_not_proved_changes_nothing(
    hooks: Hooks, tmp_path: Path, change: dict[str, str], says: str
) -> None:
    with pytest.raises(Unauthenticated, match=says):
        hooks.receive("orders", signed(ROW) | change, ROW)
    with pytest.raises(Unauthenticated, match="not of this content"):
        hooks.receive("orders", signed(ROW), ROW + b" ")
    with pytest.raises(Unauthenticated, match="no webhook 'other'"):
        hooks.receive("other", signed(ROW), ROW)
    assert rows(tmp_path) == []


@pytest.mark.parametrize("seconds", [-400, 400])
def test_an_old_delivery_may_be_a_replayed_one_and_is_refused(hooks: Hooks, seconds: int) -> None:
    with pytest.raises(Unauthenticated, match="not within 300 s of now"):
        hooks.receive("orders", signed(ROW, at=time.time() + seconds), ROW)


def test_others_sign_in_their_own_ways() -> None:
    now = 1_795_510_763.0
    key, plain = b"plain secret", "${PLAIN}"

    def mac(data: bytes) -> bytes:
        return hmac.digest(key, data, "sha256")

    no_time = {"timestamp_header": "", "signed": "{body}"}
    github = Signature(
        secret=plain, header="X-Hub-Signature-256", prefix="sha256=", encoding="hex", **no_time
    )
    shopify = Signature(secret=plain, header="X-Shopify-Hmac-Sha256", prefix="", **no_time)
    slack = Signature(
        secret=plain,
        header="X-Slack-Signature",
        prefix="v0=",
        encoding="hex",
        signed="v0:{timestamp}:{body}",
        timestamp_header="X-Slack-Request-Timestamp",
    )
    told = {"x-hub-signature-256": "sha256=" + mac(ROW).hex()}
    assert proved(github, told, ROW, now) == hashlib.sha256(ROW).hexdigest()
    told = {"x-shopify-hmac-sha256": base64.b64encode(mac(ROW)).decode()}
    assert proved(shopify, told, ROW, now) == hashlib.sha256(ROW).hexdigest()
    whole = b"v0:1795510763:" + ROW
    told = {"x-slack-signature": "v0=" + mac(whole).hex()}
    told["x-slack-request-timestamp"] = "1795510763"
    assert proved(slack, told, ROW, now) == hashlib.sha256(whole).hexdigest()
    with pytest.raises(Unauthenticated):
        proved(slack, told, ROW, now + 301)


def test_a_secret_that_is_not_set_or_damaged_is_the_servers_own_matter(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORDERS_SECRET", "whsec_%%%")
    with pytest.raises(NotReady, match="no base64"):
        hooks.receive("orders", signed(ROW), ROW)
    monkeypatch.delenv("ORDERS_SECRET")
    with pytest.raises(NotReady, match="secret is not set") as error:
        hooks.receive("orders", signed(ROW), ROW)
    assert error.value.next.startswith("export ORDERS_SECRET=")


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"secret": "hunter2"}, "written as"),
        ({"secret": "${S}", "signed": "{timestamp}"}, "must hold {body}"),
        ({"secret": "${S}", "timestamp_header": ""}, "no header is named that brings it"),
        ({"secret": "${S}", "signed": "{body}"}, "proves nothing"),
    ],
)
def test_a_way_of_signing_that_proves_nothing_is_refused(told: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Signature(**told)
