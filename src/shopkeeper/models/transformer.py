"""Next-item Transformer: self-attention encoder, cross-attention decoder, fully connected head.

The encoder reads the history so far. The decoder asks it what comes next: its question at each
position is the newest event itself, uncontextualised, so that "after this comes that" reaches the
head undiluted, and its answers come from the encoder's states up to there. The head is two fully
connected layers and a softmax layer over all items whose weights are the item inputs (tied). What
it has in common with other models of sequences stands in sequential.py.

Sources: Kang & McAuley, "Self-Attentive Sequential Recommendation" (SASRec), ICDM 2018; Vaswani et
al., "Attention Is All You Need", 2017 (decoder). Unlike them attention knows distances, not places.
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
    layers: int = 2  # of the encoder
    decoder_layers: int = 1  # 0: the head reads the encoder (an ablation)
    heads: int = 2
    wide: int = 4  # times `dim`: width between a layer's two fully connected layers


class Attention(nn.Module):
    """Causal attention that knows how many events apart two positions are."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads = config.heads
        self.queries = nn.Linear(config.dim, config.dim)
        self.memory = nn.Linear(config.dim, 2 * config.dim)
        self.out = nn.Linear(config.dim, config.dim)
        self.apart = nn.Parameter(torch.zeros(config.heads, config.max_length))

    def forward(self, asking: Tensor, asked: Tensor, groups: list[Group]) -> Tensor:
        """(T, D) answers; position i of a user sees `asked` at positions 0 .. i."""
        total, dim = asking.shape
        query = self.queries(asking).view(total, self.heads, -1)  # (T, H, d)
        memory = self.memory(asked).view(total, 2, self.heads, -1)  # (T, 2, H, d)
        longest = max(group.length for group in groups)
        place = torch.arange(longest, device=asking.device)
        distance = place[:, None] - place[None, :]
        bias = self.apart[:, distance.clamp(min=0)]  # (H, L, L)
        bias = bias.masked_fill(distance < 0, -torch.inf)
        answers = []
        for start, users, length in groups:
            rows = slice(start, start + users * length)
            if length == 1:
                answers.append(memory[rows, 1].reshape(users, dim))
                continue
            q = query[rows].view(users, length, self.heads, -1).transpose(1, 2)  # (B, H, L, d)
            kv = memory[rows].view(users, length, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
            mask = bias[:, :length, :length]
            answer = F.scaled_dot_product_attention(q, kv[0], kv[1], attn_mask=mask)
            answers.append(answer.transpose(1, 2).reshape(users * length, dim))
        return self.out(torch.cat(answers))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """Attention, then two fully connected layers, each added to what went in (pre-norm)."""

    def __init__(self, config: Config, cross: bool) -> None:
        super().__init__()
        self.before = nn.LayerNorm(config.dim)
        self.before_memory = nn.LayerNorm(config.dim) if cross else None
        self.attention = Attention(config)
        self.between = nn.LayerNorm(config.dim)
        self.widen = nn.Linear(config.dim, config.wide * config.dim)
        self.narrow = nn.Linear(config.wide * config.dim, config.dim)
        self.drop = Dropout(config.dropout)

    def forward(self, x: Tensor, memory: Tensor | None, groups: list[Group]) -> Tensor:
        asking = self.before(x)  # (T, D)
        asked = asking
        if memory is not None and self.before_memory is not None:
            asked = self.before_memory(memory)
        x = x + self.drop(self.attention(asking, asked, groups))
        wide = F.gelu(self.widen(self.between(x)))  # (T, wide * D)
        return x + self.drop(self.narrow(wide))  # type: ignore[no-any-return]


class Network(SequenceNetwork):
    config: Config

    def __init__(self, config: Config, items: ItemTable) -> None:
        super().__init__(config, items)
        dim = config.dim
        self.encoder = nn.ModuleList(Layer(config, cross=False) for _ in range(config.layers))
        self.decoder = nn.ModuleList(
            Layer(config, cross=True) for _ in range(config.decoder_layers)
        )
        self.head_norm = nn.LayerNorm(dim)
        self.head_widen = nn.Linear(dim, 2 * dim)
        self.head_narrow = nn.Linear(2 * dim, dim)
        self.last_norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tokens, table: Tensor) -> Tensor:
        newest = x = self.inputs(tokens, table)
        for layer in self.encoder:
            x = layer(x, None, tokens.groups)
        if len(self.decoder):
            memory, x = x, newest
            for layer in self.decoder:
                x = layer(x, memory, tokens.groups)
        wide = F.gelu(self.head_widen(self.head_norm(x)))  # (T, 2D)
        return self.last_norm(x + self.head_narrow(wide))  # type: ignore[no-any-return]


class Transformer(SequenceModel):
    name: ClassVar[str] = "transformer"
    what: ClassVar[str] = (
        "self-attention encoder, cross-attention decoder, fully connected tied head"
    )
    config_type: ClassVar[type[SequenceConfig]] = Config
    network_type: ClassVar[type[SequenceNetwork]] = Network
