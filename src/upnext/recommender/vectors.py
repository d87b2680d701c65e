"""Means and rows of embeddings, in NumPy, as the networks of a release take them."""

import numpy as np

from upnext.examples.history import Indices
from upnext.schema import UNKNOWN_ROW, Floats, Rows


def mean_vectors(table: Floats, rows: Rows) -> Floats:
    """Mean vector of the known rows of each line: table [N, D], rows [B, H] → [B, D]."""
    sums, num_known = _sums(table, rows)
    return sums / np.maximum(num_known, 1).astype(np.float32)[:, None]


def pooled_vectors(table: Floats, rows: Rows) -> Floats:
    """Sum over √n of the vectors of each line's n known rows: table [N, E], [B, H] → [B, E]."""
    sums, num_known = _sums(table, rows)
    return sums / np.sqrt(np.maximum(num_known, 1)).astype(np.float32)[:, None]


def _sums(table: Floats, rows: Rows) -> tuple[Floats, Indices]:
    """[B, D] sums of the vectors of the known rows of each line, and how many these are [B].

    Line by line, so that only what is known is read, and a line's sum stays in the nearest memory.
    """
    sums = np.empty((len(rows), table.shape[1]), np.float32)
    known = [line[line > UNKNOWN_ROW] for line in rows]
    for place, line in enumerate(known):
        np.add.reduce(table.take(line, axis=0), axis=0, out=sums[place])
    return sums, np.array([len(line) for line in known], np.int64)


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
