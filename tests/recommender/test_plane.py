"""Which items stand on a plane, and where their vectors alone put them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from upnext.recommender.plane import (
    NUM_STRATA,
    directions,
    principal_components,
    stratified_rows,
)
from upnext.schema import NUM_RESERVED_ROWS

watches = arrays(np.int64, st.integers(NUM_RESERVED_ROWS, 90), elements=st.integers(0, 9))


@given(watches, st.integers(0, 100), st.integers(0, 3))
def test_each_stratum_of_popularity_has_the_same_number_of_points(
    num_watches: np.ndarray, num_points: int, seed: int
) -> None:
    rows = stratified_rows(num_watches, num_points, seed=seed)
    every_row = np.arange(NUM_RESERVED_ROWS, len(num_watches))
    if len(every_row) <= num_points:
        assert rows.tolist() == every_row.tolist()
        return
    by_watches = every_row[np.argsort(num_watches[NUM_RESERVED_ROWS:], kind="stable")]
    of_each = [np.isin(rows, one).sum() for one in np.array_split(by_watches, NUM_STRATA)]
    assert of_each == [num_points // NUM_STRATA] * NUM_STRATA
    assert len(set(rows.tolist())) == len(rows)
    assert rows.tolist() == stratified_rows(num_watches, num_points, seed=seed).tolist()


def test_another_seed_draws_others() -> None:
    num_watches = np.arange(500)
    assert set(stratified_rows(num_watches, 50)) != set(stratified_rows(num_watches, 50, seed=1))


def test_directions_keep_cosines_and_nothing_stays_nothing() -> None:
    vectors = np.array([[3, 4], [0, 0], [-1e-3, 0]], np.float32)
    expected = np.array([[0.6, 0.8], [0, 0], [-1, 0]])
    np.testing.assert_allclose(directions(vectors), expected, atol=1e-6)


@given(st.integers(3, 30), st.integers(2, 6), st.integers(0, 99))
def test_a_plane_of_vectors_that_lie_in_one_keeps_every_distance(
    num_items: int, size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(size, 2)))[0]
    flat = rng.normal(size=(num_items, 2))
    points = principal_components((flat @ axes.T + 5).astype(np.float32))

    def distances(of: np.ndarray) -> np.ndarray:
        return np.asarray(np.linalg.norm(of[:, None] - of[None], axis=2))

    np.testing.assert_allclose(distances(points), distances(flat), atol=1e-4)
    assert points[:, 0].var() >= points[:, 1].var() - 1e-6


@pytest.mark.parametrize("shape", [(1, 4), (2, 4), (5, 1)])
def test_few_vectors_or_short_ones_have_points_too(shape: tuple[int, int]) -> None:
    vectors = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    points = principal_components(vectors)
    assert points.shape == (shape[0], 2)
    assert points.dtype == np.float32
    assert np.isfinite(points).all()


def test_what_is_mirrored_is_shown_the_same_way_up() -> None:
    vectors = np.random.default_rng(3).exponential(size=(40, 5)).astype(np.float32)
    points, mirrored = principal_components(vectors), principal_components(-vectors)
    np.testing.assert_allclose(np.abs(points), np.abs(mirrored), atol=1e-5)
    assert ((points**3).sum(axis=0) >= 0).all()
