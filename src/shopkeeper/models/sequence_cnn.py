"""Convolution over behaviour sequences: what the last events, seen side by side, lead to.

Causal convolutions over the events of a history; each block sees further back by `dilation` to the
power of its depth, so that few blocks see the whole window. A block is

    x + W2 gelu(W1 LayerNorm(conv(x)))        conv: one filter of `width` events per channel

Sources: Tang & Wang, "Personalized Top-N Sequential Recommendation via Convolutional Sequence
Embedding" (Caser), WSDM 2018; Yuan et al., "A Simple Convolutional Generative Network for Next Item
Recommendation" (NextItNet), WSDM 2019 (dilation, every position at once); Liu et al., "A ConvNet for
the 2020s" (ConvNeXt), CVPR 2022 (the block).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shopkeeper.features.items import ItemTable
from shopkeeper.models.sequential import SequenceConfig, SequenceModel, SequenceNetwork, Tokens
from shopkeeper.training.batches import Group
from shopkeeper.training.dropout import Dropout


@dataclass(frozen=True)
class Config(SequenceConfig):
    layers: int = 3
    width: int = 4  # events a filter sees
    dilation: int = 4  # of block b: dilation^b events apart
    wide: int = 4  # times `dim`: width between a block's two fully connected layers


class Convolution(nn.Module):
    """Depthwise causal convolution over packed sequences: no position sees another user or later."""

    def __init__(self, dim: int, width: int, apart: int) -> None:
        super().__init__()
        self.apart = apart
        self.filters = nn.Parameter(torch.randn(width, dim) * width**-0.5)  # [0]: the event itself
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        """(T, D) of (T, D); `place` (T,): how many events of its history came before each."""
        out = x * self.filters[0] + self.bias
        for step in range(1, len(self.filters)):
            back = step * self.apart
            earlier = F.pad(x, (0, 0, back, 0))[: x.shape[0]]  # row t holds row t - back
            out = out + earlier * self.filters[step] * (place >= back)[:, None]
        return out


class Block(nn.Module):
    def __init__(self, config: Config, apart: int) -> None:
        super().__init__()
        self.convolution = Convolution(config.dim, config.width, apart)
        self.norm = nn.LayerNorm(config.dim)
        self.widen = nn.Linear(config.dim, config.wide * config.dim)
        self.narrow = nn.Linear(config.wide * config.dim, config.dim)
        self.drop = Dropout(config.dropout)

    def forward(self, x: Tensor, place: Tensor) -> Tensor:
        wide = F.gelu(self.widen(self.norm(self.convolution(x, place))))  # (T, wide * D)
        return x + self.drop(self.narrow(wide))  # type: ignore[no-any-return]


class Network(SequenceNetwork):
    config: Config

    def __init__(self, config: Config, items: ItemTable) -> None:
        super().__init__(config, items)
        self.blocks = nn.ModuleList(
            Block(config, config.dilation**depth) for depth in range(config.layers)
        )
        self.last_norm = nn.LayerNorm(config.dim)

    def forward(self, tokens: Tokens, table: Tensor) -> Tensor:
        x = self.inputs(tokens, table)  # (T, D)
        place = _places(tokens.groups, x.device)
        for block in self.blocks:
            x = block(x, place)
        return self.last_norm(x)  # type: ignore[no-any-return]


class SequenceCnn(SequenceModel):
    name: ClassVar[str] = "sequence_cnn"
    what: ClassVar[str] = "dilated causal convolutions over the events of a history, tied softmax"
    config_type: ClassVar[type[SequenceConfig]] = Config
    network_type: ClassVar[type[SequenceNetwork]] = Network


def _places(groups: list[Group], device: torch.device) -> Tensor:
    """(T,) int64: the place of each token within its own history."""
    parts = [
        torch.arange(length, device=device).expand(users, length).reshape(-1)
        for _, users, length in groups
    ]
    return torch.cat(parts)
