"""API keys of the programs and web pages that call us: made, checked, revoked.

Two types of key. A `secret` key lives on a server and may do everything the API offers. A
`publishable` key stands in a web page, where anybody can read it: it may send what a browser can
know (`BROWSER_KINDS`; a purchase is told by the shop's server, not by a page) and ask for
recommendations and search results, from the web origins it was made for.

Only a digest of a key is stored. It is plain SHA-256 and not a slow password hash on purpose: a
slow hash makes guessing expensive where people choose guessable passwords; our keys carry 256
random bits, so there is nothing to guess, and every request pays for the check.

The table is `store/clients.db` (SQLite), shared by all workers of a server and the command line.
"""

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import sqlalchemy as sa

from shopkeeper.errors import Denied, InputError, NotFound, Unauthenticated
from shopkeeper.words import Kind

BROWSER_KINDS = frozenset(
    {
        Kind.IMPRESSION,
        Kind.VIEW,
        Kind.SEARCH,
        Kind.FAVORITE,
        Kind.CART,
        Kind.SHARE,
        Kind.FOLLOW,
        Kind.LEAVE,
        Kind.CAMPAIGN_VIEW,
    }
)
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
REMEMBER_SECONDS = 2.0  # a key once found is trusted this long, so a revoked one dies within it
TOUCH_SECONDS = 60.0  # `last_used` is written at most this often
SESSION_HOURS = 12.0  # a person signed in to the console stays so this long

_KEY = re.compile(r"(sk|pk)_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")

_metadata = sa.MetaData()
_clients = sa.Table(
    "clients",
    _metadata,
    sa.Column("client_id", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("type", sa.String, nullable=False),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("origins", sa.JSON, nullable=False),
    sa.Column("created_at", sa.String, nullable=False),
    sa.Column("last_used", sa.String),
    sa.Column("revoked_at", sa.String),
)
_sessions = sa.Table(
    "sessions",
    _metadata,
    sa.Column("digest", sa.String, primary_key=True),
    sa.Column("client_id", sa.String, nullable=False),
    sa.Column("expires_at", sa.String, nullable=False),
)


class KeyType(StrEnum):
    SECRET = "secret"
    PUBLISHABLE = "publishable"


_PREFIX = {KeyType.SECRET: "sk", KeyType.PUBLISHABLE: "pk"}


@dataclass(frozen=True, slots=True)
class Client:
    """One caller. The key itself is not here: nobody can read it back."""

    client_id: str
    name: str
    type: KeyType
    origins: tuple[str, ...]  # web origins a publishable key may be used from
    created_at: str
    last_used: str | None = None
    revoked_at: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "client_id": self.client_id,
            "name": self.name,
            "type": self.type.value,
            "origins": list(self.origins),
            "created_at": self.created_at,
            "last_used": self.last_used,
            "revoked_at": self.revoked_at,
        }


class Clients:
    """The clients of one workspace. Thread-safe; several processes may have it open."""

    def __init__(self, path: Path) -> None:
        """Open (or make) the table in the SQLite file `path`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._engine = sa.create_engine(f"sqlite:///{path}")
        sa.event.listen(self._engine, "connect", _durable)
        # checkfirst alone is not enough when several workers open a new file at once
        with self._engine.begin() as connection:
            for table in _metadata.sorted_tables:
                connection.execute(sa.schema.CreateTable(table, if_not_exists=True))
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, Client]] = {}  # digest -> (until, client)
        self._touched: dict[str, float] = {}
        self._active: tuple[float, bool, frozenset[str]] = (0.0, False, frozenset())

    @classmethod
    def of(cls, folder: Path) -> Self:
        """The clients of the workspace in `folder`."""
        return cls(folder / "store" / "clients.db")

    def close(self) -> None:
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def add(
        self, name: str, type: KeyType = KeyType.SECRET, *, origins: Iterable[str] = ()
    ) -> tuple[Client, str]:
        """A new client and its key. The key is returned here and never again.

        Raises:
            InputError: an empty or taken name, an origin that is none, origins for a secret key,
                or a publishable key without any.
        """
        name = name.strip()
        allowed = tuple(dict.fromkeys(_origin(text) for text in origins))
        if not 1 <= len(name) <= 100:
            raise InputError("a client needs a name of 1 to 100 characters", where="name")
        if type is KeyType.SECRET and allowed:
            raise InputError(
                "a secret key has no origins: it must never stand in a web page",
                where="origins",
                next="make a publishable key for the page: "
                f"shopkeeper clients add {name} --publishable --origin {allowed[0]}",
            )
        if type is KeyType.PUBLISHABLE and not allowed:
            raise InputError(
                "a publishable key needs the web origins it will be used from",
                where="origins",
                next=f"shopkeeper clients add {name} --publishable --origin https://shop.example",
            )
        client_id = secrets.token_hex(6)
        key = f"{_PREFIX[type]}_{client_id}_{secrets.token_urlsafe(32)}"
        client = Client(client_id, name, type, allowed, _now())
        with self._engine.begin() as connection:
            taken = connection.execute(
                sa.select(_clients.c.client_id).where(
                    _clients.c.name == name, _clients.c.revoked_at.is_(None)
                )
            ).first()
            if taken is not None:
                raise InputError(
                    f"there is a client {name!r} already",
                    where="name",
                    next=f"choose another name, or first: shopkeeper clients revoke {name}",
                )
            connection.execute(
                _clients.insert().values(
                    client_id=client_id,
                    name=name,
                    type=type.value,
                    digest=_digest(key),
                    origins=list(allowed),
                    created_at=client.created_at,
                )
            )
        self._active = (0.0, False, frozenset())
        return client, key

    def all(self) -> list[Client]:
        """Every client ever made, oldest first, the revoked ones too."""
        with self._engine.connect() as connection:
            rows = connection.execute(
                sa.select(_clients).order_by(_clients.c.created_at, _clients.c.client_id)
            )
            return [_client(row) for row in rows]

    def any_active(self) -> bool:
        """Is there any key that works? Looked up at most every REMEMBER_SECONDS."""
        return self._look()[1]

    def origins(self) -> frozenset[str]:
        """All web origins that some working publishable key may be used from."""
        return self._look()[2]

    def _look(self) -> tuple[float, bool, frozenset[str]]:
        if time.monotonic() < self._active[0]:
            return self._active
        with self._engine.connect() as connection:
            found = connection.execute(
                sa.select(_clients.c.origins).where(_clients.c.revoked_at.is_(None))
            ).all()
        origins = frozenset(origin for (some,) in found for origin in some)
        self._active = (time.monotonic() + REMEMBER_SECONDS, bool(found), origins)
        return self._active

    def revoke(self, name_or_id: str) -> Client:
        """Make a client's key useless, at once here and within REMEMBER_SECONDS elsewhere.

        Raises:
            NotFound: no client that works has this name or id.
        """
        with self._engine.begin() as connection:
            row = connection.execute(
                sa.select(_clients).where(
                    sa.or_(_clients.c.client_id == name_or_id, _clients.c.name == name_or_id),
                    _clients.c.revoked_at.is_(None),
                )
            ).first()
            if row is None:
                raise NotFound(
                    f"no working client is called {name_or_id!r}",
                    where="clients",
                    next="list them with: shopkeeper clients ls",
                )
            connection.execute(
                _clients.update()
                .where(_clients.c.client_id == row.client_id)
                .values(revoked_at=_now())
            )
            connection.execute(_sessions.delete().where(_sessions.c.client_id == row.client_id))
            row = connection.execute(
                sa.select(_clients).where(_clients.c.client_id == row.client_id)
            ).one()
        with self._lock:
            self._known.clear()
        self._active = (0.0, False, frozenset())
        return _client(row)

    def check(self, key: str) -> Client:
        """The client that `key` belongs to. Unauthenticated for any other; never says what was wrong."""
        digest = _digest(key)
        with self._lock:
            until, known = self._known.get(digest, (0.0, None))
        if known is not None and time.monotonic() < until:
            self._touch(known)
            return known
        matched = _KEY.fullmatch(key)
        row = None
        if matched is not None:
            with self._engine.connect() as connection:
                row = connection.execute(
                    sa.select(_clients).where(_clients.c.client_id == matched[2])
                ).first()
        # compared even when nothing was found, so that both cases take the same time
        stored = row.digest if row is not None else "0" * 64
        same = hmac.compare_digest(stored, digest)
        if row is None or not same or row.revoked_at is not None:
            raise Unauthenticated(
                "this API key is unknown or was revoked",
                where="Authorization",
                next="make a new one with: shopkeeper clients add NAME",
            )
        client = _client(row)
        with self._lock:
            if len(self._known) > 10_000:
                self._known.clear()
            self._known[digest] = (time.monotonic() + REMEMBER_SECONDS, client)
        self._touch(client)
        return client

    def sign_in(self, key: str) -> str:
        """A session token for the console, for whoever holds a secret key. Denied otherwise."""
        client = self.check(key)
        if client.type is not KeyType.SECRET:
            raise Denied(
                "a publishable key cannot open the console",
                where="key",
                next="use a secret key: shopkeeper clients add NAME",
            )
        token = secrets.token_urlsafe(32)
        expires = datetime.now(UTC) + timedelta(hours=SESSION_HOURS)
        with self._engine.begin() as connection:
            connection.execute(_sessions.delete().where(_sessions.c.expires_at < _now()))
            connection.execute(
                _sessions.insert().values(
                    digest=_digest(token),
                    client_id=client.client_id,
                    expires_at=expires.isoformat(),
                )
            )
        return token

    def signed_in(self, token: str) -> Client | None:
        """The client a session token stands for, or None when it is unknown or over."""
        with self._engine.connect() as connection:
            row = connection.execute(
                sa.select(_clients)
                .join(_sessions, _sessions.c.client_id == _clients.c.client_id)
                .where(
                    _sessions.c.digest == _digest(token),
                    _sessions.c.expires_at > _now(),
                    _clients.c.revoked_at.is_(None),
                )
            ).first()
        return None if row is None else _client(row)

    def sign_out(self, token: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(_sessions.delete().where(_sessions.c.digest == _digest(token)))

    def _touch(self, client: Client) -> None:
        now = time.monotonic()
        with self._lock:
            if now - self._touched.get(client.client_id, -TOUCH_SECONDS) < TOUCH_SECONDS:
                return
            self._touched[client.client_id] = now
        with self._engine.begin() as connection:
            connection.execute(
                _clients.update()
                .where(_clients.c.client_id == client.client_id)
                .values(last_used=_now())
            )


def may_bind(host: str, clients: Clients) -> None:
    """Refuse to listen beyond this machine while no key exists.

    Raises:
        InputError: `host` is not loopback and there is no working key.
    """
    if host not in LOOPBACK and not clients.any_active():
        raise InputError(
            f"listening on {host} would let the whole network in, and no API key exists yet",
            where="--host",
            next="make a key first with: shopkeeper clients add NAME "
            "(or listen on this machine only: --host 127.0.0.1)",
        )


def _client(row: Any) -> Client:
    return Client(
        client_id=row.client_id,
        name=row.name,
        type=KeyType(row.type),
        origins=tuple(row.origins),
        created_at=row.created_at,
        last_used=row.last_used,
        revoked_at=row.revoked_at,
    )


def _origin(text: str) -> str:
    """`text` as a browser would send it: scheme://host[:port], nothing more."""
    parts = urlsplit(text.strip())
    if (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or parts.path not in {"", "/"}
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
        or "*" in parts.netloc
    ):
        raise InputError(
            f"{text!r} is no web origin; wanted scheme://host[:port], e.g. https://shop.example",
            where="origins",
        )
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _durable(connection: Any, _record: Any) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
        connection.execute(f"PRAGMA {pragma}")
