"""clean.images, features -> models.image_encoder: the shop's own encoder, and its vector of every item.

Learned once for all models that read its vectors. What items are taken together with is told from
the training part of the shop's split alone, so that models measured on the rest are measured
honestly. Of a tenth of the pictures it is told nothing, and is measured on them.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from shopkeeper.engine.steps import Context
from shopkeeper.errors import InputError
from shopkeeper.evaluation.picture_benchmark import alike
from shopkeeper.evaluation.trial import split_of
from shopkeeper.features.items import ItemTable
from shopkeeper.features.pictures import Pixels, square, write_vectors
from shopkeeper.features.sequences import Floats, Ints, Sequences, Vocabulary
from shopkeeper.features.steps import IMAGE_ENCODER, load
from shopkeeper.models.image_encoder import ImageEncoder, Signals
from shopkeeper.models.neighbours import Nearby, similarity

HELD_OUT = 0.1
ATTRIBUTES = 200  # most frequent ones that pictures are asked for
FACTORS = 32  # of what is taken together
READ = 4_000  # pictures read at a time


def given_files(options: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Digests of the files that [training.options.images] names, where they are."""
    found = {}
    for key in ("weights", "onnx"):
        path = folder / str(options.get(key) or "")
        if options.get(key) and path.is_file():
            found[key] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def learn_pictures(context: Context) -> None:
    """Learn the encoder, measure it, and keep it with its vectors."""
    run, settings = context.run, context.settings
    sequences, items = load(run)
    encoder = ImageEncoder.configured(settings.training.model_dump(), context.folder)
    scratch = context.assets.root / "checkpoints" / "image_encoder"
    scratch.mkdir(parents=True, exist_ok=True)
    named = run.scan("clean.images", columns=["item_id", "file_path", "content"])
    rows, pixels, unread = look_at(named, items.vocabulary, scratch, encoder.config.kept)
    if not len(rows):
        raise InputError(
            "no picture belongs to an item that is known",
            where="train.image_encoder",
            next="name picture files after item ids: raw/images/ITEM.jpg",
        )
    known = signals(rows, items, split_of(settings, sequences).train)
    told, held_out = _without_some(known, settings.training.seed)
    encoder.learn(
        pixels,
        told,
        seed=settings.training.seed,
        checkpoint=scratch,
        progress=context.progress,
    )
    vectors = encoder.encode(pixels)
    measured = _measured(encoder, pixels, vectors, known, held_out)
    encoder.card |= {"measured": measured, "unread": unread}

    def fill(folder: Path) -> None:
        encoder.save(folder)
        write_vectors(folder, [items.vocabulary.ids[row] for row in rows], vectors)
        text = json.dumps(encoder.card, indent=1, ensure_ascii=False, default=str)
        (folder / "card.json").write_text(text + "\n", encoding="utf-8")

    run.files(
        IMAGE_ENCODER,
        fill,
        kind="model",
        description="from a picture to a vector, and the vector of every item's picture",
        notes={"pictures": len(rows), **measured},
    )
    shutil.rmtree(scratch, ignore_errors=True)
    run.note("pictures", len(rows))
    for key, value in measured.items():
        run.note(key, value)


def signals(rows: Ints, items: ItemTable, sequences: Sequences) -> Signals:
    """What is known of the pictures of the items `rows`: category, attributes, company."""
    first, *others = _tags(items)
    categories = [items.tag_names[code] for code in first]
    has = np.zeros((len(items), len(items.tag_names)), dtype=np.bool_)
    of = np.repeat(np.arange(len(items)), np.diff(items.tag_offsets))
    has[of, items.tags] = True
    category = np.full(len(items), -1, dtype=np.int64)
    for place, code in enumerate(first):
        category[has[:, code]] = place
    attributes = has[:, others[0]].astype(np.float32)
    return Signals(
        category[rows], categories, attributes[rows], company(sequences, len(items))[rows]
    )


def _tags(items: ItemTable) -> tuple[list[int], list[int]]:
    """Codes of categories, and of the most frequent attributes that not nearly all items have."""
    often = np.bincount(items.tags, minlength=len(items.tag_names))
    categories = [c for c, name in enumerate(items.tag_names) if name.startswith("category=")]
    rest = [c for c in range(len(items.tag_names)) if c not in set(categories)]
    rest = [c for c in rest if often[c] <= 0.9 * len(items)]
    return categories, sorted(rest, key=lambda code: (-often[code], code))[:ATTRIBUTES]


def company(sequences: Sequences, items: int) -> Floats:
    """(M, K) directions of items among what is taken around them; zeros where too little is known.

    The left singular vectors of the sequence_knn rule's matrix, scaled by the roots of its values;
    an item is its own company as much as its closest neighbour is, so that neighbours are alike.
    """
    matrix = similarity(sequences, items, Nearby())
    closest = np.asarray(matrix.max(axis=1).todense()).ravel()
    matrix = sp.csr_array(matrix + sp.diags_array(closest))
    count = min(FACTORS, items - 2)
    if count < 2 or matrix.nnz < count:
        return np.zeros((items, 0), dtype=np.float32)
    start = np.ones(items) / np.sqrt(items)  # a fixed one, so that the same data say the same
    left, values, _ = spla.svds(matrix.astype(np.float64), k=count, v0=start)
    found = left * np.sqrt(np.maximum(values, 0.0))
    length = np.linalg.norm(found, axis=1, keepdims=True)
    directed = np.where(length > 1e-6, found / np.maximum(length, 1e-12), 0.0)
    return np.asarray(directed, dtype=np.float32)


def look_at(
    images: pl.LazyFrame, vocabulary: Vocabulary, scratch: Path, side: int
) -> tuple[Ints, Pixels, int]:
    """(rows of the P items of `images` that have one, (P, side, side, 3) on disk, how many did not open).

    Of several pictures of an item the last by file name is taken: the one that pages show.
    """
    newest = images.group_by("item_id").agg(pl.col("file_path").max()).collect()
    rows = {
        path: vocabulary.index[item]
        for item, path in newest.iter_rows()
        if item in vocabulary.index
    }
    paths = sorted(rows, key=lambda path: rows[path])
    found = np.lib.format.open_memmap(
        scratch / "pixels.npy", mode="w+", dtype=np.uint8, shape=(len(paths), side, side, 3)
    )
    opened = np.zeros(len(paths), dtype=np.bool_)
    place = {path: at for at, path in enumerate(paths)}
    for start in range(0, len(paths), READ):
        some = paths[start : start + READ]
        read = images.filter(pl.col("file_path").is_in(some)).collect()
        for path, content in read.select("file_path", "content").iter_rows():
            try:
                found[place[path]] = square(content, side)
                opened[place[path]] = True
            except InputError:
                continue
    kept = np.flatnonzero(opened)
    of = np.array([rows[path] for path in paths], dtype=np.int64)
    whole = len(kept) == len(paths)
    return of[kept], found if whole else found[kept], len(paths) - len(kept)


def _without_some(known: Signals, seed: int) -> tuple[Signals, npt.NDArray[np.int64]]:
    """`known` with nothing told of a tenth of the pictures that have a category, and which these are."""
    able = np.flatnonzero(known.category >= 0)
    draw = np.random.default_rng([seed, len(able)]).permutation(able)
    held_out = np.sort(draw[: int(HELD_OUT * len(able))])
    category, attributes = known.category.copy(), known.attributes.copy()
    together = known.together.copy()
    category[held_out], attributes[held_out], together[held_out] = -1, 0.0, 0.0
    return Signals(category, known.categories, attributes, together), held_out


def _measured(
    encoder: ImageEncoder,
    pixels: Pixels,
    vectors: Floats,
    known: Signals,
    held_out: npt.NDArray[np.int64],
) -> dict[str, float]:
    """How often the category of a held-out picture is told, and met among its nearest others."""
    rest = np.setdiff1d(np.flatnonzero(known.category >= 0), held_out)
    if not len(held_out) or len(rest) < 10:
        return {}
    found = alike(vectors[held_out], known.category[held_out], vectors[rest], known.category[rest])
    if encoder.categories:
        told = encoder.classify(np.asarray(pixels[held_out])).argmax(axis=1)
        found["accuracy"] = float((told == known.category[held_out]).mean())
    return {key: round(value, 4) for key, value in found.items()}
