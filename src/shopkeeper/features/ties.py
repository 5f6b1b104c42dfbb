"""Social ties: whom each user follows."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl

from shopkeeper.assets.store import Run
from shopkeeper.features.sequences import Ints

FOLLOWS = "clean.follows"
WHEN = ("ts", "ended_at")


@dataclass(frozen=True)
class Ties:
    """F followers, oldest tie first; follower f follows followed[offsets[f]:offsets[f + 1]]."""

    followers: list[str]  # F outside ids
    offsets: Ints  # (F + 1,)
    followed: list[str]  # outside ids


def tie(pairs: Iterable[tuple[str, str]]) -> Ties:
    """Ties from (follower, followed) pairs; a pair told twice is told once, nobody follows themselves."""
    of: dict[str, dict[str, None]] = {}
    for follower, followed in pairs:
        if follower != followed:
            of.setdefault(follower, {})[followed] = None
    counts = [len(named) for named in of.values()]
    return Ties(
        followers=list(of),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        followed=[followed for named in of.values() for followed in named],
    )


def ties_as_of(run: Run, instant: int | None) -> Ties | None:
    """Who followed whom at `instant` (ms since 1970 UTC; None: now); None where the shop does not tell.

    A tie without a beginning was always there.
    """
    if not run.has(FOLLOWS):
        return None
    rows = run.read(FOLLOWS)
    untold = [
        pl.lit(None, pl.Datetime("us", "UTC")).alias(name) for name in WHEN if name not in rows
    ]
    rows = rows.with_columns(untold)
    rows = rows.filter((pl.col("kind") == "user") & pl.col("target_user_id").is_not_null())
    if instant is None:
        rows = rows.filter(pl.col("ended_at").is_null())
    else:
        then = pl.lit(datetime.fromtimestamp(instant / 1000, UTC))
        begun = pl.col("ts").is_null() | (pl.col("ts") <= then)
        rows = rows.filter(begun & (pl.col("ended_at").is_null() | (pl.col("ended_at") > then)))
    told = rows.sort("user_id", "target_user_id").select("user_id", "target_user_id")
    return tie(told.iter_rows())
