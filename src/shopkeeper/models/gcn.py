"""Graph convolution over who took what: items that the same users take grow alike.

One convolution goes from items to users and back, and through what items share (tags):

    P X = a R' (R X) + (1 - a) T (T' X)      R (U, M) taken, T (M, A) tagged, D^-1/2 A D^-1/2 each

`form` chooses what is made of it, X0 being the items' learned vectors

    light   X(l+1) = P X(l); mean of all layers    He et al., "LightGCN", SIGIR 2020
    full    X(l+1) = s(P~ X(l) W + b), P~ with self-loops   Kipf & Welling, ICLR 2017
    ngcf    X(l+1) = s((X + P X) W1 + (P X * X) W2 + b)     Wang et al., "NGCF", SIGIR 2019

A user is the normalised sum of the vectors of the items taken, so users who joined after training
are embedded from their neighbours alone. Learned as a softmax over cosines at a temperature (Wu et
al., "On the Effectiveness of Sampled Softmax Loss for Item Recommendation", TOIS 2024): of each
user's items a part is hidden, and the rest has to name the hidden ones, so that no item is asked
for from itself.
"""

import hashlib
import inspect
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shopkeeper.features.sequences import Floats, Sequences
from shopkeeper.models import calibration, graph, weights
from shopkeeper.models.calibration import Calibration
from shopkeeper.models.options import configure
from shopkeeper.models.protocol import TrainingData
from shopkeeper.training.losses import draw_negatives, full_softmax, sampled_softmax
from shopkeeper.training.trainer import Plan, train

SCORE_ROWS = 512


@dataclass(frozen=True)
class Config:
    form: str = "light"  # light, full or ngcf
    dim: int = 64
    layers: int = 2  # convolutions over the items' vectors
    tags: float = 0.1  # share of P that goes through tags, where items have any
    hidden: float = 0.5  # largest share of a user's items that is hidden and asked for
    temperature: float = 0.15  # of the cosines
    decay: float = 1.0  # weight of a user's item, to the power of how many were taken later
    negatives: int = 4096
    full_items: int = 3000
    learning_rate: float = 5e-3
    weight_decay: float = 0.0
    average: float = 0.99
    batch_users: int = 2048
    max_epochs: int = 60
    patience: int = 3
    max_minutes: float = 60.0
    validate_every: int = 3
    validate_from: int = 3


class Network(nn.Module):
    def __init__(self, config: Config, items: int) -> None:
        super().__init__()
        self.config = config
        self.items = nn.Embedding(items, config.dim)
        nn.init.normal_(self.items.weight, std=0.1)
        self.bias = nn.Parameter(torch.zeros(items))
        of_layers = config.layers if config.form != "light" else 0
        self.mix = nn.ModuleList(nn.Linear(config.dim, config.dim) for _ in range(of_layers))
        between = of_layers if config.form == "ngcf" else 0
        self.both = nn.ModuleList(
            nn.Linear(config.dim, config.dim, bias=False) for _ in range(between)
        )

    def forward(self, taken: graph.Edges, tagged: graph.Edges | None) -> Tensor:
        """(M, D) vectors of the items after all convolutions."""
        config, x = self.config, self.items.weight
        layers = [x]
        for layer in range(config.layers):
            near = taken.back(taken.forward(x))
            if tagged is not None:
                alike = tagged.forward(tagged.back(x))
                near = (1.0 - config.tags) * near + config.tags * alike
            if config.form == "light":
                x = near
            elif config.form == "full":
                x = F.leaky_relu(self.mix[layer](0.5 * (x + near)), 0.2)
            else:
                x = F.leaky_relu(self.mix[layer](x + near) + self.both[layer](near * x), 0.2)
            layers.append(x)
        return torch.stack(layers).mean(dim=0)


class Gcn:
    name: ClassVar[str] = "gcn"

    def __init__(self, config: Config = Config()) -> None:
        self.config = config
        self.card: dict[str, Any] = {}
        self.shares: Floats = np.zeros(0, dtype=np.float32)  # (M,)
        self.degrees: Floats = np.zeros(0, dtype=np.float32)  # (M,)
        self.vectors: Floats = np.zeros((0, 0), dtype=np.float32)  # (M, D), of length 1
        self.raw: Floats = np.zeros((0, 0), dtype=np.float32)  # (M, D), as convolved
        self.bias: Floats = np.zeros(0, dtype=np.float32)  # (M,)
        self.calibration = Calibration()

    def fit(self, data: TrainingData) -> None:
        self.config = config = configure(Config, self.name, data.settings)
        torch.manual_seed(data.seed)
        count = len(data.items)
        self.shares = calibration.shares(np.bincount(data.sequences.items, minlength=count))
        learned, users = calibration.hold_out(data.sequences, data.seed, most=500)
        built = graph.build(learned, data.items)
        self.degrees = built.degrees
        taken = graph.Edges.of(built.taken)
        tagged = graph.Edges.of(built.tagged) if config.tags and built.tagged.nnz else None
        network = Network(config, count)
        full = count <= config.full_items
        popular = torch.from_numpy(self.shares)
        source = _Source(learned, built.degrees, config)

        def loss(batch: tuple[graph.Edges, Tensor, Tensor], generator: torch.Generator) -> Tensor:
            given, owner, targets = batch
            vectors = network(taken, tagged)
            states = F.normalize(given.forward(vectors), dim=1)[owner] / config.temperature
            table = F.normalize(vectors, dim=1)
            if full:
                return full_softmax(states, table, network.bias, targets)
            drawn, log_expected = draw_negatives(count, config.negatives, generator, popular)
            return sampled_softmax(states, table, network.bias, targets, drawn, log_expected)

        def take() -> None:
            with torch.inference_mode():
                vectors = network(taken, tagged)
                self.raw = vectors.numpy().copy()
                self.vectors = F.normalize(vectors, dim=1).numpy().copy()
                self.bias = network.bias.detach().numpy().copy()

        validate = data.validate

        def validated() -> dict[str, float]:
            assert validate is not None
            take()
            return validate(self)

        before = torch.get_num_threads()
        torch.set_num_threads(data.threads)
        try:
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
                    validate_every=config.validate_every,
                    validate_from=config.validate_from,
                ),
                seed=data.seed,
                validate=None if validate is None else validated,
                primary=data.primary,
                checkpoint=data.checkpoint,
                fingerprint=_fingerprint(data, config),
                progress=data.progress,
                name=self.name,
            )
            take()
        finally:
            torch.set_num_threads(before)
        targets = data.sequences.items[data.sequences.offsets[1:][users] - 1]
        held_out = learned.take(users)
        self.calibration = calibration.fit(self.scores(held_out), targets, self.shares)
        self.card = {
            "what": f"graph convolution ({config.form}) over who took what and what items share",
            "chosen": asdict(config),
            "graph": {
                "users": len(data.sequences),
                "items": count,
                "taken": int(built.taken.nnz),
                "tags": int(built.tagged.shape[1]) if tagged is not None else 0,
                "tagged": int(built.tagged.nnz) if tagged is not None else 0,
            },
            "loss": "full softmax" if full else f"softmax over {config.negatives} sampled items",
            "calibration": self.calibration.as_dict(),
            "parameters": sum(p.numel() for p in network.parameters()),
            "threads": data.threads,
            "seed": data.seed,
            **report.as_dict(),
        }

    def scores(self, histories: Sequences) -> Floats:
        out = np.empty((len(histories), len(self.shares)), dtype=np.float32)
        for start in range(0, len(histories), SCORE_ROWS):
            rows = np.arange(start, min(start + SCORE_ROWS, len(histories)))
            given = _given(histories.take(rows), self.degrees, self.config.decay)
            users = np.asarray(given @ self.raw, dtype=np.float32)
            length = np.linalg.norm(users, axis=1, keepdims=True)
            users /= np.maximum(length, 1e-12) * self.config.temperature
            out[rows] = users @ self.vectors.T + self.bias
            out[rows[length[:, 0] == 0]] = np.log(self.shares)
        return out

    def predict(self, histories: Sequences, items: npt.NDArray[np.int32]) -> Floats:
        likely = self.calibration.probabilities(self.scores(histories), self.shares)
        return likely[np.arange(len(items)), items]

    def save(self, folder: Path) -> None:
        arrays = {
            "shares": self.shares,
            "degrees": self.degrees,
            "vectors": self.vectors,
            "raw": self.raw,
            "bias": self.bias,
        }
        about = {
            "config": asdict(self.config),
            "calibration": self.calibration.as_dict(),
            "card": self.card,
        }
        weights.write(folder, arrays, about)

    @classmethod
    def load(cls, folder: Path) -> Self:
        arrays, about = weights.read(folder)
        model = cls(Config(**about["config"]))
        model.card = about["card"]
        model.calibration = Calibration(**about["calibration"])
        for name, array in arrays.items():
            setattr(model, name, array)
        return model


class _Source:
    """Users and their items, and the batches of an epoch."""

    def __init__(self, sequences: Sequences, degrees: Floats, config: Config) -> None:
        self.sequences = sequences
        self.degrees = degrees
        self.config = config
        self.users = np.flatnonzero(sequences.lengths >= 2)

    def epoch(self, rng: np.random.Generator) -> Iterator[tuple[graph.Edges, Tensor, Tensor]]:
        """((B, M) what is given of each user, (N,) row and (N,) item of what is asked for)."""
        order = rng.permutation(self.users)
        for start in range(0, len(order), self.config.batch_users):
            some = self.sequences.take(np.sort(order[start : start + self.config.batch_users]))
            lengths = some.lengths
            owner = np.repeat(np.arange(len(some)), lengths)
            share = rng.random(len(some)) * self.config.hidden
            hidden = rng.random(len(owner)) < share[owner]
            # at least one is asked for, and at least one is given
            one = some.offsets[:-1] + rng.integers(0, lengths)
            other = some.offsets[:-1] + (one - some.offsets[:-1] + 1) % lengths
            hidden[one], hidden[other] = True, False
            same = some.items[one] == some.items[other]  # a user of one item over and over
            rest = np.flatnonzero(~hidden)
            left = Sequences(
                users=some.users,
                offsets=np.concatenate(
                    [[0], np.cumsum(np.bincount(owner[rest], minlength=len(some)))]
                ),
                items=some.items[rest],
                kinds=some.kinds[rest],
                times=some.times[rest],
                dwell=some.dwell[rest],
                prices=some.prices[rest],
            )
            given = _given(left, self.degrees, self.config.decay)
            asked = np.flatnonzero(hidden & ~same[owner])
            if len(asked):
                yield (
                    graph.Edges.of(given),
                    torch.from_numpy(owner[asked]),
                    torch.from_numpy(some.items[asked].astype(np.int64)),
                )


def _given(histories: Sequences, degrees: Floats, decay: float) -> sp.csr_array:
    """(B, M) float32: what each user is the sum of, 1 / sqrt(users of the item) each.

    The same scale for all items of a user, 1 / sqrt(items), falls away: users are of length 1.
    """
    matrix = graph.once(histories, len(degrees))
    if decay < 1.0:
        owner = np.repeat(np.arange(len(histories)), histories.lengths)
        age = np.repeat(histories.offsets[1:], histories.lengths) - 1 - np.arange(len(owner))
        weight = np.power(np.float32(decay), age.astype(np.float32))
        parts = (weight, (owner, histories.items.astype(np.int64)))
        matrix = sp.csr_array(sp.coo_array(parts, shape=matrix.shape))
    scale = sp.diags_array(1.0 / np.sqrt(np.maximum(degrees, 1.0)))
    return sp.csr_array(matrix @ scale).astype(np.float32)


def _fingerprint(data: TrainingData, config: Config) -> str:
    """Digest of everything that decides the weights, for checkpoints."""
    digest = hashlib.sha256((inspect.getsource(Network) + inspect.getsource(graph)).encode())
    digest.update(json.dumps({**asdict(config), "seed": data.seed}, sort_keys=True).encode())
    for array in (data.sequences.offsets, data.sequences.items, data.items.tags):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
