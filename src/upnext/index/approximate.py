"""The index for large catalogues: items in cells, of which a search opens the nearest few.

Cells and compressed vectors only propose; scores and order are the true inner products. How many
items are proposed and how many cells a search opens is measured at build.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import compress
from pathlib import Path
from typing import Self

import faiss
import numpy as np

from upnext.best import Found, RowSets
from upnext.index import files
from upnext.index.axes import ScoreAxes, score_axes
from upnext.index.cells import CellFilter, Cells
from upnext.index.exact import search_exactly
from upnext.index.filters import Mask, allowed_mask, joined_rows, no_rows
from upnext.index.recall import recall_of, sample_queries
from upnext.index.search import (
    best_candidates,
    check_grown,
    check_item_vectors,
    check_user_vectors,
    each_alone,
)
from upnext.schema import NO_ROW, NUM_RESERVED_ROWS, Floats, Rows

AXES_NAME = "axes.npy"
TESTS_PER_SCORE = 5
"""Items of a cell that are tested for being allowed in the time one is read and scored exactly."""
NUM_BEST = 100
"""Recall is that of so many."""
NUMS_SCORED = (150, 200, 250, 300, 400, 500, 700, 1_000)
"""How many items may be proposed, and scored exactly, where the best 100 are asked for."""
SHARE_LOST_BY_CODES = 0.2
"""Of the recall that may be lost, the codes may lose so much; the rest is for cells left closed."""
MIN_SPARE = 50
"""Proposals beyond those asked for, at least: of the very best few the codes may miss more."""

Way = int | CellFilter | None
"""So many cells are opened; or what a filter needs; or every allowed item is scored."""


@dataclass(frozen=True)
class ApproximateIndex:
    """`cells`: of rows 2 to N − 1, along `axes`; a search opens `facts.num_searched` of them.

    `removed_rows` are never returned.
    """

    item_vectors: Floats
    cells: Cells
    axes: ScoreAxes
    facts: files.IndexFacts
    removed_rows: Rows = field(default_factory=no_rows)

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
            user_vectors: [B, D] typical queries: cells are made for them and recall is measured
                with them. Items stand in if there are none, so give some, a thousand or more.

        Raises: DataError: the vectors cannot be searched.
        """
        check_item_vectors(item_vectors)
        item_vectors = np.asarray(item_vectors)
        items = item_vectors[NUM_RESERVED_ROWS:]
        users = items if user_vectors is None or not len(user_vectors) else user_vectors
        axes = score_axes(users).that_matter(items, users)
        cells = Cells.build(items @ axes.items)
        facts = files.IndexFacts(
            kind="approximate",
            num_searched=cells.num_cells,
            num_scored=NUMS_SCORED[-1],
            num_items=len(items),
            num_cells=cells.num_cells,
            size_bytes=files.size_bytes(cells.index) + axes.items.nbytes + axes.users.nbytes,
        )
        index = cls(item_vectors, cells, axes, facts)
        return index._tuned(min_recall, sample_queries(item_vectors, user_vectors))

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
        """As `ExactIndex.search`, save that a few of the best may be missed.

        Users for whom the open cells hold too few items are answered exactly.
        """
        check_user_vectors(user_vectors, self.item_vectors)
        allowed, way = self._standing
        if allowed_rows is not None:
            allowed = allowed_mask(len(self.item_vectors), self.removed_rows, allowed_rows)
            way = self._way(allowed)
        if way is None or k == 0 or len(user_vectors) == 0:
            return search_exactly(user_vectors, self.item_vectors, k, excluded_rows, allowed)
        rows, scores = self._from_cells(user_vectors, k, excluded_rows, way)
        are_short = rows[:, -1] == NO_ROW
        if are_short.any():
            rows[are_short], scores[are_short] = search_exactly(
                user_vectors[are_short],
                self.item_vectors,
                k,
                excluded_rows and list(compress(excluded_rows, are_short)),
                allowed,
            )
        return rows, scores

    def with_items(self, item_vectors: Floats) -> Self:
        """As `ExactIndex.with_items`; the cells are copied, this index stays as it is.

        The cells are those that the first items made. Build anew once the catalogue has doubled.
        """
        check_grown(self.item_vectors, item_vectors)
        added = item_vectors[len(self.item_vectors) :]
        cells = self.cells.with_points(added @ self.axes.items)
        return replace(self, item_vectors=np.asarray(item_vectors), cells=cells)

    def without_rows(self, rows: Rows) -> Self:
        """As `ExactIndex.without_rows`; nothing is copied."""
        removed = joined_rows(self.removed_rows, rows, len(self.item_vectors))
        return replace(self, removed_rows=removed)

    def save(self, directory: Path) -> None:
        """Writes the cells and what was measured; the vectors are the owner's to keep."""
        files.write_facts(directory, self.facts)
        files.write_removed(directory, self.removed_rows)
        files.write_faiss(directory, self.cells.index)
        axes = np.stack([self.axes.items, self.axes.users])
        np.save(directory / AXES_NAME, axes, allow_pickle=False)

    @classmethod
    def load(cls, directory: Path, item_vectors: Floats) -> Self:
        """Reads the cells; ReleaseError if they are damaged or of other vectors."""
        facts = files.read_facts(directory, kind="approximate")
        size = item_vectors.shape[1]
        items, users = files.read_array(directory / AXES_NAME, np.float32, shape=(2, size, -1))
        index = files.read_faiss(
            directory, item_vectors, num_dimensions=items.shape[1], kind=faiss.IndexIVFPQFastScan
        )
        removed = files.read_removed(directory, item_vectors)
        return cls(np.asarray(item_vectors), Cells(index), ScoreAxes(items, users), facts, removed)

    @cached_property
    def _standing(self) -> tuple[Mask | None, Way]:
        """Of the rows that are not removed: which, and the way to search them."""
        allowed = allowed_mask(len(self.item_vectors), self.removed_rows)
        return allowed, self._way(allowed)

    def _way(self, allowed: Mask | None) -> Way:
        """How many cells to open, or what else counts; None if it is cheaper to score all allowed.

        A search wants to see as many items that count as it sees without a filter. Of a share p it
        tests 1 / p as many for that.
        """
        if allowed is None:
            return self.facts.num_searched
        num_seen = self.facts.num_searched * self.cells.num_points / self.cells.num_cells
        num_allowed = int(np.count_nonzero(allowed))
        num_tested = num_seen * self.cells.num_points / max(num_allowed, 1)
        if num_allowed * TESTS_PER_SCORE <= num_tested:
            return None
        return self.cells.filter(allowed, num_seen)

    def _from_cells(
        self,
        user_vectors: Floats,
        k: int,
        excluded_rows: Sequence[Rows] | None,
        way: int | CellFilter,
    ) -> Found:
        """The best k of what the open cells propose, which may be fewer."""
        return each_alone(partial(self._from_cells_alone, k, way), user_vectors, excluded_rows)

    def _from_cells_alone(
        self, k: int, way: int | CellFilter, user_vector: Floats, excluded: RowSets
    ) -> Found:
        num_proposed = max(k + MIN_SPARE, k * self.facts.num_scored // NUM_BEST)
        num_proposed = min(num_proposed + int(excluded.sizes[0]), self.cells.num_points)
        queries = user_vector @ self.axes.users
        if isinstance(way, CellFilter):
            points = self.cells.nearest_allowed(queries, num_proposed, way)
        else:
            points = self.cells.nearest_points(queries, num_proposed, way)
        rows = points + NUM_RESERVED_ROWS  # of no point, -1, a reserved row, which never wins
        return best_candidates(user_vector, rows, self.item_vectors, k, excluded)

    def _tuned(self, min_recall: float, queries: Floats) -> Self:
        """The same index with the fewest items scored and then the fewest cells opened.

        Where even the most of them do not reach the recall, the most are scored and opened.
        """
        truth, _ = search_exactly(queries, self.item_vectors, NUM_BEST, None, None)
        num_cells = self.cells.num_cells
        points = self.cells.nearest_points(
            queries @ self.axes.users, min(NUMS_SCORED[-1], self.cells.num_points), num_cells
        )
        rows = (points + NUM_RESERVED_ROWS).astype(np.int32)
        enough = 1 - SHARE_LOST_BY_CODES * (1 - min_recall)
        place = bisect.bisect_left(
            NUMS_SCORED, enough, key=lambda num: recall_of(rows[:, :num], truth)
        )
        num_scored = NUMS_SCORED[min(place, len(NUMS_SCORED) - 1)]
        index = replace(self, facts=replace(self.facts, num_scored=num_scored))

        def recall(num_opened: int) -> float:
            return recall_of(index._from_cells(queries, NUM_BEST, None, num_opened)[0], truth)

        choices = range(1, num_cells + 1)
        place = bisect.bisect_left(choices, min_recall, key=recall)
        num_opened = choices[min(place, num_cells - 1)]
        facts = replace(index.facts, num_searched=num_opened, recall_at_100=recall(num_opened))
        return replace(index, facts=facts)
