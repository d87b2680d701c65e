"""How much of the truth does an index find? Measured on sample queries when it is built."""

import numpy as np

from upnext.schema import NUM_RESERVED_ROWS, Floats, Rows

NUM_QUERIES = 500


def sample_queries(item_vectors: Floats, user_vectors: Floats | None, *, seed: int = 0) -> Floats:
    """Up to 500 of the user vectors, or of the items where there are none; always the same."""
    has_users = user_vectors is not None and len(user_vectors) > 0
    pool = user_vectors if has_users else item_vectors[NUM_RESERVED_ROWS:]
    assert pool is not None
    drawn = np.random.default_rng(seed).permutation(len(pool))[:NUM_QUERIES]
    return np.ascontiguousarray(pool[np.sort(drawn)], np.float32)


def recall_of(found: Rows, true_rows: Rows) -> float:
    """Share of the true best rows [B, K] that were found, [B, M], for the same queries.

    Places that either leaves empty (-1) count nowhere.

    >>> recall_of(np.array([[4, 2, -1]]), np.array([[2, 3]]))
    0.5
    """
    width = max(int(found.max(initial=0)), int(true_rows.max(initial=0))) + 1
    lines = np.arange(len(found))[:, None] * width
    is_true = true_rows >= 0
    is_found = np.isin((lines + true_rows)[is_true], (lines + found)[found >= 0])
    return float(is_found.mean())
