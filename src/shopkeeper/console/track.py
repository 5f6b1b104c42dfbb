"""track.src.js -> track.js, the browser script as it is shipped: under 2,048 bytes.

    python -m shopkeeper.console.track

Comments and blanks go, and the names below become single letters. This is no general minifier: it
knows that the source has no blanks within strings and uses no capital letter as a name.
"""

import re
from importlib import resources
from pathlib import Path

LIMIT = 2048  # bytes
NAMES = (
    "page", "script", "set", "now", "url", "store", "timer", "busy", "most", "wait", "left", "get",
    "put", "queue", "body", "later", "flush", "status", "visit", "near", "about", "one", "eyes",
    "seen", "look",
)  # fmt: skip


def shipped(source: str) -> str:
    """The text of track.js for the text of track.src.js."""
    lines = (line.strip() for line in source.splitlines())
    text = " ".join(line for line in lines if not line.startswith("//"))
    text = re.sub(r"\s*([^\w$\s\"'`])\s*", r"\1", text).replace(";}", "}")
    for name, letter in zip(NAMES, "ABCDEFGHIJKLMNOPQRSTUVWXYZ", strict=False):
        # not a property (.name, name:), not within a string; but behind a spread (...name)
        text = re.sub(rf'(?<![\w"$-])(?<!(?<!\.)\.){name}(?![\w":-])', letter, text)
    return text + "\n"


def folder() -> Path:
    return Path(str(resources.files("shopkeeper.console"))) / "static"


if __name__ == "__main__":
    made = shipped((folder() / "track.src.js").read_text(encoding="utf-8"))
    (folder() / "track.js").write_text(made, encoding="utf-8")
    print(f"track.js: {len(made.encode()):,} bytes of at most {LIMIT:,}")
