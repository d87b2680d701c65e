"""Locality-sensitive hashing, as in many a write-up of two-stage recommenders.

Signs of random projections agree as far as the angle is small. An inner product is not an angle, so
every item gets one more number that brings it to a common length, and every query a zero there: now
the largest inner product *is* the smallest angle. Source: Neyshabur and Srebro 2015, "On symmetric
and asymmetric LSHs for inner product search".
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from upnext.best import Found, RowSets
from upnext.index import files
from upnext.index.exact import search_exactly
from upnext.index.filters import Mask, allowed_mask, joined_rows, no_rows, row_selector
from upnext.index.recall import recall_of, sample_queries
from upnext.index.search import (
    best_candidates,
    check_grown,
    check_item_vectors,
    check_user_vectors,
    each_alone,
)
from upnext.schema import NUM_RESERVED_ROWS, Floats, Rows

PROJECTIONS_NAME = "projections.npy"
ITEMS_AT_ONCE = 50_000
SEED = 7


@dataclass(frozen=True)
class HashingIndex:
    """`hashes`: faiss' IndexBinaryFlat over rows 2 to N − 1, signs of `projections` [D + 1, bits].

    The items of the `facts.num_searched` nearest hashes are scored exactly. `removed_rows` are
    never returned.
    """

    item_vectors: Floats
    hashes: Any
    projections: Floats
    facts: files.IndexFacts
    removed_rows: Rows = field(default_factory=no_rows)

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
        item_vectors = np.asarray(item_vectors)
        shape = (item_vectors.shape[1] + 1, num_bits)
        projections = np.random.default_rng(SEED).standard_normal(shape, np.float32)
        items = item_vectors[NUM_RESERVED_ROWS:]
        hashes: Any = faiss.IndexBinaryFlat(8 * -(-num_bits // 8))
        _add(hashes, items, projections, _greatest_length(items))
        facts = files.IndexFacts(
            kind="hashing",
            num_searched=num_compared,
            num_items=len(items),
            size_bytes=files.size_bytes(hashes) + projections.nbytes,
        )
        index = cls(item_vectors, hashes, projections, facts)
        queries = sample_queries(item_vectors, user_vectors)
        truth, _ = search_exactly(queries, item_vectors, 100, None, None)
        recall = recall_of(index.search(queries, 100)[0], truth)
        return replace(index, facts=replace(facts, recall_at_100=recall))

    @property
    def recall_at_100(self) -> float:
        """Share of the true best 100 that a search finds, as measured at build."""
        return self.facts.recall_at_100

    def search(
        self,
        user_vectors: Floats,
        k: int,
        *,
        excluded_rows: Sequence[Rows] | None = None,
        allowed_rows: Rows | None = None,
    ) -> Found:
        """As `ExactIndex.search`, save that some of the best may be missed."""
        check_user_vectors(user_vectors, self.item_vectors)
        allowed = self._standing_mask
        if allowed_rows is not None:
            allowed = allowed_mask(len(self.item_vectors), self.removed_rows, allowed_rows)
        if len(user_vectors) == 0:
            return search_exactly(user_vectors, self.item_vectors, k, excluded_rows, allowed)
        return each_alone(partial(self._search_alone, k, allowed), user_vectors, excluded_rows)

    def _search_alone(
        self, k: int, allowed: Mask | None, user_vector: Floats, excluded: RowSets
    ) -> Found:
        num_allowed = self.hashes.ntotal if allowed is None else int(np.count_nonzero(allowed))
        num_proposed = max(k, self.facts.num_searched) + int(excluded.sizes[0])
        if num_proposed >= num_allowed:
            return search_exactly(user_vector, self.item_vectors, k, excluded, allowed)
        queries = _hashed(user_vector, np.zeros(len(user_vector), np.float32), self.projections)
        parameters: Any = faiss.SearchParameters
        _, ids = self.hashes.search(
            queries, num_proposed, params=parameters(sel=row_selector(allowed))
        )
        rows = ids + NUM_RESERVED_ROWS  # of no item, -1, a reserved row, which never wins
        return best_candidates(user_vector, rows, self.item_vectors, k, excluded)

    def with_items(self, item_vectors: Floats) -> Self:
        """As `ExactIndex.with_items`; the hashes are copied, this index stays as it is."""
        check_grown(self.item_vectors, item_vectors)
        num_rows, hashes = len(self.item_vectors), files.copy_of(self.hashes)
        length = _greatest_length(self.item_vectors[NUM_RESERVED_ROWS:])
        _add(hashes, item_vectors[num_rows:], self.projections, length)
        return replace(self, item_vectors=np.asarray(item_vectors), hashes=hashes)

    def without_rows(self, rows: Rows) -> Self:
        """As `ExactIndex.without_rows`; nothing is copied."""
        removed = joined_rows(self.removed_rows, rows, len(self.item_vectors))
        return replace(self, removed_rows=removed)

    def save(self, directory: Path) -> None:
        """Writes the hashes and what was measured; the vectors are the owner's to keep."""
        files.write_facts(directory, self.facts)
        files.write_removed(directory, self.removed_rows)
        files.write_faiss(directory, self.hashes)
        np.save(directory / PROJECTIONS_NAME, self.projections, allow_pickle=False)

    @classmethod
    def load(cls, directory: Path, item_vectors: Floats) -> Self:
        """Maps the hashes into memory; ReleaseError if they are damaged or of other vectors."""
        facts = files.read_facts(directory, kind="hashing")
        shape = (item_vectors.shape[1] + 1, -1)
        projections = files.read_array(directory / PROJECTIONS_NAME, np.float32, shape=shape)
        hashes = files.read_faiss(
            directory,
            item_vectors,
            num_dimensions=8 * -(-projections.shape[1] // 8),
            kind=faiss.IndexBinaryFlat,
        )
        removed = files.read_removed(directory, item_vectors)
        return cls(np.asarray(item_vectors), hashes, projections, facts, removed)

    @cached_property
    def _standing_mask(self) -> Mask | None:
        return allowed_mask(len(self.item_vectors), self.removed_rows)


def _greatest_length(items: Floats) -> float:
    return float(np.sqrt(np.einsum("nd,nd->n", items, items).max(initial=0.0)))


def _missing_length(items: Floats, length: float) -> Floats:
    """[M]: √(L² − |x|²), the number that brings an item to the length L; 0 if it is longer.

    >>> _missing_length(np.array([[3.0, 4.0], [0.0, 3.0]], np.float32), 5.0)
    array([0., 4.], dtype=float32)
    """
    squares = np.einsum("nd,nd->n", items, items)
    missing: Floats = np.sqrt(np.maximum(length**2 - squares, 0.0))
    return missing


def _hashed(vectors: Floats, last: Floats, projections: Floats) -> NDArray[np.uint8]:
    """[M, D] and one more number each [M] → [M, bits / 8], the signs of their projections."""
    signs = vectors @ projections[:-1] + last[:, None] * projections[-1] > 0
    return np.packbits(signs, axis=1)


def _add(hashes: Any, items: Floats, projections: Floats, length: float) -> None:
    for start in range(0, len(items), ITEMS_AT_ONCE):
        part = items[start : start + ITEMS_AT_ONCE]
        hashes.add(_hashed(part, _missing_length(part, length), projections))
