"""Public benchmark folders of one form: `sequences.txt.gz`, one user a line, oldest item first.

`item2attributes.json.gz` (item id -> list of attribute ids) is optional.
"""

import gzip
import hashlib
import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shopkeeper.errors import InputError, NotFound
from shopkeeper.features.items import ItemTable
from shopkeeper.features.sequences import Examples, Sequences, Vocabulary, pack

SEQUENCES = "sequences.txt.gz"
ATTRIBUTES = "item2attributes.json.gz"


@dataclass(frozen=True)
class SequenceFiles:
    """One folder, read."""

    sequences: Sequences  # all events of all users
    items: ItemTable  # every item of the file, attributes as tags where the folder has them
    digest: str  # sha256 of the file's uncompressed bytes: says which data set this is


@dataclass(frozen=True)
class LeaveOneOut:
    """Per user: last item = test, the one before = validation, the rest = training."""

    train: Sequences
    validation: Examples  # histories: the training events
    test: Examples  # histories: the training events and the validation event


def read(folder: Path, *, first_item_column: int) -> SequenceFiles:
    """Read a folder of this form.

    Args:
        first_item_column: 1 where a line starts with the user's id, 0 where it holds items only.
    Raises:
        NotFound: no sequences.txt.gz there; InputError: a line or the JSON cannot be read.
    """
    path = folder / SEQUENCES
    if not path.exists():
        raise NotFound(
            f"no {SEQUENCES} here",
            where=str(folder),
            next="--data names the folder that holds it",
        )
    try:
        content = gzip.decompress(path.read_bytes())
        lines = content.decode("utf-8").splitlines()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"not a gzipped text file: {error}", where=str(path)) from error
    users: list[str] = []
    lengths: list[int] = []
    codes: dict[str, int] = {}
    flat: list[int] = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        items = words[first_item_column:]
        if len(items) < 3:
            raise InputError(
                f"{len(items)} items, wanted at least 3 (training, validation, test)",
                where=f"{path}:{number}",
            )
        users.append(words[0] if first_item_column else str(number - 1))
        lengths.append(len(items))
        flat.extend(codes.setdefault(item, len(codes)) for item in items)
    if not users:
        raise InputError("no line in it, wanted one user a line", where=str(path))
    tags = _attributes(folder / ATTRIBUTES, list(codes))
    return SequenceFiles(
        sequences=pack(users, lengths, flat),
        items=tags,
        digest=hashlib.sha256(content).hexdigest(),
    )


def leave_one_out(sequences: Sequences) -> LeaveOneOut:
    """Split by each user's last two events; every user has at least three."""
    starts, ends = sequences.offsets[:-1], sequences.offsets[1:]
    one_each = np.arange(len(sequences) + 1, dtype=np.int64)
    known = sequences.slice_events(starts, ends - 1)
    train = sequences.slice_events(starts, ends - 2)
    return LeaveOneOut(
        train=train,
        validation=Examples(train, one_each, sequences.items[ends - 2]),
        test=Examples(known, one_each, sequences.items[ends - 1]),
    )


def _attributes(path: Path, ids: list[str]) -> ItemTable:
    known: dict[str, list[int | str]] = {}
    if path.exists():
        try:
            known = json.loads(gzip.decompress(path.read_bytes()))
        except (OSError, EOFError, zlib.error, ValueError) as error:
            raise InputError(f"not gzipped JSON: {error}", where=str(path)) from error
    codes: dict[str, int] = {}
    rows = [
        [codes.setdefault(f"attribute={tag}", len(codes)) for tag in known.get(item, ())]
        for item in ids
    ]
    return ItemTable(
        vocabulary=Vocabulary(ids),
        tag_offsets=np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64),
        tags=np.asarray([tag for row in rows for tag in row], dtype=np.int32),
        tag_names=list(codes),
        numbers=np.zeros((len(ids), 0), dtype=np.float32),
        number_names=[],
        text=[""] * len(ids),
    )
