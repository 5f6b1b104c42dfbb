"""Social ties: whom each user follows."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from shopkeeper.features.sequences import Ints


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
