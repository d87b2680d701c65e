"""The truth that other indexes are measured against: every inner product, and the best k of them.

On small catalogues it is the right choice too. It keeps nothing beside the item vectors, which may
be mapped into memory from a release.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from upnext.best import Found, Places
from upnext.index import files
from upnext.index.filters import Mask, allowed_mask, joined_rows, no_rows
from upnext.index.search import (
    CELLS_AT_ONCE,
    best_columns,
    check_grown,
    check_item_vectors,
    check_user_vectors,
    exclusion_pairs,
)
from upnext.schema import NO_ROW, NUM_RESERVED_ROWS, Floats, Rows

GATHERED_SHARE = 0.25
"""Of the catalogue: where fewer are allowed only they are read, row by row."""
ROWS_AT_ONCE = 2048


@dataclass(frozen=True)
class ExactIndex:
    """`item_vectors` [N, D] float32, rows 0 and 1 reserved; `removed_rows` are never returned."""

    item_vectors: Floats
    facts: files.IndexFacts
    removed_rows: Rows = field(default_factory=no_rows)

    @classmethod
    def build(cls, item_vectors: Floats) -> Self:
        """Takes the vectors as they are; DataError if they cannot be searched."""
        check_item_vectors(item_vectors)
        num_items = len(item_vectors) - NUM_RESERVED_ROWS
        return cls(np.asarray(item_vectors), files.IndexFacts(kind="exact", num_items=num_items))

    @property
    def recall_at_100(self) -> float:
        """1: this index misses nothing."""
        return self.facts.recall_at_100

    def search(
        self,
        user_vectors: Floats,
        k: int,
        *,
        excluded_rows: Sequence[Rows] | None = None,
        allowed_rows: Rows | None = None,
    ) -> Found:
        """The k items with the greatest inner product, best first, ties to the smaller row.

        Args:
            user_vectors: [B, D] float32.
            k: how many items; where fewer exist, row -1 and score -inf fill up.
            excluded_rows: one array of rows a user, which never appear.
            allowed_rows: nothing but these appears, for all users of the call; None allows all. A
                set that stays the same is better left out once, by `without_rows`.

        Returns: rows [B, k] int32, scores [B, k] float32.

        Raises: ValueError: the vectors have another size or are not finite, or an allowed row is
            beyond the catalogue.

        >>> index = ExactIndex.build(np.array([[9.0], [9], [1], [3], [2]], np.float32))
        >>> index.search(np.array([[1.0]], np.float32), 2, excluded_rows=[np.array([3])])
        (array([[4, 2]], dtype=int32), array([[2., 1.]], dtype=float32))
        """
        check_user_vectors(user_vectors, self.item_vectors)
        allowed = self._standing_mask
        if allowed_rows is not None:
            allowed = allowed_mask(len(self.item_vectors), self.removed_rows, allowed_rows)
        return search_exactly(user_vectors, self.item_vectors, k, excluded_rows, allowed)

    def with_items(self, item_vectors: Floats) -> Self:
        """An index of the same items and more: rows from N on are new, the others as they were.

        Raises: DataError: an old row differs, or the vectors cannot be searched.
        """
        check_grown(self.item_vectors, item_vectors)
        return replace(self, item_vectors=np.asarray(item_vectors))

    def without_rows(self, rows: Rows) -> Self:
        """An index that never returns these rows; ValueError if one is beyond the catalogue."""
        removed = joined_rows(self.removed_rows, rows, len(self.item_vectors))
        return replace(self, removed_rows=removed)

    def save(self, directory: Path) -> None:
        """Writes what kind of index this is; the vectors are the owner's to keep."""
        files.write_facts(directory, self.facts)
        files.write_removed(directory, self.removed_rows)

    @classmethod
    def load(cls, directory: Path, item_vectors: Floats) -> Self:
        """Takes the vectors, mapped into memory or not; ReleaseError if another kind was saved."""
        facts = files.read_facts(directory, kind="exact")
        return cls(np.asarray(item_vectors), facts, files.read_removed(directory, item_vectors))

    @cached_property
    def _standing_mask(self) -> Mask | None:
        return allowed_mask(len(self.item_vectors), self.removed_rows)


def search_exactly(
    user_vectors: Floats,
    item_vectors: Floats,
    k: int,
    excluded_rows: Sequence[Rows] | None,
    allowed: Mask | None,
) -> Found:
    """As `ExactIndex.search`, of vectors that are known to be sound. `allowed` [N]; None is all."""
    users, excluded = exclusion_pairs(excluded_rows)
    rows, blocked = None, np.arange(NUM_RESERVED_ROWS)
    if allowed is not None and np.count_nonzero(allowed) < GATHERED_SHARE * len(allowed):
        rows, blocked = np.flatnonzero(allowed), blocked[:0]
        is_here = allowed[excluded]
        users, excluded = users[is_here], np.searchsorted(rows, excluded[is_here])
    elif allowed is not None:
        blocked = np.flatnonzero(~allowed)
    columns = np.full((len(user_vectors), k), NO_ROW, np.int64)
    best = np.full((len(user_vectors), k), -np.inf, np.float32)
    step = max(1, CELLS_AT_ONCE // max(1, len(item_vectors if rows is None else rows)))
    for start in range(0, len(user_vectors), step):
        part = slice(start, start + step)
        scores = _scores(user_vectors[part], item_vectors, rows)
        first, last = np.searchsorted(users, [start, start + step])
        scores[users[first:last] - start, excluded[first:last]] = -np.inf
        scores[:, blocked] = -np.inf
        columns[part], best[part] = best_columns(scores, k)
    found = columns if rows is None else np.append(rows, NO_ROW)[columns]
    return found.astype(np.int32), best


def _scores(user_vectors: Floats, item_vectors: Floats, rows: Places | None) -> Floats:
    """[B, N], or of these rows alone [B, len(rows)].

    Rows are gathered a few at a time into the same memory, which so stays in the cache.
    """
    if rows is None:
        scores: Floats = user_vectors @ item_vectors.T
        return scores
    scores = np.empty((len(user_vectors), len(rows)), np.float32)
    gathered = np.empty((ROWS_AT_ONCE, item_vectors.shape[1]), np.float32)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE]
        vectors = gathered[: len(part)]
        np.take(item_vectors, part, axis=0, out=vectors, mode="clip")  # "raise" would copy twice
        scores[:, start : start + len(part)] = user_vectors @ vectors.T
    return scores
