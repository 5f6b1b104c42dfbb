"""What reading a source yields: rows by the batch, with where each came from and where to resume."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl


class Reject(NamedTuple):
    """A piece of a file that could not even be read as a row."""

    line: int  # 1-based line (text), row (tables), 1 (images)
    rule: str
    detail: str  # what was found and what was wanted
    raw: str  # the piece as it stands; of a huge one the first 1,000 characters


REJECTS = pl.Schema(
    {
        "source": pl.String,
        "file": pl.String,
        "line": pl.Int64,
        "rule": pl.String,
        "detail": pl.String,
        "raw": pl.String,
    }
)


@dataclass(frozen=True)
class Chunk:
    """Rows under the source's own column names, before shop.toml's mapping."""

    frame: pl.DataFrame  # text columns as the source names them, and `line` Int64
    rejects: Sequence[Reject]
    position: dict[str, Any]  # JSON; hand it back to resume behind this chunk
    done_bytes: int  # of this file


@dataclass(frozen=True)
class Batch:
    """Rows under canonical names, ready for the raw layer."""

    file: str  # the name `position` belongs to
    frame: pl.DataFrame  # COLUMNS[table] as String, then source, file String, line Int64
    rejects: pl.DataFrame  # REJECTS
    position: dict[str, Any]  # JSON; stored in the same transaction as the rows
    done_bytes: int  # of the whole source, files read before included
    total_bytes: int


def rejects_frame(rejects: Sequence[Reject], source: str, file: str) -> pl.DataFrame:
    """The rejects of one file as a table (schema REJECTS)."""
    rows = [(source, file, *reject) for reject in rejects]
    return pl.DataFrame(rows, schema=REJECTS, orient="row")
