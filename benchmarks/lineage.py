"""Walks of 10 hops over a catalogue of 10,000 assets with 50 columns and 20 versions each.

    python benchmarks/lineage.py FOLDER [ASSETS]

Builds the catalogue in FOLDER where there is none; CPU time of 200 walks from random assets each.
"""

import random
import sys
import time
from collections.abc import Callable, Sized
from pathlib import Path
from typing import Any

from shopkeeper.assets import lineage
from shopkeeper.assets import schema as tables
from shopkeeper.assets.catalog import Catalog

COLUMNS, VERSIONS, WALKS = 50, 20, 200


def build(catalog: Catalog, count: int) -> None:
    """Layers of ten assets, each made of one or two of the layer below; every eleventh is raw."""
    rows: dict[Any, list[dict[str, Any]]] = {}

    def put(table: Any, **values: Any) -> None:
        rows.setdefault(table, []).append(values)

    for n in range(count):
        name, made = f"l.a{n}", f"map{n}"
        parents: list[str] = []
        if n >= 10 and n // 10 % 11:
            parents = sorted({f"l.a{n - 10}", f"l.a{(n - 10) // 10 * 10 + n * 7 % 10}"})
        put(tables.assets, name=name, kind="table", owner="o", description="", grade="internal",
            current=f"{name}@{VERSIONS}", created_at="2026")  # fmt: skip
        for v in range(1, VERSIONS + 1):
            run, version = f"run{n}-{v}", f"{name}@{v}"
            put(tables.versions, id=version, asset=name, number=v, digest="d", schema={}, bytes=1,
                notes={}, run_id=run, created_at="2026")  # fmt: skip
            put(tables.run_outputs, run_id=run, version_id=version)
            put(tables.column_maps, version_id=version, asset=name, run_id=run, map=made)
            for parent in parents:
                put(tables.run_inputs, run_id=run, version_id=f"{parent}@{v}")
        for parent in parents:
            for c in range(COLUMNS):
                put(tables.column_edges, map=made, to_column=f"c{c}", from_asset=parent,
                    from_column=f"c{c}", to_asset=name, how="computed")  # fmt: skip
    with catalog.write() as connection:
        for table, values in rows.items():
            connection.execute(table.insert(), values)


def measure(what: str, count: int, walk: Callable[[str], Sized]) -> None:
    dice = random.Random(1)
    took = []
    for _ in range(WALKS):
        asset = f"l.a{dice.randrange(count)}"
        began = time.process_time()
        walk(asset)
        took.append((time.process_time() - began) * 1000)
    took.sort()
    print(f"{what}: p50 {took[WALKS // 2]:.1f} ms, p99 {took[WALKS * 99 // 100]:.1f} ms")


def walked(catalog: Catalog, count: int, way: lineage.Direction) -> None:
    def columns(asset: str) -> Sized:
        return lineage.column_walk(catalog, asset, "c7", direction=way, depth=10)

    measure(f"assets {way}", count, lambda a: lineage.asset_edges(catalog, a, way, 10))
    measure(f"columns {way}", count, columns)
    measure(f"versions {way}", count, lambda a: lineage.walk(catalog, [f"{a}@{VERSIONS}"], way, 10))


def main() -> None:
    folder, count = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    new = not (folder / "catalog.db").exists()
    catalog = Catalog(folder / "catalog.db")
    if new:
        build(catalog, count)
    walked(catalog, count, "up")
    walked(catalog, count, "down")
    catalog.close()


if __name__ == "__main__":
    main()
