from typing import get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from upnext.retrieval.sampling import SamplerName, negative_sampler

SAMPLERS = get_args(SamplerName)
NUM_WATCHES = np.array([0, 9, 40, 25, 25, 9, 4, 1, 0, 0])
"""Rows 0 and 1 are reserved; the last two items were never watched."""


def probabilities(
    name: SamplerName, num_watches: NDArray[np.int64] = NUM_WATCHES, power: float = 0.5
) -> NDArray[np.float64]:
    """q [N] as told by the log of the expected draws of one draw."""
    sampler = negative_sampler(name, num_watches=num_watches, power=power)
    return sampler.log_probability.double().exp().numpy()


@pytest.mark.parametrize("name", SAMPLERS)
def test_draws_are_as_frequent_as_promised(name: SamplerName) -> None:
    sampler = negative_sampler(name, num_watches=NUM_WATCHES, power=0.5)
    num_draws = 100_000
    rows, log_q = sampler.draw(num_draws, torch.Generator().manual_seed(1))
    expected = np.zeros(len(NUM_WATCHES))
    expected[rows] = log_q.double().exp()
    observed = np.bincount(rows, minlength=len(NUM_WATCHES))
    assert observed[:2].tolist() == [0, 0]
    assert (observed[2:] > 0).all()
    np.testing.assert_allclose(expected.sum(), num_draws, rtol=1e-6)
    chi_square = ((observed - expected)[2:] ** 2 / expected[2:]).sum()
    degrees = len(NUM_WATCHES) - 3
    assert chi_square < degrees + 5 * np.sqrt(2 * degrees)


@pytest.mark.parametrize("name", SAMPLERS)
def test_probabilities_sum_to_one_and_spare_the_reserved_rows(name: SamplerName) -> None:
    probability = probabilities(name)
    np.testing.assert_allclose(probability.sum(), 1.0, rtol=1e-6)
    assert probability[:2].tolist() == [0.0, 0.0]
    assert (probability[2:] > 0).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_log_q_is_the_log_of_the_expected_draws(name: SamplerName) -> None:
    sampler = negative_sampler(name, num_watches=NUM_WATCHES, power=0.5)
    one, log_q_of_one = sampler.draw(1, torch.Generator().manual_seed(2))
    many, log_q_of_many = sampler.draw(64, torch.Generator().manual_seed(2))
    assert many[0] == one[0]
    torch.testing.assert_close(log_q_of_many[:1], log_q_of_one + np.log(64))
    expected = np.log(64 * probabilities(name)[many])
    np.testing.assert_allclose(log_q_of_many, expected, rtol=1e-5)


def test_uniform_gives_every_item_the_same() -> None:
    np.testing.assert_allclose(probabilities("uniform")[2:], 1 / 8, rtol=1e-6)


def test_unigram_follows_the_power_of_the_watches_and_counts_none_as_one() -> None:
    weights = np.array([40, 25, 25, 9, 4, 1, 1, 1]) ** 0.5
    np.testing.assert_allclose(probabilities("unigram")[2:], weights / weights.sum(), rtol=1e-6)
    np.testing.assert_allclose(
        probabilities("unigram", power=0.0), probabilities("uniform"), rtol=1e-6
    )


def test_log_uniform_is_uniform_in_the_log_of_the_rank() -> None:
    """The share of the first r of n items is log(r + 1) / log(n + 1)."""
    shares = np.cumsum(probabilities("log_uniform")[2:])
    np.testing.assert_allclose(shares, np.log(np.arange(2, 10)) / np.log(9), rtol=1e-6)


def test_one_seed_gives_one_draw() -> None:
    sampler = negative_sampler("unigram", num_watches=NUM_WATCHES, power=0.75)
    first, _ = sampler.draw(50, torch.Generator().manual_seed(3))
    again, _ = sampler.draw(50, torch.Generator().manual_seed(3))
    other, _ = sampler.draw(50, torch.Generator().manual_seed(4))
    assert first.equal(again)
    assert not first.equal(other)


def test_the_least_and_the_greatest_chance_give_the_first_and_the_last_item(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Probabilities of so many items do not quite add up to one, by rounding."""
    sampler = negative_sampler("unigram", num_watches=np.ones(100_003, np.int64), power=0.75)
    chances = torch.tensor([0.0, np.nextafter(1.0, 0.0)], dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda *size, **options: chances)
    rows, _ = sampler.draw(2, torch.Generator())
    assert rows.tolist() == [2, 100_002]
