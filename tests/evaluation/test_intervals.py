"""Intervals against the normal approximation, and the laws of drawing users anew."""

import numpy as np
import pytest

from upnext.evaluation.intervals import (
    bootstrap_interval,
    paired_bootstrap_interval,
    sum_by_user,
)


@pytest.mark.parametrize("num_users", [800, 60_000])
def test_interval_is_that_of_the_delta_method(num_users: int) -> None:
    rng = np.random.default_rng(3)
    num_events = 1.0 + rng.poisson(3, num_users)
    num_hits = rng.binomial(num_events.astype(int), rng.beta(2, 5, num_users))
    low, high = bootstrap_interval(num_hits, num_events, num_resamples=2000)
    ratio = num_hits.sum() / num_events.sum()
    error = np.sqrt(((num_hits - ratio * num_events) ** 2).sum()) / num_events.sum()
    assert (high - low) == pytest.approx(2 * 1.96 * error, rel=0.08)
    assert (high + low) / 2 == pytest.approx(ratio, abs=0.25 * error)


def test_users_are_drawn_and_not_events() -> None:
    rng = np.random.default_rng(4)
    hits_of_user = (rng.random(200) < 0.5) * 50.0
    by_user = bootstrap_interval(hits_of_user, np.full(200, 50.0))
    by_event = bootstrap_interval(np.repeat(hits_of_user > 0, 50) * 1.0, np.ones(10_000))
    widths = by_user[1] - by_user[0], by_event[1] - by_event[0]
    assert widths[0] == pytest.approx(np.sqrt(50) * widths[1], rel=0.15)


def test_a_higher_level_is_wider_and_a_seed_repeats() -> None:
    numerators, denominators = np.arange(60) % 7, np.full(60, 6)
    narrow = bootstrap_interval(numerators, denominators, level=0.5, seed=9)
    wide = bootstrap_interval(numerators, denominators, level=0.99, seed=9)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert bootstrap_interval(numerators, denominators, level=0.5, seed=9) == narrow


def test_pairing_takes_out_what_both_systems_share() -> None:
    rng = np.random.default_rng(5)
    shared = rng.normal(0, 10, 500)
    ours, theirs = shared + 1 + rng.normal(0, 0.1, 500), shared
    low, high = paired_bootstrap_interval(ours, theirs, np.ones(500))
    assert 0.98 < low < 1 < high < 1.02
    alone = bootstrap_interval(ours, np.ones(500))
    assert alone[1] - alone[0] > 50 * (high - low)


def test_what_is_not_defined_is_nan() -> None:
    assert np.isnan(bootstrap_interval(np.zeros(5), np.zeros(5))).all()
    assert np.isnan(bootstrap_interval(np.zeros(0), np.zeros(0))).all()


def test_sums_by_user_keep_the_total() -> None:
    rng = np.random.default_rng(6)
    users, values = rng.integers(0, 20, 300), rng.random(300)
    sums = sum_by_user(users, values)
    assert sums == pytest.approx([values[users == user].sum() for user in np.unique(users)])
    assert len(sum_by_user(users[:0], values[:0])) == 0
