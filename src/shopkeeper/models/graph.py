"""What all graph models share: the graph, learning to name hidden items, the linear filter, keeping.

Users are no nodes with vectors of their own: a user is the items of their history, and the items of
those whom they follow, so that one who joined after training is embedded from neighbours alone, by
the same code as everybody else. An item that joined after training has its users and its tags
(brand, category, shop, attributes) for neighbours; see `GraphModel.grown`.

Learned is a softmax over cosines at a temperature (Wu et al., "On the Effectiveness of Sampled
Softmax Loss for Item Recommendation", TOIS 2024). Where events have no order, of each user's items
a part is hidden, and the rest has to name the hidden ones; where they have, what came before a cut
names what comes next. What is asked for is taken out of the graph that answers. Items of the
history may be named again: each kind of behaviour and each item has a weight for that. The items'
own vectors start as the top singular vectors of the graph, and `local` adds the linear filter's
log to the scores, its weight chosen on validation.
"""

import hashlib
import inspect
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shopkeeper.errors import InputError
from shopkeeper.features.items import ItemTable
from shopkeeper.features.sequences import NO_TIME, Floats, Ints, Sequences
from shopkeeper.features.ties import Ties
from shopkeeper.models import calibration, graph_filter, weights
from shopkeeper.models.calibration import Calibration
from shopkeeper.models.graph_filter import Filter
from shopkeeper.models.options import configure
from shopkeeper.models.protocol import TrainingData
from shopkeeper.training.losses import draw_negatives, set_softmax
from shopkeeper.training.trainer import Plan, train
from shopkeeper.words import KIND_CODES

SCORE_ROWS = 512  # histories scored at a time
OWN_NEGATIVES = -1e9  # the logit of what is no candidate
SMOOTHED = 10.0  # events of the mean kind that stand beside an item's own
TIE = len(KIND_CODES)  # the kind of an item that somebody took whom the user follows


@dataclass(frozen=True)
class GraphConfig:
    """What every model of this kind can be told; see each for what it adds."""

    dim: int = 64
    layers: int = 2  # convolutions over the items' vectors
    tags: float = 0.1  # share of a convolution that goes through tags, where items have any
    hidden: float = 0.5  # largest share of a user's items that is hidden and asked for
    next: str = (
        "auto"  # ask for what comes next: "yes", "no" (hidden items); auto: where times are known
    )
    asked: str = ""  # the kind of behaviour that is asked for; "": any
    again: bool = True  # items of the history may be named again, by kind
    temperature: float = 0.15  # of the cosines
    evenly: float = 0.5  # 1: every user counts alike, 0: every hidden item
    max_length: int = 200  # newest events of a history that are read
    item_dropout: float = 0.05  # share of items whose own vector is hidden in a step
    start: str = "spectral"  # of the items' vectors; or "random"
    learning_users: int = 50_000  # users drawn for the convolutions of a step; 0: all
    negatives: int = 4096  # of the sampled softmax
    full_items: int = 15_000  # up to this many items the softmax is full
    local: bool = True  # add the log of the linear filter to the scores
    local_weights: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0)  # tried on validation
    filter_rank: int = 448  # of the ideal low-pass filter
    filter_low: float = 0.3  # its weight
    filter_sharpen: float = 2.5
    filter_most: int = 200  # weights kept of each item
    learning_rate: float = 5e-3
    weight_decay: float = 0.0
    average: float = 0.95  # of the running mean of the weights
    batch_users: int = 2048
    max_epochs: int = 40
    patience: int = 3
    max_minutes: float = 60.0
    validate_every: int = 2
    validate_from: int = 2


class Had(NamedTuple):
    """What B users had, users end to end, oldest first."""

    users: int  # B
    owner: Tensor  # (N,) int64, ascending
    items: Tensor  # (N,) int64
    kinds: Tensor  # (N,) int64, places in `Graph.kinds`
    age: Tensor  # (N,) int64: how many newer events the user has

    def newest(self) -> tuple[Tensor, Tensor]:
        """((F,) users who have any event of their own, (F,) rows of their newest one)."""
        (rows,) = torch.nonzero(self.age == 0, as_tuple=True)
        return self.owner[rows], rows


class _Product(torch.autograd.Function):
    """A constant sparse matrix times a dense one; the gradient needs its transpose, built once.

    By SciPy: torch's own sparse matrices warn that they are in beta, and are no faster here.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: sp.csr_array, turned: sp.csr_array) -> Tensor:
        ctx.turned = turned
        return torch.from_numpy(matrix @ x.detach().numpy())

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return torch.from_numpy(ctx.turned @ grads[0].contiguous().numpy()), None, None


@dataclass(frozen=True)
class Edges:
    """A sparse matrix and its transpose, ready to multiply with in both directions."""

    matrix: sp.csr_array  # (R, C)
    turned: sp.csr_array  # (C, R)
    places: Ints  # (nnz,) of the transpose's entries in `matrix`

    @classmethod
    def of(cls, matrix: sp.csr_array) -> "Edges":
        matrix = sp.csr_array(matrix).astype(np.float32)
        matrix.sort_indices()
        numbered = sp.csr_array(
            (np.arange(matrix.nnz, dtype=np.int64), matrix.indices, matrix.indptr), matrix.shape
        )
        turned = sp.csr_array(numbered.T)
        places = turned.data
        return cls(
            matrix, sp.csr_array((matrix.data[places], turned.indices, turned.indptr), turned.shape), places
        )  # fmt: skip

    def kept(self, keep: Floats) -> "Edges":
        """The same with each entry times `keep` (nnz,)."""
        data = self.matrix.data * keep
        return Edges(
            sp.csr_array((data, self.matrix.indices, self.matrix.indptr), self.matrix.shape),
            sp.csr_array((data[self.places], self.turned.indices, self.turned.indptr), self.turned.shape),
            self.places,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """(R, D) of (C, D), differentiable in x."""
        made: Tensor = _Product.apply(x, self.matrix, self.turned)  # type: ignore[no-untyped-call]
        return made

    def back(self, x: Tensor) -> Tensor:
        """(C, D) of (R, D), differentiable in x."""
        made: Tensor = _Product.apply(x, self.turned, self.matrix)  # type: ignore[no-untyped-call]
        return made


@dataclass(frozen=True)
class Graph:
    """Who took what and how, what belongs to what, who follows whom; one edge each, told once.

    Matrices are symmetrically normalised, D^-1/2 A D^-1/2, when they are asked for.
    """

    users: int
    items: int
    owner: Ints  # (E,) of each (user, item, kind), in that order
    item: Ints  # (E,)
    kind: Ints  # (E,) places in `kinds`
    kinds: tuple[int, ...]  # KIND_CODES, and TIE last where users follow each other
    tagged: dict[str, sp.csr_array]  # by field (brand, category, ...): (M, A) ones
    after: sp.csr_array | None  # (M, M): how often an item came right after another; None: no order
    ties: sp.csr_array | None  # (U, U): who follows whom

    @cached_property
    def pairs(self) -> tuple[Ints, Ints]:
        """((E,) number of each edge's (user, item) pair, (P,) kinds of each pair)."""
        key = self.owner * self.items + self.item
        first = np.ones(len(key), dtype=bool)
        first[1:] = key[1:] != key[:-1]
        number = np.cumsum(first) - 1
        return number, np.bincount(number, minlength=int(first.sum()))

    @cached_property
    def taken(self) -> Edges:
        """(U, M): whoever took what, by any kind of behaviour."""
        many = self.pairs[1]
        first = np.concatenate([[0], np.cumsum(many)])[:-1]
        return Edges.of(self._matrix(self.owner[first], self.item[first]))

    @cached_property
    def by_kind(self) -> list[Edges]:
        """(U, M) of each kind of behaviour."""
        return [
            Edges.of(self._matrix(self.owner[self.kind == k], self.item[self.kind == k]))
            for k in range(len(self.kinds) - (self.ties is not None))
        ]

    @cached_property
    def alike(self) -> Edges | None:
        """(M, A) of all fields side by side; None where no item has a tag."""
        if not self.tagged:
            return None
        return Edges.of(_normalised(sp.csr_array(sp.hstack(list(self.tagged.values())))))

    @cached_property
    def fields(self) -> dict[str, Edges]:
        """(M, A) of each field."""
        return {name: Edges.of(_normalised(matrix)) for name, matrix in self.tagged.items()}

    @cached_property
    def followed(self) -> Edges | None:
        """(M, M) of what came right after what."""
        return None if self.after is None else Edges.of(_normalised(self.after))

    @cached_property
    def follows(self) -> Edges | None:
        """(U, U) of who follows whom."""
        return None if self.ties is None else Edges.of(_normalised(self.ties))

    @cached_property
    def degrees(self) -> Floats:
        """(M,) users of each item."""
        counted = np.bincount(self.taken.matrix.indices, minlength=self.items)
        return counted.astype(np.float32)

    def _matrix(self, owner: Ints, item: Ints) -> sp.csr_array:
        ones = np.ones(len(owner), dtype=np.float32)
        return _normalised(
            sp.csr_array(sp.coo_array((ones, (owner, item)), shape=(self.users, self.items)))
        )


def _normalised(matrix: sp.csr_array) -> sp.csr_array:
    rows, columns = np.asarray(matrix.sum(axis=1)).ravel(), np.asarray(matrix.sum(axis=0)).ravel()
    left, right = (1.0 / np.sqrt(np.maximum(each, 1e-12)) for each in (rows, columns))
    scaled = sp.diags_array(left * (rows > 0)) @ matrix @ sp.diags_array(right * (columns > 0))
    return sp.csr_array(scaled).astype(np.float32)


def build(sequences: Sequences, items: ItemTable, ties: Ties | None = None) -> Graph:
    """The graph of what may be learned from. Ties from or to people without events are left out."""
    users, count = len(sequences), len(items)
    owner = np.repeat(np.arange(users, dtype=np.int64), sequences.lengths)
    codes = tuple(int(code) for code in np.unique(sequences.kinds))
    kind = np.searchsorted(codes, sequences.kinds)
    key = np.unique((owner * count + sequences.items) * max(1, len(codes)) + kind)
    pair, kind = np.divmod(key, max(1, len(codes)))
    ordered = bool(len(sequences.times)) and not (sequences.times == NO_TIME).any()
    return Graph(
        users=users,
        items=count,
        owner=pair // count,
        item=pair % count,
        kind=kind,
        kinds=(*codes, *((TIE,) if ties is not None else ())),
        tagged=_by_field(items),
        after=_after(sequences, count) if ordered else None,
        ties=None if ties is None else _between(ties, sequences.users),
    )


def _by_field(items: ItemTable) -> dict[str, sp.csr_array]:
    """(M, A) ones by the part of the tags' names before "="."""
    owner = np.repeat(np.arange(len(items)), np.diff(items.tag_offsets))
    names = np.asarray([name.partition("=")[0] for name in items.tag_names])
    found = {}
    for field in dict.fromkeys(names.tolist()):
        own = names[items.tags] == field
        ones = np.ones(int(own.sum()), dtype=np.float32)
        shape = (len(items), len(names))
        matrix = sp.csr_array(sp.coo_array((ones, (owner[own], items.tags[own])), shape=shape))
        matrix.data[:] = 1.0  # told twice is told once
        found[field] = sp.csr_array(matrix[:, np.flatnonzero(names == field)])
    return {field: matrix for field, matrix in found.items() if matrix.nnz}


def _after(sequences: Sequences, items: int) -> sp.csr_array:
    inside = np.ones(max(0, len(sequences.items) - 1), dtype=bool)
    ends = sequences.offsets[1:-1] - 1
    inside[ends[(ends >= 0) & (ends < len(inside))]] = False
    before, after = sequences.items[:-1][inside], sequences.items[1:][inside]
    apart = before != after
    ones = np.ones(int(apart.sum()), dtype=np.float32)
    there = sp.coo_array((ones, (after[apart], before[apart])), shape=(items, items))
    return sp.csr_array(there)


def _between(ties: Ties, users: list[str]) -> sp.csr_array:
    row = {user: n for n, user in enumerate(users)}
    owner = np.repeat(np.arange(len(ties.followers)), np.diff(ties.offsets))
    known = [
        (row[ties.followers[f]], row[other])
        for f, other in zip(owner.tolist(), ties.followed, strict=True)
        if ties.followers[f] in row and other in row
    ]
    left, right = ([p[n] for p in known] for n in (0, 1))
    ones = np.ones(len(known), dtype=np.float32)
    there = sp.coo_array((ones, (left, right)), shape=(len(users), len(users)))
    return sp.csr_array(there)


class View:
    """The graph as a step sees it: without the edges that are asked for, through some of the users."""

    def __init__(
        self,
        graph: Graph,
        hidden: Ints | None = None,
        users: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """`hidden`: edges taken out; `users`: those through whom is convolved, None: all."""
        self.graph = graph
        self.hidden = hidden
        self.users = users

    @cached_property
    def kept(self) -> npt.NDArray[np.bool_]:
        """(E,) edges that are there."""
        keep = np.ones(len(self.graph.owner), dtype=bool)
        if self.hidden is not None:
            keep[self.hidden] = False
        return keep

    @cached_property
    def taken(self) -> Edges:
        """(U, M)."""
        edges = self.graph.taken
        if self.hidden is not None:
            number, many = self.graph.pairs
            left = many - np.bincount(number[self.hidden], minlength=len(many))
            edges = edges.kept((left > 0).astype(np.float32))
        return self._through(edges)

    @cached_property
    def by_kind(self) -> list[Edges]:
        """(U, M) of each kind of behaviour."""
        graph = self.graph
        if self.hidden is None:
            return [self._through(edges) for edges in graph.by_kind]
        return [
            self._through(edges.kept(self.kept[graph.kind == k].astype(np.float32)))
            for k, edges in enumerate(graph.by_kind)
        ]

    @cached_property
    def drawn(self) -> tuple[Ints, Ints, Ints]:
        """((E',) user, item and kind of the edges there are), users numbered as drawn."""
        graph, keep = self.graph, self.kept
        if self.users is None:
            return graph.owner[keep], graph.item[keep], graph.kind[keep]
        number = np.full(graph.users, -1, dtype=np.int64)
        number[self.users] = np.arange(len(self.users))
        owner = number[graph.owner]
        keep = keep & (owner >= 0)
        return owner[keep], graph.item[keep], graph.kind[keep]

    def _through(self, edges: Edges) -> Edges:
        """Items' neighbours are a draw of the users, each standing for several (FastGCN, ICLR 2018)."""
        if self.users is None:
            return edges
        share = len(self.users) / self.graph.users
        return Edges.of(edges.matrix[self.users] / np.sqrt(share))


class GraphNetwork(nn.Module, ABC):
    """Items' own vectors; a subclass makes vectors of items and users of them."""

    known: Tensor  # (M,) 1 where an item has a vector of its own, 0: neighbours alone
    degree_roots: Tensor  # (M,) square roots of how many users each item has

    def __init__(self, config: Any, items: int, kinds: int) -> None:
        """`kinds` that a history's events are of, what followed users did included."""
        super().__init__()
        self.config = config
        self.items = nn.Embedding(items, config.dim)
        nn.init.normal_(self.items.weight, std=0.1)
        self.bias = nn.Parameter(torch.zeros(items))
        self.kind_weights = nn.Parameter(torch.zeros(kinds))  # logarithms
        self.again_kinds = nn.Parameter(torch.zeros(kinds))
        self.again_items = nn.Parameter(torch.zeros(kinds, items if config.again else 0))
        self.register_buffer("known", torch.ones(items))
        self.register_buffer("degree_roots", torch.ones(items))

    def own(self) -> Tensor:
        """(M, D) the items' own vectors, 0 of those that have none."""
        x = self.items.weight * self.known[:, None]
        if self.training and self.config.item_dropout:
            x = x * (torch.rand(len(x), 1) >= self.config.item_dropout)
        return x

    def summed(self, table: Tensor, had: Had) -> Tensor:
        """(B, D) normalised sum of a user's items, each kind of behaviour with its weight."""
        weight = self.kind_weights.exp()[had.kinds] / self.degree_roots[had.items]
        total = torch.zeros(had.users, table.shape[1])
        return total.index_add(0, had.owner, F.embedding(had.items, table) * weight[:, None])

    def named_again(self, had: Had) -> tuple[Tensor, Tensor, Tensor]:
        """((E,) user, (E,) item, (E,) what is added to its logit), users ascending, no pair twice."""
        count, kinds = len(self.known), len(self.again_kinds)
        key = torch.unique((had.owner * count + had.items) * kinds + had.kinds)
        pair, kind = key // kinds, key % kinds
        pairs, place = torch.unique_consecutive(pair, return_inverse=True)
        value = self.again_kinds[kind] + self.again_items[kind, pair % count]
        return (
            pairs // count,
            pairs % count,
            torch.zeros(len(pairs)).index_add(0, place, value),
        )

    def paths(self, kinds: list[str]) -> dict[str, Any]:
        """What was learned about edges, for the card, by the names of their kinds."""
        return {}

    @abstractmethod
    def table(self, view: View) -> Tensor:
        """(M, D) vectors of the items after all convolutions."""

    @abstractmethod
    def people(self, table: Tensor, had: Had) -> Tensor:
        """(B, D) vectors of users; their length does not matter."""


class GraphModel:
    """A model of this kind: a subclass names its Config, its network and what it is."""

    name: ClassVar[str]
    reads_ties: ClassVar[bool] = True
    what: ClassVar[str]  # for the card
    config_type: ClassVar[type[GraphConfig]]
    network_type: ClassVar[type[GraphNetwork]]

    def __init__(self, config: Any = None) -> None:
        self.config: Any = self.config_type() if config is None else config
        self.card: dict[str, Any] = {}
        self.shares: Floats = np.zeros(0, dtype=np.float32)  # (M,)
        self.calibration = Calibration()
        self.network: GraphNetwork | None = None
        self.raw: Floats = np.zeros((0, 0), dtype=np.float32)  # (M, D), as convolved
        self.kinds: tuple[int, ...] = ()
        self.ordered = False
        self.filter = graph_filter.EMPTY
        self.local_weight = 0.0
        self.friends = Friends.none()
        self.tag_names: list[str] = []

    def fit(self, data: TrainingData) -> None:
        asked = configure(self.config_type, self.name, data.settings)
        self.ordered = _ordered(asked, data)
        self.config, switched_off = _useful(asked, data, self.ordered)
        config = self.config
        torch.manual_seed(data.seed)
        count = len(data.items)
        self.shares = calibration.shares(np.bincount(data.sequences.items, minlength=count))
        learned, users = calibration.hold_out(data.sequences, data.seed, most=500)
        graph = build(learned, data.items, data.ties)
        self.kinds = graph.kinds
        self.tag_names = data.items.tag_names
        self.friends = Friends.of(data.ties, learned, config.max_length)
        network = self.network = self.network_type(config, count, len(graph.kinds))
        network.known.copy_(torch.from_numpy((graph.degrees > 0).astype(np.float32)))
        network.degree_roots.copy_(torch.from_numpy(np.sqrt(np.maximum(graph.degrees, 1.0))))
        self.local_weight = 0.0
        rank = max(config.dim, config.filter_rank if config.local else 0)
        vectors, values = graph_filter.singular(graph.taken.matrix, rank, data.seed)
        _start(network, vectors, self.shares)
        if config.again and config.asked:
            _start_again(network, graph, KIND_CODES[config.asked])
        source = _Source(learned, graph, self, data.seed)
        full = count <= config.full_items
        popular = torch.from_numpy(self.shares)

        def loss(batch: "Asked", generator: torch.Generator) -> Tensor:
            table = network.table(batch.view)
            states = F.normalize(network.people(table, batch.had), dim=1) / config.temperature
            of_rows = batch.counts.clamp(min=1.0).pow(-config.evenly)
            return set_softmax(
                states,
                F.normalize(table, dim=1),
                network.bias,
                batch.wanted,
                _added(network, batch, config.again),
                of_rows=of_rows,
                drawn=None if full else draw_negatives(count, config.negatives, generator, popular),
            )

        validate = data.validate

        def validated() -> dict[str, float]:
            assert validate is not None
            self._take(View(graph))
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
                    warmup_steps=20,
                    average=config.average,
                    validate_every=config.validate_every,
                    validate_from=config.validate_from,
                ),
                seed=data.seed,
                validate=None if validate is None else validated,
                primary=data.primary,
                checkpoint=data.checkpoint,
                fingerprint=_fingerprint(type(self), data, config),
                progress=data.progress,
                name=self.name,
            )
            self._take(View(graph))
            targets = data.sequences.items[data.sequences.offsets[1:][users] - 1]
            held_out = learned.take(users)
            blend = self._choose_local(data, graph, vectors, values, held_out, targets)
        finally:
            torch.set_num_threads(before)
        self.calibration = calibration.fit(self.scores(held_out), targets, self.shares)
        self.card = {
            "what": self.what,
            "chosen": json.loads(json.dumps(asdict(config))),
            "switched_off": switched_off,
            "graph": {
                "users": graph.users,
                "items": count,
                "edges": len(graph.owner),
                "kinds": [_kind_name(code) for code in graph.kinds],
                "tags": {field: int(matrix.nnz) for field, matrix in graph.tagged.items()},
                "ties": 0 if graph.ties is None else int(graph.ties.nnz),
            },
            "asked": "what comes next" if self.ordered else "hidden items",
            "loss": "full softmax" if full else f"softmax over {config.negatives} sampled items",
            "learned": {
                "weight_of_kind": {
                    _kind_name(code): round(float(weight), 3)
                    for code, weight in zip(
                        graph.kinds, network.kind_weights.detach().exp(), strict=True
                    )
                },
                **network.paths([_kind_name(code) for code in graph.kinds]),
            },
            "calibration": self.calibration.as_dict(),
            "local": blend,
            "parameters": sum(p.numel() for p in network.parameters()),
            "threads": data.threads,
            "seed": data.seed,
            **report.as_dict(),
        }

    def grown(self, sequences: Sequences, items: ItemTable, ties: Ties | None = None) -> Self:
        """This model on a graph with more users and items; nothing is learned.

        Items that were not there when it learned have no vector of their own: they are embedded
        from their users and tags alone, and their bias is what known items with as many users have.
        The linear filter and the social ties are those of the new graph.

        Args:
            sequences: all events of the new graph, old ones included; items: the known ones first.
        Raises:
            InputError: `items` does not begin with the items that were learned.
        """
        network = _trained(self.network)
        old = len(self.shares)
        if len(items) < old:
            raise InputError(
                f"{len(items):,} items, but {old:,} were learned",
                where=self.name,
                next="hand over the known items first, in their order, then the new ones",
            )
        config = self.config
        made = type(self)(config)
        made.card, made.calibration, made.kinds = self.card, self.calibration, self.kinds
        made.ordered, made.local_weight, made.tag_names = (
            self.ordered,
            self.local_weight,
            items.tag_names,
        )
        made.shares = calibration.shares(np.bincount(sequences.items, minlength=len(items)))
        known_kinds = np.isin(sequences.kinds, [code for code in self.kinds if code != TIE])
        graph = build(_only(sequences, known_kinds), items, ties if TIE in self.kinds else None)
        if TIE in self.kinds and ties is None:
            graph = replace(graph, kinds=(*graph.kinds, TIE))
        graph = _of_kinds(graph, self.kinds)
        made.friends = (
            self.friends if ties is None else Friends.of(ties, sequences, config.max_length)
        )
        bigger = self.network_type(config, len(items), len(self.kinds))
        state, wanted = network.state_dict(), bigger.state_dict()
        degrees = torch.from_numpy(graph.degrees)
        with torch.no_grad():
            for key, value in state.items():
                if key in ("items.weight", "known", "bias", "degree_roots"):
                    wanted[key].zero_()
                    wanted[key][:old] = value
                elif key == "again_items":
                    wanted[key].zero_()
                    wanted[key][:, : value.shape[1]] = value
                else:
                    wanted[key] = value.clone()
            unknown = wanted["known"] == 0
            wanted["bias"][unknown] = _bias_by_degree(state, degrees[:old])(degrees[unknown])
            wanted["degree_roots"] = degrees.clamp(min=1.0).sqrt()
        bigger.load_state_dict(wanted)
        made.network = bigger.eval()
        made._take(View(graph))
        if self.local_weight:
            vectors, values = graph_filter.singular(graph.taken.matrix, config.filter_rank, 0)
            made.filter = _filter(graph, vectors, values, config)
        return made

    def _take(self, view: View) -> None:
        network = _trained(self.network)
        with torch.inference_mode():
            self.raw = network.table(view).numpy().copy()

    def _choose_local(
        self,
        data: TrainingData,
        graph: Graph,
        vectors: Floats,
        values: Floats,
        held_out: Sequences,
        targets: npt.NDArray[np.int32],
    ) -> dict[str, Any]:
        """Choose the linear filter's weight, on validation or else on the held-out events."""
        config = self.config
        if not config.local:
            return {}
        cpu = time.process_time()
        if config.local_weights == (0.0,):
            return {"weight": 0.0, "why": "told", "tried": {}, "cpu_seconds": 0.0}
        self.filter = _filter(graph, vectors, values, config)
        tried: dict[str, float] = {}
        for weight in config.local_weights:
            self.local_weight = weight
            if data.validate is not None:
                value = data.validate(self)[data.primary]
            else:
                value = _mean_gain(self.scores(held_out), targets)
            tried[str(weight)] = round(value, 6)
        self.local_weight = float(max(tried, key=lambda key: tried[key]))
        if not self.local_weight:
            self.filter = graph_filter.EMPTY
        return {
            "weight": self.local_weight,
            "why": f"best {data.primary} on validation"
            if data.validate is not None
            else f"no validation; best place of {len(targets)} held-out events",
            "tried": tried,
            "cpu_seconds": round(time.process_time() - cpu, 3),
        }

    def had(self, histories: Sequences) -> Had:
        """What users had and, behind it, what those had whom they follow."""
        recent = histories.last(self.config.max_length)
        owner = np.repeat(np.arange(len(recent), dtype=np.int64), recent.lengths)
        age = np.repeat(recent.offsets[1:], recent.lengths) - 1 - np.arange(len(owner))
        kind = np.searchsorted([c for c in self.kinds if c != TIE], recent.kinds)
        codes = np.asarray([c for c in self.kinds if c != TIE])
        known = codes[np.minimum(kind, len(codes) - 1)] == recent.kinds
        kind = np.where(known, kind, 0)  # a kind that was never learned from counts as the first
        items = recent.items.astype(np.int64)
        if not self.ordered:
            owner, items, kind, age = _once(owner, items, kind, age, len(self.shares))
        if TIE in self.kinds:
            owner, items, kind, age = self.friends.added(
                recent.users, owner, items, kind, age, self.kinds.index(TIE)
            )
        return Had(len(recent), *(torch.from_numpy(a) for a in (owner, items, kind, age)))

    @torch.inference_mode()
    def scores(self, histories: Sequences) -> Floats:
        network = _trained(self.network)
        raw = torch.from_numpy(self.raw)
        table = F.normalize(raw, dim=1)
        out = np.empty((len(histories), len(self.shares)), dtype=np.float32)
        for start in range(0, len(histories), SCORE_ROWS):
            rows = np.arange(start, min(start + SCORE_ROWS, len(histories)))
            some = histories.take(rows)
            had = self.had(some)
            states = F.normalize(network.people(raw, had), dim=1) / self.config.temperature
            logits = states @ table.T + network.bias
            if self.config.again and len(had.owner):
                owner, items, value = network.named_again(had)
                logits[owner, items] += value
            if self.local_weight:
                logits -= logits.logsumexp(dim=1, keepdim=True)
                logits += self.local_weight * torch.from_numpy(self._filtered(some))
            out[rows] = logits.numpy()
            nobody = np.bincount(had.owner.numpy(), minlength=len(rows)) == 0
            out[rows[nobody]] = np.log(self.shares)
        return out

    def _filtered(self, histories: Sequences) -> Floats:
        """(B, M) logarithm of the linear filter, as a share of each row's largest value."""
        found = self.filter.scores(once(histories, len(self.shares)))
        found /= np.maximum(found.max(axis=1, keepdims=True), 1e-12)
        np.maximum(found, 0.0, out=found)
        found += np.float32(0.01)
        return np.asarray(np.log(found, out=found))

    def predict(self, histories: Sequences, items: npt.NDArray[np.int32]) -> Floats:
        out = np.empty(len(items), dtype=np.float32)
        for start in range(0, len(items), SCORE_ROWS):
            rows = np.arange(start, min(start + SCORE_ROWS, len(items)))
            scores = self.scores(histories.take(rows))
            likely = self.calibration.probabilities(scores, self.shares)
            out[rows] = likely[np.arange(len(rows)), items[rows]]
        return out

    def save(self, folder: Path) -> None:
        network = _trained(self.network)
        arrays = {f"network.{k}": v.numpy() for k, v in network.state_dict().items()}
        arrays |= {"shares": self.shares, "raw": self.raw}
        arrays |= self.filter.arrays() | self.friends.arrays()
        about = {
            "config": asdict(self.config),
            "calibration": self.calibration.as_dict(),
            "local_weight": self.local_weight,
            "kinds": list(self.kinds),
            "ordered": self.ordered,
            "tag_names": self.tag_names,
            "card": self.card,
        }
        weights.write(folder, arrays, about)

    @classmethod
    def load(cls, folder: Path) -> Self:
        arrays, about = weights.read(folder)
        model = cls(configure(cls.config_type, cls.name, about["config"]))
        model.card = about["card"]
        model.calibration = Calibration(**about["calibration"])
        model.shares, model.raw = arrays["shares"], arrays["raw"]
        model.local_weight = about["local_weight"]
        model.kinds, model.ordered = tuple(about["kinds"]), about["ordered"]
        model.tag_names = about["tag_names"]
        model.filter = Filter.of_arrays(arrays)
        model.friends = Friends.of_arrays(arrays)
        state = {
            k.removeprefix("network."): torch.from_numpy(v)
            for k, v in arrays.items()
            if k.startswith("network.")
        }
        model.network = cls.network_type(model.config, len(model.shares), len(model.kinds))
        model.network.load_state_dict(state)
        model.network.eval()
        return model


@dataclass(frozen=True)
class Friends:
    """What those took whom each follower follows; followers by a digest of their id, not the id."""

    keys: npt.NDArray[np.uint64]  # (F,) ascending
    offsets: Ints  # (F + 1,)
    items: Ints  # (N,) each item once a follower

    @classmethod
    def none(cls) -> "Friends":
        """Nobody follows anybody."""
        empty = np.zeros(0, dtype=np.int64)
        return cls(empty.view(np.uint64), np.zeros(1, dtype=np.int64), empty)

    @classmethod
    def of(cls, ties: Ties | None, sequences: Sequences, most: int) -> "Friends":
        """At most the `most` newest events of each followed user are known to a follower."""
        if ties is None:
            return cls.none()
        row = {user: n for n, user in enumerate(sequences.users)}
        recent = sequences.last(most)
        keys = np.asarray([_key(user) for user in ties.followers], dtype=np.uint64)
        parts = []
        for f in np.argsort(keys):
            named = ties.followed[ties.offsets[f] : ties.offsets[f + 1]]
            own = [recent.items[recent.user(row[other])] for other in named if other in row]
            parts.append(np.unique(np.concatenate(own)) if own else np.zeros(0, dtype=np.int32))
        flat = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
        return cls(np.sort(keys), offsets.astype(np.int64), flat.astype(np.int64))

    def added(
        self, users: list[str], owner: Ints, items: Ints, kind: Ints, age: Ints, tie: int
    ) -> tuple[Ints, Ints, Ints, Ints]:
        """The events of B `users` and, of the kind `tie`, those of the people they follow."""
        asked = np.asarray([_key(user) for user in users], dtype=np.uint64)
        place = np.minimum(np.searchsorted(self.keys, asked), max(0, len(self.keys) - 1))
        known = self.keys[place] == asked if len(self.keys) else np.zeros(len(asked), dtype=bool)
        rows = np.flatnonzero(known)
        many = np.diff(self.offsets)[place[rows]]
        starts = self.offsets[:-1][place[rows]]
        flat = np.arange(int(many.sum())) + np.repeat(starts - (np.cumsum(many) - many), many)
        owner = np.concatenate([owner, np.repeat(rows, many)])
        order = np.argsort(owner, kind="stable")
        more = np.full(len(flat), tie, dtype=np.int64)
        old = np.full(len(flat), -1, dtype=np.int64)  # of no age: it is not the user's own
        return (
            owner[order],
            np.concatenate([items, self.items[flat]])[order],
            np.concatenate([kind, more])[order],
            np.concatenate([age, old])[order],
        )

    def arrays(self) -> weights.Arrays:
        """For a model to keep."""
        return {
            "friends.keys": self.keys.view(np.int64),
            "friends.offsets": self.offsets,
            "friends.items": self.items,
        }

    @classmethod
    def of_arrays(cls, arrays: weights.Arrays) -> "Friends":
        """What `arrays` made."""
        keys, offsets, items = (arrays[f"friends.{name}"] for name in ("keys", "offsets", "items"))
        return cls(keys.view(np.uint64), offsets, items)


def _key(user: str) -> int:
    return int.from_bytes(hashlib.blake2b(user.encode(), digest_size=8).digest(), "little")


class Asked(NamedTuple):
    """One batch: what users had, what they are asked for, and the graph without it."""

    had: Had
    wanted: tuple[Tensor, Tensor]  # (N,) user and (N,) item, users ascending, no pair twice
    counts: Tensor  # (B,) float32 wanted of each
    never: tuple[Tensor, Tensor]  # (E,) user and item that are no candidates
    view: View


class _Source:
    """Users and what they took, and the batches of an epoch."""

    def __init__(self, sequences: Sequences, graph: Graph, model: GraphModel, seed: int) -> None:
        self.graph, self.model, self.config = graph, model, model.config
        self.sequences = sequences
        owner = np.repeat(np.arange(len(sequences), dtype=np.int64), sequences.lengths)
        codes = [code for code in model.kinds if code != TIE]
        kind = np.searchsorted(codes, sequences.kinds)
        items, age = sequences.items.astype(np.int64), np.zeros(len(owner), dtype=np.int64)
        if not model.ordered:
            owner, items, kind, age = _once(owner, items, kind, age, graph.items)
        self.owner, self.items, self.kinds = owner, items, kind
        self.offsets = np.concatenate(
            [[0], np.cumsum(np.bincount(owner, minlength=len(sequences)))]
        )
        many = max(1, len(codes))
        keys = (graph.owner * graph.items + graph.item) * many + graph.kind
        self.edges = np.searchsorted(keys, (owner * graph.items + items) * many + kind)
        asked = KIND_CODES[self.config.asked] if self.config.asked else None
        able = np.ones(len(owner), dtype=bool) if asked is None else kind == codes.index(asked)
        lengths = np.diff(self.offsets)
        first = np.full(len(sequences), -1, dtype=np.int64)
        first[owner[::-1]] = np.arange(len(owner))[::-1]
        if model.ordered:
            able = able & (np.arange(len(owner)) > first[owner])  # something comes before it
        self.able = able
        self.users = np.flatnonzero(
            (np.bincount(owner, weights=able, minlength=len(sequences)) > 0) & (lengths >= 2)
        )

    def epoch(self, rng: np.random.Generator) -> Iterator[Asked]:
        order = rng.permutation(self.users)
        for start in range(0, len(order), self.config.batch_users):
            users = np.sort(order[start : start + self.config.batch_users])
            made = (self._following if self.model.ordered else self._hidden)(users, rng)
            if len(made.wanted[0]):
                yield made

    def _flat(self, users: Ints) -> tuple[Ints, Ints]:
        """((N,) flat rows of `users`, (N,) place of each row's user among them)."""
        lengths = np.diff(self.offsets)[users]
        owner = np.repeat(np.arange(len(users)), lengths)
        starts = self.offsets[:-1][users] - (np.cumsum(lengths) - lengths)
        return np.arange(int(lengths.sum())) + starts[owner], owner

    def _hidden(self, users: Ints, rng: np.random.Generator) -> Asked:
        """Of each user a part is hidden: at least one, and at least one is left."""
        rows, owner = self._flat(users)
        able = self.able[rows]
        share = rng.random(len(users)) * self.config.hidden
        draw = np.where(able, rng.random(len(rows)), 2.0)
        hidden = draw < share[owner]
        best = np.lexsort((draw, owner))
        first = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(users)))[:-1]])
        hidden[best[first]] = True  # the lowest draw of each user is hidden, the highest is left
        hidden[best[np.append(first[1:], len(best)) - 1]] = False
        return self._asked(users, rows[~hidden], owner[~hidden], rows[hidden], owner[hidden], rows[hidden], rng)  # fmt: skip

    def _following(self, users: Ints, rng: np.random.Generator) -> Asked:
        """What came before a cut of each user; asked is what came right after it."""
        rows, owner = self._flat(users)
        able = self.able[rows]
        draw = np.where(able, rng.random(len(rows)), 2.0)
        first = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(users)))[:-1]])
        cut = np.lexsort((draw, owner))[first]  # (B,) places in rows
        place = np.arange(len(rows))
        given = (place < cut[owner]) & (place >= cut[owner] - self.config.max_length)
        later = place >= cut[owner]
        return self._asked(users, rows[given], owner[given], rows[cut], owner[cut], rows[later], rng)  # fmt: skip

    def _asked(
        self,
        users: Ints,
        given: Ints,
        given_owner: Ints,
        asked: Ints,
        asked_owner: Ints,
        unseen: Ints,
        rng: np.random.Generator,
    ) -> Asked:
        """Rows of what is given and asked, with their users' places; `unseen` rows leave the graph."""
        config, count = self.config, self.graph.items
        ends = np.append(np.flatnonzero(np.diff(given_owner)), len(given_owner) - 1)
        newest = np.full(len(users), -1, dtype=np.int64)
        newest[given_owner[ends]] = ends
        parts = (given_owner, self.items[given], self.kinds[given], newest[given_owner] - np.arange(len(given)))  # fmt: skip
        if TIE in self.model.kinds:
            names = [self.sequences.users[u] for u in users]
            tie = self.model.kinds.index(TIE)
            parts = self.model.friends.added(names, *parts, tie)
        had = Had(len(users), *(torch.from_numpy(np.ascontiguousarray(part)) for part in parts))
        pair = np.unique(asked_owner * count + self.items[asked])
        never = np.zeros(0, dtype=np.int64)
        if not self.model.ordered:
            same = np.full(len(given), not config.again)
            if config.again and config.asked:  # what was done once is not asked for again
                same = self.able[given]
            never = np.setdiff1d(given_owner[same] * count + self.items[given][same], pair)
        edges = np.unique(self.edges[unseen])
        if self.model.ordered:  # what was there before as well stays
            edges = np.setdiff1d(edges, self.edges[given])
        through = None
        if 0 < config.learning_users < self.graph.users:
            through = np.sort(rng.choice(self.graph.users, config.learning_users, replace=False))
        return Asked(
            had=had,
            wanted=(torch.from_numpy(pair // count), torch.from_numpy(pair % count)),
            counts=torch.from_numpy(np.bincount(pair // count, minlength=len(users)).astype(np.float32)),
            never=(torch.from_numpy(never // count), torch.from_numpy(never % count)),
            view=View(self.graph, edges, through),
        )  # fmt: skip


def among(logits: Tensor, rows: Tensor, nodes: int) -> Tensor:
    """(E, H) softmax of (E, H) logits over the edges of each of the `nodes`."""
    index = rows[:, None].expand_as(logits)
    largest = torch.full((nodes, logits.shape[1]), -torch.inf)
    largest = largest.scatter_reduce(0, index, logits.detach(), "amax")
    grown = (logits - largest[rows]).exp()
    total = torch.zeros(nodes, logits.shape[1]).index_add(0, rows, grown)
    return grown / total[rows]


def once(histories: Sequences, items: int) -> sp.csr_array:
    """(B, M) float32: 1 where a history has an item."""
    owner = np.repeat(np.arange(len(histories)), histories.lengths)
    ones = np.ones(len(owner), dtype=np.float32)
    there = sp.coo_array((ones, (owner, histories.items)), shape=(len(histories), items))
    matrix = sp.csr_array(there)
    matrix.data[:] = 1.0
    return matrix


def _once(
    owner: Ints, items: Ints, kind: Ints, age: Ints, count: int
) -> tuple[Ints, Ints, Ints, Ints]:
    """Each (user, item, kind) once, its newest event, in the order of those."""
    kinds = int(kind.max(initial=0)) + 1
    key = ((owner * count + items) * kinds + kind)[::-1]
    _, newest = np.unique(key, return_index=True)
    rows = np.sort(len(key) - 1 - newest)
    owner, items, kind = owner[rows], items[rows], kind[rows]
    ends = np.cumsum(np.bincount(owner, minlength=int(owner.max(initial=-1)) + 1))
    return owner, items, kind, (ends[owner] - 1 - np.arange(len(owner))).astype(np.int64)


def _added(network: GraphNetwork, batch: Asked, again: bool) -> tuple[Tensor, Tensor, Tensor]:
    """What `set_softmax` adds to logits: weights of items named again, and what is no candidate."""
    count = len(network.known)
    owner, items = batch.never
    if not again:
        return owner, items, torch.full((len(owner),), OWN_NEGATIVES)
    rows, named, value = network.named_again(batch.had)
    key = torch.cat([rows * count + named, owner * count + items])
    value = torch.cat([value, torch.full((len(owner),), OWN_NEGATIVES)])
    pairs, place = torch.unique(key, return_inverse=True)
    return pairs // count, pairs % count, torch.zeros(len(pairs)).index_add(0, place, value)


def _start(network: GraphNetwork, vectors: Floats, shares: Floats) -> None:
    """Items' vectors start as the graph's singular vectors, their bias as their popularity."""
    config = network.config
    if config.start not in ("spectral", "random"):
        raise InputError(
            f"start = {config.start!r}; wanted spectral or random", where="graph models"
        )
    with torch.no_grad():
        network.bias.copy_(torch.from_numpy(0.5 * np.log(shares / shares.mean())))
        if config.start == "spectral":
            own = vectors[:, : config.dim]
            own = own / max(float(np.sqrt((own**2).mean())), 1e-12) * 0.1
            network.items.weight[:, : own.shape[1]] = torch.from_numpy(own)


def _start_again(network: GraphNetwork, graph: Graph, asked: int) -> None:
    """Weights of items named again start as how much likelier the asked kind is where another is.

    log(P(asked | kind) / P(asked)), of each kind, and of each item beside its kind's (SMOOTHED).
    """
    wanted = graph.kinds.index(asked)
    key = graph.owner * graph.items + graph.item
    bought = key[graph.kind == wanted]
    base = len(bought) / (graph.users * graph.items)
    with torch.no_grad():
        for kind in range(len(graph.kinds)):
            own = graph.kind == kind
            if kind == wanted or not own.any():
                continue
            both = np.isin(key[own], bought)
            rate = max(float(both.mean()), base)
            network.again_kinds[kind] = float(np.log(rate / base))
            had = np.bincount(graph.item[own], minlength=graph.items)
            hit = np.bincount(graph.item[own][both], minlength=graph.items)
            of_items = np.log((hit + SMOOTHED * rate) / (had + SMOOTHED) / rate)
            network.again_items[kind] = torch.from_numpy(of_items.astype(np.float32))


def _filter(graph: Graph, vectors: Floats, values: Floats, config: GraphConfig) -> Filter:
    return graph_filter.build(
        graph.taken.matrix,
        graph.degrees,
        vectors[:, : config.filter_rank],
        values[: config.filter_rank],
        low=config.filter_low,
        sharpen=config.filter_sharpen,
        most=config.filter_most,
    )


def _ordered(config: GraphConfig, data: TrainingData) -> bool:
    if config.next not in ("auto", "yes", "no"):
        raise InputError(f"next = {config.next!r}; wanted auto, yes or no", where="graph models")
    times = data.sequences.times
    known = bool(len(times)) and not (times == NO_TIME).any()
    return config.next == "yes" or (config.next == "auto" and known)


def _useful(
    config: GraphConfig, data: TrainingData, ordered: bool
) -> tuple[GraphConfig, dict[str, str]]:
    """Switch off what says nothing in this data, with the reason."""
    off = {}
    kinds = np.unique(data.sequences.kinds)
    if config.asked and KIND_CODES.get(config.asked) not in kinds:
        raise InputError(
            f"asked = {config.asked!r}, but no event is of that kind",
            where="graph models",
            next=f"there are: {', '.join(_kind_name(int(code)) for code in kinds)}",
        )
    if config.again and not _twice(data.sequences, ordered):
        off["again"] = "nobody has an item twice" if ordered else "nobody has an item by two kinds"
    chosen = replace(config, next="yes" if ordered else "no")
    return replace(chosen, **dict.fromkeys(off, False)), off  # type: ignore[arg-type]


def _twice(sequences: Sequences, ordered: bool) -> bool:
    """Whether anybody has an item twice; without order: by two kinds."""
    owner = np.repeat(np.arange(len(sequences), dtype=np.int64), sequences.lengths)
    pair = owner * (int(sequences.items.max(initial=0)) + 1) + sequences.items
    if not ordered:
        pair = np.unique(pair * len(KIND_CODES) + sequences.kinds) // len(KIND_CODES)
    return len(np.unique(pair)) < len(pair)


def _kind_name(code: int) -> str:
    return "follows" if code == TIE else list(KIND_CODES)[code]


def _bias_by_degree(state: dict[str, Tensor], degrees: Tensor) -> Any:
    """How the bias of known items grows with the logarithm of their users, as a function."""
    known = state["known"] > 0
    x, y = degrees[known].log1p(), state["bias"][known]
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum().clamp(min=1e-6)
    return lambda count: y.mean() + slope * (count.log1p() - x.mean())


def _only(sequences: Sequences, keep: npt.NDArray[np.bool_]) -> Sequences:
    owner = np.repeat(np.arange(len(sequences)), sequences.lengths)
    lengths = np.bincount(owner[keep], minlength=len(sequences))
    return Sequences(
        users=sequences.users,
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        items=sequences.items[keep],
        kinds=sequences.kinds[keep],
        times=sequences.times[keep],
        dwell=sequences.dwell[keep],
        prices=sequences.prices[keep],
    )


def _of_kinds(graph: Graph, kinds: tuple[int, ...]) -> Graph:
    """The same graph with its edges' kinds numbered as in `kinds`."""
    number = np.asarray([kinds.index(code) for code in graph.kinds], dtype=np.int64)
    return replace(graph, kind=number[graph.kind] if len(graph.kind) else graph.kind, kinds=kinds)


def _mean_gain(scores: Floats, targets: npt.NDArray[np.int32]) -> float:
    """Mean of 1 / log2(rank + 1) of the targets over the whole catalogue; 0 without targets."""
    if len(targets) == 0:
        return 0.0
    own = scores[np.arange(len(targets)), targets]
    place = (scores > own[:, None]).sum(axis=1) + 1.0
    return float((1.0 / np.log2(place + 1.0)).mean())


def _trained(network: GraphNetwork | None) -> GraphNetwork:
    if network is None:
        raise RuntimeError("fit or load the model before asking it")
    return network


def _fingerprint(model: type[GraphModel], data: TrainingData, config: GraphConfig) -> str:
    """Digest of everything that decides the weights, for checkpoints."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    digest.update(Path(inspect.getfile(model)).read_bytes())
    digest.update(json.dumps({**asdict(config), "seed": data.seed}, sort_keys=True).encode())
    sequences, items = data.sequences, data.items
    for array in (sequences.offsets, sequences.items, sequences.kinds, sequences.times, items.tags):
        digest.update(np.ascontiguousarray(array).tobytes())
    if data.ties is not None:
        digest.update("\n".join([*data.ties.followers, *data.ties.followed]).encode())
        digest.update(data.ties.offsets.tobytes())
    return digest.hexdigest()
