"""Public benchmark folders of users and their items; their order says nothing.

`train.txt.gz` and `test.txt.gz`: a line is a user's id and the ids of items. Where users do several
things, `interactions.parquet`: user_id, item_id, behavior (view, cart, buy), split (train, test).
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from shopkeeper.errors import InputError, NotFound
from shopkeeper.evaluation.session_files import SEED, one_target, unpacked
from shopkeeper.features.items import ItemTable, bare
from shopkeeper.features.sequences import Examples, Sequences, pack
from shopkeeper.words import KIND_CODES, Kind

HELD_OUT = 0.1  # of every user's items
KINDS = {"view": Kind.VIEW, "cart": Kind.CART, "buy": Kind.PURCHASE}
BOUGHT = KIND_CODES[Kind.PURCHASE]


@dataclass(frozen=True)
class GraphFiles:
    """One folder, read."""

    train: Sequences
    test: Examples  # histories: the training items of users who have test items
    items: ItemTable
    digest: str  # sha256 of the files' bytes, uncompressed ones where they are text


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


def read_behaviours(folder: Path) -> GraphFiles:
    """Read a folder of several behaviours: each user's history, and the purchase that is asked for.

    NotFound: the file is missing; InputError: a column, a behaviour or a user's test is not as wanted.
    """
    path = folder / "interactions.parquet"
    if not path.exists():
        raise NotFound(
            f"no {path.name} here", where=str(folder), next="--data names the folder that holds it"
        )
    content = path.read_bytes()
    rows = pl.read_parquet(content).with_columns(pl.col("behavior").cast(pl.String))
    if unknown := set(rows["behavior"].unique()) - set(KINDS):
        raise InputError(f"behavior {sorted(unknown)}; wanted {', '.join(KINDS)}", where=str(path))
    code = pl.col("behavior").replace_strict({k: KIND_CODES[v] for k, v in KINDS.items()})
    rows = rows.with_columns(code.alias("kind")).sort("user_id", "kind", "item_id")
    learned = rows.filter(pl.col("split") == "train")
    asked = rows.filter((pl.col("split") == "test") & (pl.col("kind") == BOUGHT))
    ids = rows["item_id"].unique().sort()
    place = {item: n for n, item in enumerate(ids.to_list())}
    of = learned.group_by("user_id", maintain_order=True).agg(
        pl.len(), pl.col("item_id").replace_strict(place), "kind"
    )
    known = pack(
        [str(user) for user in of["user_id"]],
        of["len"],
        of["item_id"].explode(),
        kinds=of["kind"].explode(),
    )
    row = {user: n for n, user in enumerate(known.users)}
    tested = [str(user) for user in asked["user_id"]]
    if len(set(tested)) < len(tested) or not set(tested) <= set(row):
        raise InputError(
            "wanted one test purchase of a user who has training events", where=str(path)
        )
    return GraphFiles(
        train=known,
        test=one_target(
            known.take(np.asarray([row[user] for user in tested], dtype=np.int64)),
            asked["item_id"].replace_strict(place).to_numpy().astype(np.int32),
        ),
        items=bare([str(item) for item in ids]),
        digest=hashlib.sha256(content).hexdigest(),
    )


def hold_out_purchase(known: Sequences) -> tuple[Sequences, Examples]:
    """Take one purchase, drawn once, from every user who has two: (the rest, those purchases)."""
    rng = np.random.default_rng(SEED)
    owner = np.repeat(np.arange(len(known)), known.lengths)
    bought = np.flatnonzero(known.kinds == BOUGHT)
    many = np.bincount(owner[bought], minlength=len(known))
    order = bought[np.lexsort((rng.random(len(bought)), owner[bought]))]
    users, first = np.unique(owner[order], return_index=True)
    away = order[first[many[users] >= 2]]
    asked = owner[away]
    keep = np.ones(len(owner), dtype=bool)
    keep[away] = False
    lengths = known.lengths.copy()
    lengths[asked] -= 1
    rest = pack(known.users, lengths, known.items[keep], kinds=known.kinds[keep])
    return rest, one_target(rest.take(asked), known.items[away])


def _lines(text: str, codes: dict[str, int]) -> dict[str, list[int]]:
    found = {}
    for line in text.splitlines():
        user, *items = line.split()
        found[user] = [codes.setdefault(item, len(codes)) for item in items]
    return found
