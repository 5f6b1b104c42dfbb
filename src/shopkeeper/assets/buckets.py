"""User-hash buckets: tables about users are split by crc32 of the user id.

crc32 (zlib) is the same in every version of everything, so a user's rows stay in one place for the
life of a workspace; the hash of a data-frame library is not promised to be.
"""

import zlib

import numpy as np
import numpy.typing as npt
import polars as pl

LONG = 64  # bytes


def bucket_of(user_id: str | None, buckets: int) -> int:
    """The bucket of one user; no user is bucket 0."""
    return zlib.crc32(user_id.encode()) % buckets if user_id is not None else 0


def bucket_column(users: pl.Series, buckets: int) -> pl.Series:
    """(N,) Int32 buckets of (N,) user ids; null ids go to bucket 0. Each distinct id is hashed once."""
    if buckets == 1:
        return pl.Series("bucket", np.zeros(len(users), dtype=np.int32))
    distinct = users.unique()
    hashes = np.where(distinct.is_null().to_numpy(), 0, crc32(distinct) % buckets)
    table = pl.DataFrame({"user": distinct, "bucket": hashes.astype(np.int32)})
    found = pl.DataFrame({"user": users}).join(
        table, on="user", how="left", nulls_equal=True, maintain_order="left"
    )
    return found["bucket"]


def crc32(texts: pl.Series) -> npt.NDArray[np.uint32]:
    """(N,) zlib.crc32 of the UTF-8 bytes of (N,) texts, all texts a byte at a time; null is "".

    Ids of people are short; the few longer than LONG are left to zlib, one by one.
    """
    texts = texts.fill_null("")
    lengths = texts.str.len_bytes().to_numpy().astype(np.int64)
    order = np.argsort(-lengths, kind="stable")
    starts = (np.cumsum(lengths) - lengths)[order]
    joined = texts.str.join("").item() if len(texts) else ""
    content = np.frombuffer(joined.encode(), dtype=np.uint8)
    # how many texts are longer than each place: those are the first ones of the order
    longer = len(texts) - np.searchsorted(np.sort(lengths), np.arange(LONG), side="right")
    state = np.full(len(texts), 0xFFFFFFFF, dtype=np.uint32)
    for place, count in enumerate(longer):
        if not count:
            break
        here = state[:count]
        byte = content[starts[:count] + place]
        state[:count] = (here >> np.uint32(8)) ^ _TABLE[(here ^ byte) & np.uint32(0xFF)]
    found = np.empty(len(texts), dtype=np.uint32)
    found[order] = ~state
    for row in np.flatnonzero(lengths > LONG):
        found[row] = zlib.crc32(texts[int(row)].encode())
    return found


def _table() -> npt.NDArray[np.uint32]:
    """What each last byte does to the state: the reflected polynomial of zlib."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        odd = (table & np.uint32(1)).astype(bool)
        table = np.where(
            odd, (table >> np.uint32(1)) ^ np.uint32(0xEDB88320), table >> np.uint32(1)
        )
    return table


_TABLE = _table()
