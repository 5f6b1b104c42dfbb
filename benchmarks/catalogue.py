"""A catalogue of many assets: how long search, an asset's page and a walk of its lineage take.

    python benchmarks/catalogue.py --assets 10000 --columns 50 --versions 20

The catalogue is made up (names of shop data, words in English and Chinese), written in bulk as runs
would have written it, and then asked through the same calls as the console: on SQLite in a temporary
folder, or on PostgreSQL by --url.
"""

import argparse
import gc
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from shopkeeper.assets import lineage, search
from shopkeeper.assets import schema as tables
from shopkeeper.assets.lineage import ROWS, Edge
from shopkeeper.assets.store import Assets
from shopkeeper.config import Settings
from shopkeeper.shop import Shop

LAYERS = ("raw", "clean", "features", "models", "reports", "quality", "quarantine", "indexes")
THINGS = [
    "order",
    "item",
    "user",
    "shop",
    "coupon",
    "campaign",
    "review",
    "stock",
    "price",
    "visit",
    "session",
    "basket",
    "refund",
    "invoice",
    "delivery",
    "address",
    "supplier",
    "warehouse",
    "banner",
    "query",
    "click",
    "impression",
    "payment",
    "wallet",
    "loyalty",
    "ticket",
    "call",
    "agent",
    "dialogue",
    "article",
    "picture",
    "video",
    "region",
    "store",
    "channel",
    "device",
    "browser",
    "referral",
    "segment",
    "cohort",
    "funnel",
    "forecast",
    "margin",
    "discount",
    "bundle",
    "brand",
    "category",
    "season",
    "parcel",
    "courier",
    "pickup",
    "return",
    "exchange",
    "gift",
    "card",
    "subscription",
]
FACTS = [
    "id",
    "name",
    "code",
    "kind",
    "status",
    "amount",
    "total",
    "count",
    "rate",
    "share",
    "score",
    "rank",
    "day",
    "hour",
    "week",
    "month",
    "created",
    "updated",
    "deleted",
    "started",
    "ended",
    "first",
    "last",
    "minimum",
    "maximum",
    "mean",
    "median",
    "source",
    "target",
    "parent",
    "owner",
    "note",
    "title",
    "colour",
    "size",
    "weight",
    "length",
    "width",
    "height",
    "currency",
    "country",
    "city",
    "street",
    "postcode",
    "phone",
    "language",
    "version",
    "hash",
    "latitude",
    "longitude",
]
SAID = ("every night", "as delivered", "by day and shop", "after checks", "每日快照", "按渠道汇总", "for finance")  # fmt: skip
MEANT = ("商品", "用户", "价格", "库存", "优惠券", "评价", "地区", "渠道", "会话", "退货")
HOPS = 10
WIDTH = 500  # assets that stand at one distance from the raw data
BATCH = 20_000
NODES = {"p50": 0.5, "most": 1.0}


def made_up(count: int, columns: int, dice: random.Random) -> list[dict[str, Any]]:
    """Assets with names, descriptions and columns; each but the first WIDTH made from two others."""
    found: list[dict[str, Any]] = []
    for n in range(count):
        what = f"{dice.choice(THINGS)}_{dice.choice(THINGS)}_{dice.choice(FACTS)}"
        names: dict[str, None] = {}
        while len(names) < columns:
            names[f"{dice.choice(THINGS)}_{dice.choice(FACTS)}"] = None
        before = range(max(0, n // WIDTH * WIDTH - WIDTH), n // WIDTH * WIDTH)
        found.append(
            {
                "name": f"{dice.choice(LAYERS)}.{what}_{n}",
                "columns": list(names),
                "description": f"{what.replace('_', ' ')}, {dice.choice(SAID)}",
                "owner": f"team {dice.choice(THINGS)}",
                "inputs": dice.sample(before, 2) if len(before) > 1 else [],
            }
        )
    return found


def write(assets: Assets, made: list[dict[str, Any]], versions: int, dice: random.Random) -> None:
    """Put them into the catalogue as `versions` runs of each would have."""

    def rows(make: Callable[[int, int], Iterator[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
        for n in range(len(made)):
            for v in range(1, versions + 1):
                yield from make(n, v)

    def one_version(n: int, v: int) -> Iterator[dict[str, Any]]:
        name = made[n]["name"]
        yield {
            "id": f"{name}@{v}", "asset": name, "number": v, "digest": f"{n:060x}{v:04x}",
            "delta_version": v, "schema": dict.fromkeys(made[n]["columns"], "String"),
            "rows": 1000 * v, "bytes": 100_000 * v, "notes": {}, "run_id": f"r{n}-{v}",
            "created_at": f"2026-{1 + v % 12:02d}-01T00:00:00.000000+00:00",
        }  # fmt: skip

    def one_run(n: int, v: int) -> Iterator[dict[str, Any]]:
        yield {
            "id": f"r{n}-{v}", "step": made[n]["name"], "key": f"{n}", "code_digest": "",
            "parameters": {}, "notes": {}, "outcome": "done", "seconds": 1.0, "cpu_seconds": 1.0,
            "peak_rss_mb": 100.0, "started_at": f"2026-{1 + v % 12:02d}-01T00:00:00.000000+00:00",
            "finished_at": f"2026-{1 + v % 12:02d}-01T00:00:01.000000+00:00",
        }  # fmt: skip

    def inputs(n: int, v: int) -> Iterator[dict[str, Any]]:
        for other in made[n]["inputs"]:
            yield {"run_id": f"r{n}-{v}", "version_id": f"{made[other]['name']}@{v}"}

    def outputs(n: int, v: int) -> Iterator[dict[str, Any]]:
        yield {"run_id": f"r{n}-{v}", "version_id": f"{made[n]['name']}@{v}"}

    def usage() -> Iterator[dict[str, Any]]:
        day = time.strftime("%Y-%m-%d", time.gmtime())
        for asset in made:
            for who in ("step report", "local-owner"):
                yield {
                    "asset": asset["name"], "day": day, "who": who, "purpose": "analyse",
                    "reads": dice.randrange(1, 500), "last_at": f"{day}T00:00:00",
                }  # fmt: skip

    _insert(assets, tables.versions, rows(one_version))
    _insert(assets, tables.runs, rows(one_run))
    _insert(assets, tables.run_inputs, rows(inputs))
    _insert(assets, tables.run_outputs, rows(outputs))
    _insert(assets, tables.usage, usage())
    _insert(
        assets,
        tables.assets,
        (
            {
                "name": asset["name"], "kind": "table", "owner": asset["owner"],
                "description": asset["description"], "grade": "internal",
                "current": f"{asset['name']}@{versions}",
                "created_at": "2026-01-01T00:00:00.000000+00:00",
            }
            for asset in made
        ),
    )  # fmt: skip
    with assets.catalog.write() as connection:
        for n, asset in enumerate(made):
            for v in range(1, versions + 1):
                lineage.record(connection, f"{asset['name']}@{v}", f"r{n}-{v}", _edges(made, n))
    with assets.catalog.write() as connection:
        search.index_assets(connection)


def _edges(made: list[dict[str, Any]], n: int) -> list[Edge]:
    """Each column of an asset from one column of each of its inputs, and its rows from theirs."""
    asset, found = made[n], []
    for other in (made[one] for one in asset["inputs"]):
        found += [
            Edge(other["name"], theirs, asset["name"], mine, "computed")
            for mine, theirs in zip(asset["columns"], other["columns"], strict=True)
        ]
        found.append(Edge(other["name"], ROWS, asset["name"], ROWS, "rows"))
    return found


def _insert(assets: Assets, table: sa.Table, rows: Iterator[dict[str, Any]]) -> None:
    while batch := [row for row, _ in zip(rows, range(BATCH), strict=False)]:
        with assets.catalog.write() as connection:
            connection.execute(table.insert(), batch)


def questions(made: list[dict[str, Any]], count: int, dice: random.Random) -> list[tuple[str, str]]:
    """(kind, query): what people type."""

    def typo(word: str) -> str:
        at = dice.randrange(1, len(word) - 1)
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]

    def asked(kind: str) -> str:
        asset = dice.choice(made)
        if kind == "name":
            return str(asset["name"])
        if kind == "column":
            return str(dice.choice(asset["columns"]))
        if kind == "words":
            return " ".join([*dice.sample(THINGS, 2), dice.choice(FACTS)])
        if kind == "typo":
            return typo(dice.choice([word for word in THINGS if len(word) > 5]))
        if kind == "beginning":
            return dice.choice(THINGS)[:3]
        return dice.choice(MEANT) + dice.choice(["", " " + dice.choice(FACTS)])

    kinds = ("name", "column", "words", "typo", "beginning", "中文")
    return [(kinds[n % len(kinds)], asked(kinds[n % len(kinds)])) for n in range(count)]


Took = tuple[float, float]  # milliseconds on the clock, and of CPU


def timed(work: Callable[[Any], Any], over: list[Any]) -> list[Took]:
    """What each call took, in order."""
    took = []
    for one in over:
        start, cpu = time.perf_counter(), time.process_time()
        work(one)
        took.append((1000 * (time.perf_counter() - start), 1000 * (time.process_time() - cpu)))
    return took


def percentile(took: list[float], share: float) -> float:
    return sorted(took)[min(len(took) - 1, int(share * len(took)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=int, default=10_000)
    parser.add_argument("--columns", type=int, default=50)
    parser.add_argument("--versions", type=int, default=20)
    parser.add_argument("--calls", type=int, default=1_200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep the catalogue here, or use the one there")
    parser.add_argument("--url", help="postgresql://… of an empty database")
    args = parser.parse_args()
    dice = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        assets = Assets(folder, catalog=args.url)
        made = made_up(args.assets, args.columns, dice)
        start = time.perf_counter()
        if not assets.catalog.asset_names():
            write(assets, made, args.versions, random.Random(args.seed))
        told: dict[str, Any] = {"build_s": round(time.perf_counter() - start, 1)}
        file = folder / "store" / "catalog.db"
        told["catalogue_mb"] = round(file.stat().st_size / 1e6, 1) if args.url is None else None
        shop = Shop(folder, Settings(), assets)
        asked = questions(made, args.calls, dice)
        for _, query in asked[:20]:
            shop.find(query)
        gc.collect()
        gc.freeze()  # as the server does once it is up
        took = timed(lambda one: shop.find(one[1]), asked)
        told["search"] = _told(took)
        for kind in sorted({kind for kind, _ in asked}):
            own = [one for one, (which, _) in zip(took, asked, strict=True) if which == kind]
            told[f"search, {kind}"] = _told(own)
        deep = made[HOPS * WIDTH :] or made
        some = [dice.choice(deep) for _ in range(args.calls // 4)]
        top = [dice.choice(made[: max(1, len(made) - HOPS * WIDTH)]) for _ in some]
        catalog = assets.catalog

        def versions(way: lineage.Direction) -> Callable[[dict[str, Any]], int]:
            return lambda one: len(
                lineage.walk(catalog, [f"{one['name']}@{args.versions}"], way, HOPS)["nodes"]
            )

        def columns(way: lineage.Direction) -> Callable[[dict[str, Any]], int]:
            return lambda one: _ends(
                lineage.column_walk(
                    catalog, one["name"], one["columns"][0], direction=way, depth=HOPS
                )
            )

        told["lineage of versions, 10 hops up"] = _walked(versions("up"), some)
        told["lineage of versions, 10 hops down"] = _walked(versions("down"), top)
        told["lineage of one column, 10 hops up"] = _walked(columns("up"), some)
        told["lineage of one column, 10 hops down"] = _walked(columns("down"), top)
        told["asset page"] = _told(timed(lambda one: shop.asset(one["name"]), some))
        told["all assets, listed"] = _told(timed(lambda _: shop.assets_list(), [None] * 5))
        shop.close()
    print(json.dumps(told, ensure_ascii=False, indent=1))


def _ends(edges: set[Edge]) -> int:
    return len({edge.source for edge in edges} | {edge.target for edge in edges})


def _walked(walk: Callable[[dict[str, Any]], int], over: list[dict[str, Any]]) -> dict[str, float]:
    """As `_told`, with how many nodes the walks found, and what a thousand of them cost."""
    found: list[float] = []
    took = timed(lambda one: found.append(walk(one)), over)
    clock = sum(one for one, _ in took)
    sizes = {f"nodes_{name}": percentile(found, share) for name, share in NODES.items()}
    return _told(took) | sizes | {"ms_per_1000_nodes": round(1000 * clock / max(1, sum(found)), 1)}


def _told(took: list[Took]) -> dict[str, float]:
    """Percentiles by the clock, and of CPU, which other work on the machine disturbs less."""
    clock, cpu = [one for one, _ in took], [one for _, one in took]
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    found = {f"{name}_ms": round(percentile(clock, share), 1) for name, share in shares.items()}
    return found | {
        f"{name}_cpu_ms": round(percentile(cpu, share), 1) for name, share in shares.items()
    }


if __name__ == "__main__":
    main()
