"""Calibration brings seconds to what came, and never changes an order."""

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from upnext.ranking.calibration import Calibration, CalibrationKind
from upnext.schema import Floats

KINDS = get_args(CalibrationKind)
Curve = Callable[[NDArray[np.floating]], NDArray[np.floating]]
CURVES: dict[str, Curve] = {
    "twice too few": lambda seconds: 2 * seconds,
    "the large too large": lambda seconds: 4 * seconds**0.6,
    "the small too large": lambda seconds: seconds**1.5 / 10,
    "a step": lambda seconds: np.where(seconds < 30, 5.0, 50.0) + seconds / 100,
}
ASKED = np.geomspace(1e-2, 1e5, 400).astype(np.float32)


def fitted(
    predicted_s: NDArray[np.floating],
    actual_s: NDArray[np.floating],
    kind: CalibrationKind = "isotonic",
) -> Calibration:
    calibration = Calibration()
    calibration.fit(kind, predicted_s.astype(np.float32), actual_s.astype(np.float32))
    return calibration


def calibrated(calibration: Calibration, seconds: NDArray[np.floating]) -> Floats:
    found: Floats = calibration(torch.from_numpy(seconds.astype(np.float32))).numpy()
    return found


def predictions(seed: int, count: int = 20_000) -> NDArray[np.floating]:
    return np.random.default_rng(seed).exponential(40.0, count)


def watched_by_chance(expected_s: NDArray[np.floating], seed: int) -> NDArray[np.floating]:
    """Watch times of that mean; most impressions have none."""
    rng = np.random.default_rng(seed)
    watched = rng.random(len(expected_s)) < 0.3
    return watched * expected_s / 0.3 * rng.exponential(1.0, len(expected_s))


def test_at_first_nothing_is_changed() -> None:
    assert calibrated(Calibration(), ASKED).tobytes() == ASKED.tobytes()
    assert calibrated(Calibration(), np.zeros(1)).tolist() == [0.0]


@pytest.mark.parametrize("kind", KINDS)
def test_without_watch_time_or_predictions_nothing_is_learned(kind: CalibrationKind) -> None:
    some, nothing = predictions(1, 50), np.zeros(50)
    for predicted, actual in ((some, nothing), (nothing, some), (nothing, nothing)):
        calibration = fitted(predicted, actual, kind)
        assert calibrated(calibration, ASKED).tobytes() == ASKED.tobytes()


def test_none_learns_nothing() -> None:
    calibration = fitted(predictions(1), 3 * predictions(2), "none")
    assert calibrated(calibration, ASKED).tobytes() == ASKED.tobytes()


def test_scale_is_one_factor_that_makes_the_sums_equal() -> None:
    predicted, actual = predictions(3), watched_by_chance(predictions(4), 5)
    calibration = fitted(predicted, actual, "scale")
    assert calibrated(calibration, predicted).sum() == pytest.approx(actual.sum(), rel=1e-4)
    factors = calibrated(calibration, ASKED) / ASKED
    np.testing.assert_allclose(factors, factors[0], rtol=1e-6)


@pytest.mark.parametrize("name", CURVES)
def test_isotonic_brings_the_sum_to_that_of_the_outcomes(name: str) -> None:
    predicted = predictions(6)
    actual = watched_by_chance(CURVES[name](predicted), 7)
    total = calibrated(fitted(predicted, actual), predicted).sum(dtype=np.float64)
    assert total == pytest.approx(actual.sum(), rel=0.03)


@pytest.mark.parametrize("name", CURVES)
def test_so_it_does_of_few_impressions_some_of_which_were_expected_to_be_very_long(
    name: str,
) -> None:
    for seed in range(5):
        predicted = np.exp(np.random.default_rng(seed).normal(1.0, 1.5, 1_000))
        actual = watched_by_chance(CURVES[name](predicted), seed)
        total = calibrated(fitted(predicted, actual), predicted).sum(dtype=np.float64)
        assert total == pytest.approx(actual.sum(), rel=0.02)


@pytest.mark.parametrize("name", [name for name in CURVES if name != "a step"])
def test_isotonic_finds_the_curve(name: str) -> None:
    predicted = predictions(8)
    noise = np.random.default_rng(9).uniform(0.5, 1.5, len(predicted))
    calibration = fitted(predicted, CURVES[name](predicted) * noise)
    usual = np.quantile(predicted, np.linspace(0.2, 0.95, 40))
    np.testing.assert_allclose(calibrated(calibration, usual), CURVES[name](usual), rtol=0.06)


@pytest.mark.parametrize("factor", [1.0, 0.25, 7.0])
def test_what_is_right_but_for_a_factor_gets_that_factor(factor: float) -> None:
    predicted = predictions(10, 3_000)
    found = calibrated(fitted(predicted, factor * predicted), ASKED)
    np.testing.assert_allclose(found, factor * ASKED, rtol=1e-4)


@pytest.mark.parametrize("name", CURVES)
def test_the_order_is_kept_within_and_beyond_what_was_seen(name: str) -> None:
    predicted = predictions(11)
    calibration = fitted(predicted, watched_by_chance(CURVES[name](predicted), 12))
    assert (np.diff(calibrated(calibration, ASKED)) > 0).all()
    asked = np.random.default_rng(13).permutation(ASKED)
    assert np.argsort(calibrated(calibration, asked)).tolist() == np.argsort(asked).tolist()


def test_what_is_beyond_goes_on_along_the_ray_from_the_origin() -> None:
    predicted = predictions(14)
    calibration = fitted(predicted, watched_by_chance(CURVES["the large too large"](predicted), 15))
    beyond = predicted.max() * np.array([1.0, 2.0, 100.0, 1e6])
    factors = calibrated(calibration, beyond) / beyond
    np.testing.assert_allclose(factors, factors[0], rtol=1e-5)
    assert factors[0] < 1


def test_where_more_was_expected_the_less_came_there_is_one_factor() -> None:
    """A rising curve cannot say that; its best is no curve at all."""
    predicted = np.linspace(1, 100, 2_000)
    actual = 101 - predicted
    found = calibrated(fitted(predicted, actual), ASKED)
    np.testing.assert_allclose(found, ASKED * actual.sum() / predicted.sum(), rtol=1e-4)


@pytest.mark.parametrize("rises", [True, False])
def test_one_prediction_for_all_comes_to_the_mean_outcome(rises: bool) -> None:
    """In whatever order the impressions stand."""
    actual = np.sort(predictions(16, 1_000))[:: 1 if rises else -1]
    found = calibrated(fitted(np.full(1_000, 5.0), actual), np.array([5.0]))
    assert found[0] == pytest.approx(actual.mean(), rel=1e-3)


def test_of_a_few_distinct_predictions_each_comes_to_its_mean_outcome() -> None:
    rng = np.random.default_rng(17)
    predicted = rng.choice([1.0, 4.0, 9.0], 3_000, p=[0.5, 0.3, 0.2])
    actual = np.where(predicted == 1, 3.0, predicted) * rng.exponential(1.0, 3_000)
    found = calibrated(fitted(predicted, actual), np.array([1.0, 4.0, 9.0]))
    means = [actual[predicted == one].mean() for one in (1.0, 4.0, 9.0)]
    np.testing.assert_allclose(found, means, rtol=1e-3)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 1e5, width=32), st.one_of(st.just(0.0), st.floats(0, 1e5, width=32))
        ),
        min_size=1,
        max_size=80,
    )
)
@example([(0.0, 2**-149), (1.0, 0.0)])
def test_whatever_came_it_is_a_rising_curve_of_numbers(outcomes: list[tuple[float, float]]) -> None:
    predicted, actual = (np.array(column) for column in zip(*outcomes, strict=True))
    found = calibrated(fitted(predicted, actual), np.sort(np.concatenate([ASKED, predicted])))
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert (np.diff(found) >= 0).all()
    assert found[-1] > 0


def test_it_is_all_in_the_state() -> None:
    predicted = predictions(18)
    calibration = fitted(predicted, watched_by_chance(predicted, 19))
    again = Calibration()
    again.load_state_dict(calibration.state_dict())
    assert calibrated(again, ASKED).tobytes() == calibrated(calibration, ASKED).tobytes()
    assert not list(calibration.parameters())
