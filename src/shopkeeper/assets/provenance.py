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


@cache
def _digest_of(part: str) -> str:
    root = package_root() / part
    paths = [root] if root.is_file() else sorted(root.rglob("*"))
    digest = hashlib.sha256()
    for path in paths:
        if path.suffix in _SOURCE and path.is_file():
            digest.update(str(path.relative_to(package_root())).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def code_digest(parts: Sequence[str]) -> str:
    """Digest of the source files of rooms or modules, e.g. ("clean", "features/build.py")."""
    for part in parts:
        if not (package_root() / part).exists():
            raise ValueError(f"no such source: {part}")
    return hashlib.sha256("".join(_digest_of(part) for part in parts).encode()).hexdigest()[:32]


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
