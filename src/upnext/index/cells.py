"""Cells of points that lie near one another, of which a search opens a few: faiss' inverted file.

A point goes to the cell whose centre is nearest; a query opens the cells whose centres have the
greatest inner product with it. Of a point its difference from the centre is kept, 4 bits a number,
which a processor compares many points at a time: these codes propose, they do not decide.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Self

import faiss
import numpy as np

from upnext.best import Places
from upnext.index.files import copy_of
from upnext.index.filters import Mask, row_selector
from upnext.index.search import best_columns
from upnext.schema import NUM_RESERVED_ROWS, Floats

CELLS_PER_ROOT = 3
"""Cells = 3 √M. More of them are more centres to compare a query with, fewer are more points."""
MIN_POINTS_PER_CELL = 39
"""What faiss asks for, to trust the centres."""
SAMPLED_PER_CELL = 256
"""Points a cell that the centres are learned from."""
BITS_PER_NUMBER = 4
MIN_SAMPLED = 2**BITS_PER_NUMBER
"""Points that the codes are learned from, at least; fewer are taken more than once."""
POINTS_PER_BLOCK = 64
"""Points of a cell whose codes lie together and are read together; twice 32, the least there is,
is read a tenth faster. Each cell's last block is filled up."""
ONE_CELL_AFTER_ANOTHER = 11
"""The way in which faiss reads cells: those of one query, whose candidates wait in a reservoir. The
way that it would choose itself, for many queries at once, takes a third longer for one user."""
SEED = 7


@dataclass(frozen=True)
class CellFilter:
    """The points that count: `selector` for faiss, `num_allowed` [C] of each cell.

    A search opens cells until it has seen `num_wanted` points that count.
    """

    selector: Any
    num_allowed: Places
    num_wanted: float


@dataclass(frozen=True)
class Cells:
    """`index`: faiss' IndexIVFPQFastScan of points 0 to M − 1."""

    index: Any

    def __post_init__(self) -> None:
        self.index.implem = ONE_CELL_AFTER_ANOTHER  # no file keeps it

    @classmethod
    def build(cls, points: Floats) -> Self:
        """Sorts points [M, D] into cells."""
        num_points, num_dimensions = points.shape
        num_cells = int(min(CELLS_PER_ROOT * num_points**0.5, num_points / MIN_POINTS_PER_CELL))
        centres = _centres(points, max(1, num_cells))
        by_distance = faiss.IndexFlatL2(num_dimensions)
        by_distance.add(centres)
        index: Any = faiss.IndexIVFPQFastScan(
            by_distance,
            num_dimensions,
            len(centres),
            num_dimensions,
            BITS_PER_NUMBER,
            faiss.METRIC_INNER_PRODUCT,
            POINTS_PER_BLOCK,
        )
        index.by_residual = True
        index.pq.cp.min_points_per_centroid = 1
        sampled = points[:: max(1, num_points // (SAMPLED_PER_CELL * len(centres)))]
        enough = np.resize(sampled, (max(len(sampled), MIN_SAMPLED), num_dimensions))
        index.train(np.ascontiguousarray(enough, np.float32))
        index.add(np.ascontiguousarray(points, np.float32))
        return cls(index)

    def with_points(self, points: Floats) -> Self:
        """A copy with more points [M, D], in the cells that there are."""
        index = copy_of(self.index)
        index.add(np.ascontiguousarray(points, np.float32))
        return type(self)(index)

    @cached_property
    def num_points(self) -> int:
        """M."""
        return int(self.index.ntotal)

    @cached_property
    def num_cells(self) -> int:
        """C."""
        return int(self.index.nlist)

    @cached_property
    def centres(self) -> Floats:
        """[C, D]."""
        centres: Floats = self.index.quantizer.reconstruct_n(0, self.num_cells)
        return centres

    @cached_property
    def cell_of(self) -> Places:
        """[M]: the cell of each point."""
        lists, cell_of = self.index.invlists, np.empty(self.num_points, np.int64)
        for cell in range(self.num_cells):
            if size := lists.list_size(cell):
                cell_of[faiss.rev_swig_ptr(lists.get_ids(cell), size)] = cell
        return cell_of

    def nearest_points(self, queries: Floats, k: int, num_opened: int) -> Places:
        """[B, k] points with the greatest products in the nearest cells, nearly; -1 fills up."""
        cells, products = best_columns(queries @ self.centres.T, num_opened)
        return self._in_cells(queries, k, cells, products, _opening_for_all(num_opened))

    def filter(self, allowed: Mask, num_wanted: float) -> CellFilter:
        """For searches that see only `allowed` rows [2 + M], and some `num_wanted` of them."""
        cells = self.cell_of[allowed[NUM_RESERVED_ROWS:]]
        num_allowed = np.bincount(cells, minlength=self.num_cells)
        return CellFilter(row_selector(allowed), num_allowed, num_wanted)

    def nearest_allowed(self, queries: Floats, k: int, only: CellFilter) -> Places:
        """As `nearest_points`, of those that count; cells without any are passed over."""
        products = queries @ self.centres.T
        products[:, only.num_allowed == 0] = -np.inf
        cells = np.argsort(-products, axis=1)
        num_allowed = only.num_allowed[cells]
        is_opened = (np.cumsum(num_allowed, axis=1) - num_allowed < only.num_wanted) & (
            num_allowed > 0
        )
        num_opened = max(1, int(is_opened.sum(axis=1).max()))
        cells, is_opened = cells[:, :num_opened], is_opened[:, :num_opened]
        products = np.take_along_axis(products, cells, axis=1)
        # faiss scales its tables by the products of cells that stay closed, too
        products = np.where(is_opened, products, products[:, :1])
        cells = np.where(is_opened, cells, -1)
        return self._in_cells(queries, k, cells, products, _opening(num_opened, only.selector))

    def _in_cells(
        self, queries: Floats, k: int, cells: Places, products: Floats, opening: Any
    ) -> Places:
        """[B, k] points of the given cells [B, P], whose centres have these products.

        faiss' Python function of this name takes no parameters, the one beneath it does.
        """
        queries = np.ascontiguousarray(queries)
        cells, products = np.ascontiguousarray(cells), np.ascontiguousarray(products)
        best = np.empty((len(queries), k), np.float32)
        points = np.empty((len(queries), k), np.int64)
        self.index.search_preassigned_c(
            len(queries),
            faiss.swig_ptr(queries),
            k,
            faiss.swig_ptr(cells),
            faiss.swig_ptr(products),
            faiss.swig_ptr(best),
            faiss.swig_ptr(points),
            False,
            opening,
        )
        return points


def _opening(num_cells: int, selector: Any = None) -> Any:
    """What tells faiss how many cells to open, and which points count."""
    parameters: Any = faiss.SearchParametersIVF
    return parameters(nprobe=num_cells, sel=selector)


_opening_for_all = lru_cache(_opening)
"""Made once a number of cells: making them takes longer than reading a cell."""


def _centres(points: Floats, num_cells: int) -> Floats:
    means: Any = faiss.Kmeans(
        points.shape[1],
        num_cells,
        niter=10,
        seed=SEED,
        min_points_per_centroid=1,  # a handful of items is an ordinary catalogue here
        max_points_per_centroid=SAMPLED_PER_CELL,
    )
    means.train(points)
    centres: Floats = means.centroids
    return centres
