"""Graph transformer: learns which typed paths matter, and reads the history through what they say.

A layer is one step along a path. Its edge types are: staying; from an item to whoever did l with it
and on to what they did k with (view->cart, purchase->purchase, ...); same brand, same category, and
so on, by field; what came right after, or right before; what those took who are followed. Each
channel c has a share of the width, and chooses softly among the types in each layer

    X(l+1)_c = sum over types t of softmax(w(l)_c)_t A_t X(l)_c
    A_taken  = (sum over k of softmax(v(l)_c)_k R_k)' (sum over m of softmax(u(l)_c)_m R_m)

so that after L layers a channel has weighed every path of up to L steps by a product of its choices.
Yun et al., "Graph Transformer Networks", NeurIPS 2019, in the form that multiplies a matrix with
vectors instead of composing matrices (Yun et al., "FastGTN", Neural Networks 2022).

The history is joined by attention: its events, each the vector of its item, of its kind and of how
long ago it is in events, are asked by the newest one (where there is an order, else by the sum of
all), and what they answer is added to the sum and to the newest item, the global and the local part
of Wu et al., "Session-based Recommendation with Graph Neural Networks" (SR-GNN), AAAI 2019. What it
has in common with the other graph models is in graph.py.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shopkeeper.errors import InputError
from shopkeeper.models.graph import Graph, GraphConfig, GraphModel, GraphNetwork, Had, View, among

STAY, TAKEN = "stays", "taken"
AGES = 32  # events ago that are told apart
TOLD = 12  # paths on the card


@dataclass(frozen=True)
class Config(GraphConfig):
    channels: int = 4  # each chooses its paths for dim / channels of the width
    heads: int = 4  # of the attention over the history
    tags: float = 1.0  # 0: no step through tags (their share is learned here)


class Network(GraphNetwork):
    config: Config

    def __init__(self, config: Config, items: int, kinds: int) -> None:
        for part in ("channels", "heads"):
            if config.dim % getattr(config, part):
                raise InputError(
                    f"dim = {config.dim} is no multiple of {part} = {getattr(config, part)}",
                    where="gtn",
                )
        super().__init__(config, items, kinds)
        dim = config.dim
        self.types: list[str] = []  # known once a graph is seen: see `edge_types`
        self.first = nn.Parameter(torch.zeros(config.layers, kinds, config.channels))
        self.second = nn.Parameter(torch.zeros(config.layers, kinds, config.channels))
        self.choice = nn.Parameter(torch.zeros(config.layers, MOST_TYPES, config.channels))
        self.kind_table = nn.Embedding(kinds, dim)
        self.age_table = nn.Embedding(AGES + 1, dim)  # the last one: not the user's own event
        self.ask = nn.Linear(dim, dim)
        self.keys = nn.Linear(dim, dim)
        self.values = nn.Linear(dim, dim)
        self.answer = nn.Linear(dim, dim, bias=False)
        self.newest = nn.Linear(dim, dim, bias=False)
        for added in (self.kind_table, self.age_table, self.answer, self.newest):
            nn.init.normal_(added.weight, std=0.02)  # start as a whisper beside the sum

    def table(self, view: View) -> Tensor:
        graph, x = view.graph, self.own()
        self.types = edge_types(graph, self.config)
        width = self.config.dim // self.config.channels
        layers = [x]
        for layer in range(self.config.layers):
            chosen = self.choice[layer, : len(self.types)].softmax(dim=0)
            chosen = chosen.repeat_interleave(width, dim=1)  # (T, D)
            into, out = (
                w[layer, : len(graph.by_kind)].softmax(dim=0).repeat_interleave(width, dim=1)
                for w in (self.first, self.second)
            )
            steps = [_step(name, x, view, into, out) for name in self.types]
            x = _weighted(steps, chosen)
            layers.append(x)
        return torch.stack(layers).mean(dim=0)

    def people(self, table: Tensor, had: Had) -> Tensor:
        plain = F.normalize(self.summed(table, had), dim=1)  # (B, D)
        if len(had.owner) == 0:
            return plain
        config = self.config
        known = F.normalize(table, dim=1)[had.items]  # (N, D)
        local = torch.zeros_like(plain)
        events = known + self.kind_table(had.kinds)
        asking = plain
        if config.next != "no":
            users, rows = had.newest()
            local = local.index_add(0, users, known[rows])
            asking = plain + local
            ages = torch.where(had.age < 0, AGES, had.age.clamp(max=AGES - 1))
            events = events + self.age_table(ages)
        heads = config.heads
        query = self.ask(asking).view(had.users, heads, -1)
        key, value = (
            part(events).view(len(events), heads, -1) for part in (self.keys, self.values)
        )
        logits = (query[had.owner] * key).sum(dim=2) / (config.dim / heads) ** 0.5  # (N, H)
        weight = among(logits, had.owner, had.users)
        heard = torch.zeros_like(query).index_add(0, had.owner, value * weight[:, :, None])
        return plain + self.answer(heard.flatten(1)) + self.newest(local)  # type: ignore[no-any-return]

    def paths(self, kinds: list[str]) -> dict[str, Any]:
        """The paths of most weight, mean over the channels; a step from l to k is called "l->k"."""
        with torch.no_grad():
            steps = [self._named(layer, kinds) for layer in range(self.config.layers)]
            found: dict[str, float] = {}
            for path in product(*(one.items() for one in steps)):
                name = ", ".join(step for step, _ in path if step != STAY) or STAY
                weight = torch.stack([w for _, w in path]).prod(dim=0).mean()
                found[name] = found.get(name, 0.0) + float(weight)
        ranked = sorted(found.items(), key=lambda one: -one[1])[:TOLD]
        heaviest = [{"path": name, "weight": round(weight, 4)} for name, weight in ranked]
        return {"paths": heaviest, "edge_types": list(self.types)}

    def _named(self, layer: int, kinds: list[str]) -> dict[str, Tensor]:
        """Each step of a layer with its (C,) weights."""
        chosen = self.choice[layer, : len(self.types)].softmax(dim=0)
        found: dict[str, Tensor] = {}
        for place, name in enumerate(self.types):
            if name != TAKEN:
                found[name] = chosen[place]
                continue
            own = [kind for kind in kinds if kind != "follows"]
            into, out = (w[layer, : len(own)].softmax(dim=0) for w in (self.first, self.second))
            for (m, one), (k, other) in product(enumerate(own), enumerate(own)):
                found[f"{one}->{other}"] = chosen[place] * into[m] * out[k]
        return found


MOST_TYPES = 64  # fields of tags beyond that are not stepped through


def edge_types(graph: Graph, config: Config) -> list[str]:
    """The steps that this graph allows, in the order of the weights."""
    found = [STAY, TAKEN]
    if graph.followed is not None and config.next != "no":
        found += ["next after", "right before"]
    if graph.follows is not None:
        found.append("follows")
    if config.tags:
        found += [f"same {field}" for field in graph.fields]
    return found[:MOST_TYPES]


def _step(name: str, x: Tensor, view: View, into: Tensor, out: Tensor) -> Tensor:
    """(M, D) what comes to each item by one edge of the type."""
    graph = view.graph
    if name == STAY:
        return x
    if name == TAKEN or name == "follows":
        edges = view.by_kind
        users = _weighted([edge.forward(x) for edge in edges], into)
        if name == "follows" and graph.follows is not None:
            users = _among_users(users, view)
        return _weighted([edge.back(users) for edge in edges], out)
    if name in ("next after", "right before") and graph.followed is not None:
        return graph.followed.forward(x) if name == "next after" else graph.followed.back(x)
    field = graph.fields[name.removeprefix("same ")]
    return field.forward(field.back(x))


def _weighted(parts: list[Tensor], weight: Tensor) -> Tensor:
    """Sum of (R, D) parts, each with its (D,) row of `weight`."""
    total = parts[0] * weight[0]
    for part, own in zip(parts[1:], weight[1:], strict=True):
        total = total + part * own
    return total


def _among_users(y: Tensor, view: View) -> Tensor:
    """(U', D) what the followed users hold, of the users there are in this step."""
    follows = view.graph.follows
    assert follows is not None
    if view.users is None:
        return follows.forward(y)
    at = torch.from_numpy(view.users)
    whole = torch.zeros(view.graph.users, y.shape[1]).index_add(0, at, y)
    return follows.forward(whole)[at]


class Gtn(GraphModel):
    name: ClassVar[str] = "gtn"
    what: ClassVar[str] = "graph transformer: typed paths it chose, joined with the history's order"
    config_type: ClassVar[type[GraphConfig]] = Config
    network_type: ClassVar[type[GraphNetwork]] = Network
