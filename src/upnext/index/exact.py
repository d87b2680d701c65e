"""The truth that other indexes are measured against: every inner product, and the best k of them.

Up to some 100,000 items it is the right choice too. It keeps nothing beside the item vectors, which
may be mapped into memory from a release.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from upnext.index import files
from upnext.index.search import (
    CELLS_AT_ONCE,
    NO_ROW,
    Found,
    best_columns,
    check_item_vectors,
    check_user_vectors,
    exclusion_pairs,
)
from upnext.schema import NUM_RESERVED_ROWS, Floats, Rows


@dataclass(frozen=True, slots=True)
class ExactIndex:
    """`item_vectors` [N, D] float32, rows 0 and 1 reserved."""

    item_vectors: Floats

    @classmethod
    def build(cls, item_vectors: Floats) -> Self:
        """Takes the vectors as they are; DataError if they cannot be searched."""
        check_item_vectors(item_vectors)
        return cls(item_vectors)

    @property
    def recall_at_100(self) -> float:
        """1: this index misses nothing."""
        return 1.0

    def search(
        self, user_vectors: Floats, k: int, *, excluded_rows: Sequence[Rows] | None = None
    ) -> Found:
        """The k items with the greatest inner product, best first, ties to the smaller row.

        Args:
            user_vectors: [B, D] float32.
            k: how many items; where fewer exist, row -1 and score -inf fill up.
            excluded_rows: one array of rows a user, which never appear.

        Returns: rows [B, k] int32, scores [B, k] float32.

        Raises: ValueError: the vectors have another size, or are not finite.

        >>> index = ExactIndex.build(np.array([[9.0], [9], [1], [3], [2]], np.float32))
        >>> index.search(np.array([[1.0]], np.float32), 2, excluded_rows=[np.array([3])])
        (array([[4, 2]], dtype=int32), array([[2., 1.]], dtype=float32))
        """
        check_user_vectors(user_vectors, self.item_vectors)
        items = self.item_vectors[NUM_RESERVED_ROWS:]
        users, excluded = exclusion_pairs(excluded_rows)
        rows = np.full((len(user_vectors), k), NO_ROW, np.int32)
        best = np.full((len(user_vectors), k), -np.inf, np.float32)
        step = max(1, CELLS_AT_ONCE // len(items))
        for start in range(0, len(user_vectors), step):
            part = slice(start, start + step)
            scores = user_vectors[part] @ items.T
            first, last = np.searchsorted(users, [start, start + step])
            scores[users[first:last] - start, excluded[first:last] - NUM_RESERVED_ROWS] = -np.inf
            columns, best[part] = best_columns(scores, k)
            rows[part] = np.where(columns >= 0, columns + NUM_RESERVED_ROWS, NO_ROW)
        return rows, best

    def save(self, directory: Path) -> None:
        """Writes what kind of index this is; the vectors are the owner's to keep."""
        files.write_facts(directory, files.IndexFacts(kind="exact"))

    @classmethod
    def load(cls, directory: Path, item_vectors: Floats) -> Self:
        """Takes the vectors, mapped into memory or not; ReleaseError if another kind was saved."""
        files.read_facts(directory, kind="exact")
        return cls(item_vectors)
