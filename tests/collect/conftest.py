"""Small real things to collect from: files of every format, and real database servers."""

import shutil
import socket
import subprocess
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import polars as pl
import pytest

from servers import as_user_of, free_port, postgresql, server_folder
from shopkeeper.assets.objects import ObjectStore, open_store
from shopkeeper.collect import messages, redis_streams, sql, tablefile, text, wholefiles
from shopkeeper.collect.batch import REJECTS, Batch
from shopkeeper.collect.read import read
from shopkeeper.config import Settings, Source

__all__ = ["postgresql", "server_folder"]  # fixtures, here for the tests beside this file


class Got(NamedTuple):
    frame: pl.DataFrame
    rejects: pl.DataFrame
    positions: dict[str, dict[str, Any]]
    batches: list[Batch]


@pytest.fixture
def collect() -> Callable[..., Got]:
    """Read a source to its end, keeping the last position of every file."""

    def run(
        source: Source,
        folder: Path,
        positions: dict[str, dict[str, Any]] | None = None,
        settings: Settings | None = None,
    ) -> Got:
        known = dict(positions or {})
        batches = list(read(source, settings or Settings(), folder, known))
        known |= {batch.file: batch.position for batch in batches}
        frames = [batch.frame for batch in batches]
        rejects = [batch.rejects for batch in batches]
        return Got(
            pl.concat(frames) if frames else pl.DataFrame(),
            pl.concat([pl.DataFrame(schema=REJECTS), *rejects]),
            known,
            batches,
        )

    return run


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few rows make many batches."""
    monkeypatch.setattr(text, "BLOCK", 40)
    monkeypatch.setattr(tablefile, "ROWS", 3)
    monkeypatch.setattr(sql, "ROWS", 3)
    monkeypatch.setattr(wholefiles, "BATCH_BYTES", 1)
    monkeypatch.setattr(messages, "TOGETHER", 3)
    monkeypatch.setattr(redis_streams, "TOGETHER", 3)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "SETTLE", 0.0)


_TYPES = "http://schemas.openxmlformats.org/package/2006/content-types"
_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_KIND = "application/vnd.openxmlformats-officedocument.spreadsheetml"


@pytest.fixture
def write_xlsx() -> Callable[[Path, Sequence[Sequence[Any]]], None]:
    """A workbook of one sheet; None leaves a cell empty, a float in a 1-tuple is a date."""

    def cell(row: int, column: int, value: Any) -> str:
        at = f"{chr(65 + column)}{row}"
        if value is None:
            return ""
        if isinstance(value, tuple):
            return f'<c r="{at}" s="1"><v>{value[0]}</v></c>'
        if isinstance(value, int | float):
            return f'<c r="{at}"><v>{value}</v></c>'
        return f'<c r="{at}" t="inlineStr"><is><t>{escape(value)}</t></is></c>'

    def write(path: Path, rows: Sequence[Sequence[Any]]) -> None:
        body = "".join(
            f'<row r="{r}">{"".join(cell(r, c, v) for c, v in enumerate(row))}</row>'
            for r, row in enumerate(rows, start=1)
        )
        parts = {
            "[Content_Types].xml": f'<Types xmlns="{_TYPES}">'
            '<Default Extension="rels" '
            'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Override PartName="/xl/workbook.xml" ContentType="{_KIND}.sheet.main+xml"/>'
            f'<Override PartName="/xl/styles.xml" ContentType="{_KIND}.styles+xml"/>'
            f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{_KIND}.worksheet+xml"/>'
            "</Types>",
            "_rels/.rels": f'<Relationships xmlns="{_RELATIONS}"><Relationship Id="rId1" '
            f'Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
            "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>'
            '<sheet name="Sheet1" sheetId="1" r:id="rId1"/></sheets></workbook>',
            "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_RELATIONS}">'
            f'<Relationship Id="rId1" Type="{_OFFICE}/worksheet" Target="worksheets/sheet1.xml"/>'
            f'<Relationship Id="rId2" Type="{_OFFICE}/styles" Target="styles.xml"/>'
            "</Relationships>",
            "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}"><fonts count="1"><font/></fonts>'
            '<fills count="1"><fill/></fills><borders count="1"><border/></borders>'
            '<cellStyleXfs count="1"><xf/></cellStyleXfs><cellXfs count="2"><xf numFmtId="0"/>'
            '<xf numFmtId="22" applyNumberFormat="1"/></cellXfs></styleSheet>',
            "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{_MAIN}"><sheetData>{body}</sheetData>'
            "</worksheet>",
        }
        with zipfile.ZipFile(path, "w") as book:
            for name, xml in parts.items():
                book.writestr(name, '<?xml version="1.0" encoding="UTF-8"?>' + xml)

    return write


@pytest.fixture(scope="session")
def mariadb(server_folder: Path) -> Iterator[str]:
    """A URL of a MariaDB server of our own; skipped where there is none to start."""
    if not (shutil.which("mariadbd") and shutil.which("mariadb-install-db")):
        pytest.skip("MariaDB's mariadbd and mariadb-install-db are not installed")
    folder = server_folder / "mariadb"
    folder.mkdir()
    as_user = as_user_of("nobody", folder)
    data, port = folder / "data", free_port()
    start = folder / "init.sql"
    start.write_text(
        "CREATE DATABASE shop CHARACTER SET utf8mb4;\nCREATE USER 'shop'@'%' IDENTIFIED BY 's3cr3t';\n"
        "GRANT ALL ON shop.* TO 'shop'@'%';\n"
    )
    start.chmod(0o644)
    subprocess.run(
        [
            *as_user,
            "mariadb-install-db",
            "--no-defaults",
            f"--datadir={data}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    server = subprocess.Popen(
        [
            *as_user,
            "mariadbd",
            "--no-defaults",
            f"--datadir={data}",
            f"--port={port}",
            "--bind-address=127.0.0.1",
            f"--socket={folder}/socket",
            f"--pid-file={folder}/pid",
            f"--init-file={start}",
            f"--log-error={folder}/log",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
    )
    deadline = time.monotonic() + 60
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                break
        except OSError:
            if time.monotonic() > deadline or server.poll() is not None:
                server.kill()
                pytest.fail(f"MariaDB did not start: {(folder / 'log').read_text()[-500:]}")
            time.sleep(0.1)
    yield f"mysql://shop:s3cr3t@127.0.0.1:{port}/shop"
    server.terminate()
    server.wait(30)


class Kafka(NamedTuple):
    """librdkafka's own cluster in this process: real sockets and protocol, logs kept in memory. It
    keeps 5 MB a partition and drops the oldest beyond that; it knows no transactions and no rights."""

    brokers: str
    producer: Any

    def put(self, topic: str, *values: bytes | None, partition: int = 0, key: str = "k") -> None:
        for value in values:
            self.producer.produce(topic, key=key, value=value, partition=partition)
        assert self.producer.flush(10) == 0


@pytest.fixture(scope="session")
def kafka() -> Kafka:
    confluent_kafka = pytest.importorskip("confluent_kafka")
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": "mock", "test.mock.num.brokers": 1, "log_level": 0}
    )
    brokers = producer.list_topics(timeout=10).brokers.values()
    return Kafka(",".join(f"{b.host}:{b.port}" for b in brokers), producer)


@pytest.fixture(scope="session")
def redis_server(server_folder: Path) -> Iterator[Any]:
    """A client of a Redis server of our own; skipped where there is none to start."""
    redis = pytest.importorskip("redis")
    if not shutil.which("redis-server"):
        pytest.skip("redis-server is not installed")
    folder, port = server_folder / "redis", free_port()
    folder.mkdir()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    server = subprocess.Popen(
        [*command, "--appendonly", "no", "--dir", str(folder)], stdout=subprocess.DEVNULL
    )
    client = redis.Redis(port=port)
    deadline = time.monotonic() + 20
    while True:
        try:
            client.ping()
            break
        except redis.ConnectionError:
            if time.monotonic() > deadline:
                server.kill()
                pytest.fail("Redis did not start")
            time.sleep(0.05)
    yield client
    client.close()
    server.terminate()
    server.wait(20)


@pytest.fixture(scope="session")
def moto_server() -> Iterator[str]:
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    pytest.importorskip("obstore", reason="obstore is not installed")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(moto_server: str, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """s3://shop of moto's server, which speaks S3; empty but for what the test puts there."""
    for name, value in {
        "AWS_ENDPOINT_URL": moto_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    for method, address in (("POST", "moto-api/reset"), ("PUT", "shop")):
        asked = urllib.request.Request(f"{moto_server}/{address}", method=method)
        urllib.request.urlopen(asked, timeout=20).close()
    return open_store("s3://shop")
