"""Along the axes scores stay what they are, and lengths become errors of scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.index.axes import score_axes


@given(num_users=st.integers(0, 30), num_dimensions=st.integers(1, 12), seed=st.integers(0, 1000))
def test_scores_are_the_same_along_the_axes(num_users: int, num_dimensions: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    users = rng.standard_normal((num_users, num_dimensions)).astype(np.float32)
    axes = score_axes(users)
    items = rng.standard_normal((20, num_dimensions)).astype(np.float32)
    along = (items @ axes.items) @ (users @ axes.users).T
    assert along == pytest.approx(items @ users.T, abs=1e-3)


def test_a_squared_length_is_the_mean_squared_score_over_users() -> None:
    rng = np.random.default_rng(0)
    users = (rng.standard_normal((50_000, 5)) @ rng.standard_normal((5, 5))).astype(np.float32)
    errors = rng.standard_normal((30, 5)).astype(np.float32)
    lengths = np.linalg.norm(errors @ score_axes(users).items, axis=1)
    assert lengths**2 == pytest.approx(np.mean((errors @ users.T) ** 2, axis=1), rel=0.01)


def test_users_without_a_history_give_the_axes_there_are() -> None:
    axes = score_axes(np.zeros((4, 3), np.float32))
    assert axes.items @ axes.users.T == pytest.approx(np.eye(3), abs=1e-6)


def test_axes_that_nobody_looks_along_are_left_out() -> None:
    rng = np.random.default_rng(0)
    turned = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    items = (rng.standard_normal((3000, 8)) @ turned).astype(np.float32)
    looks = rng.standard_normal((500, 8)) * [1, 1, 1, 1, 1, 0.01, 0.01, 0.01]
    users = (looks @ turned).astype(np.float32)
    axes = score_axes(users).that_matter(items, users)
    assert axes.items.shape == axes.users.shape == (8, 5)
    lost = items @ users.T - (items @ axes.items) @ (users @ axes.users).T
    assert (lost.var(axis=0) < 0.01 * (items @ users.T).var(axis=0)).all()


def test_an_axis_that_matters_to_a_single_user_stays() -> None:
    rng = np.random.default_rng(0)
    items = rng.standard_normal((3000, 4)).astype(np.float32)
    items[:, 3] = np.arange(3000) < 30
    users = (rng.standard_normal((2000, 4)) * [5, 5, 5, 0]).astype(np.float32)
    users[7] = [0.1, 0.1, 0.1, 3]
    assert score_axes(users).that_matter(items, users).items.shape == (4, 4)
    everybody_else = np.delete(users, 7, axis=0)
    assert score_axes(users).that_matter(items, everybody_else).items.shape == (4, 3)


@pytest.mark.parametrize(("num_items", "scale"), [(50, 0.0), (1, 1.0)])
def test_where_no_score_differs_all_axes_stay(num_items: int, scale: float) -> None:
    rng = np.random.default_rng(0)
    items = rng.standard_normal((num_items, 3)).astype(np.float32)
    users = scale * rng.standard_normal((20, 3)).astype(np.float32)
    assert score_axes(users).that_matter(items, users).items.shape == (3, 3)
