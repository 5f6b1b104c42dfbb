"""Real servers that tests of several rooms start."""

import os
import shutil
import socket
import subprocess
import tempfile
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
