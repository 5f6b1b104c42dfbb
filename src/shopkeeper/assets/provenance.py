"""Which code made it: digests of source files, and the git commit with its dirty flag."""

import hashlib
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

_SOURCE = (".py", ".yaml", ".json", ".txt")


def package_root() -> Path:
    """The folder of the installed package."""
    return Path(str(files("shopkeeper")))


def _read_sources() -> dict[str, str]:
    """{path below the package: digest} of every source file."""
    root = package_root()
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.suffix in _SOURCE and path.is_file()
    }


# taken when the process starts: what is edited during a long run is not the code that runs
_SOURCES = _read_sources()


def code_digest(parts: Sequence[str]) -> str:
    """Digest of the source files of rooms or modules, e.g. ("clean", "features/build.py")."""
    digest = hashlib.sha256()
    for part in parts:
        found = {
            path: value
            for path, value in _SOURCES.items()
            if path == part or path.startswith(f"{part}/")
        }
        if not found:
            raise ValueError(f"no such source: {part}")
        for path, value in found.items():
            digest.update(f"{path}={value}\n".encode())
    return digest.hexdigest()[:32]


@cache
def git_state() -> tuple[str | None, bool | None]:
    """Commit and dirty flag of the checkout the package runs from; (None, None) outside of one."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit, bool(_git("status", "--porcelain", "--", "."))
    except (OSError, subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None, None


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(package_root()), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    return done.stdout.strip()
