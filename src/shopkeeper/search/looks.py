"""What looks alike: the pictures of a catalogue as an image encoder saw them, by item or by a picture.

Every item is compared (an exact scan: a matrix product of 100,000 vectors takes milliseconds).
"""

import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shopkeeper.errors import NotFound
from shopkeeper.features.pictures import read_vectors, square
from shopkeeper.features.sequences import Floats
from shopkeeper.models.image_encoder import ImageEncoder

Bools = npt.NDArray[np.bool_]


class Looks:
    """Opened on a folder of `models.image_encoder`; safe to share."""

    def __init__(self, folder: Path, index: Mapping[str, int]) -> None:
        """`index`: item id -> row of the catalogue; pictures of other items are left out."""
        ids, vectors = read_vectors(folder)
        known = [place for place, item in enumerate(ids) if item in index]
        self.rows = np.array([index[ids[place]] for place in known], dtype=np.int64)  # (P,)
        self.vectors: Floats = vectors[known]  # (P, V) of length 1
        self._place = {int(row): place for place, row in enumerate(self.rows)}
        self._folder = folder
        self._encoder: ImageEncoder | None = None  # opened when the first picture comes
        self._opening = threading.Lock()

    def of_item(self, row: int) -> Floats:
        """(V,) of the item's picture; NotFound where it has none that was looked at."""
        if row not in self._place:
            raise NotFound(
                "the item has no picture that was looked at",
                next="collect its picture, then run: shopkeeper run",
            )
        seen: Floats = self.vectors[self._place[row]]
        return seen

    def of_picture(self, content: bytes) -> Floats:
        """(V,) of a picture that nobody has seen before. InputError: the bytes are none."""
        with self._opening:
            if self._encoder is None:
                self._encoder = ImageEncoder.load(self._folder)
        encoder = self._encoder
        seen: Floats = encoder.encode(square(content, encoder.config.kept)[None])[0]
        return seen

    def nearest(self, vector: Floats, allowed: Bools, count: int) -> list[tuple[int, float]]:
        """Catalogue rows that look most like `vector`, with their cosines, best first.

        Args:
            allowed: (N,) rows that may be shown.
        """
        there = self.rows < len(allowed)
        may = np.flatnonzero(there)[allowed[self.rows[there]]]
        near = self.vectors[may] @ vector
        order = np.lexsort((self.rows[may], -near))[:count]
        return [(int(self.rows[may[at]]), float(near[at])) for at in order]
