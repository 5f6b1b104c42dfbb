"""Sparse item-to-item matrices: what the neighbour models share."""

import numpy as np
import scipy.sparse as sp

from shopkeeper.features.sequences import Floats

UNSEEN = 1e-3  # a score this small counts as "never seen together"; log_scores starts from it


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
