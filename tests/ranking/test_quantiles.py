from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from upnext.examples.quantiles import quantile_bounds, to_quantile
from upnext.ranking.quantiles import LARGEST, LogScale, Quantiles, Scaled

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


@pytest.mark.parametrize("kind", TRAINING_VALUES)
def test_the_module_is_to_quantile(kind: str) -> None:
    rng = np.random.default_rng(3)
    values = TRAINING_VALUES[kind](rng).astype(np.float32)
    other = rng.normal(size=len(values)).astype(np.float32)
    quantiles = Quantiles(2)
    quantiles.fit(np.stack([values, other], axis=1))
    finite = values[np.isfinite(values)]
    asked = np.concatenate([finite, finite * 1.01, [-5.0, 0.0, 0.5, 3.0, 1e9]]).astype(np.float32)
    asked = np.stack([asked, asked[::-1]], axis=1)
    levels = quantiles(torch.from_numpy(asked))
    expected = np.stack(
        [
            to_quantile(asked[:, place], quantile_bounds(trained))
            for place, trained in enumerate([values, other])
        ],
        axis=1,
    )
    assert levels.shape == asked.shape
    np.testing.assert_allclose(levels, expected, atol=2e-6)


@pytest.mark.parametrize("logs", [True, False])
def test_powers_are_those_of_the_levels_alone(logs: bool) -> None:
    rng = np.random.default_rng(5)
    scaled = Scaled(2, logs=logs)
    scaled.fit(rng.exponential(size=(200, 2)).astype(np.float32))
    values = torch.from_numpy(rng.exponential(size=(30, 2)).astype(np.float32))
    told = scaled(values)
    assert told.shape == (30, scaled.width) == (30, 4 if logs else 2)
    levels = scaled.quantiles(values)
    assert told[:, :2].equal(levels)
    expected = torch.cat([levels, levels**2, levels**0.5, told[:, 2:]], dim=1)
    torch.testing.assert_close(scaled.with_powers(told), expected)


def test_a_level_a_hair_below_zero_has_a_root() -> None:
    told = torch.tensor([[-1e-8]])
    assert Scaled(1, logs=False).with_powers(told).isfinite().all()


@pytest.mark.parametrize("kind", ["constant", "zero", "nothing finite"])
def test_what_never_varied_in_training_tells_nothing_later(kind: str) -> None:
    """Its weights have learned nothing, so that they may not hear of it."""
    scaled = Scaled(1, logs=True)
    scaled.fit(TRAINING_VALUES[kind](np.random.default_rng(6)).astype(np.float32)[:, None])
    told = scaled(torch.tensor([[-3.0], [0.0], [0.5], [7.0], [1e9]]))
    _, logs = told.T
    torch.testing.assert_close(logs, torch.zeros(5))
    if kind != "nothing finite":
        assert told.std(dim=0).tolist() == pytest.approx([0, 0])


@pytest.mark.parametrize("kind", [kind for kind in TRAINING_VALUES if kind != "nothing finite"])
def test_scaled_logs_are_the_standardised_logs_of_training(kind: str) -> None:
    values = TRAINING_VALUES[kind](np.random.default_rng(6)).astype(np.float32)
    scale = LogScale(1)
    scale.fit(values[:, None])
    told = scale(torch.from_numpy(values[:, None]))[:, 0].numpy()
    finite = np.isfinite(values)
    logs = np.sign(values[finite]) * np.log1p(np.abs(values[finite].astype(np.float64)))
    deviation = logs.std() if logs.std() > 1e-9 else 1.0
    expected = np.clip((logs - logs.mean()) / deviation, -LARGEST, LARGEST)
    np.testing.assert_allclose(told[finite], expected, atol=1e-4)
    assert not told[np.isnan(values)].any()


def test_logs_are_scaled_exactly_however_small_the_values() -> None:
    """A deviation of 1e-5 multiplies the rounding error of 1 + x by a hundred thousand."""
    values = np.random.default_rng(8).normal(scale=1e-5, size=(500, 1)).astype(np.float32)
    scale = LogScale(1)
    scale.fit(values)
    logs = np.sign(values) * np.log1p(np.abs(values.astype(np.float64)))
    expected = np.clip((logs - logs.mean()) / logs.std(), -LARGEST, LARGEST)
    np.testing.assert_allclose(scale(torch.from_numpy(values)).numpy(), expected, atol=2e-6)
    assert scale(torch.tensor([[torch.inf], [-torch.inf]]))[:, 0].tolist() == [LARGEST, -LARGEST]


def test_scaled_logs_tell_values_apart_that_training_never_saw() -> None:
    scale = LogScale(1)
    scale.fit(np.linspace(-5, 5, 100, dtype=np.float32)[:, None])
    asked = torch.tensor([-1e9, -100.0, -5.0, 0.0, 5.0, 100.0, 1e9])[:, None]
    told = scale(asked)[:, 0]
    assert (told[1:-1].diff() > 0).all()
    assert told.abs().max() <= LARGEST
    torch.testing.assert_close(told, -told.flip(0))


def test_a_feature_that_is_always_zero_survives_flushed_denormals() -> None:
    """The least number above zero is denormal: as a width it would be flushed, and 0 / 0 is nan."""
    torch.set_flush_denormal(True)
    quantiles = Quantiles(1)
    quantiles.fit(np.zeros((10, 1), np.float32))
    assert quantiles(torch.tensor([[0.0], [2.0]]))[:, 0].tolist() == [0.5, 0.5]


@given(values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40))
def test_quantiles_never_fall_and_stay_between_zero_and_one(values: list[float]) -> None:
    quantiles = Quantiles(1)
    quantiles.fit(np.array(values, np.float32)[:, None])
    levels = quantiles(torch.linspace(-1.1e6, 1.1e6, 50)[:, None])[:, 0]
    assert (levels.diff() >= -1e-6).all()
    assert levels.min() >= 0
    assert levels.max() <= 1 + 1e-6


@pytest.mark.parametrize("kind", TRAINING_VALUES)
def test_what_is_not_known_is_told_as_zero(kind: str) -> None:
    scaled = Scaled(1, logs=True)
    scaled.fit(TRAINING_VALUES[kind](np.random.default_rng(7)).astype(np.float32)[:, None])
    assert scaled(torch.tensor([[torch.nan]])).tolist() == [[0.0, 0.0]]
    assert scaled(torch.tensor([[-1e9], [0.0], [1e9]])).isfinite().all()
