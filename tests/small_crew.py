"""A small thing to learn, in a module of its own, so that other processes can import it."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from shopkeeper.training.dropout import Dropout
from shopkeeper.training.trainer import Plan, train

TRUE = torch.tensor([[1.0, -2.0, 0.5]])


def _batches(rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    for _ in range(7):  # odd: the last step of an epoch has one batch
        x = torch.from_numpy(rng.normal(size=(16, 3)).astype(np.float32))
        yield x, x @ TRUE.T


def learn(
    accumulate: int, out: str | None = None, checkpoint: str | None = None, pause: float = 0.0
) -> dict[str, Tensor]:
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(3, 8), Dropout(0.2), nn.Linear(8, 1))

    def loss(batch: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
        x, y = batch
        noise = torch.randn(y.shape, generator=generator) * 0.01
        time.sleep(pause)
        return ((module(x) - y - noise) ** 2).mean()

    losses = iter(np.linspace(0.1, 0.9, 12))
    train(
        module,
        _batches,
        loss,
        Plan(
            max_epochs=8, accumulate=accumulate, average=0.9, learning_rate=0.01, schedule="cosine"
        ),
        seed=3,
        validate=(lambda: {"NDCG@10": float(next(losses))}) if accumulate > 1 else None,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        progress=lambda done, total, text: None,
        name="line",
    )
    state = {key: value.clone() for key, value in module.state_dict().items()}
    if out is not None:
        save_file(state, out)
    return state
