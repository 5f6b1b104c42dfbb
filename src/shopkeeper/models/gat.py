"""Graph attention: a neighbour counts for as much as it says about whoever asks.

One layer goes from items to users and back. In each direction and in each of the heads

    e(i, j)  = LeakyReLU(a' W x_j + b' W y_i + c(kind)) + p_j
    alpha    = softmax of e(i, .) over the neighbours j of i
    y_i(new) = r_i sum over j of alpha(i, j) W x_j

Velickovic et al., "Graph Attention Networks", ICLR 2018, with three additions: an edge's kind of
behaviour (view, cart, ...) is heard through c; p_j = -1/2 log(neighbours of j) and the constant r_i
make a layer of zero a, b and c the convolution of LightGCN, from which attention then learns to
depart; and a user's y_i, who has no vector of their own, is the plain convolution of their items.
`top` > 0 is hard attention: a node hears its `top` best neighbours in each head, and no others (Gao
& Ji, "Graph Representation Learning via Hard and Channel-Wise Attention Networks", KDD 2019, choose
by a projection; here by e). A user asked about hears the items of the history the same way. What it
has in common with the other graph models is in graph.py.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shopkeeper.errors import InputError
from shopkeeper.features.sequences import Ints
from shopkeeper.models.graph import GraphConfig, GraphModel, GraphNetwork, Had, View, among

EDGES = 65_536  # of which the gradient is taken at a time: what they gather stays in the cache


@dataclass(frozen=True)
class Config(GraphConfig):
    layers: int = 1
    heads: int = 4  # each over dim / heads of the width
    top: int = 0  # neighbours a node hears in a head (hard attention); 0: all, softly
    next: str = "no"  # a set of neighbours knows no order


@dataclass(frozen=True)
class Towards:
    """Edges in the order of the nodes that hear; E edges, R hearing nodes, C heard ones."""

    rows: Tensor  # (E,) int64, ascending
    columns: Tensor  # (E,) int64
    kinds: Tensor  # (E,) int64
    starts: Ints  # (R + 1,)
    turn: Ints  # (E,) the edges in the order of the nodes that are heard
    turned_starts: Ints  # (C + 1,)

    @classmethod
    def of(cls, rows: Ints, columns: Ints, kinds: Ints, shape: tuple[int, int]) -> "Towards":
        order = np.argsort(rows, kind="stable")
        rows, columns, kinds = rows[order], columns[order], kinds[order]
        starts, turned = (
            np.concatenate([[0], np.cumsum(np.bincount(ends, minlength=count))]).astype(np.int64)
            for ends, count in zip((rows, columns), shape, strict=True)
        )
        turn = np.argsort(columns, kind="stable")
        return cls(
            rows=torch.from_numpy(rows),
            columns=torch.from_numpy(columns),
            kinds=torch.from_numpy(kinds),
            starts=starts,
            turn=turn,
            turned_starts=turned,
        )

    @property
    def nodes(self) -> int:
        """R."""
        return len(self.starts) - 1


class _Weighted(torch.autograd.Function):
    """(R, D) sums of (C, D) neighbours, by (E, H) weights; H heads of D / H columns each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, towards: Towards) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.towards = towards
        values, by = x.detach().numpy(), weight.detach().numpy()
        columns = towards.columns.numpy()
        heads, width = by.shape[1], values.shape[1] // by.shape[1]
        shape = (towards.nodes, len(values))
        made = np.empty((towards.nodes, values.shape[1]), dtype=np.float32)
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            data = np.ascontiguousarray(by[:, head])
            made[:, part] = sp.csr_array((data, columns, towards.starts), shape) @ np.ascontiguousarray(values[:, part])  # fmt: skip
        return torch.from_numpy(made)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, weight = ctx.saved_tensors
        towards, gradient = ctx.towards, grads[0].contiguous()
        values, by, above = x.detach().numpy(), weight.detach().numpy(), gradient.numpy()
        heads, width = by.shape[1], values.shape[1] // by.shape[1]
        shape = (len(values), towards.nodes)
        rows = towards.rows.numpy()[towards.turn]
        d_x = np.empty_like(values)
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            data = by[towards.turn, head]
            d_x[:, part] = sp.csr_array((data, rows, towards.turned_starts), shape) @ np.ascontiguousarray(above[:, part])  # fmt: skip
        d_weight = torch.empty_like(weight)
        for start in range(0, len(weight), EDGES):
            at = slice(start, start + EDGES)
            both = gradient[towards.rows[at]] * x.detach()[towards.columns[at]]
            d_weight[at] = both.view(-1, heads, width).sum(dim=2)
        return torch.from_numpy(d_x), d_weight, None


def best(logits: Tensor, rows: Tensor, starts: Ints, top: int) -> Tensor:
    """(E, H) the logits, -inf where `top` others of the row are larger (ties: the first edges stay)."""
    kept = torch.zeros_like(logits, dtype=torch.bool)
    first = torch.from_numpy(starts)[rows]
    for head in range(logits.shape[1]):
        order = torch.argsort(logits.detach()[:, head], descending=True, stable=True)
        order = order[torch.argsort(rows[order], stable=True)]
        kept[order[torch.arange(len(order)) - first < top], head] = True
    return logits.masked_fill(~kept, -torch.inf)


class Attention(nn.Module):
    """One direction: what R nodes hear of their neighbours."""

    def __init__(self, config: Config, kinds: int) -> None:
        super().__init__()
        heads = config.heads
        self.heads, self.top = heads, config.top
        self.turn = nn.Linear(config.dim, config.dim, bias=False)
        nn.init.eye_(self.turn.weight)
        self.heard = nn.Parameter(0.01 * torch.randn(heads, config.dim // heads))
        self.hearing = nn.Parameter(0.01 * torch.randn(heads, config.dim // heads))
        self.kinds = nn.Parameter(torch.zeros(kinds, heads))

    def forward(self, x: Tensor, y: Tensor, prior: Tensor, towards: Towards) -> Tensor:
        """(R, D) of (C, D) neighbours and (R, D) nodes; `prior` (C,) is p above."""
        values = self.turn(x)
        said = (values.view(len(x), self.heads, -1) * self.heard).sum(dim=2)  # (C, H)
        asked = (self.turn(y).view(len(y), self.heads, -1) * self.hearing).sum(dim=2)  # (R, H)
        logits = said[towards.columns] + asked[towards.rows] + self.kinds[towards.kinds]
        logits = F.leaky_relu(logits, 0.2) + prior[towards.columns][:, None]
        if self.top:
            logits = best(logits, towards.rows, towards.starts, self.top)
        weight = among(logits, towards.rows, towards.nodes)
        made: Tensor = _Weighted.apply(values, weight, towards)  # type: ignore[no-untyped-call]
        return made


class Network(GraphNetwork):
    config: Config

    def __init__(self, config: Config, items: int, kinds: int) -> None:
        if config.dim % config.heads:
            raise InputError(
                f"dim = {config.dim} is no multiple of heads = {config.heads}", where="gat"
            )
        super().__init__(config, items, kinds)
        self.to_users = nn.ModuleList(Attention(config, kinds) for _ in range(config.layers))
        self.to_items = nn.ModuleList(Attention(config, kinds) for _ in range(config.layers))
        self.to_asked = Attention(config, kinds)

    def table(self, view: View) -> Tensor:
        config, x = self.config, self.own()
        alike = view.graph.alike if config.tags else None
        owner, item, kind = view.drawn
        users = view.graph.users if view.users is None else len(view.users)
        to_users = Towards.of(owner, item, kind, (users, len(x)))
        to_items = Towards.of(item, owner, kind, (len(x), users))
        of_items, of_users = (
            torch.from_numpy(np.maximum(np.diff(t.starts), 1).astype(np.float32))
            for t in (to_items, to_users)
        )
        scale_users = _scale(to_users, of_items, of_users)
        scale_items = _scale(to_items, of_users, of_items)
        layers = [x]
        for layer in range(config.layers):
            y = view.taken.forward(x)  # (U, D)
            y = self.to_users[layer](x, y, -0.5 * of_items.log(), to_users) * scale_users
            near = self.to_items[layer](y, x, -0.5 * of_users.log(), to_items) * scale_items
            if alike is not None:
                near = (1.0 - config.tags) * near + config.tags * alike.forward(alike.back(x))
            x = near
            layers.append(x)
        return torch.stack(layers).mean(dim=0)

    def people(self, table: Tensor, had: Had) -> Tensor:
        if len(had.owner) == 0:
            return self.summed(table, had)
        towards = Towards.of(
            had.owner.numpy(), had.items.numpy(), had.kinds.numpy(), (had.users, len(table))
        )
        plain = self.summed(table, had)
        prior = -self.degree_roots.log()
        made: Tensor = self.to_asked(table, F.normalize(plain, dim=1), prior, towards)
        return made

    def paths(self, kinds: list[str]) -> dict[str, Any]:
        """What each kind of edge adds to a user's attention, by head."""
        rows = self.to_asked.kinds.tolist()
        return {
            "attention_to_kind": {
                kind: [round(value, 3) for value in row]
                for kind, row in zip(kinds, rows, strict=True)
            }
        }


def _scale(towards: Towards, of_heard: Tensor, of_hearing: Tensor) -> Tensor:
    """(R, 1): what turns a softmax of the priors into the weights 1 / sqrt(d_i d_j)."""
    total = torch.zeros(towards.nodes)
    total.index_add_(0, towards.rows, of_heard.rsqrt()[towards.columns])
    return (total * of_hearing.rsqrt())[:, None]


class Gat(GraphModel):
    name: ClassVar[str] = "gat"
    what: ClassVar[str] = "attention over who took what, several heads, by kind of behaviour"
    config_type: ClassVar[type[GraphConfig]] = Config
    network_type: ClassVar[type[GraphNetwork]] = Network
