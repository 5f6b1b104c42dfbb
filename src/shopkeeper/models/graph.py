"""The graph of users, items and what items share, as sparse matrices; what the graph models share.

Users are no nodes with vectors of their own here: a user is the items of their history, so that one
who joined after training is embedded from neighbours alone, by the same code as everybody else. An
item that joined after training has its tags (brand, category, shop, attributes) for neighbours.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from shopkeeper.features.items import ItemTable
from shopkeeper.features.sequences import Sequences


@dataclass(frozen=True)
class Graph:
    """Who took what, and what belongs to what; symmetrically normalised, D^-1/2 A D^-1/2."""

    taken: sp.csr_array  # (U, M) float32
    tagged: sp.csr_array  # (M, A) float32
    degrees: np.ndarray[Any, np.dtype[np.float32]]  # (M,) users of each item


def build(sequences: Sequences, items: ItemTable) -> Graph:
    """The graph of what was learned from: an edge for each different (user, item), (item, tag)."""
    count = len(items)
    taken = once(sequences, count)
    users, degrees = np.diff(taken.indptr), np.bincount(taken.indices, minlength=count)
    of_tags = np.repeat(np.arange(count), np.diff(items.tag_offsets))
    shape = (count, max(1, len(items.tag_names)))
    ones = np.ones(len(items.tags), dtype=np.float32)
    tagged = sp.csr_array(sp.coo_array((ones, (of_tags, items.tags)), shape=shape))
    tagged.data[:] = 1.0  # told twice is told once
    many, shared = np.diff(tagged.indptr), np.bincount(tagged.indices, minlength=shape[1])
    return Graph(
        _scaled(taken, users, degrees), _scaled(tagged, many, shared), degrees.astype(np.float32)
    )


def once(histories: Sequences, items: int) -> sp.csr_array:
    """(B, M) float32: 1 where a history has an item."""
    owner = np.repeat(np.arange(len(histories)), histories.lengths)
    ones = np.ones(len(owner), dtype=np.float32)
    there = sp.coo_array((ones, (owner, histories.items)), shape=(len(histories), items))
    matrix = sp.csr_array(there)
    matrix.data[:] = 1.0
    return matrix


def _scaled(matrix: sp.csr_array, rows: Any, columns: Any) -> sp.csr_array:
    left = 1.0 / np.sqrt(np.maximum(rows, 1.0))
    right = 1.0 / np.sqrt(np.maximum(columns, 1.0))
    scaled = sp.csr_array(sp.diags_array(left) @ matrix @ sp.diags_array(right))
    return scaled.astype(np.float32)


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
        return torch.from_numpy(ctx.turned @ grads[0].numpy()), None, None


@dataclass(frozen=True)
class Edges:
    """A sparse matrix and its transpose, ready to multiply with in both directions."""

    matrix: sp.csr_array  # (R, C)
    turned: sp.csr_array  # (C, R)

    @classmethod
    def of(cls, matrix: sp.csr_array) -> "Edges":
        return cls(matrix, sp.csr_array(matrix.T))

    def forward(self, x: Tensor) -> Tensor:
        """(R, D) of (C, D), differentiable in x."""
        made: Tensor = _Product.apply(x, self.matrix, self.turned)  # type: ignore[no-untyped-call]
        return made

    def back(self, x: Tensor) -> Tensor:
        """(C, D) of (R, D), differentiable in x."""
        made: Tensor = _Product.apply(x, self.turned, self.matrix)  # type: ignore[no-untyped-call]
        return made
