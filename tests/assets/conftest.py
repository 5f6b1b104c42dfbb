"""An empty workspace's assets, and a process that is killed while it works."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from servers import postgresql, server_folder
from shopkeeper.assets.store import Assets

__all__ = ["postgresql", "server_folder"]  # fixtures, here for the tests beside this file


def _killed_at(child: str, folder: Path, seconds: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", child, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "POLARS_MAX_THREADS": "1"},
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "ready\n"
    time.sleep(seconds)
    assert process.poll() is None, "the child ended by itself"
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=60)


@pytest.fixture
def killed_at() -> Callable[[str, Path, float], None]:
    """Run the program `child` in `folder`; kill -9 it that long after it printed "ready"."""
    return _killed_at


@pytest.fixture
def assets(tmp_path: Path) -> Assets:
    return Assets(tmp_path, buckets=4)
