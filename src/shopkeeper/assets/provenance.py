"""Which code made it: digests of source files, and the git commit with its dirty flag."""

import ast
import hashlib
import subprocess
from functools import cache
from importlib.resources import files
from pathlib import Path

_SOURCE = (".py", ".yaml", ".json", ".txt")
# rooms that carry a step's data, settings and errors but do not decide its result
_GROUND = ("assets/", "engine/", "governance/", "config.py", "errors.py")
_RULES = ("assets/contracts/", "assets/buckets.py")  # of those, what does


def package_root() -> Path:
    """The folder of the installed package."""
    return Path(str(files("shopkeeper")))


def _read_sources() -> dict[str, bytes]:
    """{path below the package: content} of every source file."""
    root = package_root()
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.suffix in _SOURCE and path.is_file()
    }


# taken when the process starts: what is edited during a long run is not the code that runs
_SOURCES = _read_sources()


@cache
def code_digest(module: str) -> str:
    """Digest of a module, of all of ours that it imports, and of the data files beside those."""
    digest = hashlib.sha256()
    for path in sources(module):
        digest.update(f"{path}={hashlib.sha256(_SOURCES[path]).hexdigest()}\n".encode())
    return digest.hexdigest()[:32]


def sources(module: str) -> list[str]:
    """The files that decide what `module` does, below the package; none of a module outside it."""
    found: set[str] = set()
    to_do = _files(module)
    while to_do:
        path = to_do.pop()
        if path not in found and (path.startswith(_RULES) or not path.startswith(_GROUND)):
            found.add(path)
            to_do |= _imports(path)
    homes = {path.rpartition("/")[0] for path in found} - {""}
    beside = {path for path in _SOURCES if path.rpartition("/")[0] in homes}
    return sorted(found | {path for path in beside if not path.endswith(".py")})


@cache
def _imports(path: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(_SOURCES[path])):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return set().union(*map(_files, names))


def _files(name: str) -> set[str]:
    """The files that importing `name` runs: its packages, and the module or the one it is in."""
    package, *parts = name.split(".")
    if package != "shopkeeper":
        return set()
    places = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    return {file for at in places for file in (f"{at}.py", f"{at}/__init__.py") if file in _SOURCES}


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
