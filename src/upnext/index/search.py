"""What every index ends with: exclusions, exact scores and the best k, ties to the smaller row."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.errors import DataError
from upnext.schema import NUM_RESERVED_ROWS, Floats, Rows

NO_ROW = -1
CELLS_AT_ONCE = 16_000_000

Found = tuple[Rows, Floats]
"""Item rows [B, k] and their inner products [B, k], best first; -1 and -inf fill up."""


def check_item_vectors(item_vectors: Floats) -> None:
    """Refuses what no index can search.

    Raises: DataError: not [N, D] with at least one item after the reserved rows, or not finite.
    """
    shape = item_vectors.shape
    if item_vectors.ndim != 2 or shape[0] <= NUM_RESERVED_ROWS or shape[1] == 0:
        expected = "[N, D] with rows 0 and 1 reserved and at least one item"
        raise DataError("item_vectors", expected=expected, got=f"the shape {shape}")
    is_finite = np.isfinite(item_vectors).all(axis=1)
    if not is_finite.all():
        row = int(np.argmin(is_finite))
        raise DataError("item_vectors", expected="finite numbers", got=f"nan or inf in row {row}")


def check_user_vectors(user_vectors: Floats, item_vectors: Floats) -> None:
    """Refuses queries of another size, or with nan, whose answer would be no answer.

    Raises: ValueError.
    """
    if user_vectors.ndim != 2 or user_vectors.shape[1] != item_vectors.shape[1]:
        expected = f"[B, {item_vectors.shape[1]}]"
        raise ValueError(f"user_vectors: expected {expected}, got the shape {user_vectors.shape}")
    if not np.isfinite(user_vectors).all():
        raise ValueError("user_vectors: expected finite numbers, got nan or inf")


def exclusion_pairs(
    excluded_rows: Sequence[Rows] | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The excluded (user, row) pairs of all users, flat; reserved rows and -1 are left away.

    >>> exclusion_pairs([np.array([5, 0]), np.array([], np.int32), np.array([7, 8])])
    (array([0, 2, 2]), array([5, 7, 8]))
    """
    if not excluded_rows:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    users = np.repeat(np.arange(len(excluded_rows)), [len(rows) for rows in excluded_rows])
    rows = np.concatenate([np.asarray(rows, np.int64) for rows in excluded_rows])
    is_item = rows >= NUM_RESERVED_ROWS
    return users[is_item], rows[is_item]


def best_columns(scores: Floats, k: int) -> tuple[NDArray[np.int64], Floats]:
    """The k best columns of each line and their scores, [B, k] each, ties to the smaller column.

    A column scoring -inf never counts; -1 and -inf fill up.

    >>> best_columns(np.array([[1.0, 3.0, 3.0, -np.inf]], np.float32), 2)
    (array([[1, 2]]), array([[3., 3.]], dtype=float32))
    """
    num_lines, num_columns = scores.shape
    columns = np.full((num_lines, k), NO_ROW, np.int64)
    best = np.full((num_lines, k), -np.inf, np.float32)
    kept = min(k, num_columns)
    if kept == 0:
        return columns, best
    last_kept = np.partition(scores, num_columns - kept, axis=1)[:, num_columns - kept]
    least = np.maximum(last_kept, np.finfo(np.float32).min)
    line, column = np.nonzero(scores >= least[:, None])
    score = scores[line, column]
    order = np.lexsort((column, -score, line))
    place = np.arange(len(order)) - np.searchsorted(line, line)
    order, place = order[place < k], place[place < k]
    columns[line[order], place] = column[order]
    best[line[order], place] = score[order]
    return columns, best


def best_candidates(
    user_vectors: Floats,
    candidate_rows: NDArray[Any],
    item_vectors: Floats,
    k: int,
    excluded_rows: Sequence[Rows] | None,
) -> Found:
    """The best k among each user's proposed rows [B, M], by their true inner products.

    Proposals of -1 are no proposals. Rows are sorted first, so that ties go to the smaller row.
    """
    rows = np.sort(candidate_rows.astype(np.int64), axis=1)
    scores = np.empty(rows.shape, np.float32)
    step = max(1, CELLS_AT_ONCE // max(1, rows.shape[1] * item_vectors.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        vectors = item_vectors[np.maximum(rows[part], 0)]
        scores[part] = (vectors @ user_vectors[part, :, None])[:, :, 0]
    scores[rows < NUM_RESERVED_ROWS] = -np.inf
    users, excluded = exclusion_pairs(excluded_rows)
    if len(users):
        num_rows = len(item_vectors)
        cells = np.arange(len(rows))[:, None] * num_rows + rows
        scores[np.isin(cells, users * num_rows + excluded)] = -np.inf
    columns, best = best_columns(scores, k)
    found = np.take_along_axis(rows, np.maximum(columns, 0), axis=1) if rows.size else columns
    return np.where(columns >= 0, found, NO_ROW).astype(np.int32), best


def num_proposals(k: int, excluded_rows: Sequence[Rows] | None, item_vectors: Floats) -> int:
    """How many rows to ask for so that k stay when the most excluded are among them."""
    num_excluded = max((len(rows) for rows in excluded_rows or ()), default=0)
    return min(k + num_excluded, len(item_vectors) - NUM_RESERVED_ROWS)
