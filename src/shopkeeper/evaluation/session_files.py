"""Public benchmark folders of sessions: `train_sessions.txt.gz` and `test.txt.gz`.

A training line is one session, oldest click first; a test line is the clicks so far, a tab, and the
click that came next. A session may have the same item several times.
"""

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shopkeeper.errors import InputError, NotFound
from shopkeeper.features.items import ItemTable, bare
from shopkeeper.features.sequences import Examples, Sequences, pack

TRAIN = "train_sessions.txt.gz"
TEST = "test.txt.gz"
HELD_OUT = 0.1  # of the sessions
SEED = 7  # of the draw: the same sessions for every model and run


@dataclass(frozen=True)
class SessionFiles:
    """One folder, read."""

    train: Sequences
    test: Examples
    items: ItemTable  # of both files
    digest: str  # sha256 of the uncompressed bytes of both files


def read(folder: Path) -> SessionFiles:
    """Read a folder of this form. NotFound: a file is missing; InputError: a line cannot be read."""
    contents = [unpacked(folder / name) for name in (TRAIN, TEST)]
    codes: dict[str, int] = {}
    lengths: list[int] = []
    flat: list[int] = []
    for line in contents[0].decode().splitlines():
        words = line.split()
        lengths.append(len(words))
        flat.extend(codes.setdefault(word, len(codes)) for word in words)
    asked: list[int] = []
    targets: list[int] = []
    before: list[int] = []
    for number, line in enumerate(contents[1].decode().splitlines(), start=1):
        prefix, tab, target = line.partition("\t")
        words = prefix.split()
        if not tab or not words or not target.strip():
            raise InputError(
                "wanted the clicks so far, a tab, and the next click",
                where=f"{folder / TEST}:{number}",
            )
        asked.append(len(words))
        before.extend(codes.setdefault(word, len(codes)) for word in words)
        targets.append(codes.setdefault(target.strip(), len(codes)))
    histories = pack([f"t{n}" for n in range(len(asked))], asked, before)
    return SessionFiles(
        train=pack([f"s{n}" for n in range(len(lengths))], lengths, flat),
        test=one_target(histories, np.asarray(targets, dtype=np.int32)),
        items=bare(list(codes)),
        digest=hashlib.sha256(b"".join(contents)).hexdigest(),
    )


def hold_out(sessions: Sequences) -> tuple[Sequences, Examples]:
    """Take the last click away from a tenth of the sessions: (what is left of all, those clicks)."""
    able = np.flatnonzero(sessions.lengths >= 2)
    drawn = np.random.default_rng(SEED).permutation(able)[: max(1, int(len(able) * HELD_OUT))]
    drawn = np.sort(drawn)
    ends = sessions.offsets[1:].copy()
    targets = sessions.items[ends[drawn] - 1]
    ends[drawn] -= 1
    left = sessions.slice_events(sessions.offsets[:-1], ends)
    return left, one_target(left.take(drawn), targets)


def one_target(histories: Sequences, targets: npt.NDArray[np.int32]) -> Examples:
    """Examples of one next item each."""
    return Examples(histories, np.arange(len(histories) + 1, dtype=np.int64), targets)


def unpacked(path: Path) -> bytes:
    """The bytes of a gzipped text file. NotFound, InputError: missing, or no gzip."""
    if not path.exists():
        raise NotFound(
            f"no {path.name} here",
            where=str(path.parent),
            next="--data names the folder that holds it",
        )
    try:
        return gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"not a gzipped text file: {error}", where=str(path)) from error
