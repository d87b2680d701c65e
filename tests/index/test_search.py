"""The k best of many, the same whichever way they are found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.index.search import best_candidates, best_columns
from upnext.schema import Floats


@given(
    num_columns=st.integers(0, 900),
    k=st.integers(0, 12),
    num_values=st.integers(1, 2000),
    share_hidden=st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    seed=st.integers(0, 1000),
)
def test_best_columns_are_a_full_stable_sort(
    num_columns: int, k: int, num_values: int, share_hidden: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(-num_values, num_values, (3, num_columns)).astype(np.float32)
    scores[rng.random(scores.shape) < share_hidden] = -np.inf
    columns, best = best_columns(scores, k)
    for line, found, values in zip(scores, columns, best, strict=True):
        expected = [
            place for place in np.argsort(-line, kind="stable")[:k] if line[place] > -np.inf
        ]
        assert found.tolist() == expected + [-1] * (k - len(expected))
        assert values.tolist() == line[expected].tolist() + [-np.inf] * (k - len(expected))


def test_the_best_may_stand_side_by_side() -> None:
    scores = np.zeros((1, 10_000), np.float32)
    scores[0, 40:60] = np.arange(20, 40)
    assert best_columns(scores, 20)[0].tolist() == [list(range(59, 39, -1))]


@pytest.mark.parametrize("k", [1, 3, 8])
def test_candidates_are_scored_anew_and_only_proposals_win(k: int) -> None:
    items: Floats = np.array([[9.0], [9], [1], [5], [3], [5], [4]], np.float32)
    users: Floats = np.array([[1.0], [-1.0]], np.float32)
    proposed = np.array([[6, 5, 3, 1, 1], [2, 1, 6, 4, 0]])
    rows, scores = best_candidates(users, proposed, items, k, [np.array([5]), np.array([3, 6, -1])])
    wanted = [[3, 6], [2, 4]]
    assert rows.tolist() == [(line + [-1] * k)[:k] for line in wanted]
    assert scores.tolist() == [
        ([5.0, 4.0] + [-np.inf] * k)[:k],
        ([-1.0, -3.0] + [-np.inf] * k)[:k],
    ]


@given(
    num_proposed=st.integers(0, 60),
    k=st.integers(0, 40),
    size=st.sampled_from([0.0, 1e-30, 1.0, 1e30]),
    seed=st.integers(0, 1000),
)
def test_candidates_come_best_first_whatever_the_sign_and_size(
    num_proposed: int, k: int, size: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    items = rng.integers(-3, 4, (90, 1)).astype(np.float32) * np.float32(size)
    users = np.array([[1.0], [-1.0]], np.float32)
    proposed = np.stack([2 + rng.permutation(88)[:num_proposed] for _ in users])
    rows, scores = best_candidates(users, proposed, items, k, None)
    for user, drawn, found, values in zip(users, proposed, rows, scores, strict=True):
        expected = sorted(drawn, key=lambda row: (-float(items[row, 0] * user[0]), row))[:k]
        assert found.tolist() == expected + [-1] * (k - len(expected))
        assert values.tolist() == [items[row, 0] * user[0] for row in expected] + [-np.inf] * (
            k - len(expected)
        )
