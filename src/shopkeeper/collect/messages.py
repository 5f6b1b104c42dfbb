"""What reading a stream yields: messages as they came, and where to resume behind them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shopkeeper.collect.batch import Reject

TOGETHER = 50_000  # messages of a batch
BYTES = 32 << 20  # ... or this much of them


@dataclass(frozen=True)
class Messages:
    """Some messages of one part of a stream, in order."""

    lines: Sequence[int]  # where each stands: its offset
    values: Sequence[bytes | None]  # None: a tombstone
    position: dict[str, Any]  # JSON; hand it back to resume behind these
    done: int  # messages of this part that this reading is through with
    total: int  # ... of so many
    about: Mapping[str, Sequence[str | None]] = field(default_factory=dict)  # "@key" -> one each
    rejects: Sequence[Reject] = ()  # what is known before any is parsed: gaps


def gap(line: int, detail: str) -> Reject:
    """What a stream gave up before it was read; loud, as nothing brings it back."""
    return Reject(line, "gap", detail, "")
