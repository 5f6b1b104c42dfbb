"""Real servers that tests of several rooms start."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A folder that a server may own: pytest's own are closed to every other user."""
    folder = Path(tempfile.mkdtemp(prefix="shopkeeper-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def as_user_of(user: str, folder: Path) -> list[str]:
    """The prefix that runs a server without root's rights (both refuse to be root)."""
    if os.geteuid() != 0:
        return []
    shutil.chown(folder, user)
    return ["setpriv", "--reuid", user, "--clear-groups"]


@pytest.fixture(scope="session")
def postgresql(server_folder: Path) -> Iterator[str]:
    """A URL of a PostgreSQL server of our own; skipped where there is none to start."""
    if not (shutil.which("initdb") and shutil.which("pg_ctl")):
        pytest.skip("PostgreSQL's initdb and pg_ctl are not installed")
    folder = server_folder / "postgresql"
    folder.mkdir()
    secret = folder / "secret"
    secret.write_text("s3cr3t")
    as_user = as_user_of("nobody", folder)
    secret.chmod(0o644)
    data, port = folder / "data", free_port()
    make = [*as_user, "initdb", "-D", str(data), "-A", "scram-sha-256", "-U", "shop"]
    subprocess.run(
        [*make, "-E", "UTF8", "--no-sync", f"--pwfile={secret}"],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    control = [*as_user, "pg_ctl", "-D", str(data), "-w"]
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -k {folder}"
    subprocess.run(
        [*control, "-o", options, "-l", str(folder / "log"), "start"],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=folder,
    )
    yield f"postgresql://shop:s3cr3t@127.0.0.1:{port}/postgres"
    subprocess.run(
        [*control, "-m", "immediate", "stop"], check=True, capture_output=True, cwd=folder
    )


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A URL of moto's S3 server, in a process of its own; skipped where moto is not installed.

    delta-rs asks it while it holds Python's lock, so a thread of this process could not answer.
    """
    for module in ("moto", "obstore"):
        pytest.importorskip(module, reason=f"{module} is not installed")
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{url}/moto-api/", timeout=5).close()
            break
        except OSError:
            time.sleep(0.1)
    yield url
    server.terminate()
    server.wait(timeout=20)


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty bucket there; the environment says how to reach it."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    for method, address in (("POST", "moto-api/reset"), ("PUT", "shop")):
        asked = urllib.request.Request(f"{s3_server}/{address}", method=method)
        urllib.request.urlopen(asked, timeout=20).close()
    return "s3://shop"
