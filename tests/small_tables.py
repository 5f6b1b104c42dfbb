"""Small tables of one bucket's rows, for tests of what keeps them."""

import polars as pl

from shopkeeper.assets.store import Assets
from shopkeeper.governance.access import OWNER
from shopkeeper.words import Purpose


def rows(*names: str) -> pl.DataFrame:
    return pl.DataFrame({"user_id": list(names), "n": list(range(len(names)))})


def read(assets: Assets, name: str, version: int | None = None) -> list[str]:
    frame = assets.read(name, by=OWNER, purpose=Purpose.ANALYSE, version=version)
    return sorted(frame["user_id"].to_list())


def write(
    assets: Assets, name: str, frame: pl.DataFrame, mode: str = "replace", bucket: int = 0
) -> None:
    with assets.run("write") as run:
        run.table(name, mode).put(frame, bucket=bucket)
