"""What all models of behaviour sequences share: inputs, tied softmax, learning, the local rule, keeping.

A model of this kind is a network that turns each event of a history into a state, and ranks all
items by the dot product of the newest state with the items' own inputs (tied weights). It learns at
every position at once, with a cross-entropy over the whole catalogue, or above `full_items` over a
sample corrected for sampling (Klenitskiy & Vasilev, "Turning Dross Into Gold Loss", RecSys 2023).
The weights used are a running mean; and `local` adds the log of the sequence_knn rule to the scores,
its weight chosen on validation.
"""

import hashlib
import inspect
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shopkeeper.errors import InputError
from shopkeeper.features.items import ItemTable
from shopkeeper.features.sequences import Floats, Sequences, Vocabulary
from shopkeeper.models import calibration, weights
from shopkeeper.models.calibration import Calibration
from shopkeeper.models.export import Inputs, Runner, Traced
from shopkeeper.models.neighbours import UNSEEN, Nearby, recent_weights, similarity
from shopkeeper.models.options import configure
from shopkeeper.models.protocol import TrainingData
from shopkeeper.training import batches
from shopkeeper.training.batches import Group
from shopkeeper.training.dropout import Dropout
from shopkeeper.training.losses import draw_negatives, full_softmax, sampled_softmax
from shopkeeper.training.trainer import Plan, train
from shopkeeper.words import KIND_CODES

GAP_STEPS = 20  # of log(1 + seconds): 20 is fifteen years
SCORE_ROWS = 512  # histories scored at a time
TAUGHT = 256  # places of a batch at which a teacher is asked


@dataclass(frozen=True)
class SequenceConfig:
    """What every model of this kind can be told; see each for what it adds."""

    dim: int = 64  # D, the width of everything
    dropout: float = 0.3
    item_dropout: float = 0.0  # share of history events whose item is hidden while learning
    max_length: int = 50  # newest events of a history that are read
    order_noise: float = 1.0  # > 1: neighbours swap places while learning
    reverse: float = 0.0  # share of sequences that are learned backwards, marked as such
    kinds: bool = True  # input: what the user did
    dwell: bool = True  # input: how long
    gaps: bool = True  # input: how long after the event before
    tags: bool = True  # input: categories, brands, attributes of the item
    numbers: bool = True  # input: numeric attributes of the item
    local: bool = True  # add the sequence_knn rule's log to the scores
    local_weights: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)  # tried on validation
    negatives: int = 2048  # of the sampled softmax
    full_items: int = 3000  # up to this many items the softmax is full
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    average: float = 0.998  # of the running mean of the weights
    warmup_steps: int = 100  # over which the learning rate rises from nothing
    schedule: str = "constant"  # "cosine": the learning rate falls to nothing at `max_epochs`
    accumulate: int = 1  # batches a step; workers that learn together share them
    batch_tokens: int = 1500  # events in a batch
    max_epochs: int = 40
    patience: int = 4
    max_minutes: float = 60.0
    validate_every: int = 1
    validate_from: int = 1
    learning_threads: int = 1  # its steps are small: a second thread waits more than it works
    device: str = "auto"  # "cpu", "cuda"; auto: cuda where there is one


class Tokens(NamedTuple):
    """A batch's events in the order of its layout."""

    items: Tensor  # (T,) int64
    kinds: Tensor  # (T,) int64
    dwell: Tensor  # (T,) float32
    gaps: Tensor  # (T,) int64, 0 .. GAP_STEPS - 1
    groups: list[Group]
    backwards: Tensor | None = None  # (T,) bool: of a sequence that runs backwards


class SequenceNetwork(nn.Module, ABC):
    """Inputs of events and items; a subclass makes states of them."""

    tags: Tensor  # (A,) int64, items end to end
    tag_starts: Tensor  # (M,) int64
    numbers: Tensor  # (M, F)

    def __init__(self, config: Any, items: ItemTable) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.items = nn.Embedding(len(items), dim)
        self.bias = nn.Parameter(torch.zeros(len(items)))
        nn.init.normal_(self.items.weight, std=0.05)
        self.tag_table = nn.EmbeddingBag(max(1, len(items.tag_names)), dim, mode="mean")
        nn.init.normal_(self.tag_table.weight, std=0.05)
        self.from_numbers = nn.Linear(max(1, items.numbers.shape[1]), dim, bias=False)
        self.kind_table = nn.Embedding(len(KIND_CODES), dim)
        self.gap_table = nn.Embedding(GAP_STEPS, dim)
        self.from_dwell = nn.Linear(1, dim)
        self.backwards = nn.Parameter(torch.zeros(dim))
        for added in (self.kind_table, self.gap_table, self.from_dwell, self.from_numbers):
            nn.init.normal_(added.weight, std=0.02)  # start as a whisper beside the item itself
        nn.init.zeros_(self.from_dwell.bias)
        self.drop = Dropout(config.dropout)
        self.register_buffer("tags", torch.from_numpy(items.tags.astype(np.int64)))
        self.register_buffer("tag_starts", torch.from_numpy(items.tag_offsets[:-1].copy()))
        self.register_buffer("numbers", torch.from_numpy(np.clip(items.numbers, -3.0, 3.0)))

    def table(self) -> Tensor:
        """(M, D) of every item: its own vector, the mean of its tags', its numbers'."""
        table = self.items.weight
        if self.config.tags and len(self.tags):
            table = table + self.tag_table(self.tags, self.tag_starts)
        if self.config.numbers and self.numbers.shape[1]:
            table = table + self.from_numbers(self.numbers)
        return table

    def inputs(self, tokens: Tokens, table: Tensor) -> Tensor:
        """(T, D) what the network is told of each event."""
        config = self.config
        item = F.embedding(tokens.items, table)  # (T, D)
        if self.training and config.item_dropout:
            keep = torch.rand(len(item), 1, device=item.device) >= config.item_dropout
            item = item * keep
        x = item * config.dim**0.5
        if config.kinds:
            x = x + self.kind_table(tokens.kinds)
        if config.gaps:
            x = x + self.gap_table(tokens.gaps)
        if config.dwell:
            x = x + self.from_dwell(tokens.dwell[:, None]) * (tokens.dwell > 0)[:, None]
        if tokens.backwards is not None:
            x = x + self.backwards * tokens.backwards[:, None]
        return self.drop(x)  # type: ignore[no-any-return]

    def more_loss(self, states: Tensor, source: "EventSource", following: Tensor) -> Tensor | float:
        """What else the states should tell, added to the softmax's loss.

        Args:
            states: (T, D) float32.
            following: (T,) flat rows of `source` that each state's event is followed by.
        """
        return 0.0

    @abstractmethod
    def forward(self, tokens: Tokens, table: Tensor) -> Tensor:
        """(T, D) states: the dot product with a row of `table` says how likely it comes next.

        A position's state depends on the events of its own history up to there, alone.
        """


class SequenceModel:
    """A model of this kind: a subclass names its Config, its network and what it is."""

    name: ClassVar[str]
    what: ClassVar[str]  # for the card
    config_type: ClassVar[type[SequenceConfig]]
    network_type: ClassVar[type[SequenceNetwork]]

    def __init__(self, config: Any = None) -> None:
        self.config: Any = self.config_type() if config is None else config
        self.card: dict[str, Any] = {}
        self.shares: Floats = np.zeros(0, dtype=np.float32)  # (M,)
        self.calibration = Calibration()
        self.local = weights.empty_matrix()  # (M, M)
        self.local_weight = 0.0
        self.network: SequenceNetwork | None = None
        self._fixed_table: Tensor | None = None  # network.table() of weights that no longer change
        self.runner: Runner | None = None  # an exported graph that computes in the network's place
        self.device = torch.device("cpu")

    def fit(self, data: TrainingData) -> None:
        asked = configure(self.config_type, self.name, data.settings)
        self.config, switched_off = _useful(asked, data)
        config = self.config
        self.device = _device(config.device)
        torch.manual_seed(data.seed)
        items = len(data.items)
        self.shares = calibration.shares(np.bincount(data.sequences.items, minlength=items))
        learned, users = calibration.hold_out(data.sequences, data.seed, most=500)
        self.network, self._fixed_table = self.build(replace(data, sequences=learned)), None
        self.network.to(self.device)
        self.local_weight = 0.0
        # above `full_items` a sample of negatives stands for the catalogue
        full = items <= config.full_items
        source = EventSource(learned, config, self.device)
        network = self.network
        shares = torch.from_numpy(self.shares) if items > 50_000 else None

        teacher = _Teacher.of(data.teacher, self.device)

        def loss(batch: tuple[Tokens, Tensor], generator: torch.Generator) -> Tensor:
            tokens, following = batch
            targets = source.items[following]
            table = network.table()
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                states = network(tokens, table).float()
            more = network.more_loss(states, source, following)
            if teacher is not None:
                more = more + teacher.loss(tokens, states, table, network.bias, generator)
            if full:
                return full_softmax(states, table, network.bias, targets) + more
            drawn, log_expected = draw_negatives(items, config.negatives, generator, shares)
            drawn, log_expected = drawn.to(self.device), log_expected.to(self.device)
            return more + sampled_softmax(states, table, network.bias, targets, drawn, log_expected)

        validate = data.validate
        with _learning(config.learning_threads):
            report = train(
                network,
                source.epoch,
                loss,
                Plan(
                    max_epochs=config.max_epochs,
                    patience=config.patience,
                    max_minutes=config.max_minutes,
                    learning_rate=config.learning_rate,
                    weight_decay=config.weight_decay,
                    average=config.average,
                    warmup_steps=config.warmup_steps,
                    schedule=config.schedule,
                    accumulate=config.accumulate,
                    validate_every=config.validate_every,
                    validate_from=config.validate_from,
                ),
                seed=data.seed,
                validate=None if validate is None else lambda: validate(self),
                primary=data.primary,
                checkpoint=data.checkpoint,
                fingerprint=_fingerprint(type(self), data, config),
                progress=data.progress,
                name=self.name,
            )
        targets = data.sequences.items[data.sequences.offsets[1:][users] - 1]
        held_out = learned.take(users)  # these users' next events nothing has learned from
        blend = self._choose_local(data, learned, held_out, targets) if config.local else {}
        self.calibration = calibration.fit(self.scores(held_out), targets, self.shares)
        more = self.after_learning(held_out, data.sequences, users)
        if config.local:
            self.local = similarity(data.sequences, items, Nearby())
        self.card = {
            "what": self.what,
            "chosen": json.loads(json.dumps(asdict(config))),
            "switched_off": switched_off,
            "loss": "full softmax" if full else f"softmax over {config.negatives} sampled items",
            "calibration": self.calibration.as_dict(),
            "local": blend,
            "parameters": sum(p.numel() for p in network.parameters()),
            "teacher": None if teacher is None else teacher.told,
            "device": str(self.device),
            "threads": config.learning_threads,
            "seed": data.seed,
            **more,
            **report.as_dict(),
        }

    def build(self, data: TrainingData) -> SequenceNetwork:
        """The network that is to learn from `data`, by `self.config`."""
        return self.network_type(self.config, data.items)

    def rebuild(self, state: dict[str, Tensor], items: ItemTable) -> SequenceNetwork:
        """A network that takes `state`, which was saved; `items` as far as shapes depend on them."""
        return self.network_type(self.config, items)

    def after_learning(
        self, held_out: Sequences, whole: Sequences, users: npt.NDArray[np.int64]
    ) -> dict[str, Any]:
        """What else is fitted on the histories of `users`, less their newest event; for the card."""
        return {}

    def more_about(self) -> dict[str, Any]:
        """What `save` keeps beside the weights, and `load` hands to `take_back`."""
        return {}

    def take_back(self, about: dict[str, Any]) -> None:
        """See `more_about`."""

    def _choose_local(
        self,
        data: TrainingData,
        learned: Sequences,
        held_out: Sequences,
        targets: npt.NDArray[np.int32],
    ) -> dict[str, Any]:
        """Choose the local rule's weight, on validation or else on the held-out events.

        Leaves the rule fitted on `learned`, so that calibration on the held-out events is honest.
        """
        cpu = time.process_time()
        items, rule = len(data.items), Nearby()
        tried: dict[str, float] = {}
        if data.validate is not None:
            why = f"best {data.primary} on validation"
            self.local = similarity(data.sequences, items, rule)
            for weight in self.config.local_weights:
                self.local_weight = weight
                tried[str(weight)] = round(data.validate(self)[data.primary], 6)
            self.local = similarity(learned, items, rule)
        else:
            why = f"no validation; best place of {len(targets)} held-out next events"
            self.local = similarity(learned, items, rule)
            for weight in self.config.local_weights:
                self.local_weight = weight
                tried[str(weight)] = round(_mean_gain(self.scores(held_out), targets), 6)
        best = max(tried, key=lambda key: tried[key])
        self.local_weight = float(best)
        cpu = round(time.process_time() - cpu, 3)
        return {"weight": self.local_weight, "why": why, "tried": tried, "cpu_seconds": cpu}

    def scores(self, histories: Sequences) -> Floats:
        out = np.empty((len(histories), len(self.shares)), dtype=np.float32)
        for start in range(0, len(histories), SCORE_ROWS):
            rows = np.arange(start, min(start + SCORE_ROWS, len(histories)))
            out[rows] = self._scores(histories.take(rows))
        return out

    @torch.inference_mode()
    def newest_states(self, histories: Sequences) -> tuple[Tensor, npt.NDArray[np.int64]]:
        """((F, D) state of the newest event, (F,) rows of `histories` that have one)."""
        network = _trained(self.network)
        recent = histories.last(self.config.max_length)
        filled = np.flatnonzero(recent.lengths > 0)
        if len(filled) == 0:
            return torch.zeros(0, self.config.dim), filled
        source = EventSource(recent, self.config, self.device)
        lay = batches.layout(recent.offsets[:-1], recent.lengths, filled)
        table = network.table() if self._fixed_table is None else self._fixed_table
        states = network(source.tokens(lay.tokens, lay.groups), table)
        return states[torch.from_numpy(lay.ends).to(self.device)], lay.users

    @torch.inference_mode()
    def _scores(self, histories: Sequences) -> Floats:
        network = _trained(self.network)
        out = np.repeat(np.log(self.shares)[None, :], len(histories), axis=0)
        if self.runner is not None:
            found, users = self._run(self.runner, histories)
        else:
            newest, users = self.newest_states(histories)
            table = network.table() if self._fixed_table is None else self._fixed_table
            found = newest @ table.T + network.bias
        if len(users) == 0:
            return out
        logits = torch.log_softmax(found, dim=1).cpu().numpy()
        if self.local_weight:
            asked = recent_weights(
                histories.take(users).last(self.config.max_length), len(self.shares), Nearby()
            )
            near = (asked @ self.local).toarray()
            near += np.float32(UNSEEN)
            logits += np.float32(self.local_weight) * np.log(near, out=near)
        out[users] = logits
        return out

    def traced(self) -> Traced:
        """The network as it is now, for models/export.py."""
        network = _trained(self.network)
        network.eval()
        with torch.no_grad():
            module = _Newest(network, network.table().detach().clone())
        users, length = ("users", 1, 65_536), ("length", 2, self.config.max_length)
        example = {
            "items": torch.zeros(3, 7, dtype=torch.int64),
            "kinds": torch.zeros(3, 7, dtype=torch.int64),
            "dwell": torch.zeros(3, 7),
            "gaps": torch.zeros(3, 7, dtype=torch.int64),
            "newest": torch.zeros(3, dtype=torch.int64),
        }
        moving = {name: {0: users, 1: length} for name in example}
        return Traced(module.eval(), example, moving | {"newest": {0: users}}, network.bias)

    def feeds(self, histories: Sequences) -> list[Inputs]:
        """The histories that have events as inputs of the graph, those of one length together.

        A single event is followed by a copy of itself, which `newest` does not look at.
        """
        return [inputs for inputs, _ in self._feeds(histories)]

    def _feeds(self, histories: Sequences) -> Iterator[tuple[Inputs, npt.NDArray[np.int64]]]:
        recent = histories.last(self.config.max_length)
        gaps = np.minimum(recent.gaps, GAP_STEPS - 1).astype(np.int64)
        for length in np.unique(recent.lengths[recent.lengths > 0]):
            users = np.flatnonzero(recent.lengths == length)
            places = np.minimum(np.arange(max(int(length), 2)), length - 1)
            at = recent.offsets[:-1][users][:, None] + places
            yield (
                {
                    "items": recent.items[at].astype(np.int64),
                    "kinds": recent.kinds[at].astype(np.int64),
                    "dwell": recent.dwell[at],
                    "gaps": gaps[at],
                    "newest": np.full(len(users), length - 1, dtype=np.int64),
                },
                users,
            )

    def _run(self, runner: Runner, histories: Sequences) -> tuple[Tensor, npt.NDArray[np.int64]]:
        """((F, M) logits, (F,) rows of `histories` that have events) by an exported graph."""
        made = [(runner(inputs), users) for inputs, users in self._feeds(histories)]
        if not made:
            return torch.zeros(0, len(self.shares)), np.zeros(0, dtype=np.int64)
        logits = np.concatenate([one for one, _ in made])
        return torch.from_numpy(logits), np.concatenate([users for _, users in made])

    def predict(self, histories: Sequences, items: npt.NDArray[np.int32]) -> Floats:
        out = np.empty(len(items), dtype=np.float32)
        for start in range(0, len(items), SCORE_ROWS):
            rows = np.arange(start, min(start + SCORE_ROWS, len(items)))
            scores = self._scores(histories.take(rows))
            likely = self.calibration.probabilities(scores, self.shares)
            out[rows] = likely[np.arange(len(rows)), items[rows]]
        return out

    def save(self, folder: Path) -> None:
        network = _trained(self.network)
        arrays = {f"network.{k}": v.cpu().numpy() for k, v in network.state_dict().items()}
        arrays |= {"shares": self.shares, **weights.of_matrix("local", self.local)}
        about = {
            "config": asdict(self.config),
            "tag_names": network.tag_table.num_embeddings,
            "calibration": self.calibration.as_dict(),
            "local_weight": self.local_weight,
            "local_items": self.local.shape[0],
            "card": self.card,
            "more": self.more_about(),
        }
        weights.write(folder, arrays, about)

    @classmethod
    def load(cls, folder: Path) -> Self:
        arrays, about = weights.read(folder)
        model = cls(configure(cls.config_type, cls.name, about["config"]))
        model.device = _device(model.config.device)
        model.card = about["card"]
        model.calibration = Calibration(**about["calibration"])
        model.shares = arrays["shares"]
        model.local_weight = about["local_weight"]
        model.take_back(about.get("more", {}))
        model.local = weights.to_matrix("local", arrays, (about["local_items"],) * 2)
        state = {
            k.removeprefix("network."): torch.from_numpy(v)
            for k, v in arrays.items()
            if k.startswith("network.")
        }
        model._take_state(state, about["tag_names"])
        return model

    def take_network(self, state: dict[str, Tensor], other: "SequenceModel") -> None:
        """Become `other` with the weights `state` of a network that this config describes."""
        self.shares, self.card = other.shares, other.card
        self.calibration = other.calibration
        self.local, self.local_weight = other.local, other.local_weight
        self.take_back(other.more_about())
        tag_names = _trained(other.network).tag_table.num_embeddings
        self._take_state({k: v.detach().clone() for k, v in state.items()}, tag_names)

    def _take_state(self, state: dict[str, Tensor], tag_names: int) -> None:
        self.network = self.rebuild(state, items_of(state, tag_names))
        self.network.load_state_dict(state)
        self.network.to(self.device).eval()
        with torch.inference_mode():
            self._fixed_table = self.network.table()


class _Newest(nn.Module):
    """(B, L) events -> (B, D) state of each history's event at `newest`; for export."""

    table: Tensor

    def __init__(self, network: SequenceNetwork, table: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("table", table)

    def forward(
        self, items: Tensor, kinds: Tensor, dwell: Tensor, gaps: Tensor, newest: Tensor
    ) -> Tensor:
        users, length = items.shape
        tokens = Tokens(
            items.reshape(-1),
            kinds.reshape(-1),
            dwell.reshape(-1),
            gaps.reshape(-1),
            [Group(0, users, length)],
        )
        states = self.network(tokens, self.table)
        block: Tensor = states.view(users, length, self.network.config.dim)
        return block[torch.arange(users, device=items.device), newest]


class _Teacher:
    """A larger network of the same kind: at some places of a batch, what it says of all items.

    Source: Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015; at
    temperature 1, beside the loss of the events themselves.
    """

    def __init__(self, model: SequenceModel, device: torch.device) -> None:
        self.network = _trained(model.network).to(device).eval()
        self.told = {"model": model.name, "dim": model.config.dim}
        with torch.no_grad():
            self.table = self.network.table()

    @classmethod
    def of(cls, model: Any, device: torch.device) -> "_Teacher | None":
        if model is None:
            return None
        if not isinstance(model, SequenceModel):
            raise InputError(
                f"{type(model).__name__} cannot teach a model of behaviour sequences",
                where="distillation",
            )
        return cls(model, device)

    def loss(
        self, tokens: Tokens, states: Tensor, table: Tensor, bias: Tensor, drawn: torch.Generator
    ) -> Tensor:
        """() mean cross-entropy, in nats, from the teacher's probabilities to the student's."""
        places = torch.randperm(len(states), generator=drawn)[:TAUGHT].to(states.device)
        with torch.no_grad():
            told = self.network(tokens, self.table)[places]
            likely = torch.softmax(told @ self.table.T + self.network.bias, dim=1)
        said = torch.log_softmax(states[places] @ table.T + bias, dim=1)
        return -(likely * said).sum(dim=1).mean()


class EventSource:
    """Sequences as tensors, and the batches of an epoch."""

    def __init__(self, sequences: Sequences, config: SequenceConfig, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.offsets = sequences.offsets
        self.items = torch.from_numpy(sequences.items.astype(np.int64)).to(device)
        self.kinds = torch.from_numpy(sequences.kinds.astype(np.int64)).to(device)
        self.dwell = torch.from_numpy(sequences.dwell.astype(np.float32)).to(device)
        self.exact_gaps = torch.from_numpy(sequences.gaps).to(device)  # log(1 + seconds)
        self.gaps = self.exact_gaps.clamp(max=GAP_STEPS - 1).long()

    def tokens(self, rows: npt.NDArray[np.int64], groups: list[Group]) -> Tokens:
        at = torch.from_numpy(rows).to(self.device)
        return Tokens(self.items[at], self.kinds[at], self.dwell[at], self.gaps[at], groups)

    def epoch(self, rng: np.random.Generator) -> Iterator[tuple[Tokens, Tensor]]:
        """Every event but each user's first is a target once: (tokens, (T,) flat rows that follow)."""
        starts, lengths = batches.windows(self.offsets, self.config.max_length + 1)
        rows = batches.order_noise(starts, lengths, self.config.order_noise, rng)
        places = np.cumsum(lengths) - lengths  # of each piece in `rows`
        turned = None
        if self.config.reverse:
            turned = rng.random(len(lengths)) < self.config.reverse
            rows = batches.turn(rows, places, lengths, turned)
        for users in batches.epoch(lengths - 1, self.config.batch_tokens, rng):
            lay = batches.layout(places, lengths - 1, users)
            following = torch.from_numpy(rows[lay.tokens + 1]).to(self.device)
            tokens = self.tokens(rows[lay.tokens], lay.groups)
            if turned is not None:
                mark = np.repeat(turned[lay.users], lengths[lay.users] - 1)
                tokens = tokens._replace(backwards=torch.from_numpy(mark).to(self.device))
            yield tokens, following


def _useful(config: SequenceConfig, data: TrainingData) -> tuple[SequenceConfig, dict[str, str]]:
    """Switch off the inputs that say nothing in this data, with the reason."""
    sequences, off = data.sequences, {}
    if config.kinds and len(np.unique(sequences.kinds)) < 2:
        off["kinds"] = "all events are of one kind"
    if config.dwell and not (sequences.dwell > 0).any():
        off["dwell"] = "no event has a dwell time"
    if config.gaps and not (sequences.gaps > 0).any():
        off["gaps"] = "no event has a time"
    if config.tags and len(data.items.tags) == 0:
        off["tags"] = "no item has a category, brand or attribute"
    if config.numbers and data.items.numbers.shape[1] == 0:
        off["numbers"] = "no item has a numeric attribute"
    return replace(config, **dict.fromkeys(off, False)), off  # type: ignore[arg-type]


@contextmanager
def _learning(threads: int) -> Iterator[None]:
    """Inside, products of float32 may compute in bfloat16 (half the time), on `threads` threads."""
    precision, before = torch.get_float32_matmul_precision(), torch.get_num_threads()
    torch.set_float32_matmul_precision("medium")
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.set_num_threads(before)


def _device(wanted: str) -> torch.device:
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def _mean_gain(scores: Floats, targets: npt.NDArray[np.int32]) -> float:
    """Mean of 1 / log2(rank + 1) of the targets over the whole catalogue; 0 without targets."""
    if len(targets) == 0:
        return 0.0
    own = scores[np.arange(len(targets)), targets]
    place = (scores > own[:, None]).sum(axis=1) + 1.0
    return float((1.0 / np.log2(place + 1.0)).mean())


def _trained(network: SequenceNetwork | None) -> SequenceNetwork:
    if network is None:
        raise RuntimeError("fit or load the model before asking it")
    return network


def items_of(state: dict[str, Tensor], tag_names: int) -> ItemTable:
    """As much of the item table as the network's shape depends on."""
    count = len(state["items.weight"])
    return ItemTable(
        vocabulary=Vocabulary([str(i) for i in range(count)]),
        tag_offsets=np.append(state["tag_starts"].numpy(), len(state["tags"])),
        tags=state["tags"].numpy().astype(np.int32),
        tag_names=[""] * tag_names,
        numbers=state["numbers"].numpy(),
        number_names=[],
        text=[],
        images=state["images"].numpy() if "images" in state else np.zeros((count, 0), np.float32),
    )


def _fingerprint(model: type[SequenceModel], data: TrainingData, config: SequenceConfig) -> str:
    """Digest of everything that decides the weights, for checkpoints."""
    digest = hashlib.sha256(Path(__file__).read_bytes())  # another network, another checkpoint
    digest.update(inspect.getsource(model.network_type).encode())
    digest.update(model.name.encode())
    settings = {**asdict(config), "seed": data.seed}
    digest.update(json.dumps(settings, sort_keys=True).encode())
    sequences, items = data.sequences, data.items
    for array in (
        sequences.offsets,
        sequences.items,
        sequences.kinds,
        sequences.times,
        sequences.dwell,
    ):
        digest.update(np.ascontiguousarray(array).tobytes())
    for known in (items.tags, items.tag_offsets, items.numbers, items.images):
        digest.update(np.ascontiguousarray(known).tobytes())
    digest.update("\0".join(items.text).encode())
    return digest.hexdigest()
