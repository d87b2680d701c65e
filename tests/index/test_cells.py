"""Each point lies in the cell with the nearest centre, those that came later too."""

import numpy as np
import pytest
from numpy.typing import NDArray

from upnext.index.cells import Cells
from upnext.schema import Floats


def nearest(points: Floats, cells: Cells) -> NDArray[np.int64]:
    distances = ((points[:, None] - cells.centres[None]) ** 2).sum(axis=2)
    return np.asarray(distances.argmin(axis=1))


@pytest.fixture(scope="module")
def points() -> Floats:
    rng = np.random.default_rng(0)
    lengths = rng.lognormal(0, 1, (2500, 1))
    return (lengths * rng.standard_normal((2500, 6))).astype(np.float32)


def test_points_lie_in_the_nearest_cell_and_not_in_that_of_the_greatest_product(
    points: Floats,
) -> None:
    cells = Cells.build(points)
    assert cells.num_cells > 20
    assert (cells.cell_of == nearest(points, cells)).all()


def test_points_that_come_later_too_and_the_first_cells_stay(points: Floats) -> None:
    cells = Cells.build(points[:2000])
    grown = cells.with_points(points[2000:])
    assert (cells.num_points, grown.num_points) == (2000, 2500)
    assert (grown.centres == cells.centres).all()
    assert (grown.cell_of == nearest(points, grown)).all()


def test_the_greatest_products_are_found(points: Floats) -> None:
    cells = Cells.build(points)
    queries = np.random.default_rng(1).standard_normal((20, 6)).astype(np.float32)
    found = cells.nearest_points(queries, 60, cells.num_cells)
    truth = np.argsort(-(queries @ points.T), axis=1)[:, :50]
    assert np.mean([np.isin(a, b).mean() for a, b in zip(truth, found, strict=True)]) > 0.88
    found = cells.nearest_points(queries, 150, cells.num_cells)
    assert np.mean([np.isin(a, b).mean() for a, b in zip(truth, found, strict=True)]) > 0.99


@pytest.mark.parametrize("num_wanted", [1.0, 2500.0])
def test_only_allowed_points_are_found_and_cells_without_any_passed_over(
    points: Floats, num_wanted: float
) -> None:
    cells = Cells.build(points)
    allowed = np.zeros(2502, bool)
    allowed[[9, 1002, 2501]] = True
    found = cells.nearest_allowed(points[:4], 5, cells.filter(allowed, num_wanted))
    for line in found.tolist():
        found_any = [place for place in line if place >= 0]
        assert set(found_any) <= {7, 1000, 2499}
        assert len(found_any) >= 1 if num_wanted == 1.0 else sorted(found_any) == [7, 1000, 2499]


def test_each_query_opens_its_own_cells(points: Floats) -> None:
    cells = Cells.build(points)
    only = cells.filter(np.arange(2502) % 2 == 0, 100.0)
    queries = points[[5, 900, 2000]]
    together = cells.nearest_allowed(queries, 20, only)
    alone = [cells.nearest_allowed(query[None], 20, only)[0] for query in queries]
    assert (together == np.stack(alone)).all()
    assert (together % 2 == 0).all()
