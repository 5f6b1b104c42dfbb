"""Public benchmark folders of users and their items: `train.txt.gz` and `test.txt.gz`.

A line is a user's id and the ids of items; their order says nothing.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shopkeeper.errors import InputError
from shopkeeper.evaluation.session_files import SEED, unpacked
from shopkeeper.features.items import ItemTable, bare
from shopkeeper.features.sequences import Examples, Sequences, pack

HELD_OUT = 0.1  # of every user's items


@dataclass(frozen=True)
class GraphFiles:
    """One folder, read."""

    train: Sequences
    test: Examples  # histories: the training items of users who have test items
    items: ItemTable
    digest: str  # sha256 of the uncompressed bytes of both files


def read(folder: Path) -> GraphFiles:
    """Read a folder of this form. NotFound: a file is missing; InputError: a line cannot be read."""
    contents = [unpacked(folder / name) for name in ("train.txt.gz", "test.txt.gz")]
    codes: dict[str, int] = {}
    train, test = (_lines(content.decode(), codes) for content in contents)
    users = list(train)
    row = {user: n for n, user in enumerate(users)}
    known = pack(users, [len(train[u]) for u in users], [i for u in users for i in train[u]])
    asked = [user for user, items in test.items() if items]
    if unknown := [user for user in asked if user not in row]:
        raise InputError(
            f"user {unknown[0]} has test items but no training items", where=str(folder)
        )
    lengths = [len(test[user]) for user in asked]
    return GraphFiles(
        train=known,
        test=Examples(
            known.take(np.asarray([row[user] for user in asked], dtype=np.int64)),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            np.asarray([i for user in asked for i in test[user]], dtype=np.int32),
        ),
        items=bare(list(codes)),
        digest=hashlib.sha256(b"".join(contents)).hexdigest(),
    )


def hold_out(known: Sequences) -> tuple[Sequences, Examples]:
    """Take a tenth of every user's items away, at least one of those with three: (the rest, those)."""
    rng = np.random.default_rng(SEED)
    owner = np.repeat(np.arange(len(known)), known.lengths)
    order = np.lexsort((rng.random(len(owner)), owner))  # every user's items in random order
    place = np.arange(len(owner)) - known.offsets[:-1][owner]
    many = np.where(
        known.lengths >= 3, np.maximum(1, (known.lengths * HELD_OUT).astype(np.int64)), 0
    )
    away = np.zeros(len(owner), dtype=bool)
    away[order] = place < many[owner]
    left = known.lengths - many
    rest = pack(known.users, left, known.items[~away])
    asked = np.flatnonzero(many > 0)
    targets = known.items[away]
    offsets = np.concatenate([[0], np.cumsum(many[asked])]).astype(np.int64)
    return rest, Examples(rest.take(asked), offsets, targets)


def _lines(text: str, codes: dict[str, int]) -> dict[str, list[int]]:
    found = {}
    for line in text.splitlines():
        user, *items = line.split()
        found[user] = [codes.setdefault(item, len(codes)) for item in items]
    return found
