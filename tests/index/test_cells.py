"""Each point lies in the cell with the nearest centre, those that came later too."""

from typing import Any

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from upnext.index.cells import grown_cells, new_cells, opening
from upnext.schema import Floats


def cell_of_each(cells: Any) -> NDArray[np.int64]:
    lists = cells.invlists
    cell = np.full(cells.ntotal, -1, np.int64)
    for number in range(cells.nlist):
        size = lists.list_size(number)
        if size:
            cell[faiss.rev_swig_ptr(lists.get_ids(number), size)] = number
    return cell


def nearest(points: Floats, cells: Any) -> NDArray[np.int64]:
    centres = cells.quantizer.reconstruct_n(0, cells.nlist)
    distances = ((points[:, None] - centres[None]) ** 2).sum(axis=2)
    return np.asarray(distances.argmin(axis=1))


@pytest.fixture(scope="module")
def points() -> Floats:
    rng = np.random.default_rng(0)
    lengths = rng.lognormal(0, 1, (2500, 1))
    return (lengths * rng.standard_normal((2500, 6))).astype(np.float32)


def test_points_lie_in_the_nearest_cell_and_not_in_that_of_the_greatest_product(
    points: Floats,
) -> None:
    cells = new_cells(points)
    assert cells.nlist > 20
    assert (cell_of_each(cells) == nearest(points, cells)).all()


def test_points_that_come_later_too_and_the_first_cells_stay(points: Floats) -> None:
    cells = new_cells(points[:2000])
    grown = grown_cells(cells, points[2000:])
    assert (cells.ntotal, grown.ntotal) == (2000, 2500)
    assert (cell_of_each(grown) == nearest(points, grown)).all()


def test_products_are_nearly_true(points: Floats) -> None:
    cells = new_cells(points)
    queries = np.random.default_rng(1).standard_normal((20, 6)).astype(np.float32)
    products, ids = cells.search(queries, 50, params=opening(cells.nlist, None))
    true = np.take_along_axis(queries @ points.T, ids, axis=1)
    assert products == pytest.approx(true, abs=0.02 * float(np.abs(true).max()))


def test_a_mask_hides_what_it_does_not_allow(points: Floats) -> None:
    cells = new_cells(points)
    allowed = np.zeros(2502, bool)
    allowed[[7, 1000, 2501]] = True
    _, ids = cells.search(points[:3], 5, params=opening(cells.nlist, allowed))
    assert [sorted(line) for line in ids.tolist()] == [[-1, -1, 5, 998, 2499]] * 3
