"""One contract for every kind of source: killed, replayed, late, out of order, malformed; every row is
accounted for once. Servers are real (Kafka: librdkafka's in-process cluster; S3: moto's server)."""

import base64
import hmac
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest
import sqlalchemy as sa

from shopkeeper import config
from shopkeeper.collect import adbc
from shopkeeper.governance.access import OWNER
from shopkeeper.serving.hooks import Hooks
from shopkeeper.shop import Shop
from shopkeeper.words import Purpose

Row = dict[str, str | None]
STEPS = ["collect.events", "clean.events"]


def event(n: int, ts: str = "", **more: str | None) -> Row:
    made: Row = {"event_id": f"e{n}", "user_id": f"u{n % 3}", "item_id": f"i{n}", "kind": "view"}
    return made | {"ts": ts or f"2026-01-02T10:00:{n:02d}Z"} | more


FIRST = [event(n) for n in range(12)]
MORE = [
    event(12, "2025-11-01T00:00:00Z"),  # late
    event(13, "2026-01-02T10:00:04Z"),  # out of order
    event(3),  # replayed
    event(14, kind="glance"),
    event(15, user_id=None),
    *(event(n) for n in range(16, 20)),
]
CLEAN = {f"e{n}" for n in range(20)} - {"e14", "e15"}

# A run in a process of its own, in batches of a few rows, that ends by SIGKILL behind the first.
KILLED = """
import os, signal, sys
from shopkeeper.assets.store import Run
from shopkeeper.collect import messages, redis_streams, sql, tablefile, text
from shopkeeper.shop import Shop

text.BLOCK, text.SETTLE, tablefile.ROWS, sql.ROWS = 150, 0.0, 3, 3
messages.TOGETHER = redis_streams.TOGETHER = 3
save = Run.checkpoint

def checkpoint(run):
    save(run)
    os.kill(os.getpid(), signal.SIGKILL)

Run.checkpoint = checkpoint
with Shop.open(sys.argv[1]) as shop:
    shop.run(["collect.events"])
"""


class Well(NamedTuple):
    """Where rows are drawn from: what shop.toml says of it, and how rows and rubbish get there."""

    block: str
    put: Callable[[Sequence[Row]], None]
    rubbish: Callable[[], int]  # puts what cannot be read there; how many


def _none() -> int:
    return 0


def _csv(rows: Sequence[Row], header: bool) -> bytes:
    return pl.DataFrame(rows).write_csv(include_header=header).encode()


def _lines(rows: Sequence[Row]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.fixture(
    params=[
        "csv",
        "jsonl",
        "parquet",
        "postgresql",
        "adbc",
        "mariadb",
        "kafka",
        "redis",
        "webhook",
        "s3",
    ]
)
def well(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Well]:
    form = request.param
    raw = tmp_path / "raw"
    raw.mkdir()
    at = f'path = "{raw}'

    def append(name: str, content: bytes) -> None:
        with (raw / name).open("ab") as file:
            file.write(content)

    if form == "csv":
        yield Well(
            f'{at}/log.csv"',
            lambda rows: append("log.csv", _csv(rows, not (raw / "log.csv").exists())),
            lambda: append("log.csv", b"too,few\n") or 1,
        )
    elif form == "jsonl":
        yield Well(
            f'{at}/log.jsonl"',
            lambda rows: append("log.jsonl", _lines(rows)),
            lambda: append("log.jsonl", b"{oops\n[1]\n") or 2,
        )
    elif form == "parquet":

        def write(rows: Sequence[Row]) -> None:
            pl.DataFrame(rows).write_parquet(raw / f"{len(list(raw.iterdir()))}.parquet")

        yield Well(f'{at}"', write, _none)
    elif form in ("postgresql", "adbc", "mariadb"):
        if form == "adbc":
            pytest.importorskip("adbc_driver_postgresql", reason="ADBC's driver is not installed")
        else:
            monkeypatch.setattr(adbc, "_installed", lambda: False)
        url = request.getfixturevalue("mariadb" if form == "mariadb" else "postgresql")
        driven = url.replace("postgresql:", "postgresql+psycopg:")
        engine = sa.create_engine(driven.replace("mysql:", "mysql+pymysql:"), poolclass=sa.NullPool)
        texts = (sa.Column(name, sa.String(40)) for name in FIRST[0])
        number = sa.Column("number", sa.Integer, primary_key=True, autoincrement=True)
        table = sa.Table("drawn", sa.MetaData(), number, *texts)
        table.metadata.drop_all(engine)
        table.metadata.create_all(engine)

        def insert(rows: Sequence[Row]) -> None:
            with engine.begin() as connection:
                for row in rows:
                    connection.execute(table.insert(), row)

        block = f'format = "sql"\nurl = "{url}"\nsql_table = "drawn"\nwatermark = "number"'
        yield Well(block, insert, _none)
    elif form == "kafka":
        kafka = request.getfixturevalue("kafka")

        def produce(rows: Sequence[Row]) -> None:
            for n, row in enumerate(rows):
                kafka.put("drawn", json.dumps(row).encode(), partition=n % 2)

        block = f'format = "kafka"\nurl = "kafka://{kafka.brokers}"\nstream = "drawn"'
        yield Well(block, produce, lambda: kafka.put("drawn", b"{oops", None, b"[1]", b"\xff") or 4)
    elif form == "redis":
        client = request.getfixturevalue("redis_server")
        client.flushall()

        def add(rows: Sequence[Row]) -> None:
            for row in rows:
                client.xadd("drawn", {key: value or "" for key, value in row.items()})

        port = client.connection_pool.connection_kwargs["port"]
        block = f'format = "redis"\nurl = "redis://127.0.0.1:{port}/0"\nstream = "drawn"'
        yield Well(block, add, lambda: bool(client.xadd("drawn", {"json": "{oops"})) + 0)
    elif form == "webhook":
        monkeypatch.setenv("DRAWN_SECRET", "sesame")
        block = 'format = "webhook"\nstream = "drawn"\nsignature = { secret = "${DRAWN_SECRET}" }'
        (tmp_path / "shop.toml").write_text(f'[[sources]]\ntable = "events"\n{block}\n')
        hooks = Hooks(tmp_path, config.load(tmp_path))

        def deliver(rows: Sequence[Row]) -> None:
            for row in rows:  # every one is sent twice, as senders do
                body, id = json.dumps(row).encode(), f"d-{row['event_id']}-{time.time_ns()}"
                for _ in range(2):
                    stamp = str(int(time.time()))
                    mac = hmac.digest(b"sesame", f"{id}.{stamp}.".encode() + body, "sha256")
                    headers = {"webhook-id": id, "webhook-timestamp": stamp}
                    headers["webhook-signature"] = "v1," + base64.b64encode(mac).decode()
                    hooks.receive("drawn", headers, body)

        yield Well(block, deliver, _none)  # rubbish is refused at the door: tests/serving
        hooks.close()
    else:
        store, written = request.getfixturevalue("bucket"), io.BytesIO()

        def upload(content: bytes) -> None:
            written.write(content)
            store.put("drawn/log.csv", written.getvalue())

        yield Well(
            'path = "s3://shop/drawn"',
            lambda rows: upload(_csv(rows, not written.tell())),
            lambda: upload(b"too,few\n") or 1,
        )


def _run(folder: Path) -> dict[str, pl.DataFrame]:
    """Collect and clean; the tables, and how many rows were merged."""
    with Shop.open(folder) as shop:
        shop.run(STEPS)
        layers = ("raw", "unread", "clean", "quarantine")
        tables = {
            layer: shop.assets.read(f"{layer}.events", by=OWNER, purpose=Purpose.AUDIT)
            for layer in layers
        }
        quality = shop.assets.current("clean.events").quality
    assert quality is not None
    rows = tables["raw"].height
    assert rows == tables["clean"].height + quality["merged"] + tables["quarantine"].height
    assert tables["raw"].select("source", "file", "line").is_unique().all()
    return tables


@pytest.mark.slow
def test_a_killed_run_replays_late_unordered_and_malformed_rows_are_each_accounted_for_once(
    well: Well, tmp_path: Path
) -> None:
    (tmp_path / "shop.toml").write_text(
        f'buckets = 2\n[[sources]]\ntable = "events"\n{well.block}\n'
    )
    well.put(FIRST)
    run = [sys.executable, "-c", KILLED, str(tmp_path)]
    killed = subprocess.run(run, check=False, capture_output=True, timeout=120)
    assert killed.returncode == -9, killed.stderr.decode()[-2000:]
    first = _run(tmp_path)
    assert sorted(first["raw"]["event_id"]) == sorted(str(row["event_id"]) for row in FIRST)
    well.put(MORE)
    unreadable = well.rubbish()
    whole = _run(tmp_path)
    assert sorted(whole["raw"]["event_id"]) == sorted(str(r["event_id"]) for r in [*FIRST, *MORE])
    assert whole["unread"].height == unreadable
    assert set(whole["clean"]["event_id"]) == CLEAN
    assert whole["clean"].height == len(CLEAN)
    assert dict(whole["quarantine"].select("event_id", "rule").rows()).keys() == {"e14", "e15"}
    assert all(table.equals(whole[name]) for name, table in _run(tmp_path).items())
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    for name in ("shop.toml", "store/online"):
        if (tmp_path / name).exists():  # of a webhook the log is the source
            (undisturbed / name).parent.mkdir(exist_ok=True)
            (undisturbed / name).symlink_to(tmp_path / name)
    ours = [name for name in whole["clean"].columns if name in FIRST[0]]
    both = [run["clean"].select(ours).sort("event_id") for run in (_run(undisturbed), whole)]
    assert both[0].equals(both[1])
