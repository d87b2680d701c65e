from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from upnext.examples.quantiles import quantile_bounds, to_quantile
from upnext.features.scale import LARGEST, Scale
from upnext.schema import Floats

TRAINING_VALUES: Mapping[str, Callable[[np.random.Generator], NDArray[np.floating]]] = {
    "normal": lambda rng: rng.normal(size=500),
    "counts": lambda rng: rng.poisson(1.0, 500).astype(float),
    "mostly never": lambda rng: np.where(rng.random(500) < 0.8, 1e9, rng.exponential(900, 500)),
    "heavy tail": lambda rng: np.exp(4 * rng.normal(size=500)),
    "few": lambda rng: rng.normal(size=3),
    "constant": lambda rng: np.full(500, 7.0),
    "zero": lambda rng: np.zeros(500),
    "with holes": lambda rng: np.where(rng.random(500) < 0.1, np.nan, rng.normal(size=500)),
    "nothing finite": lambda rng: np.full(5, np.inf),
}


def quantiles(scale: Scale, values: Floats) -> Floats:
    """[F, n] of values [F, n]."""
    return scale.levels(values, powers=False, logs=False).T


def logs(scale: Scale, values: Floats) -> Floats:
    """[F, n] of values [F, n]."""
    return scale.levels(values, powers=False, logs=True)[:, len(values) :].T


def line(*values: float) -> Floats:
    """[1, n]: of one feature."""
    return np.array([values], np.float32)


@pytest.mark.parametrize("kind", TRAINING_VALUES)
def test_levels_are_to_quantile(kind: str) -> None:
    rng = np.random.default_rng(3)
    values = TRAINING_VALUES[kind](rng).astype(np.float32)
    other = rng.normal(size=len(values)).astype(np.float32)
    scale = Scale.fitted(np.stack([values, other]))
    finite = values[np.isfinite(values)]
    asked = np.concatenate([finite, finite * 1.01, [-5.0, 0.0, 0.5, 3.0, 1e9]]).astype(np.float32)
    asked = np.stack([asked, asked[::-1]])
    expected = [
        to_quantile(asked[place], quantile_bounds(trained))
        for place, trained in enumerate([values, other])
    ]
    np.testing.assert_allclose(quantiles(scale, asked), expected, atol=2e-6)


@pytest.mark.parametrize("num_rows", [0, 1, 30, 700])
def test_columns_are_quantiles_their_powers_and_logs(num_rows: int) -> None:
    """However many rows are told at once."""
    rng = np.random.default_rng(5)
    scale = Scale.fitted(rng.exponential(size=(2, 200)).astype(np.float32))
    values = rng.exponential(size=(2, num_rows)).astype(np.float32)
    levels = quantiles(scale, values)
    of_logs = [[logs(scale, values[:, [n]])[f, 0] for n in range(num_rows)] for f in range(2)]
    whole = scale.levels(values, powers=True, logs=True)
    assert whole.shape == (num_rows, 8)
    expected = np.concatenate([levels, levels**2, levels**0.5, np.reshape(of_logs, (2, num_rows))])
    np.testing.assert_allclose(whole.T, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["constant", "zero", "nothing finite"])
def test_what_never_varied_in_training_tells_nothing_later(kind: str) -> None:
    """Its weights have learned nothing, so that they may not hear of it."""
    scale = Scale.fitted(TRAINING_VALUES[kind](np.random.default_rng(6)).astype(np.float32)[None])
    asked = line(-3.0, 0.0, 0.5, 7.0, 1e9)
    np.testing.assert_allclose(logs(scale, asked), np.zeros((1, 5)), atol=1e-30)
    if kind != "nothing finite":
        assert quantiles(scale, asked).std() == pytest.approx(0)


@pytest.mark.parametrize("kind", [kind for kind in TRAINING_VALUES if kind != "nothing finite"])
def test_scaled_logs_are_the_standardised_logs_of_training(kind: str) -> None:
    values = TRAINING_VALUES[kind](np.random.default_rng(6)).astype(np.float32)
    told = logs(Scale.fitted(values[None]), values[None])[0]
    finite = np.isfinite(values)
    sizes = np.sign(values[finite]) * np.log1p(np.abs(values[finite].astype(np.float64)))
    deviation = sizes.std() if sizes.std() > 1e-9 else 1.0
    expected = np.clip((sizes - sizes.mean()) / deviation, -LARGEST, LARGEST)
    np.testing.assert_allclose(told[finite], expected, atol=1e-4)
    assert not told[np.isnan(values)].any()


@pytest.mark.parametrize("size", [1e-20, 1e-12, 1e-5, 1.0, 1e6, 1e30])
def test_logs_are_scaled_exactly_however_small_or_large_the_values(size: float) -> None:
    """A deviation of 1e-5 multiplies the rounding error of 1 + x by a hundred thousand."""
    values = np.random.default_rng(8).normal(scale=size, size=(1, 500)).astype(np.float32)
    scale = replace(
        Scale.fitted(values), mean=np.zeros(1, np.float32), deviation=np.full(1, size, np.float32)
    )
    expected = np.sign(values) * np.log1p(np.abs(values.astype(np.float64))) / np.float32(size)
    np.testing.assert_allclose(logs(scale, values), np.clip(expected, -4, 4), rtol=1e-6)
    most = min(4.0, 88.7228 / size)
    assert logs(scale, line(np.inf, -np.inf))[0].tolist() == pytest.approx([most, -most])


def test_scaled_logs_tell_values_apart_that_training_never_saw() -> None:
    scale = Scale.fitted(np.linspace(-5, 5, 100, dtype=np.float32)[None])
    told = logs(scale, line(-1e9, -100.0, -5.0, 0.0, 5.0, 100.0, 1e9))[0]
    assert (np.diff(told[1:-1]) > 0).all()
    assert np.abs(told).max() <= LARGEST
    np.testing.assert_allclose(told, -told[::-1], atol=1e-6)


def test_a_feature_that_is_always_zero_has_the_middle_level() -> None:
    """The least number above zero is denormal: as a width it would be flushed, and 0 / 0 is nan."""
    assert quantiles(Scale.fitted(np.zeros((1, 10), np.float32)), line(0, 2))[0].tolist() == [
        0.5,
        0.5,
    ]


@given(values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40))
def test_quantiles_never_fall_and_stay_between_zero_and_one(values: list[float]) -> None:
    scale = Scale.fitted(line(*values))
    levels = quantiles(scale, np.linspace(-1.1e6, 1.1e6, 50, dtype=np.float32)[None])[0]
    assert (np.diff(levels) >= -1e-6).all()
    assert levels.min() >= 0
    assert levels.max() <= 1 + 1e-6


@pytest.mark.parametrize("kind", TRAINING_VALUES)
def test_what_is_not_known_is_told_as_zero(kind: str) -> None:
    values = TRAINING_VALUES[kind](np.random.default_rng(7)).astype(np.float32)[None]
    scale = Scale.fitted(values)
    assert not scale.levels(line(np.nan), powers=True, logs=True).any()
    asked = line(-np.inf, -1e9, 0.0, 1e9, np.inf)
    assert np.isfinite(scale.levels(asked, powers=True, logs=True)).all()


def test_as_many_features_are_wanted_as_in_training() -> None:
    scale = Scale.fitted(np.ones((2, 3), np.float32))
    for num_features in (1, 3):
        with pytest.raises(ValueError, match="expected 2 features"):
            scale.levels(np.ones((num_features, 4), np.float32), powers=True, logs=True)
