"""A folder of files that are taken whole, bytes and all: pictures, recordings.

Files are read in the order of their names. The place reading was left at is what was read: for each
file eight bytes of the digest of its name, size and times, and eight of its name and content. A file
whose times changed is opened, and taken only where its content changed too: a folder that is copied, or
brought back from a backup, brings nothing twice.
"""

import base64
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from shopkeeper.collect.batch import Batch, Reject, rejects_frame
from shopkeeper.collect.tables import COLUMNS

BATCH_BYTES = 32 << 20
BIGGEST = 64 << 20  # bytes of one file
_NONE = {"thumbs.db", "desktop.ini"}

# of (what it belongs to, where it stands, its bytes, their digest): the table's columns, or why not
Look = Callable[[str, str, bytes, str], tuple[Any, ...] | Reject]


def read(
    table: str, look: Look, source: str, name: str, folder: Path, position: dict[str, Any] | None
) -> Iterator[Batch]:
    """Batches of files that are new or changed since `position` (JSON: seen, contents)."""
    files = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not _ignored(path.relative_to(folder))
    )
    sizes, stamps = np.zeros(len(files), np.int64), np.zeros(len(files), np.uint64)
    for index, file in enumerate(files):
        sizes[index], stamps[index] = _stamp(folder / file, file)
    seen, known = (_numbers(position, key) for key in ("seen", "contents"))
    known = known if len(known) == len(seen) else np.zeros(len(seen), np.uint64)  # 0: not told
    read = np.isin(stamps, seen)
    contents = np.zeros(len(files), np.uint64)
    if len(seen):
        contents[read] = known[np.searchsorted(seen, stamps[read])]
    rows: list[tuple[Any, ...]] = []
    rejects: list[pl.DataFrame] = []
    size, fresh = 0, [index for index, known in enumerate(read) if not known]
    for index in fresh:
        file = files[index]
        contents[index], made = _taken(look, folder / file, file, f"{name}/{file}", known)
        if made is None:
            pass
        elif isinstance(made, Reject):
            rejects.append(rejects_frame([made], source, f"{name}/{file}"))
        else:
            rows.append(made)
            size += len(made[-2])
        read[index] = True
        last = index == fresh[-1]
        if size >= BATCH_BYTES or last:
            order = np.argsort(stamps[read])
            yield Batch(
                file=name,
                frame=_frame(table, rows, source),
                rejects=pl.concat([rejects_frame([], source, name), *rejects]),
                position={
                    "seen": _text(stamps[read][order]),
                    "contents": _text(contents[read][order]),
                },
                done_bytes=int(sizes[read].sum()),
                total_bytes=int(sizes.sum()),
            )
            rows, rejects, size = [], [], 0


def _ignored(path: Path) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return hidden or path.name.lower() in _NONE


def _stamp(path: Path, file: str) -> tuple[int, int]:
    """Size, and 64 bits that tell this state of this file from any other."""
    stat = path.stat()
    text = f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}"
    return stat.st_size, _number(text)


def _taken(
    look: Look, path: Path, file: str, stands: str, known: npt.NDArray[np.uint64]
) -> tuple[int, tuple[Any, ...] | Reject | None]:
    """64 bits of its name and content, and its row; None: it is one of `known`."""
    belongs = path.stem if "/" not in file else file.split("/")[0]
    size = path.stat().st_size
    if size > BIGGEST:
        number = _number(f"{file}\0{size}")
        told = f"{size:,} bytes; at most {BIGGEST:,} are taken"
        return number, None if number in known else Reject(1, "too_long", told, "")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    number = _number(f"{file}\0{digest}")
    if number in known:
        return number, None
    made = look(belongs, stands, content, digest)
    return number, made if isinstance(made, Reject) else (*made, content, stands)


def _number(text: str) -> int:
    digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _numbers(position: dict[str, Any] | None, key: str) -> npt.NDArray[np.uint64]:
    told = base64.b64decode(position.get(key, "")) if position else b""
    return np.frombuffer(told, np.uint64)


def _text(numbers: npt.NDArray[np.uint64]) -> str:
    return base64.b64encode(numbers.tobytes()).decode()


def _frame(table: str, rows: list[tuple[Any, ...]], source: str) -> pl.DataFrame:
    text = dict.fromkeys(COLUMNS[table], pl.String)
    schema = pl.Schema({**text, "content": pl.Binary, "file": pl.String})
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return frame.select(
        *COLUMNS[table],
        "content",
        source=pl.lit(source),
        file="file",
        line=pl.lit(1, pl.Int64),
    )
