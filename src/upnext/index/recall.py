"""How much of the truth does an index find? Measured on sample queries when it is built."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from upnext.index.search import Found
from upnext.schema import NUM_RESERVED_ROWS, Floats, Rows

NUM_QUERIES = 500


class Searchable(Protocol):
    """All that a measurement needs of an index."""

    def search(
        self, user_vectors: Floats, k: int, *, excluded_rows: Sequence[Rows] | None = None
    ) -> Found:
        """See `ExactIndex.search`."""
        ...


def sample_queries(item_vectors: Floats, user_vectors: Floats | None, *, seed: int = 0) -> Floats:
    """Up to 500 of the user vectors, or of the items where there are none; always the same."""
    has_users = user_vectors is not None and len(user_vectors) > 0
    pool = user_vectors if has_users else item_vectors[NUM_RESERVED_ROWS:]
    assert pool is not None
    drawn = np.random.default_rng(seed).permutation(len(pool))[:NUM_QUERIES]
    return np.ascontiguousarray(pool[np.sort(drawn)], np.float32)


def measured_recall(index: Searchable, queries: Floats, true_rows: Rows) -> float:
    """Share of the true best rows [B, K] that the index returns for the same queries.

    Places that the truth leaves empty (-1) count nowhere.
    """
    rows, _ = index.search(queries, true_rows.shape[1])
    width = max(int(rows.max(initial=0)), int(true_rows.max(initial=0))) + 1
    lines = np.arange(len(queries))[:, None] * width
    is_true = true_rows >= 0
    is_found = np.isin((lines + true_rows)[is_true], (lines + rows)[rows >= 0])
    return float(is_found.mean())
