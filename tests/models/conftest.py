from collections.abc import Callable

import numpy as np
import pytest

from shopkeeper.features.items import ItemTable
from shopkeeper.features.sequences import Sequences, Vocabulary, pack
from shopkeeper.models.protocol import TrainingData
from shopkeeper.words import KIND_CODES

# Six items in a circle: after item i everybody takes item i + 1. The one obvious answer.
CIRCLE = 6


def _walks(users: int, length: int, items: int) -> Sequences:
    starts = np.arange(users) % items
    walked = (starts[:, None] + np.arange(length)) % items
    count = users * length
    return pack(
        [f"u{user}" for user in range(users)],
        np.full(users, length),
        walked.ravel(),
        kinds=np.where(np.arange(count) % 5 == 0, KIND_CODES["purchase"], KIND_CODES["view"]),
        times=1_700_000_000_000 + np.arange(count) * 60_000,
        dwell_ms=1000.0 + 500.0 * (np.arange(count) % 7),
    )


@pytest.fixture(scope="session")
def circle() -> Callable[..., TrainingData]:
    """A six-item store in which i is followed by i + 1, as TrainingData."""

    def make(seed: int = 1, users: int = 60, length: int = 4) -> TrainingData:
        ids = [f"item-{row}" for row in range(CIRCLE)]
        items = ItemTable(
            vocabulary=Vocabulary(ids),
            tag_offsets=np.array([0, 1, 2, 3, 4, 4, 6], dtype=np.int64),
            tags=np.array([0, 1, 0, 1, 0, 1], dtype=np.int32),
            tag_names=["brand=a", "brand=b"],
            numbers=np.linspace(-1, 1, CIRCLE, dtype=np.float32).reshape(-1, 1),
            number_names=["weight"],
            text=[""] * CIRCLE,
            images=np.eye(CIRCLE, 8, dtype=np.float32),
        )
        return TrainingData(
            sequences=_walks(users, length, CIRCLE),
            items=items,
            seed=seed,
            threads=1,
            settings={
                "dim": 16,
                "dropout": 0.1,
                "max_epochs": 25,
                "options": {
                    name: {"batch_tokens": 60, "learning_rate": 0.02}
                    for name in ("transformer", "rnn", "sequence_cnn", "image_cnn", "fusion")
                }
                | {
                    name: {"batch_users": 16, "learning_rate": 0.05}
                    for name in ("gcn", "gat", "gtn")
                },
            },
        )

    return make


@pytest.fixture(scope="session")
def ask() -> Callable[..., Sequences]:
    """Histories from lists of items."""

    def make(*histories: list[int]) -> Sequences:
        flat = [item for history in histories for item in history]
        names = [str(row) for row in range(len(histories))]
        return pack(names, [len(history) for history in histories], flat)

    return make
