"""All users' histories as of a release, in flat arrays that workers share by memory map.

Raw event values, not features: live events join them before `pack` computes features from both.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from shopkeeper.features.sequences import NO_TIME, Ints
from shopkeeper.serving.events import Act
from shopkeeper.words import KIND_CODES, Kind

_KINDS = [kind.value for kind in Kind]
_UNKNOWN = -1
_ARRAYS = ("offsets", "items", "kinds", "times", "dwell_ms", "price_minor", "quantity")


class Snapshot:
    """Histories by user id.

    Attributes:
        position: seq of the last logged event that is in here; later ones come from the log.
    """

    def __init__(
        self,
        users: list[str],
        ids: list[str],
        arrays: dict[str, npt.NDArray[np.int64]],
        position: int,
    ) -> None:
        self.position = position
        self._users = {user: row for row, user in enumerate(users)}
        self._ids = ids
        self._arrays = arrays

    def __len__(self) -> int:
        return len(self._users)

    def __contains__(self, user_id: str) -> bool:
        return user_id in self._users

    def acts(self, user_id: str) -> list[Act]:
        """A new list of the user's events, oldest first; empty for a stranger."""
        row = self._users.get(user_id)
        if row is None:
            return []
        offsets: Ints = self._arrays["offsets"]
        part = slice(int(offsets[row]), int(offsets[row + 1]))
        columns = [self._arrays[name][part].tolist() for name in _ARRAYS[1:]]
        return [
            Act(
                0,
                time,
                self._ids[item],
                _KINDS[kind],
                None if dwell == _UNKNOWN else dwell,
                None if price == _UNKNOWN else price,
                None if quantity == _UNKNOWN else quantity,
                0,
            )
            for item, kind, time, dwell, price, quantity in zip(*columns, strict=True)
        ]


def write(events: pl.DataFrame, folder: Path, limit: int) -> int:
    """Write the newest `limit` events of every user into `folder`, which exists; returns the users.

    Args:
        events: user_id, item_id, kind, ts (Datetime, null where unknown), dwell_ms, price_minor,
            quantity: clean events of the kinds that enter sequences, sorted by user and time. Rows
            without user or item say nothing here and are left out.
    """
    events = events.filter(pl.col("user_id").is_not_null() & pl.col("item_id").is_not_null())
    last = events.group_by("user_id", maintain_order=True).tail(limit)
    counts = last.group_by("user_id", maintain_order=True).len()
    ids = last["item_id"].unique().sort()
    pl.DataFrame({"item_id": ids}).write_parquet(folder / "items.parquet")
    counts.select("user_id").write_parquet(folder / "users.parquet")
    columns = last.select(
        pl.col("item_id").replace_strict(ids, list(range(len(ids)))).cast(pl.Int64).alias("items")
        if len(ids)
        else pl.lit(0, dtype=pl.Int64).alias("items"),
        pl.col("kind").replace_strict(KIND_CODES, default=0).cast(pl.Int64).alias("kinds"),
        pl.col("ts").dt.epoch("ms").fill_null(NO_TIME).cast(pl.Int64).alias("times"),
        *(
            pl.col(name).cast(pl.Int64).fill_null(_UNKNOWN)
            for name in ("dwell_ms", "price_minor", "quantity")
        ),
    )
    offsets = np.concatenate([[0], np.cumsum(counts["len"].to_numpy())]).astype(np.int64)
    np.save(folder / "offsets.npy", offsets, allow_pickle=False)
    for name in _ARRAYS[1:]:
        np.save(folder / f"{name}.npy", columns[name].to_numpy(), allow_pickle=False)
    return counts.height


def read(folder: Path, position: int) -> Snapshot:
    """What `write` wrote; arrays stay on disk until touched."""
    return Snapshot(
        pl.read_parquet(folder / "users.parquet")["user_id"].to_list(),
        pl.read_parquet(folder / "items.parquet")["item_id"].to_list(),
        {
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in _ARRAYS
        },
        position,
    )
