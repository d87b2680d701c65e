"""Means and rows of embeddings, as the networks of a release take them."""

from collections.abc import Sequence

import numpy as np

from upnext.compiled import FLAG, FLOATS, INDICES, ROWS, compiled, table
from upnext.examples.history import Indices
from upnext.schema import UNKNOWN_ROW, Floats, Rows


def mean_vectors(vectors: Floats, rows: Rows) -> Floats:
    """Mean vector of the known rows of each line: vectors [N, D], rows [B, H] → [B, D]."""
    return window_means(vectors, rows, [rows.shape[1]])


def window_means(vectors: Floats, rows: Rows, lengths: Sequence[int]) -> Floats:
    """Means of the last `lengths` rows of each line, side by side: [N, D], [B, H] → [B, W · D]."""
    means = _pooled(vectors, np.ascontiguousarray(rows), np.array(lengths, np.int64), False)
    return means.reshape(len(rows), len(lengths) * vectors.shape[1])


def pooled_vectors(vectors: Floats, rows: Rows) -> Floats:
    """Sum over √n of the vectors of each line's n known rows: [N, E], [B, H] → [B, E]."""
    return _pooled(vectors, np.ascontiguousarray(rows), np.array([rows.shape[1]]), True)[:, 0]


@compiled(table(FLOATS), table(ROWS), INDICES, FLAG)
def _pooled(vectors: Floats, rows: Rows, lengths: Indices, by_root: bool) -> Floats:
    """[B, W, D] sums of the vectors of the n known among the last rows of each line, over n or √n.

    In the order of the rows, so that a line alone and among others has the same sums. Only the
    vectors of known rows are read; a row that has none is unknown.
    """
    num_lines, num_slots, size = len(rows), rows.shape[1], vectors.shape[1]
    pooled = np.zeros((num_lines, len(lengths), size), np.float32)
    for line in range(num_lines):
        for window, length in enumerate(lengths):
            num_known = 0
            for row in rows[line, max(0, num_slots - length) :]:
                if UNKNOWN_ROW < row < len(vectors):
                    num_known += 1
                    for place in range(size):
                        pooled[line, window, place] += vectors[row, place]
            divisor = np.sqrt(num_known) if by_root else num_known
            for place in range(size):
                pooled[line, window, place] /= np.float32(max(divisor, 1))
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
