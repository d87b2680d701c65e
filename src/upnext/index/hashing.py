"""Locality-sensitive hashing, as in many a write-up of two-stage recommenders.

Signs of random projections agree as far as the angle is small. An inner product is not an angle, so
every item gets one more number that brings it to a common length, and every query a zero there: now
the largest inner product *is* the smallest angle. Source: Neyshabur and Srebro 2015, "On symmetric
and asymmetric LSHs for inner product search".
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import faiss
import numpy as np

from upnext.index import files
from upnext.index.exact import ExactIndex
from upnext.index.recall import measured_recall, sample_queries
from upnext.index.search import (
    NO_ROW,
    Found,
    best_candidates,
    check_item_vectors,
    check_user_vectors,
    num_proposals,
)
from upnext.schema import NUM_RESERVED_ROWS, Floats, Rows


@dataclass(frozen=True, slots=True)
class HashingIndex:
    """`hashes`: faiss' IndexLSH over rows 2 to N - 1; `num_compared` of them are scored exactly.

    `recall_at_100`: how many of the true best 100 were found, measured at build.
    """

    item_vectors: Floats
    hashes: Any
    num_compared: int
    recall_at_100: float

    @classmethod
    def build(
        cls,
        item_vectors: Floats,
        *,
        num_bits: int = 256,
        num_compared: int = 2000,
        user_vectors: Floats | None = None,
    ) -> Self:
        """Hashes all items and measures the recall.

        Args:
            item_vectors: [N, D] float32, rows 0 and 1 reserved.
            num_bits: random projections a vector; more are slower and find more.
            num_compared: items with the nearest hashes whose inner products are then computed.
            user_vectors: [B, D] typical queries to measure with; items stand in if there are none.

        Raises: DataError: the vectors cannot be searched.
        """
        check_item_vectors(item_vectors)
        items = _with_common_length(item_vectors[NUM_RESERVED_ROWS:])
        hashes = faiss.IndexLSH(items.shape[1], num_bits, True, False)
        hashes.add(items)
        index = cls(item_vectors, hashes, num_compared=num_compared, recall_at_100=0.0)
        queries = sample_queries(item_vectors, user_vectors)
        truth, _ = ExactIndex(item_vectors).search(queries, 100)
        return replace(index, recall_at_100=measured_recall(index, queries, truth))

    def search(
        self, user_vectors: Floats, k: int, *, excluded_rows: Sequence[Rows] | None = None
    ) -> Found:
        """As `ExactIndex.search`, save that some of the best may be missed."""
        check_user_vectors(user_vectors, self.item_vectors)
        wanted = max(k, self.num_compared)
        num_proposed = num_proposals(wanted, excluded_rows, self.item_vectors)
        queries = np.zeros((len(user_vectors), self.hashes.d), np.float32)
        queries[:, :-1] = user_vectors
        _, ids = self.hashes.search(queries, num_proposed)
        proposed = np.where(ids >= 0, ids + NUM_RESERVED_ROWS, NO_ROW)
        return best_candidates(user_vectors, proposed, self.item_vectors, k, excluded_rows)

    def save(self, directory: Path) -> None:
        """Writes the hashes and what was measured; the vectors are the owner's to keep."""
        facts = files.IndexFacts(
            kind="hashing", num_searched=self.num_compared, recall_at_100=self.recall_at_100
        )
        files.write_facts(directory, facts)
        files.write_faiss(directory, self.hashes)

    @classmethod
    def load(cls, directory: Path, item_vectors: Floats) -> Self:
        """Reads the hashes; ReleaseError if they are damaged or of other vectors."""
        facts = files.read_facts(directory, kind="hashing")
        num_dimensions = item_vectors.shape[1] + 1
        hashes = files.read_faiss(directory, item_vectors, num_dimensions=num_dimensions)
        return cls(item_vectors, hashes, facts.num_searched, facts.recall_at_100)


def _with_common_length(items: Floats) -> Floats:
    """[M, D] → [M, D + 1]: x, √(L² − |x|²), L being the greatest length.

    >>> _with_common_length(np.array([[3.0, 4.0], [0.0, 3.0]], np.float32))
    array([[3., 4., 0.],
           [0., 3., 4.]], dtype=float32)
    """
    squares = np.einsum("nd,nd->n", items, items)
    rest = np.sqrt(np.maximum(squares.max() - squares, 0.0))
    return np.concatenate([items, rest[:, None]], axis=1).astype(np.float32)
