"""Models that know items by what is known of them: id, text, attributes, picture; what they share.

An item's vector is the sum of what each part says of it, passed through one small network, so that
parts can qualify each other:

    x = id + text + attributes + picture          v = x + W2 gelu(W1 x)

A history is what its events' vectors leave behind as they fade, at several speeds at once, beside
the newest event; the dot product with v says which item comes next, as in `sequential`. Unlike
there, an item that nothing was learned from (no event of it) is no wrong answer while learning, its
untrained id is left out, and its bias is what a ridge regression reads off its other parts: so that
it stands where its text, attributes and picture put it. Ids are left out by chance while learning
(Volkovs et al., "DropoutNet", NeurIPS 2017), and a second softmax ranks the items without any id
(`alone`), so that the other parts learn to do without.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shopkeeper.errors import InputError, NotReady
from shopkeeper.features.items import ItemTable
from shopkeeper.features.sequences import Floats, Ints, Sequences
from shopkeeper.models.protocol import TrainingData
from shopkeeper.models.sequential import (
    EventSource,
    SequenceConfig,
    SequenceModel,
    SequenceNetwork,
    Tokens,
)
from shopkeeper.training.dropout import Dropout
from shopkeeper.training.losses import draw_negatives, full_softmax, sampled_softmax

PARTS = ("id", "text", "attributes", "image")
NEVER = -30.0  # bias of an item that nothing was learned from, while learning
RIDGE = 1.0


@dataclass(frozen=True)
class ContentConfig(SequenceConfig):
    parts: tuple[str, ...] = PARTS  # of an item's vector; those that no item has are left out
    id_dropout: float = 0.3  # share of items whose id is left out of a learning step
    alone: float = 1.0  # weight of learning to rank items without any id, beside with
    wide: int = 4  # times `dim`: width of the network that parts pass through
    speeds: int = 4  # at which a history fades
    terms: int = 20_000  # words of texts at most, the most frequent
    local: bool = False  # the rule knows nothing of items without events


class ContentNetwork(SequenceNetwork):
    config: ContentConfig
    known: Tensor  # (M, 1) float32: 1 where something was learned from the item
    images: Tensor  # (M, V)
    words: Tensor  # (W,) int64, items end to end
    word_starts: Tensor  # (M,) int64
    word_weights: Tensor  # (W,) float32

    def __init__(self, config: ContentConfig, items: ItemTable, told: "Told") -> None:
        super().__init__(config, items)
        dim, wide = config.dim, config.wide * config.dim
        images = torch.from_numpy(np.ascontiguousarray(items.images))
        if not images.shape[1]:
            images = torch.zeros(len(items), 1)
        for name, value in (
            ("known", torch.from_numpy(told.known.astype(np.float32))[:, None]),
            ("images", images),
            ("words", torch.from_numpy(told.words)),
            ("word_starts", torch.from_numpy(told.word_starts)),
            ("word_weights", torch.from_numpy(told.word_weights)),
        ):
            self.register_buffer(name, value)
        self.word_table = nn.EmbeddingBag(max(1, told.vocabulary), dim, mode="sum")
        nn.init.normal_(self.word_table.weight, std=0.05)
        self.from_images = nn.Linear(images.shape[1], dim, bias=False)
        nn.init.normal_(self.from_images.weight, std=0.05)
        self.widen, self.narrow = nn.Linear(dim, wide), nn.Linear(wide, dim)
        nn.init.zeros_(self.narrow.weight)
        nn.init.zeros_(self.narrow.bias)
        with torch.no_grad():
            self.bias.copy_(torch.where(self.known[:, 0] > 0, 0.0, NEVER))
        # half-lives of about 1, 2, 4, ... events to begin with
        steps = 2.0 ** torch.arange(config.speeds)
        self.fading = nn.Parameter(torch.logit(0.5 ** (1.0 / steps)))
        self.states = nn.Sequential(
            nn.Linear((config.speeds + 1) * dim, wide),
            nn.GELU(),
            Dropout(config.dropout),
            nn.Linear(wide, dim),
        )
        self.last_norm = nn.LayerNorm(dim)

    def table(self) -> Tensor:
        own = self.items.weight * self.known
        if self.training and self.config.id_dropout and len(self.config.parts) > 1:
            own = own * (torch.rand(len(own), 1, device=own.device) >= self.config.id_dropout)
        return self._mixed(own)

    def without_ids(self) -> Tensor:
        """(M, D) what everything but the id says."""
        return self._mixed(torch.zeros_like(self.items.weight))

    def _mixed(self, own: Tensor) -> Tensor:
        parts, x = self.config.parts, torch.zeros_like(own)
        if "id" in parts:
            x = x + own
        if "text" in parts:
            x = x + self.word_table(self.words, self.word_starts, self.word_weights)
        if "attributes" in parts:
            if len(self.tags):
                x = x + self.tag_table(self.tags, self.tag_starts)
            if self.numbers.shape[1]:
                x = x + self.from_numbers(self.numbers)
        if "image" in parts:
            x = x + self.from_images(self.images)
        mixed: Tensor = self.narrow(F.gelu(self.widen(x)))
        return x + mixed

    def more_loss(self, states: Tensor, source: EventSource, following: Tensor) -> Tensor | float:
        config, count = self.config, len(self.known)
        if not config.alone or "id" not in config.parts or len(config.parts) == 1:
            return 0.0
        table, targets = self.without_ids(), source.items[following]
        if count <= config.full_items:
            return config.alone * full_softmax(states, table, self.bias, targets)
        drawn, log_expected = draw_negatives(count, config.negatives, torch.default_generator)
        drawn, log_expected = drawn.to(table.device), log_expected.to(table.device)
        return config.alone * sampled_softmax(
            states, table, self.bias, targets, drawn, log_expected
        )

    def forward(self, tokens: Tokens, table: Tensor) -> Tensor:
        x = self.inputs(tokens, table)  # (T, D)
        keep = self.fading.sigmoid()  # (S,)
        seen = []
        for start, users, length in tokens.groups:  # one length at a time: no padding
            block = x[start : start + users * length].view(users, length, -1)
            place = torch.arange(length, device=x.device)
            age = (place[:, None] - place[None, :]).clamp(min=0)
            left = (keep[:, None, None] ** age) * (place[:, None] >= place[None, :])  # (S, L, L)
            left = (left / left.sum(dim=2, keepdim=True)).to(block.dtype)
            faded = torch.einsum("sij,bjd->bisd", left, block)  # (B, L, S, D)
            both = torch.cat([block[:, :, None], faded], dim=2)
            seen.append(both.reshape(users * length, -1))
        return self.last_norm(x + self.drop(self.states(torch.cat(seen))))  # type: ignore[no-any-return]


class ContentModel(SequenceModel):
    """A model of this kind: a subclass names its Config (which parts) and what it is."""

    network_type: ClassVar[type[SequenceNetwork]] = ContentNetwork
    needs: ClassVar[str] = ""  # the part without which there is nothing to learn

    def build(self, data: TrainingData) -> SequenceNetwork:
        config, items = self.config, data.items
        if unknown := [part for part in config.parts if part not in PARTS]:
            raise InputError(
                f"no part {unknown[0]!r} of items; there are: {', '.join(PARTS)}",
                where=f"shop.toml: training.options.{self.name}.parts",
            )
        if self.needs == "image" and not items.images.any():
            raise NotReady(
                "no item has a picture that was looked at",
                where=self.name,
                next=f"collect pictures (table images), or take {self.name} out of models",
            )
        known = np.bincount(data.sequences.items, minlength=len(items)) > 0
        if "image" not in config.parts:
            items = replace(items, images=np.zeros((len(items), 0), dtype=np.float32))
        text = items.text if "text" in config.parts else [""] * len(items)
        return ContentNetwork(config, items, Told.of(text, known, config.terms))

    def rebuild(self, state: dict[str, Tensor], items: ItemTable) -> SequenceNetwork:
        told = Told(
            known=state["known"][:, 0].numpy() > 0,
            vocabulary=len(state["word_table.weight"]),
            words=state["words"].numpy(),
            word_starts=state["word_starts"].numpy(),
            word_weights=state["word_weights"].numpy(),
        )
        return ContentNetwork(self.config, items, told)

    @torch.no_grad()
    def after_learning(
        self, held_out: Sequences, whole: Sequences, users: npt.NDArray[np.int64]
    ) -> dict[str, Any]:
        """Put items without events where their other parts say."""
        network = self.network
        assert isinstance(network, ContentNetwork)
        known = network.known[:, 0] > 0
        if bool(known.all()) or not bool(known.any()):
            return {"without_events": int((~known).sum())}
        x = network.without_ids().double()
        x = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype, device=x.device)], dim=1)
        given, wanted = x[known], network.bias[known].double()
        gram = given.T @ given
        gram.diagonal()[:-1].add_(RIDGE)
        solved = torch.linalg.solve(gram, given.T @ wanted)
        network.bias[~known] = (x[~known] @ solved).float()
        return {"without_events": int((~known).sum()), "parts": list(self.config.parts)}


@dataclass(frozen=True)
class Told:
    """What a network is told of M items beside their table."""

    known: npt.NDArray[np.bool_]  # (M,) something is learned from it
    vocabulary: int
    words: Ints  # (W,) codes, items end to end
    word_starts: Ints  # (M,)
    word_weights: Floats  # (W,) rare words weigh more; the squares of an item's add up to 1

    @classmethod
    def of(cls, text: Sequence[str], known: npt.NDArray[np.bool_], most: int) -> "Told":
        """Words that at least two items have, the `most` frequent of them."""
        each = [Counter(words_of(one)) for one in text]
        often = Counter(word for words in each for word in words)
        kept = sorted(often.items(), key=lambda pair: (-pair[1], pair[0]))
        code = {word: n for n, (word, items) in enumerate(kept[:most]) if items >= 2}
        words, weights, lengths = [], [], []
        for one in each:
            own = [(code[word], count) for word, count in sorted(one.items()) if word in code]
            rare = [np.log(len(text) / often[kept[at][0]]) + 0.1 for at, _ in own]
            weight = np.array([np.log1p(count) for _, count in own]) * np.array(rare)
            weights.append(weight / max(1e-12, float(np.linalg.norm(weight))))
            words += [at for at, _ in own]
            lengths.append(len(own))
        ends = np.cumsum(lengths, dtype=np.int64)
        return cls(
            known=known,
            vocabulary=len(code),
            words=np.array(words, dtype=np.int64),
            word_starts=(ends - np.array(lengths, dtype=np.int64)),
            word_weights=np.concatenate([*weights, np.zeros(0)]).astype(np.float32),
        )


def words_of(text: str) -> list[str]:
    """Words of Latin letters and digits in small letters, and pairs of neighbouring Chinese characters."""
    small = text.lower()
    words = re.findall(r"[a-z0-9]+", small)
    for run in re.findall(r"[\u4e00-\u9fff]+", small):
        words += [run[at : at + 2] for at in range(max(1, len(run) - 1))]
    return words
