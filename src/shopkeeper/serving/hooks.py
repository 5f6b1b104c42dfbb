"""Webhooks: what other systems deliver, proved to be theirs, on disk before it is acknowledged.

A delivery is a JSON object, one row, or a list of such. It is checked for who sent it, for being
JSON, and for having come before; what its rows mean is for the next run, which takes them by
collect/webhook.py. Knows nothing of HTTP.
"""

import base64
import binascii
import hashlib
import hmac
import json
import os
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shopkeeper.collect.webhook import HOOK_LOG, SCHEMA
from shopkeeper.config import Settings, Signature
from shopkeeper.errors import Conflict, InputError, NotReady, Unauthenticated
from shopkeeper.serving.durable import DurableFile

MOST_ROWS = 1_000  # of one delivery
ID_LENGTH = 256


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a delivery; given only after it is on disk."""

    accepted: int  # rows
    duplicate: bool  # it had come before, and nothing changed


class Hooks:
    """The webhooks of one workspace; every method may be called from any thread."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._signatures = {
            str(source.stream): source.signature
            for source in settings.sources
            if source.format == "webhook" and source.signature is not None and not source.skip
        }
        self._log = DurableFile(folder / HOOK_LOG, SCHEMA) if self._signatures else None

    def receive(self, hook: str, headers: Mapping[str, str], body: bytes) -> Receipt:
        """Take one delivery; it is on disk when this returns.

        Args:
            hook: the webhook's name in shop.toml.
            headers: of the request; looked up in any case.
            body: as it came, byte for byte: that is what was signed.
        Raises:
            Unauthenticated: no such webhook, not signed by its secret, or too old.
            InputError: signed, but no JSON object or list of objects. Conflict: another delivery
            had this id. NotReady: the secret is not set here. SourceError: the disk refused.
        """
        signature = self._signatures.get(hook)
        if signature is None or self._log is None:
            raise Unauthenticated(  # of which webhooks there are, a stranger learns nothing more
                f"no webhook {hook!r} stands in shop.toml, so nothing can prove who sends this",
                where=f"/v1/hooks/{hook}",
                next='add a [[sources]] block with format = "webhook" and this `stream`, then serve again',
            )
        delivery = proved(signature, headers, body, time.time())
        values = rows_of(body)
        digest = hashlib.sha256(body).digest()
        now_us = time.time_ns() // 1000

        def work(writer: sqlite3.Connection) -> Receipt:
            key = (hook, delivery)
            known = writer.execute(
                "SELECT digest FROM deliveries WHERE hook = ? AND delivery = ?", key
            ).fetchone()
            if known is not None:
                if known[0] != digest:
                    raise Conflict(
                        f"delivery {delivery!r} came before with other content",
                        where=signature.id_header,
                        next="give every delivery an id of its own; repeat one byte for byte",
                    )
                return Receipt(0, True)
            writer.execute(
                "INSERT INTO deliveries VALUES (?, ?, ?, ?, ?)", (*key, digest, len(values), now_us)
            )
            writer.executemany(
                "INSERT INTO rows (hook, delivery, value, received) VALUES (?, ?, ?, ?)",
                [(*key, value, now_us) for value in values],
            )
            return Receipt(len(values), False)

        return self._log.write(work)

    def close(self) -> None:
        """Write what is queued, then close."""
        if self._log is not None:
            self._log.close()


def proved(signature: Signature, headers: Mapping[str, str], body: bytes, now: float) -> str:
    """The id of a delivery that was signed with the secret, within the window around `now`.

    The id is the sender's where it is signed; an id that is not could be anybody's, so then it is
    the digest of what was signed. Unauthenticated, NotReady as `Hooks.receive`.
    """
    name = signature.secret[2:-1]
    secret = os.environ.get(name)
    if not secret:
        raise NotReady(
            "this webhook's secret is not set on the server",
            where=name,
            next=f"export {name}=… before: shopkeeper serve",
        )
    told = {
        "{id}": _header(headers, signature.id_header) if "{id}" in signature.signed else "",
        "{timestamp}": _header(headers, signature.timestamp_header)
        if signature.timestamp_header
        else "",
    }
    before, _, after = signature.signed.partition("{body}")
    for part, value in told.items():
        before, after = before.replace(part, value), after.replace(part, value)
    signed = before.encode() + body + after.encode()
    wanted = hmac.digest(_key(secret, name), signed, "sha256")
    given = _header(headers, signature.header).split()
    # all are compared, each in constant time: how long it takes tells nothing
    right = [hmac.compare_digest(wanted, _bytes(signature, one)) for one in given[:10]]
    if not any(right):
        raise Unauthenticated(
            "the signature is not of this content by this webhook's secret",
            where=signature.header,
            next=f'sign "{signature.signed}" by HMAC-SHA256, written as {signature.prefix}'
            f"{signature.encoding}; body: every byte as it is sent",
        )
    if signature.timestamp_header:
        _check_time(signature, told["{timestamp}"], now)
    delivery = told["{id}"] or hashlib.sha256(signed).hexdigest()
    if len(delivery) > ID_LENGTH:
        raise InputError(
            f"an id of {len(delivery)} characters; at most {ID_LENGTH}", where=signature.id_header
        )
    return delivery


def rows_of(body: bytes) -> list[bytes]:
    """The rows of a delivery, each a JSON object. InputError: it is something else."""
    try:
        value = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"the body is not JSON: {error}", where="body", next="send an object, or a list of such"
        ) from None
    if isinstance(value, dict):
        return [body]
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise InputError(
            f"the body is a JSON {_said(value)} where an object, or a list of such, is wanted",
            where="body",
            next='send e.g. {"item_id": "i1", "stock": 3}',
        )
    if not 1 <= len(value) <= MOST_ROWS:
        raise InputError(
            f"{len(value):,} rows in one delivery; 1 to {MOST_ROWS:,} are taken", where="body"
        )
    return [json.dumps(row, ensure_ascii=False).encode() for row in value]


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name.lower(), "").strip()
    if not value:
        raise Unauthenticated(
            f"no header {name}",
            where=name,
            next="send it; the names stand in shop.toml, `signature`",
        )
    return value


def _key(secret: str, name: str) -> bytes:
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise NotReady(
            "this webhook's secret begins with whsec_ and is no base64",
            where=name,
            next="copy it again from the sender",
        ) from None


def _bytes(signature: Signature, given: str) -> bytes:
    """A signature as it was sent, as bytes; b"" where it is none of this form."""
    if not given.startswith(signature.prefix):
        return b""
    text = given.removeprefix(signature.prefix)
    try:
        if signature.encoding == "hex":
            return bytes.fromhex(text)
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""


def _check_time(signature: Signature, told: str, now: float) -> None:
    try:
        away = abs(now - float(told))
    except ValueError:
        away = float("inf")
    if not away <= signature.window_seconds:
        raise Unauthenticated(
            f"signed at {told[:40]!r}, which is not within {signature.window_seconds:g} s of now",
            where=signature.timestamp_header,
            next="sign each attempt anew, in seconds since 1970; check the clocks of both machines",
        )


def _said(value: object) -> str:
    return "list of other things" if isinstance(value, list) else type(value).__name__


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")
