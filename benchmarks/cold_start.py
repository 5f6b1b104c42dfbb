"""How well items without any event are recommended, by each thing known of them and by all together.

    python benchmarks/cold_start.py --shop FOLDER [--epochs 10] [--seeds 1] [--images 15]
    python benchmarks/cold_start.py --data DIR    (the S3-Rec form of Amazon Beauty: id and attributes)

FOLDER is a workspace whose features are made (`shopkeeper run features`). A tenth of the items is
taken out of every history (evaluation/cold_start.py); the image encoder learns what items are taken
together with from what is left. Prints a JSON line a model and a Markdown table.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from shopkeeper.evaluation import sequence_files
from shopkeeper.evaluation.cold_start import score_new, take_out
from shopkeeper.evaluation.leaderboard import validator
from shopkeeper.evaluation.picture_trial import look_at, signals
from shopkeeper.features.build import item_table, sequences
from shopkeeper.features.items import ItemTable
from shopkeeper.features.pictures import of_items
from shopkeeper.features.sequences import Sequences
from shopkeeper.governance.access import OWNER
from shopkeeper.models import registry
from shopkeeper.models.content import PARTS
from shopkeeper.models.image_encoder import ImageEncoder
from shopkeeper.models.protocol import TrainingData
from shopkeeper.shop import Shop
from shopkeeper.words import Purpose


def of_shop(folder: Path) -> tuple[Sequences, ItemTable, Any]:
    """Sequences, items and clean.images of a workspace."""
    with Shop.open(folder) as shop:
        items = item_table(shop.assets.read("features.items", by=OWNER, purpose=Purpose.ANALYSE))
        rows = shop.assets.read("features.sequences", by=OWNER, purpose=Purpose.ANALYSE)
        images = shop.assets.scan("clean.images", by=OWNER, purpose=Purpose.ANALYSE)
        return sequences(rows.sort("user_id"), items.vocabulary), items, images.collect().lazy()


def looked_at(items: ItemTable, images: Any, train: Sequences, epochs: int, seed: int) -> ItemTable:
    """`items` with what an encoder sees that learned nothing of new items' company."""
    encoder = ImageEncoder.configured({"options": {"images": {"epochs": epochs}}})
    with tempfile.TemporaryDirectory() as scratch:
        rows, pixels, _ = look_at(images, items.vocabulary, Path(scratch), encoder.config.kept)
        encoder.learn(pixels, signals(rows, items, train), seed=seed)
        vectors = encoder.encode(pixels)
    ids = [items.vocabulary.ids[row] for row in rows]
    return replace(items, images=of_items(items.vocabulary, ids, vectors))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shop", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--images", type=int, default=15, help="epochs of the image encoder")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    asked = parser.parse_args()
    rows: dict[str, list[dict[str, float]]] = {}
    for seed in asked.seeds:
        images: Any = None
        if asked.shop is not None:
            behaviour, items, images = of_shop(asked.shop)
        else:
            read = sequence_files.read(asked.data, first_item_column=1)
            behaviour, items = read.sequences, read.items
        cut = take_out(behaviour, len(items), seed=seed)
        began = time.process_time()
        if images is not None:
            items = looked_at(items, images, cut.train, asked.images, seed)
        told = {"seed": seed, "new_items": int(cut.new.sum()), "examples": len(cut.test),
                "encoder_cpu_seconds": round(time.process_time() - began, 1)}  # fmt: skip
        print(json.dumps(told), flush=True)
        there = {"text": any(items.text), "attributes": len(items.tags) > 0,
                 "image": items.images.any() and bool(len(items.images))}  # fmt: skip
        known = [part for part in PARTS if there.get(part, True)]
        trials = {"popularity": [], **{part: [part] for part in known}, "fusion": known}
        for name, parts in trials.items():
            model = registry.resolve("fusion" if parts else name)()
            began = time.process_time()
            options = {"fusion": {"parts": parts, "max_epochs": asked.epochs}} if parts else {}
            model.fit(
                TrainingData(
                    sequences=cut.train, items=items, seed=seed, threads=1,
                    settings={"options": options},
                    validate=validator(cut.validation, exclude_seen=False, sample_size=2_000),
                )
            )  # fmt: skip
            found = score_new(model.scores, cut)
            found["known NDCG@10"] = validator(cut.validation, exclude_seen=False)(model)["NDCG@10"]
            found["cpu_seconds"] = round(time.process_time() - began, 1)
            rows.setdefault(name, []).append(found)
            print(json.dumps({"seed": seed, "model": name, "parts": parts, **found}), flush=True)
    keys = list(next(iter(rows.values()))[0])
    print("\n| model | " + " | ".join(keys) + " |\n|---|" + "---|" * len(keys))
    for name, runs in rows.items():
        means = [np.mean([run[key] for run in runs]) for key in keys]
        print(f"| {name} | " + " | ".join(f"{mean:.4f}" for mean in means) + " |")


if __name__ == "__main__":
    main()
