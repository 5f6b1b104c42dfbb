"""A picture as models see it: one way from bytes to pixels, for training and for a request."""

import io
import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from safetensors.numpy import load_file, save_file

from shopkeeper.errors import InputError
from shopkeeper.features.sequences import Floats, Vocabulary

ITEMS, VECTORS = "items.json", "vectors.safetensors"
Pixels = npt.NDArray[np.uint8]  # (..., side, side, 3), red, green, blue


def square(content: bytes, side: int) -> Pixels:
    """(side, side, 3): the middle square of a picture, upright, made small; white where see-through.

    A JPEG is decoded at the smallest scale that is large enough (libjpeg-turbo, by Pillow).

    Raises:
        InputError: the bytes are no picture, or one of too many pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as opened:
                opened.draft("RGB", (side, side))
                picture = _opaque(ImageOps.exif_transpose(opened))
                return np.array(ImageOps.fit(picture, (side, side), Image.Resampling.BILINEAR))
    except Exception as error:  # Pillow's plug-ins raise whatever their bytes lead them to
        told = "an empty file" if not content else f"no picture that can be opened: {error}"
        raise InputError(
            told, where="picture", next="send a JPEG, PNG, WebP or GIF that opens in a browser"
        ) from error


def _opaque(picture: Image.Image) -> Image.Image:
    if picture.mode not in ("RGBA", "LA", "PA") and "transparency" not in picture.info:
        return picture.convert("RGB")
    layered = picture.convert("RGBA")
    white = Image.new("RGBA", layered.size, "white")
    return Image.alpha_composite(white, layered).convert("RGB")


def write_vectors(folder: Path, ids: Sequence[str], vectors: Floats) -> None:
    """Keep what an encoder saw of the pictures of P items, (P, V), in `folder`, which exists."""
    (folder / ITEMS).write_text(json.dumps(list(ids), ensure_ascii=False), encoding="utf-8")
    save_file({"vectors": np.ascontiguousarray(vectors)}, folder / VECTORS)


def read_vectors(folder: Path) -> tuple[list[str], Floats]:
    """The P item ids and their (P, V) vectors that `write_vectors` wrote."""
    ids: list[str] = json.loads((folder / ITEMS).read_text(encoding="utf-8"))
    return ids, load_file(folder / VECTORS)["vectors"]


def of_items(vocabulary: Vocabulary, ids: Sequence[str], vectors: Floats) -> Floats:
    """(M, V) in vocabulary order; zeros for items without a picture."""
    rows = np.array([vocabulary.index.get(item, -1) for item in ids], dtype=np.int64)
    found = np.zeros((len(vocabulary), vectors.shape[1]), dtype=np.float32)
    found[rows[rows >= 0]] = vectors[rows >= 0]
    return found
