"""Sparse item-to-item matrices: what the neighbour models, and the models that add them, share.

`similarity` and `recent_weights` are the rule "what came shortly before or after what the user had
last": for items at distance d <= `window` in a sequence, weight(a, b) grows by 1/d where b came
after a and by `backward`/d where it came before; divided by sqrt((events of a + 1) * (events of b +
1)); score = sum over the last `recent` items of the history with weight `decay`^age.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from shopkeeper.features.sequences import Floats, Sequences

UNSEEN = 1e-3  # a score this small counts as "never seen together"; log_scores starts from it


@dataclass(frozen=True)
class Nearby:
    """The rule's settings."""

    window: int = 5  # events apart that still count as neighbours
    backward: float = 0.7  # weight of "came before", beside 1 for "came after"
    recent: int = 20  # events of the history that are asked
    decay: float = 0.7  # weight of an event, to the power of the number of newer ones
    neighbours: int = 1000  # kept of each item; bounds memory, hardly changes answers


def keep_largest(matrix: sp.csr_array, most: int) -> sp.csr_array:
    """Keep the `most` entries of largest size in each row (ties: the lower column); float32."""
    lengths = np.diff(matrix.indptr)
    if len(lengths) and lengths.max() > most:
        rows = np.repeat(np.arange(matrix.shape[0]), lengths)
        order = np.lexsort((matrix.indices, -np.abs(matrix.data), rows))
        place = np.arange(len(order)) - matrix.indptr[:-1][rows[order]]
        keep = np.sort(order[place < most])
        parts = (matrix.data[keep], (rows[keep], matrix.indices[keep]))
        matrix = sp.csr_array(sp.coo_array(parts, shape=matrix.shape))
    matrix = matrix.astype(np.float32)
    matrix.sort_indices()
    return matrix


def log_scores(raw: sp.csr_array, shares: Floats) -> Floats:
    """(B, M) log(raw + a little popularity): the order of `raw`, popularity where it is silent.

    The little is at most UNSEEN for the most popular item, so an empty history ranks by popularity.
    """
    little = UNSEEN * (shares / shares.max())
    dense: Floats = np.maximum(raw.toarray(), np.float32(0.0)) + little[None, :]
    return np.log(dense, out=dense)


def similarity(sequences: Sequences, items: int, config: Nearby) -> sp.csr_array:
    """(M, M) float32, row a: the weights of what comes around a; zero diagonal."""
    flat = sequences.items.astype(np.int64)
    owner = np.repeat(np.arange(len(sequences)), sequences.lengths)
    total = sp.csr_array((items, items), dtype=np.float64)
    for distance in range(1, config.window + 1):
        same = owner[distance:] == owner[:-distance]
        earlier, later = flat[:-distance][same], flat[distance:][same]
        apart = earlier != later
        earlier, later = earlier[apart], later[apart]
        weight = np.full(len(earlier), 1.0 / distance)
        after = sp.csr_array(sp.coo_array((weight, (earlier, later)), shape=(items, items)))
        total = total + after + config.backward * after.T
    scale = 1.0 / np.sqrt(np.bincount(flat, minlength=items) + 1.0)
    scaled = sp.csr_array(sp.diags_array(scale) @ total @ sp.diags_array(scale))
    return keep_largest(scaled, config.neighbours)


def recent_weights(histories: Sequences, items: int, config: Nearby) -> sp.csr_array:
    """(B, M) float32: `decay`^age of each of the last `recent` events (repeats add up)."""
    recent = histories.last(config.recent)
    ends = np.repeat(recent.offsets[1:], recent.lengths)
    age = ends - 1 - np.arange(len(recent.items))
    weight = np.power(np.float32(config.decay), age.astype(np.float32)).astype(np.float32)
    shape = (len(histories), items)
    asked = sp.csr_array((weight, recent.items.astype(np.int64), recent.offsets), shape=shape)
    asked.sum_duplicates()
    return asked
