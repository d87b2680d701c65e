"""Exact counts of pairs against a slow count of all of them, and intervals against drawing anew."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.evaluation.pairs import (
    run_edges,
    share_of_pairs,
    share_of_pairs_by_user,
    share_of_pairs_interval,
    won_pairs,
)

LINES = st.lists(
    st.tuples(
        st.integers(-2, 2),
        st.sampled_from([0.0, 0.5, 3.0, 4.0, 7200.0]) | st.floats(0, 100, width=32),
        st.sampled_from([-np.inf, -1.0, 0.0, 0.5, np.inf]),
    ),
    max_size=40,
)


@given(LINES)
def test_each_impression_has_the_pairs_that_a_slow_count_finds(
    lines: list[tuple[int, float, float]],
) -> None:
    groups, outcomes, scores = (np.array([line[i] for line in lines], float) for i in range(3))
    is_pair = (groups[:, None] == groups) & (outcomes[:, None] > outcomes)
    above, equal = scores[:, None] > scores, scores[:, None] == scores
    won, pairs = won_pairs(groups, outcomes, scores)
    assert pairs.tolist() == is_pair.sum(axis=1).tolist()
    assert won.tolist() == (is_pair * (above + 0.5 * equal)).sum(axis=1).tolist()


def test_many_different_outcomes_are_counted_exactly() -> None:
    rng = np.random.default_rng(0)
    outcomes, scores = rng.permutation(3000), rng.integers(0, 400, 3000).astype(float)
    differences = np.sign(scores[:, None] - scores)[outcomes[:, None] > outcomes]
    assert share_of_pairs(outcomes, scores) == pytest.approx((differences.mean() + 1) / 2)


def test_a_group_knows_nothing_of_the_others() -> None:
    rng = np.random.default_rng(1)
    users, outcomes, scores = rng.integers(0, 30, 500), rng.random(500), rng.random(500)
    shares, sizes = share_of_pairs_by_user(users, outcomes, scores)
    for user, share, size in zip(np.unique(users), shares, sizes, strict=True):
        own = users == user
        assert size == own.sum()
        assert share == pytest.approx(size * share_of_pairs(outcomes[own], scores[own]))


def test_scores_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="nan"):
        won_pairs(np.zeros(2), np.array([1.0, 2.0]), np.array([np.nan, 1.0]))


@pytest.mark.parametrize("flags", [True, False])
def test_the_interval_is_that_of_users_drawn_anew(flags: bool) -> None:
    rng = np.random.default_rng(2)
    users = np.repeat(np.arange(150), 20)
    watched = rng.random(3000) < 0.4
    skill = rng.normal(1, 1, 150)[users]
    scores = rng.normal(0, 1, 3000) + skill * watched
    outcomes = watched if flags else watched * rng.exponential(60, 3000)
    low, high = share_of_pairs_interval(users, outcomes, scores)
    drawn = []
    for _ in range(300):
        lines = (rng.integers(0, 150, 150)[:, None] * 20 + np.arange(20)).ravel()
        drawn.append(share_of_pairs(outcomes[lines], scores[lines]))
    assert high - low == pytest.approx(2 * 1.96 * np.std(drawn), rel=0.2)
    assert low < share_of_pairs(outcomes, scores) < high


def test_one_user_and_equal_outcomes_have_no_interval() -> None:
    scores = np.random.default_rng(4).random(40)
    assert np.isnan(share_of_pairs_interval(np.arange(40) % 9, np.ones(40, bool), scores)).all()
    assert np.isnan(share_of_pairs_interval(np.zeros(40), scores > 0.5, scores)).all()


@given(st.lists(st.booleans(), max_size=30))
def test_runs_lie_side_by_side_and_hold_their_elements(begins_run: list[bool]) -> None:
    start, end = run_edges(np.array(begins_run, bool))
    places = np.arange(len(begins_run) + 1)
    assert ((start <= places) & (places < end)).all()
    assert np.unique(start).tolist() == [0, *(1 + np.flatnonzero(begins_run)).tolist()]
