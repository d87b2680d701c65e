import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upnext.examples.quantiles import quantile_bounds, to_quantile, with_powers

numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
few_values = st.sampled_from([0.0, 1.0, 2.5, -3.0])
samples = st.lists(st.one_of(numbers, few_values), max_size=60).map(
    lambda values: np.array(values, np.float32)
)


@given(samples, samples, st.integers(1, 12))
def test_levels_rise_with_the_value_and_lie_from_0_to_1(
    training: np.ndarray, asked: np.ndarray, num_quantiles: int
) -> None:
    bounds = quantile_bounds(training, num_quantiles=num_quantiles)
    levels = to_quantile(np.sort(np.concatenate([training, asked])), bounds)
    assert levels.dtype == np.float32
    assert (np.diff(levels) >= 0).all()
    assert ((levels >= 0) & (levels <= 1)).all()


@given(samples, st.integers(1, 12))
def test_bounds_rise_strictly_and_are_few(training: np.ndarray, num_quantiles: int) -> None:
    bounds = quantile_bounds(training, num_quantiles=num_quantiles)
    assert bounds.dtype == np.float32
    assert 2 <= bounds.shape[1] <= num_quantiles + 1
    assert (np.diff(bounds[0]) > 0).all()
    assert (np.diff(bounds[1]) >= 0).all()


@given(st.sets(st.integers(-1_000_000, 1_000_000), min_size=2, max_size=300), st.integers(1, 64))
def test_levels_are_the_shares_of_smaller_training_values(
    values: set[int], num_quantiles: int
) -> None:
    training = np.array(sorted(values), np.float32)
    shares = np.arange(len(training)) / (len(training) - 1)
    levels = to_quantile(training, quantile_bounds(training, num_quantiles=num_quantiles))
    step = 1 / num_quantiles + 1 / (len(training) - 1)
    assert np.abs(levels - shares).max() <= step + 1e-6


def test_a_value_that_many_share_stands_in_the_middle_of_its_share() -> None:
    training = np.array([0.0] * 60 + list(range(1, 41)))
    bounds = quantile_bounds(training, num_quantiles=10)
    assert to_quantile(np.array([0.0]), bounds)[0] == pytest.approx(0.3, abs=0.05)
    assert to_quantile(np.array([20.0]), bounds)[0] == pytest.approx(0.8, abs=0.05)
    assert to_quantile(np.array([40.0]), bounds)[0] == 1.0


def test_a_constant_says_nothing() -> None:
    bounds = quantile_bounds(np.full(9, 3.5))
    assert to_quantile(np.array([-1e9, 3.5, 1e9]), bounds).tolist() == [0.5, 0.5, 0.5]


def test_without_training_values_the_bounds_are_0_and_1() -> None:
    for nothing in (np.zeros(0), np.array([np.nan, np.inf, -np.inf])):
        assert quantile_bounds(nothing).tolist() == [[0.0, 1.0], [0.0, 1.0]]


@given(samples)
def test_values_that_are_not_finite_leave_the_bounds_alone(training: np.ndarray) -> None:
    noisy = np.concatenate([[np.inf], training, [np.nan, -np.inf]])
    assert (quantile_bounds(noisy) == quantile_bounds(training)).all()


def test_infinity_is_the_first_or_the_last() -> None:
    bounds = quantile_bounds(np.arange(1_000.0))
    assert to_quantile(np.array([-np.inf, np.inf]), bounds).tolist() == [0.0, 1.0]


def test_powers_are_the_level_its_square_and_its_root() -> None:
    powers = with_powers(np.array([0.0, 0.25, 1.0], np.float32))
    assert powers.tolist() == [[0.0, 0.0, 0.0], [0.25, 0.0625, 0.5], [1.0, 1.0, 1.0]]


@given(numbers)
def test_the_two_bounds_of_a_constant_are_far_enough_apart_to_divide_by(constant: float) -> None:
    bounds = quantile_bounds(np.array([constant]))
    assert bounds[0, 1] - bounds[0, 0] >= 0.5
    assert np.isfinite(bounds).all()
    assert to_quantile(np.array([constant]), bounds).tolist() == [0.5]
