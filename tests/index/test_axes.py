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
