"""User-hash buckets: tables about users are split by crc32 of the user id.

crc32 (zlib) is the same in every version of everything, so a user's rows stay in one place for the
life of a workspace; the hash of a data-frame library is not promised to be.
"""

import zlib

import numpy as np
import polars as pl


def bucket_of(user_id: str | None, buckets: int) -> int:
    """The bucket of one user; no user is bucket 0."""
    return zlib.crc32(user_id.encode()) % buckets if user_id is not None else 0


def bucket_column(users: pl.Series, buckets: int) -> pl.Series:
    """(N,) Int32 buckets of (N,) user ids; null ids go to bucket 0. Each distinct id is hashed once."""
    if buckets == 1:
        return pl.Series("bucket", np.zeros(len(users), dtype=np.int32))
    distinct = users.unique()
    hashes = np.fromiter(
        (bucket_of(user, buckets) for user in distinct), dtype=np.int32, count=len(distinct)
    )
    table = pl.DataFrame({"user": distinct, "bucket": hashes})
    found = pl.DataFrame({"user": users}).join(
        table, on="user", how="left", nulls_equal=True, maintain_order="left"
    )
    return found["bucket"]
