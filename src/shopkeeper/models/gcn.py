"""Graph convolution over who took what: items that the same users take grow alike.

One convolution goes from items to users and back, and through what items share (tags):

    P X = a R' (R X) + (1 - a) T (T' X)      R (U, M) taken, T (M, A) tagged, D^-1/2 A D^-1/2 each

`form` chooses what is made of it, X0 being the items' own vectors

    light   X(l+1) = P X(l); mean of all layers    He et al., "LightGCN", SIGIR 2020
    full    X(l+1) = s(P~ X(l) W + b), P~ with self-loops   Kipf & Welling, ICLR 2017
    ngcf    X(l+1) = s((X + P X) W1 + (P X * X) W2 + b)     Wang et al., "NGCF", SIGIR 2019

s is the leaky ReLU of slope .2 (NGCF's; Kipf & Welling have ReLU). A user is the normalised sum of
the vectors of the items taken. What it has in common with the other graph models is in graph.py.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shopkeeper.errors import InputError
from shopkeeper.models.graph import GraphConfig, GraphModel, GraphNetwork, Had, View

FORMS = ("light", "full", "ngcf")


@dataclass(frozen=True)
class Config(GraphConfig):
    form: str = "light"  # light, full or ngcf
    next: str = "no"  # a sum knows no order


class Network(GraphNetwork):
    config: Config

    def __init__(self, config: Config, items: int, kinds: int) -> None:
        if config.form not in FORMS:
            raise InputError(f"form = {config.form!r}; wanted {', '.join(FORMS)}", where="gcn")
        super().__init__(config, items, kinds)
        dim = config.dim
        of_layers = config.layers if config.form != "light" else 0
        mix = [nn.Linear(dim, dim) for _ in range(of_layers)]
        for linear in mix:  # the layers start by leaving vectors as they are
            nn.init.eye_(linear.weight)
            nn.init.zeros_(linear.bias)
        self.mix = nn.ModuleList(mix)
        between = of_layers if config.form == "ngcf" else 0
        self.both = nn.ModuleList(nn.Linear(dim, dim, bias=False) for _ in range(between))

    def table(self, view: View) -> Tensor:
        config, x = self.config, self.own()
        alike = view.graph.alike if config.tags else None
        layers = [x]
        for layer in range(config.layers):
            near = view.taken.back(view.taken.forward(x))
            if alike is not None:
                near = (1.0 - config.tags) * near + config.tags * alike.forward(alike.back(x))
            if config.form == "light":
                x = near
            elif config.form == "full":
                x = F.leaky_relu(self.mix[layer](0.5 * (x + near)), 0.2)
            else:
                x = F.leaky_relu(self.mix[layer](x + near) + self.both[layer](near * x), 0.2)
            layers.append(x)
        return torch.stack(layers).mean(dim=0)

    def people(self, table: Tensor, had: Had) -> Tensor:
        return self.summed(table, had)


class Gcn(GraphModel):
    name: ClassVar[str] = "gcn"
    what: ClassVar[str] = "graph convolution over who took what and what items share"
    config_type: ClassVar[type[GraphConfig]] = Config
    network_type: ClassVar[type[GraphNetwork]] = Network
