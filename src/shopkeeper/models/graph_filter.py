"""The linear part of graph convolution: a filter of who took what that has no weights to learn.

R (U, M) is the graph, D^-1/2 A D^-1/2; d (M,) the users of each item; P = R'R. A history h (M,) of
ones is answered with

    blurred    b = h P + low * h D^-1/2 V V' D^1/2     V (M, K) the top right singular vectors of R
    sharpened  s = b exp(-t P)

The first line is GF-CF (Shen et al., "How Powerful is Graph Convolution for Recommendation?", CIKM
2021), convolution of one-hot items and an ideal low-pass filter; the second the sharpening of BSPM
(Choi et al., "Blurring-Sharpening Process Models for Collaborative Filtering", SIGIR 2023), which
solves ds/dt = -s P by one Runge-Kutta step for each history. Here P exp(-t P) is taken apart once for
all of them: exactly along the K singular vectors, where it is far from linear, and as a constant
times P across the rest; and of P each item keeps its `most` largest weights.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from shopkeeper.features.sequences import Floats
from shopkeeper.models.weights import Arrays, empty_matrix, of_matrix, to_matrix

ROWS = 512  # items at a time


@dataclass(frozen=True)
class Filter:
    """Answers a history by its neighbours in the graph alone."""

    near: sp.csr_array  # (M, M)
    left: Floats  # (M, K)
    right: Floats  # (K, M)

    def scores(self, given: sp.csr_array) -> Floats:
        """(B, M) of histories (B, M), 1 where an item is."""
        dense: Floats = np.asarray((given @ self.near).toarray(), dtype=np.float32)
        if self.left.shape[1]:
            dense += np.asarray(given @ self.left, dtype=np.float32) @ self.right
        return dense

    def arrays(self) -> Arrays:
        """For a model to keep."""
        return {
            **of_matrix("filter.near", self.near),
            "filter.left": self.left,
            "filter.right": self.right,
        }

    @classmethod
    def of_arrays(cls, arrays: Arrays) -> "Filter":
        """What `arrays` made."""
        left = arrays["filter.left"]
        near = to_matrix("filter.near", arrays, (len(left), len(left)))
        return cls(near, left, arrays["filter.right"])


EMPTY = Filter(empty_matrix(), np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32))


def singular(taken: sp.csr_array, rank: int, seed: int) -> tuple[Floats, Floats]:
    """(M, K) right singular vectors of (U, M) `taken` and (K,) singular values, largest first.

    By six rounds of the randomised subspace iteration of Halko, Martinsson & Tropp, SIAM Review 2011;
    K is `rank` or what the matrix has.
    """
    most = min(taken.shape)
    rank = min(rank, most)
    width = min(most, rank + 32)
    rng = np.random.default_rng(seed)
    basis = rng.standard_normal((taken.shape[1], width)).astype(np.float32)
    turned = sp.csr_array(taken.T)
    for _ in range(6):
        basis = torch.linalg.qr(torch.from_numpy(turned @ (taken @ basis)))[0].numpy()
    small = torch.from_numpy(taken @ basis)
    squares, vectors = torch.linalg.eigh(small.T @ small)
    order = torch.argsort(squares, descending=True)[:rank]
    found = basis @ vectors[:, order].numpy()
    sign = np.sign(found[np.abs(found).argmax(axis=0), np.arange(rank)])  # else it is arbitrary
    values = np.sqrt(np.maximum(squares[order].numpy(), 0.0))
    return np.ascontiguousarray(found * sign, dtype=np.float32), values.astype(np.float32)


def build(
    taken: sp.csr_array,
    degrees: Floats,
    vectors: Floats,
    values: Floats,
    *,
    low: float,
    sharpen: float,
    most: int,
) -> Filter:
    """The filter of (U, M) `taken`.

    Args:
        vectors: (M, K) its right singular vectors; values: (K,) its singular values.
        low: weight of the ideal low-pass filter; sharpen: t above, 0: blurred only.
        most: weights of each item that are kept.
    """
    items = taken.shape[1]
    turned = sp.csr_array(taken.T)
    root = np.sqrt(np.maximum(degrees, 1.0)).astype(np.float32)
    fade = np.exp(-sharpen * values**2)  # of each singular vector
    rest = 0.5 * (1.0 + float(fade[-1])) if len(fade) else 1.0  # of what lies across them
    term = np.ascontiguousarray(root[:, None] * vectors)
    ideal = term
    for order in range(1, 5):  # the series of exp(-t P), as far as a Runge-Kutta step goes
        term = turned @ (taken @ term) * np.float32(-sharpen / order)
        ideal = ideal + term

    kept: list[tuple[Any, Any, Any]] = []
    width = min(most, items)
    for start in range(0, items, ROWS):
        dense = (turned[start : start + ROWS] @ taken).toarray().astype(np.float32)
        best = torch.from_numpy(dense).topk(width, dim=1)
        values_of, columns_of = best.values.numpy().ravel(), best.indices.numpy().ravel()
        rows_of = np.repeat(np.arange(start, start + len(dense)), width)
        there = values_of != 0
        kept.append((values_of[there], rows_of[there], columns_of[there]))
    value, row, column = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    near = sp.csr_array(sp.coo_array((value * rest, (row, column)), shape=(items, items)))
    near.sort_indices()
    along = vectors * (values**2 * (fade - rest))
    left = np.concatenate([along, low * vectors / root[:, None]], axis=1)
    return Filter(
        near=near.astype(np.float32),
        left=np.ascontiguousarray(left, dtype=np.float32),
        right=np.ascontiguousarray(np.concatenate([vectors, ideal], axis=1).T, dtype=np.float32),
    )
