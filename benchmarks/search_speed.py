"""How fast search is, and what an item costs, on generated products with facets; one core.

    python benchmarks/search_speed.py --items 100000 [--queries 1000] [--keep FOLDER]

Products are made by seed from a few hundred words (brand, model number, product type, colour, size,
description, attributes), English and Chinese titles; queries are types, brand + type, two words of a
title, model numbers, Chinese types, misspelt types and words nobody sells. Every search returns 20
items with facets. Prints build CPU seconds, bytes on disk and in memory per item, p50/p99 by kind
of query, and p50/p99 of one live change until it can be found. Process pinned to one core.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from shopkeeper.search import Searcher, build

TYPES = {
    "mouse": "鼠标",
    "keyboard": "键盘",
    "monitor": "显示器",
    "notebook": "笔记本电脑",
    "notebook case": "电脑包",
    "phone": "手机",
    "phone case": "手机壳",
    "charger": "充电器",
    "power bank": "充电宝",
    "headphones": "耳机",
    "speaker": "音箱",
    "desk lamp": "台灯",
    "kettle": "电水壶",
    "coffee maker": "咖啡机",
    "backpack": "双肩包",
    "running shoes": "跑步鞋",
    "dress": "连衣裙",
    "shirt": "衬衫",
    "mug": "马克杯",
    "camera": "相机",
    "camera bag": "相机包",
    "printer": "打印机",
    "toner cartridge": "硒鼓",
    "router": "路由器",
    "cable": "数据线",
    "watch": "手表",
    "tent": "帐篷",
    "chair": "椅子",
    "rice cooker": "电饭煲",
    "toothbrush": "牙刷",
}
COLOURS = {"black": "黑色", "white": "白色", "red": "红色", "blue": "蓝色", "green": "绿色"}
EXTRA = "wireless bluetooth portable foldable waterproof mini pro light travel office gaming usb steel cotton wooden classic smart silent large".split()  # noqa: SIM905
BRANDS = [a + b for a in ("Ac", "Lu", "No", "Ki", "Ze", "Or", "Ta", "Be") for b in ("me", "xo", "ra", "via", "tek", "lin", "dor", "mi", "san", "pol")]  # fmt: skip


def products(count: int, seed: int) -> pl.DataFrame:
    """`count` rows in the columns of clean.items."""
    rng = random.Random(seed)
    types, colours = list(TYPES), list(COLOURS)
    rows = []
    for at in range(count):
        kind, colour = types[int(len(types) * rng.random() ** 1.5)], rng.choice(colours)
        brand = BRANDS[int(len(BRANDS) * rng.random() ** 2)]
        model = f"{brand[:2].upper()}-{rng.randrange(100, 9999)}{rng.choice('ABCX')}"
        extra = rng.sample(EXTRA, 3)
        rows.append(
            {
                "item_id": f"i{at}",
                "title": f"{brand} {model} {extra[0]} {kind} {colour} {rng.randrange(1, 64)} GB",
                "title_zh": f"{brand} {COLOURS[colour]}{TYPES[kind]} {model}",
                "description": f"{extra[1]} {extra[2]} {kind} by {brand}, made for {rng.choice(EXTRA)} use",
                "category": kind,
                "brand": brand,
                "shop_id": f"s{rng.randrange(500)}",
                "price_minor": int(10 ** rng.uniform(2.5, 5.5)),
                "stock": max(0, rng.randrange(-5, 100)),
                "attributes": json.dumps(
                    {"colour": colour, "material": rng.choice(EXTRA), "sku": model}
                ),
            }
        )
    return pl.DataFrame(rows)


def asked(items: pl.DataFrame, count: int, seed: int) -> dict[str, list[str]]:
    """Queries by kind, `count` of each."""
    rng = random.Random(seed)
    types = list(TYPES)
    titles = items["title"].sample(min(count, items.height), seed=seed).to_list()
    swapped = [kind[:2] + kind[3] + kind[2] + kind[4:] for kind in types if len(kind) > 4]
    return {
        "type": rng.choices(types, k=count),
        "brand and type": [f"{rng.choice(BRANDS)} {rng.choice(types)}" for _ in range(count)],
        "words of a title": [" ".join(t.split()[2:5]) for t in rng.choices(titles, k=count)],
        "model number": [t.split()[1] for t in rng.choices(titles, k=count)],
        "Chinese": [
            rng.choice(list(COLOURS.values())) + rng.choice(list(TYPES.values()))
            for _ in range(count)
        ],
        "misspelt": rng.choices(swapped, k=count),
        "nothing sold": [f"qqq{rng.randrange(10**6)}" for _ in range(count)],
    }


def resident() -> int:
    """Bytes of this process that are its own, files mapped by the index left out."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def percentiles(wall: list[float], cpu: list[float]) -> str:
    """Both, because on a machine that others use too only CPU time says what a search costs."""
    (w50, w99), (c50, c99) = (np.percentile(times, (50, 99)) for times in (wall, cpu))
    return f"p50 {w50:7.2f} ms   p99 {w99:7.2f} ms   CPU p50 {c50:7.2f} ms   p99 {c99:7.2f} ms"


def weigh(folder: Path) -> None:
    """Print what opening an index and searching adds to a process's own memory, in bytes."""
    words = list(TYPES)
    before = resident()
    searcher = Searcher.open(folder)
    for word in words:
        searcher.search(word, 20)
    print(max(0, resident() - before))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=300, help="of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="keep the index here; used again if it is there")
    parser.add_argument("--weigh", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.weigh:
        weigh(options.weigh)
        return
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch) / "search"
        items = products(options.items, options.seed)
        if not (folder / "search.json").exists():
            started = time.process_time()
            build(items, folder)
            took = time.process_time() - started
            print(f"build            {took:.1f} CPU s, {took / options.items * 1e6:.0f} µs an item")
        size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        print(f"on disk          {size / options.items:.0f} bytes an item")
        queries = asked(items, options.queries, options.seed)
        prices = items.head(50).to_dicts()
        del items
        own = subprocess.run(
            [sys.executable, __file__, "--weigh", str(folder)], capture_output=True, check=True
        )
        print(f"own memory       {int(own.stdout) / options.items:.0f} bytes an item")
        searcher = Searcher.open(folder, live=Path(scratch) / "live")
        every: tuple[list[float], list[float]] = ([], [])
        for kind, texts in queries.items():
            wall, cpu = [], []
            for text in texts:
                started, spent = time.perf_counter(), time.thread_time()
                searcher.search(text, 20)
                cpu.append((time.thread_time() - spent) * 1e3)
                wall.append((time.perf_counter() - started) * 1e3)
            every[0].extend(wall)
            every[1].extend(cpu)
            print(f"{kind:16s} {percentiles(wall, cpu)}")
        print(f"{'all':16s} {percentiles(*every)}")
        wall, cpu = [], []
        for row in prices:
            started, spent = time.perf_counter(), time.process_time()
            searcher.upsert([row | {"title": f"changed{row['item_id']}"}])
            assert searcher.search(f"changed{row['item_id']}", 1).hits[0][0] == row["item_id"]
            cpu.append((time.process_time() - spent) * 1e3)
            wall.append((time.perf_counter() - started) * 1e3)
        print(f"change to found  {percentiles(wall, cpu)}")
        searcher.close()


if __name__ == "__main__":
    main()
