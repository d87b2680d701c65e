"""The index for large catalogues: items in cells, of which a search opens the nearest few.

faiss' inverted file with 8 bits a number. The compressed vectors only propose; scores and order are
the true inner products. How many cells a search opens is measured at build.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
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

CELLS_PER_ROOT = 4
"""Cells = 4 √N: as many cells to compare with as items to compare in a handful of them."""
MIN_ITEMS_PER_CELL = 39
"""What faiss asks for, to trust the centres of the cells."""


@dataclass(frozen=True, slots=True)
class ApproximateIndex:
    """`cells`: faiss' IndexIVF over rows 2 to N - 1; `num_probes` of them are opened a search.

    `recall_at_100`: how many of the true best 100 were found, measured at build.
    """

    item_vectors: Floats
    cells: Any
    num_probes: int
    recall_at_100: float

    @classmethod
    def build(
        cls,
        item_vectors: Floats,
        *,
        min_recall: float = 0.95,
        user_vectors: Floats | None = None,
    ) -> Self:
        """Sorts the items into cells, then opens just as many as `min_recall` needs.

        Args:
            item_vectors: [N, D] float32, rows 0 and 1 reserved.
            min_recall: the share of the true best 100 that must be found.
            user_vectors: [B, D] typical queries to measure with; items stand in if there are none,
                which are easier to serve, so give some.

        Raises: DataError: the vectors cannot be searched.
        """
        check_item_vectors(item_vectors)
        items = np.ascontiguousarray(item_vectors[NUM_RESERVED_ROWS:], np.float32)
        num_cells = int(min(CELLS_PER_ROOT * len(items) ** 0.5, len(items) / MIN_ITEMS_PER_CELL))
        num_cells = max(1, num_cells)
        metric = faiss.METRIC_INNER_PRODUCT
        cells: Any = faiss.index_factory(items.shape[1], f"IVF{num_cells},SQ8", metric)
        cells.cp.min_points_per_centroid = 1  # a handful of items is an ordinary catalogue here
        cells.train(items)
        cells.add(items)
        index = cls(item_vectors, cells, num_probes=num_cells, recall_at_100=1.0)
        return index._tuned(min_recall, sample_queries(item_vectors, user_vectors))

    def search(
        self, user_vectors: Floats, k: int, *, excluded_rows: Sequence[Rows] | None = None
    ) -> Found:
        """As `ExactIndex.search`, save that a few of the best may be missed.

        A quarter more than asked for is proposed, to make up for the 8 bits. Users for whom the
        open cells hold too few items are answered exactly.
        """
        check_user_vectors(user_vectors, self.item_vectors)
        if k == 0 or len(user_vectors) == 0:
            return ExactIndex(self.item_vectors).search(user_vectors, k)
        num_proposed = num_proposals(k + k // 4, excluded_rows, self.item_vectors)
        queries = np.ascontiguousarray(user_vectors, np.float32)
        parameters = faiss.SearchParametersIVF()
        parameters.nprobe = self.num_probes
        _, ids = self.cells.search(queries, num_proposed, params=parameters)
        proposed = np.where(ids >= 0, ids + NUM_RESERVED_ROWS, NO_ROW)
        rows, scores = best_candidates(user_vectors, proposed, self.item_vectors, k, excluded_rows)
        are_short = rows[:, -1] == NO_ROW
        if are_short.any():
            rows[are_short], scores[are_short] = ExactIndex(self.item_vectors).search(
                user_vectors[are_short],
                k,
                excluded_rows=excluded_rows and list(compress(excluded_rows, are_short)),
            )
        return rows, scores

    def _tuned(self, min_recall: float, queries: Floats) -> Self:
        """The same index with the fewest probes that reach the recall, or else with all."""
        truth, _ = ExactIndex(self.item_vectors).search(queries, 100)

        def recall(num_probes: int) -> float:
            return measured_recall(replace(self, num_probes=num_probes), queries, truth)

        choices = range(1, self.cells.nlist + 1)
        place = bisect.bisect_left(choices, min_recall, key=recall)
        num_probes = choices[min(place, len(choices) - 1)]
        return replace(self, num_probes=num_probes, recall_at_100=recall(num_probes))

    def save(self, directory: Path) -> None:
        """Writes the cells and what was measured; the vectors are the owner's to keep."""
        facts = files.IndexFacts(
            kind="approximate", num_searched=self.num_probes, recall_at_100=self.recall_at_100
        )
        files.write_facts(directory, facts)
        files.write_faiss(directory, self.cells)

    @classmethod
    def load(cls, directory: Path, item_vectors: Floats) -> Self:
        """Maps the cells into memory; ReleaseError if they are damaged or of other vectors."""
        facts = files.read_facts(directory, kind="approximate")
        cells = files.read_faiss(directory, item_vectors, num_dimensions=item_vectors.shape[1])
        return cls(item_vectors, cells, facts.num_searched, facts.recall_at_100)
