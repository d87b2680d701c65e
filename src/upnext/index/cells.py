"""Cells of points that lie near one another, of which a search opens a few: faiss' inverted file.

A point goes to the cell whose centre is nearest; a query opens the cells whose centres have the
greatest inner product with it. Of a point its difference from the centre is kept, 8 bits a number.
"""

from typing import Any

import faiss
import numpy as np

from upnext.index.files import copy_of
from upnext.index.filters import Mask, row_selector
from upnext.index.search import Places
from upnext.schema import Floats

CELLS_PER_ROOT = 2
"""Cells = 2 √M: opening a few of them compares about as many points as there are cells."""
MIN_POINTS_PER_CELL = 39
"""What faiss asks for, to trust the centres."""
SAMPLED_PER_CELL = 64
"""Points a cell that the centres, and the range of each number, are learned from."""
SEED = 7


def new_cells(points: Floats) -> Any:
    """faiss' IndexIVFScalarQuantizer of all points [M, D]."""
    num_points, num_dimensions = points.shape
    num_cells = int(min(CELLS_PER_ROOT * num_points**0.5, num_points / MIN_POINTS_PER_CELL))
    centres = _centres(points, max(1, num_cells))
    by_product = faiss.IndexFlatIP(num_dimensions)
    by_product.add(centres)
    cells: Any = faiss.IndexIVFScalarQuantizer(
        by_product,
        num_dimensions,
        len(centres),
        faiss.ScalarQuantizer.QT_8bit,
        faiss.METRIC_INNER_PRODUCT,
    )
    nearest = _nearest(points, centres)
    sampled = slice(None, None, max(1, num_points // (SAMPLED_PER_CELL * len(centres))))
    cells.sq.train(points[sampled] - centres[nearest[sampled]])
    cells.is_trained = True
    _put(cells, points, nearest)
    return cells


def grown_cells(cells: Any, points: Floats) -> Any:
    """A copy with more points [M, D], in the cells that there are."""
    grown = copy_of(cells)
    centres = grown.quantizer.reconstruct_n(0, grown.nlist)
    _put(grown, points, _nearest(points, centres))
    return grown


def opening(num_probes: int, allowed: Mask | None) -> Any:
    """What tells faiss how many cells to open, and which rows count."""
    parameters: Any = faiss.SearchParametersIVF
    return parameters(nprobe=num_probes, sel=row_selector(allowed))


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


def _nearest(points: Floats, centres: Floats) -> Places:
    """[M]: the cell of each point."""
    _, nearest = faiss.knn(points, centres, 1)
    return np.ascontiguousarray(nearest[:, 0], np.int64)


def _put(cells: Any, points: Floats, nearest: Places) -> None:
    """Adds points [M, D] to these cells; faiss' own `add` would look for the greatest product."""
    vectors = np.ascontiguousarray(points, np.float32)
    cells.add_core(len(points), faiss.swig_ptr(vectors), None, faiss.swig_ptr(nearest))
