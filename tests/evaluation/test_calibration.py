"""Bins hold every impression once, and the ratio of each has an interval by user."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.evaluation.calibration import (
    calibration_by_quantile,
    calibration_by_value,
    quantile_bins,
)
from upnext.evaluation.intervals import bootstrap_interval, sum_by_user
from upnext.evaluation.metrics import calibration_ratio


@given(st.integers(0, 57))
def test_deciles_hold_every_impression_once(num_impressions: int) -> None:
    rng = np.random.default_rng(num_impressions)
    predicted, actual = rng.random(num_impressions), rng.random(num_impressions)
    bins = calibration_by_quantile(predicted, predicted, actual, np.arange(num_impressions))
    assert sum(part.num_impressions for part in bins) == num_impressions
    assert sum(part.num_impressions * part.actual_s for part in bins) == pytest.approx(actual.sum())
    assert len(bins) == min(10, num_impressions)
    assert all(part.low <= part.predicted_s <= part.high for part in bins)
    assert all(a.high < b.low for a, b in pairwise(bins))
    sizes = [part.num_impressions for part in bins]
    assert max(sizes, default=0) - min(sizes, default=0) <= 1


@given(st.lists(st.sampled_from([1.0, 2.0, 5.0, float("nan")]), max_size=40), st.integers(1, 12))
def test_equal_values_stand_together_and_unknown_ones_nowhere(
    values: list[float], num_bins: int
) -> None:
    bins = quantile_bins(np.array(values, float), num_bins)
    by_value: dict[float, set[int]] = {}
    for value, number in zip(values, bins.tolist(), strict=True):
        by_value.setdefault(value if value == value else -1.0, set()).add(number)
    assert by_value.pop(-1.0, {-1}) == {-1}
    assert all(len(numbers) == 1 for numbers in by_value.values())
    ascending = [number for _, (number,) in sorted(by_value.items())]
    assert ascending == sorted(ascending)
    assert all(0 <= number < num_bins for number in ascending)


def test_a_ratio_has_the_interval_of_its_users_drawn_anew() -> None:
    rng = np.random.default_rng(1)
    users, actual = rng.integers(0, 80, 2000), rng.exponential(30, 2000)
    predicted = actual * rng.lognormal(0, 0.3, 2000) * 1.2
    (whole,) = calibration_by_quantile(predicted, predicted, actual, users, num_bins=1)
    assert whole.ratio.value == pytest.approx(calibration_ratio(predicted, actual))
    by_user = bootstrap_interval(sum_by_user(users, predicted), sum_by_user(users, actual))
    assert (whole.ratio.low, whole.ratio.high) == by_user
    assert (whole.low, whole.high) == (predicted.min(), predicted.max())


def test_a_ranker_that_promises_twice_as_much_of_long_items_is_found_out() -> None:
    rng = np.random.default_rng(2)
    users, duration_s = rng.integers(0, 200, 20_000), rng.uniform(10, 600, 20_000)
    expected = 0.1 * duration_s
    actual = rng.exponential(expected)
    predicted = np.where(duration_s > 300, 2.0, 1.0) * expected
    bins = calibration_by_quantile(duration_s, predicted, actual, users)
    for part in bins:
        truth = 1.0 if part.high <= 300 else 2.0
        if part.high <= 300 or part.low > 300:
            assert part.ratio.low - 0.05 < truth < part.ratio.high + 0.05
    assert bins[-1].ratio.low > 1.7


def test_each_position_has_a_bin_of_its_own() -> None:
    position = np.array([3.0, 0.0, 3.0, 7.0])
    seconds = np.array([4.0, 1.0, 2.0, 0.0])
    bins = calibration_by_value(position, 2 * seconds, seconds, np.arange(4))
    assert [(part.low, part.high, part.num_impressions) for part in bins] == [
        (0, 0, 1),
        (3, 3, 2),
        (7, 7, 1),
    ]
    assert [part.actual_s for part in bins] == [1, 3, 0]
    assert [part.ratio.value for part in bins][:2] == [2, 2]
    assert np.isnan(bins[2].ratio.value)
