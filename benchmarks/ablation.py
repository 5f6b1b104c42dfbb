"""What each input and part of the transformer is worth: the same training with one of them off.

    python benchmarks/ablation.py --shop FOLDER [--seeds 1 2 3] [--off kinds dwell ...]
    python benchmarks/ablation.py --data DIR --off decoder tags

FOLDER is a workspace whose features are made (`shopkeeper run features`); DIR holds the S3-Rec form
of Amazon Beauty. Trained with the shop's or the benchmark's own settings, measured on all
validation users (the test stays unseen: these figures are for choosing). Prints a line a run, then
a Markdown table: mean over the seeds, and the difference to everything on, seed by seed.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shopkeeper.evaluation import sequence_files
from shopkeeper.evaluation.benchmarks import PROTOCOLS
from shopkeeper.evaluation.leaderboard import validator
from shopkeeper.evaluation.splits import Split, leave_one_out
from shopkeeper.evaluation.trial import excludes_seen, split_of
from shopkeeper.features.build import item_table, sequences
from shopkeeper.features.items import ItemTable
from shopkeeper.governance.access import OWNER
from shopkeeper.models.protocol import TrainingData
from shopkeeper.models.transformer import Transformer
from shopkeeper.shop import Shop
from shopkeeper.words import Purpose

OFF: dict[str, dict[str, Any]] = {
    "decoder": {"decoder_layers": 0},
    "kinds": {"kinds": False},
    "dwell": {"dwell": False},
    "gaps": {"gaps": False},
    "tags": {"tags": False},
    "numbers": {"numbers": False},
    "local": {"local": False},
}


def of_shop(folder: Path) -> tuple[Split, ItemTable, dict[str, Any], bool]:
    """The shop's primary split, items, training settings, and whether seen items are excluded."""
    with Shop.open(folder) as shop:
        items = item_table(shop.assets.read("features.items", by=OWNER, purpose=Purpose.ANALYSE))
        rows = shop.assets.read("features.sequences", by=OWNER, purpose=Purpose.ANALYSE)
        split = split_of(shop.settings, sequences(rows.sort("user_id"), items.vocabulary))
        settings = shop.settings.training.model_dump()
        return split, items, settings, excludes_seen(shop.settings, split.by)


def of_beauty(folder: Path) -> tuple[Split, ItemTable, dict[str, Any], bool]:
    """As `of_shop`, of the amazon_beauty protocol."""
    how = PROTOCOLS["amazon_beauty"]
    read = sequence_files.read(folder, first_item_column=1)
    return leave_one_out(read.sequences), read.items, dict(how.settings), True


def trained(
    split: Split, items: ItemTable, settings: dict[str, Any], seen: bool, off: str, seed: int
) -> dict[str, Any]:
    """One run's validation metrics with `off` switched off ("" leaves everything on)."""
    options = dict(settings.get("options", {}))
    own = {**options.get("transformer", {}), **OFF.get(off, {})}
    options["transformer"] = own
    quick: Callable[..., dict[str, float]] = validator(
        split.validation, exclude_seen=seen, sample_size=6000
    )
    model = Transformer()
    cpu = time.process_time()
    model.fit(
        TrainingData(
            sequences=split.train,
            items=items,
            seed=seed,
            settings={**settings, "options": options},
            validate=quick,
        )
    )
    cpu = time.process_time() - cpu
    found = validator(split.validation, exclude_seen=seen, sample_size=10**9)(model)
    return {
        "off": off or "nothing",
        "seed": seed,
        "HR@10": round(found["HR@10"], 6),
        "NDCG@10": round(found["NDCG@10"], 6),
        "best_epoch": model.card["best_epoch"],
        "said_nothing_here": model.card["switched_off"],
        "cpu_seconds": round(cpu, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--shop", type=Path)
    source.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, help="at most; default: the shop's or benchmark's")
    parser.add_argument("--off", nargs="+", default=list(OFF), choices=list(OFF))
    asked = parser.parse_args()
    split, items, settings, seen = of_shop(asked.shop) if asked.shop else of_beauty(asked.data)
    if asked.epochs:
        settings["max_epochs"] = asked.epochs
    runs: dict[str, list[dict[str, Any]]] = {}
    for seed in asked.seeds:
        for off in ("", *asked.off):
            if off in (runs.get("", [{}])[0].get("said_nothing_here") or {}):
                continue  # the data has nothing for it: off already
            row = trained(split, items, settings, seen, off, seed)
            runs.setdefault(off, []).append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
    print("| off | HR@10 | NDCG@10 | difference of NDCG@10, by seed |\n|---|---|---|---|")
    for off, rows in runs.items():
        means = [statistics.fmean(row[key] for row in rows) for key in ("HR@10", "NDCG@10")]
        apart = [a["NDCG@10"] - b["NDCG@10"] for a, b in zip(rows, runs[""], strict=False)]
        told = "" if not off else ", ".join(f"{value:+.4f}" for value in apart)
        print(f"| {off or 'nothing'} | {means[0]:.4f} | {means[1]:.4f} | {told} |")


if __name__ == "__main__":
    main()
