"""Means and rows of embeddings, in NumPy, as the networks of a release take them."""

import numpy as np

from upnext.examples.history import Indices
from upnext.schema import UNKNOWN_ROW, Floats, Rows


def mean_vectors(table: Floats, rows: Rows) -> Floats:
    """Mean vector of the known rows of each line: table [N, D], rows [B, H] → [B, D]."""
    known = rows > UNKNOWN_ROW
    summed = np.where(known[..., None], table[rows], np.float32(0)).sum(axis=1, dtype=np.float32)
    means: Floats = summed / np.maximum(known.sum(axis=1, keepdims=True), 1).astype(np.float32)
    return means


def pooled_vectors(table: Floats, rows: Rows) -> Floats:
    """Sum over √n of the vectors of each line's n known rows: table [N, E], [B, H] → [B, E]."""
    num_known = (rows > UNKNOWN_ROW).sum(axis=1, keepdims=True)
    pooled: Floats = mean_vectors(table, rows) * np.sqrt(num_known).astype(np.float32)
    return pooled


def oldest_first(rows: Rows) -> tuple[Rows, Indices]:
    """The known rows of each line, oldest first, and how many: [B, H] → [B, L], [B].

    Lines end in zeros where others are longer; L is at least 1.

    >>> oldest_first(np.array([[0, 5, 1, 4], [0, 0, 0, 0]], np.int32))
    (array([[5, 4],
           [0, 0]], dtype=int32), array([2, 0]))
    """
    known = rows > UNKNOWN_ROW
    num_known = known.sum(axis=1)
    order = np.argsort(~known, axis=1, kind="stable")[:, : max(1, num_known.max(initial=1))]
    return np.take_along_axis(np.where(known, rows, rows.dtype.type(0)), order, axis=1), num_known
