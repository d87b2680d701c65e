"""What every search begins and ends with: checks, exclusions, the k best, ties to smaller rows."""

from collections.abc import Callable, Sequence

import numpy as np

from upnext.best import Found, Places, RowSets, best_first
from upnext.errors import DataError
from upnext.schema import NO_ROW, NUM_RESERVED_ROWS, Floats, Rows

CELLS_AT_ONCE = 16_000_000
GROUPS_PER_BEST = 8
"""Groups of columns, for each of the k best, whose greatest scores are compared first."""
LEAST_SCORE = np.finfo(np.float32).min
"""Below it there is only -inf."""


def check_item_vectors(item_vectors: Floats, *, first_row: int = 0) -> None:
    """Refuses what no index can search; rows before `first_row` are known to be finite.

    Raises: DataError: not [N, D] with at least one item after the reserved rows, or not finite.
    """
    shape = item_vectors.shape
    if item_vectors.ndim != 2 or shape[0] <= NUM_RESERVED_ROWS or shape[1] == 0:
        expected = "[N, D] with rows 0 and 1 reserved and at least one item"
        raise DataError("item_vectors", expected=expected, got=f"the shape {shape}")
    is_finite = np.isfinite(item_vectors[first_row:]).all(axis=1)
    if not is_finite.all():
        row = first_row + int(np.argmin(is_finite))
        raise DataError("item_vectors", expected="finite numbers", got=f"nan or inf in row {row}")


def check_grown(item_vectors: Floats, grown: Floats) -> None:
    """Requires that `grown` [N2, D] begins with the old item vectors [N, D], unchanged.

    Raises: DataError: another size of vectors, fewer items, an old row that differs, or nan.
    """
    num_rows, num_dimensions = item_vectors.shape
    if grown.ndim != 2 or grown.shape[1] != num_dimensions or len(grown) < num_rows:
        expected = f"[N, {num_dimensions}] with N of {num_rows} or more"
        raise DataError("grown item_vectors", expected=expected, got=f"the shape {grown.shape}")
    is_equal = (grown[:num_rows] == item_vectors).all(axis=1)
    if not is_equal.all():
        row = int(np.argmin(is_equal))
        raise DataError(
            "grown item_vectors",
            expected="the old rows as they were",
            got=f"another vector in row {row}",
            hint="vectors that were trained anew need a new index: build_index.",
        )
    check_item_vectors(grown, first_row=num_rows)


def check_user_vectors(user_vectors: Floats, item_vectors: Floats) -> None:
    """Refuses queries of another size, or with nan, whose answer would be no answer.

    Raises: ValueError.
    """
    if user_vectors.ndim != 2 or user_vectors.shape[1] != item_vectors.shape[1]:
        expected = f"[B, {item_vectors.shape[1]}]"
        raise ValueError(f"user_vectors: expected {expected}, got the shape {user_vectors.shape}")
    if not np.isfinite(user_vectors).all():
        raise ValueError("user_vectors: expected finite numbers, got nan or inf")


def exclusion_pairs(excluded_rows: Sequence[Rows] | None) -> tuple[Places, Places]:
    """The excluded (user, row) pairs of all users, flat; reserved rows and -1 are left away.

    >>> exclusion_pairs([np.array([5, 0]), np.array([], np.int32), np.array([7, 8])])
    (array([0, 2, 2]), array([5, 7, 8]))
    """
    if not excluded_rows:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    excluded = RowSets.of(excluded_rows, len(excluded_rows))
    users = np.repeat(np.arange(len(excluded)), excluded.sizes)
    rows = excluded.rows[excluded.starts[0] : excluded.starts[-1]].astype(np.int64)
    is_item = rows >= NUM_RESERVED_ROWS
    return users[is_item], rows[is_item]


def best_columns(scores: Floats, k: int) -> tuple[Places, Floats]:
    """The k best columns of each line and their scores, [B, k] each, ties to the smaller column.

    A column scoring -inf never counts; -1 and -inf fill up. Sorts only what may be among the best:
    where k groups of columns each hold a score of at least x, so are the k best.

    >>> best_columns(np.array([[1.0, 3.0, 3.0, -np.inf]], np.float32), 2)
    (array([[1, 2]]), array([[3., 3.]], dtype=float32))
    """
    num_lines, num_columns = scores.shape
    columns = np.full((num_lines, k), NO_ROW, np.int64)
    best = np.full((num_lines, k), -np.inf, np.float32)
    kept = min(k, num_columns)
    if kept == 0:
        return columns, best
    group_size = max(1, num_columns // (GROUPS_PER_BEST * kept))
    num_groups = num_columns // group_size
    for line, line_columns, line_best in zip(scores, columns, best, strict=True):
        greatest = line[: num_groups * group_size].reshape(group_size, num_groups).max(axis=0)
        greatest.partition(num_groups - kept)
        column = np.flatnonzero(line >= max(greatest[num_groups - kept], LEAST_SCORE))
        score = line[column]
        order = np.argsort(-score, kind="stable")[:k]
        line_columns[: len(order)] = column[order]
        line_best[: len(order)] = score[order]
    return columns, best


def best_candidates(
    user_vectors: Floats,
    proposed_rows: Places,
    item_vectors: Floats,
    k: int,
    excluded_rows: Sequence[Rows] | None,
) -> Found:
    """The best k among each user's proposed rows [B, M], by their true inner products.

    Proposals of reserved rows are no proposals; any other row is proposed at most once.
    """
    rows = np.sort(proposed_rows, axis=1)  # memory is read in order
    scores = np.empty(rows.shape, np.float32)
    step = max(1, CELLS_AT_ONCE // max(1, rows.shape[1] * item_vectors.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        vectors = item_vectors.take(rows[part], axis=0)
        scores[part] = (vectors @ user_vectors[part, :, None])[:, :, 0]
    starts = np.arange(len(rows) + 1) * rows.shape[1]
    return best_first(
        starts,
        rows.astype(np.int32).ravel(),
        scores.ravel(),
        k,
        excluded_rows=excluded_rows,
        above=-np.inf,
    )


def each_alone(
    search: Callable[[Floats, RowSets], Found],
    user_vectors: Floats,
    excluded_rows: Sequence[Rows] | None,
) -> Found:
    """[B, k] of one search a user, by his vector [1, D] and the one set of what he excludes.

    How many items are proposed goes by how many are excluded, and products of several users are
    rounded otherwise than those of one: only alone does each find the same in any company.
    """
    excluded = RowSets.of(excluded_rows, len(user_vectors))
    found = [
        search(user_vectors[user : user + 1], excluded[user : user + 1])
        for user in range(len(user_vectors))
    ]
    if len(found) == 1:
        return found[0]
    return np.concatenate([rows for rows, _ in found]), np.concatenate([best for _, best in found])
