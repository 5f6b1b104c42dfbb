"""Pictures in classes: how often the class is told, and how alike the nearest pictures are.

A folder of this form holds train/CLASS/*.jpg, validation/CLASS/*.jpg and, where it is at hand,
test/CLASS/*.jpg, as folders or inside .zip files. Without a test the encoder learns from train and is
scored on validation, with train as the gallery; with one it learns from train and validation, both
are the gallery, and the test is scored once. Nothing is chosen here on what is scored: the recipe is
the default, which was chosen on a part of train (docs/experiments.md).
"""

import hashlib
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from shopkeeper.errors import InputError, NotFound
from shopkeeper.features.pictures import Pixels, square
from shopkeeper.features.sequences import Floats, Ints
from shopkeeper.models.image_encoder import ImageEncoder, Signals
from shopkeeper.models.protocol import Progress, no_progress
from shopkeeper.training.trainer import peak_rss_mb

NAMES = ("clothing", "clothing_small")  # what `shopkeeper bench` calls it
MODEL = "image_cnn"
PARTS = ("train", "validation", "test")
PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "HOG and colours, LinearSVC (the data's README, on the test)": {
        "accuracy": 0.626, "precision@1": 0.387, "precision@10": 0.327,
    },
    "the largest class, always (likewise)": {"accuracy": 0.24},
}  # fmt: skip
PUBLISHED_ON = "3255152e1c36"  # digest of the train and validation that these stand beside


@dataclass(frozen=True)
class Part:
    """P pictures and their classes."""

    pixels: Pixels  # (P, side, side, 3)
    labels: Ints  # (P,)


def benchmark(
    data: Path,
    model: str = MODEL,
    seed: int = 42,
    progress: Progress = no_progress,
    *,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Learn from the pictures of `data` from scratch and score what was held out.

    Args:
        settings: of the [training] section; its options.images are the encoder's.
    Returns:
        As `evaluation.benchmarks.run_benchmark`; metrics accuracy, recall_weighted, f1_weighted,
        precision@1 and precision@10 (share of the nearest pictures that are of the same class).
    Raises:
        NotFound: no such model. InputError: no such pictures.
    """
    if model != MODEL:
        raise NotFound(f"no model {model!r} of pictures", where=NAMES[0], next=f"there is: {MODEL}")
    encoder = ImageEncoder.configured(dict(settings or {}))
    classes, parts, digest = read(data, encoder.config.kept)
    scored = "test" if "test" in parts else "validation"
    given = [parts[name] for name in PARTS if name in parts and name != scored]
    gallery = Part(
        np.concatenate([part.pixels for part in given]),
        np.concatenate([part.labels for part in given]),
    )
    cpu = time.process_time()
    encoder.learn(
        gallery.pixels,
        Signals.of_categories(gallery.labels, classes),
        seed=seed,
        progress=progress,
    )
    cpu = time.process_time() - cpu
    asked = parts[scored]
    metrics = class_metrics(encoder.classify(asked.pixels).argmax(axis=1), asked.labels)
    metrics |= alike(
        encoder.encode(asked.pixels), asked.labels, encoder.encode(gallery.pixels), gallery.labels
    )
    return {
        "benchmark": NAMES[0],
        "model": model,
        "seed": seed,
        "scored_on": f"{scored}, {len(asked.labels):,} pictures",
        "learned_from": f"{len(gallery.labels):,} pictures of {len(classes)} classes",
        "metrics": {key: round(value, 6) for key, value in metrics.items()},
        "epochs": len(encoder.card["curve"]),
        "train_cpu_seconds": round(cpu, 1),
        "peak_rss_mb": peak_rss_mb(),
        "published": dict(PUBLISHED) if digest.startswith(PUBLISHED_ON) else {},
    }


def class_metrics(told: npt.NDArray[np.int64], true: Ints) -> dict[str, float]:
    """accuracy, and recall and F1 of every class weighted by its size."""
    recall = f1 = 0.0
    for label, size in zip(*np.unique(true, return_counts=True), strict=True):
        hit = float(((told == label) & (true == label)).sum())
        recall += hit
        f1 += float(size) * 2.0 * hit / float((told == label).sum() + size)
    return {
        "accuracy": float((told == true).mean()),
        "recall_weighted": recall / len(true),
        "f1_weighted": f1 / len(true),
    }


def alike(
    asked: Floats, labels: Ints, gallery: Floats, others: Ints, ks: tuple[int, ...] = (1, 10)
) -> dict[str, float]:
    """precision@k: of the k nearest (cosine) of `gallery`, the share of the asked one's class.

    Args:
        asked: (E, V) of length 1; labels: (E,); gallery: (G, V) of length 1; others: (G,).
    """
    near = np.argsort(-(asked @ gallery.T), axis=1, kind="stable")[:, : max(ks)]
    same = others[near] == labels[:, None]
    return {f"precision@{k}": float(same[:, :k].mean()) for k in ks}


def read(folder: Path, side: int) -> tuple[list[str], dict[str, Part], str]:
    """(classes, part -> its pictures in the order of their names, digest of train and validation)."""
    found: dict[str, list[tuple[str, str, bytes]]] = {}
    for name, content in sorted(_files(folder)):
        part, label, file = PurePosixPath(name).parts[-3:]
        found.setdefault(part, []).append((label, file, content))
    if not {"train", "validation"} <= set(found):
        raise InputError(
            f"no pictures in train/CLASS/ and validation/CLASS/; found parts: {sorted(found)}",
            where=str(folder),
            next="name a folder that holds them, or a .zip of them",
        )
    classes = sorted({label for label, _, _ in found["train"]})
    digest = hashlib.sha256()
    parts = {}
    for part, rows in found.items():
        if strange := sorted({label for label, _, _ in rows} - set(classes)):
            raise InputError(f"class {strange[0]!r} of {part} is not in train", where=str(folder))
        for label, file, content in rows:
            if part != "test":
                digest.update(f"{part}/{label}/{file}\0".encode() + content)
        pixels = np.stack([square(content, side) for _, _, content in rows])
        labels = np.array([classes.index(label) for label, _, _ in rows], dtype=np.int64)
        parts[part] = Part(pixels, labels)
    return classes, parts, digest.hexdigest()


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of every picture that stands in PART/CLASS/, of folders and .zip files."""
    if not folder.is_dir():
        raise NotFound("no such folder", where=str(folder))
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as packed:
                for entry in packed.infolist():
                    if not entry.is_dir() and _stands(PurePosixPath(entry.filename)):
                        yield entry.filename, packed.read(entry)
        elif path.is_file() and _stands(PurePosixPath(path.relative_to(folder).as_posix())):
            yield path.relative_to(folder).as_posix(), path.read_bytes()


def _stands(name: PurePosixPath) -> bool:
    known = len(name.parts) >= 3 and name.parts[-3] in PARTS
    return known and name.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")
