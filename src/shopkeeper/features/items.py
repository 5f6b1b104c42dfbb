"""What models know of items: attributes as packed category codes and numbers, text, price."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shopkeeper.features.sequences import Floats, Ints, Vocabulary


@dataclass(frozen=True)
class ItemTable:
    """M items in vocabulary order. Row i of everything is ItemIndex i."""

    vocabulary: Vocabulary  # M ids
    tag_offsets: Ints  # (M + 1,) item i's tags are tags[tag_offsets[i]:tag_offsets[i + 1]]
    tags: npt.NDArray[np.int32]  # (A,) codes 0..len(tag_names)-1: category, brand, shop, attributes
    tag_names: list[str]  # "category=lamp", "brand=Acme", ...
    numbers: Floats  # (M, F) numeric attributes, standardised, 0 where unknown; F may be 0
    number_names: list[str]
    text: list[str]  # title and description, for text models; "" where unknown
    # (M, V) of the image encoder, of length 1, zeros where there is no picture; V may be 0
    images: Floats = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))

    def __len__(self) -> int:
        return len(self.vocabulary)


def bare(ids: list[str]) -> ItemTable:
    """Items of which nothing but the id is known."""
    return ItemTable(
        vocabulary=Vocabulary(ids),
        tag_offsets=np.zeros(len(ids) + 1, dtype=np.int64),
        tags=np.zeros(0, dtype=np.int32),
        tag_names=[],
        numbers=np.zeros((len(ids), 0), dtype=np.float32),
        number_names=[],
        text=[""] * len(ids),
    )
