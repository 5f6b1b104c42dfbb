"""A folder of pictures: each file is checked, measured and taken whole.

`folder/ITEM.jpg` and `folder/ITEM/anything.jpg` belong to item ITEM. Files are read in the order of
their names. The place reading was left at is what was read: eight bytes a picture, the digest of its
name, size and times, so a folder moved into place is new and a picture that changed is read again.
"""

import base64
import hashlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from shopkeeper.collect.batch import Batch, Reject, rejects_frame
from shopkeeper.collect.tables import COLUMNS

BATCH_BYTES = 32 << 20
BIGGEST = 64 << 20  # bytes of one picture
_NO_PICTURES = {"thumbs.db", "desktop.ini"}


def read(source: str, name: str, folder: Path, position: dict[str, Any] | None) -> Iterator[Batch]:
    """Batches of pictures that are new or changed since `position` (JSON: seen)."""
    files = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not _ignored(path.relative_to(folder))
    )
    sizes, stamps = np.zeros(len(files), np.int64), np.zeros(len(files), np.uint64)
    for index, file in enumerate(files):
        sizes[index], stamps[index] = _stamp(folder / file, file)
    seen = base64.b64decode(position.get("seen", "")) if position else b""
    read = np.isin(stamps, np.frombuffer(seen, np.uint64))
    rows: list[tuple[Any, ...]] = []
    rejects: list[pl.DataFrame] = []
    size, fresh = 0, [index for index, known in enumerate(read) if not known]
    for index in fresh:
        file = files[index]
        made = _picture(folder / file, file, f"{name}/{file}")
        if isinstance(made, Reject):
            rejects.append(rejects_frame([made], source, f"{name}/{file}"))
        else:
            rows.append(made)
            size += len(made[6])
        read[index] = True
        last = index == fresh[-1]
        if size >= BATCH_BYTES or (last and (rows or rejects)):
            yield Batch(
                file=name,
                frame=_frame(rows, source),
                rejects=pl.concat([rejects_frame([], source, name), *rejects]),
                position={"seen": base64.b64encode(np.sort(stamps[read]).tobytes()).decode()},
                done_bytes=int(sizes[read].sum()),
                total_bytes=int(sizes.sum()),
            )
            rows, rejects, size = [], [], 0


def _ignored(path: Path) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return hidden or path.name.lower() in _NO_PICTURES


def _stamp(path: Path, file: str) -> tuple[int, int]:
    """Size, and 64 bits that tell this state of this file from any other."""
    stat = path.stat()
    text = f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}"
    digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()
    return stat.st_size, int.from_bytes(digest, "little")


def _picture(path: Path, file: str, stands: str) -> tuple[Any, ...] | Reject:
    item_id = path.stem if "/" not in file else file.split("/")[0]
    size = path.stat().st_size
    if size > BIGGEST:
        return Reject(1, "too_long", f"{size:,} bytes; at most {BIGGEST:,} are taken", "")
    content = path.read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                image.verify()
            with Image.open(io.BytesIO(content)) as image:
                kind, (width, height) = (image.format or "").lower(), image.size
                image.draft("RGB", (64, 64))  # JPEG: decoded small, yet to the last byte
                image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        return Reject(1, "too_many_pixels", str(error), "")
    except Exception as error:  # Pillow's plug-ins raise whatever their bytes lead them to
        what = "an empty file" if not content else f"no picture that can be opened: {error}"
        return Reject(1, "unreadable_image", what, repr(content[:40]))
    digest = hashlib.sha256(content).hexdigest()
    return (item_id, stands, kind, str(width), str(height), digest, content, stands)


def _frame(rows: list[tuple[Any, ...]], source: str) -> pl.DataFrame:
    text = dict.fromkeys(COLUMNS["images"], pl.String)
    schema = pl.Schema({**text, "content": pl.Binary, "file": pl.String})
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return frame.select(
        *COLUMNS["images"],
        "content",
        source=pl.lit(source),
        file="file",
        line=pl.lit(1, pl.Int64),
    )
