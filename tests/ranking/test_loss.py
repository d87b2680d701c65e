import math
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from upnext.ranking.loss import (
    WeightedLogisticVariant,
    watch_time_weights,
    weighted_logistic_loss,
)

VARIANTS = get_args(WeightedLogisticVariant)


def loss_of(
    logits: torch.Tensor,
    watched: torch.Tensor,
    watch_time_s: torch.Tensor,
    variant: WeightedLogisticVariant,
) -> torch.Tensor:
    return weighted_logistic_loss(
        logits, *watch_time_weights(watched, watch_time_s, variant=variant)
    )


def learned_odds(
    watched: list[bool], watch_time_s: list[float], variant: WeightedLogisticVariant
) -> float:
    """e^z at the minimum, all impressions sharing one logit: bisection by the slope's sign."""
    low, high = -30.0, 30.0
    for _ in range(100):
        logit = torch.tensor((low + high) / 2, dtype=torch.float64, requires_grad=True)
        loss = loss_of(
            logit.expand(len(watched)),
            torch.tensor(watched, dtype=torch.float64),
            torch.tensor(watch_time_s, dtype=torch.float64),
            variant,
        )
        (slope,) = torch.autograd.grad(loss, logit)
        low, high = (low, logit.item()) if slope > 0 else (logit.item(), high)
    return math.exp(low)


@settings(max_examples=20)
@given(
    watch_times_s=st.lists(st.floats(0.1, 5_000), min_size=1, max_size=6),
    num_unwatched=st.integers(1, 8),
)
def test_odds_of_alike_impressions_have_a_closed_form(
    watch_times_s: list[float], num_unwatched: int
) -> None:
    """Exact: ΣT / N, the truth. Paper: ΣT / (N − k)."""
    num_watched = len(watch_times_s)
    watched = [True] * num_watched + [False] * num_unwatched
    seconds = watch_times_s + [0.0] * num_unwatched
    total = sum(watch_times_s)
    assert learned_odds(watched, seconds, "exact") == pytest.approx(total / len(watched), rel=1e-6)
    assert learned_odds(watched, seconds, "paper") == pytest.approx(total / num_unwatched, rel=1e-6)


def test_the_bias_of_the_papers_weights_where_many_watch() -> None:
    """30 of 100 are watched, 13.0 seconds an impression: the paper's odds say 18.6."""
    watched = [True] * 30 + [False] * 70
    seconds = [1300 / 30] * 30 + [0.0] * 70
    assert round(learned_odds(watched, seconds, "exact"), 1) == 13.0
    assert round(learned_odds(watched, seconds, "paper"), 1) == 18.6


def test_the_loss_by_hand() -> None:
    """At logit log 3 a unit negative costs log 4, and a second watched log 4/3."""
    logits = torch.full((2,), float(np.log(3.0)), dtype=torch.float64)
    watched, seconds = torch.tensor([1.0, 0.0]), torch.tensor([6.0, 0.0])
    paper = loss_of(logits, watched, seconds, "paper")
    exact = loss_of(logits, watched, seconds, "exact")
    assert paper.item() == pytest.approx((6 * np.log(4 / 3) + np.log(4)) / 2)
    assert exact.item() == pytest.approx((6 * np.log(4 / 3) + 2 * np.log(4)) / 2)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_agree_with_finite_differences(variant: WeightedLogisticVariant) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(7, dtype=torch.float64, generator=generator).requires_grad_()
    watched = torch.tensor([1, 0, 1, 0, 0, 1, 0], dtype=torch.float64)
    seconds = watched * torch.rand(7, dtype=torch.float64, generator=generator) * 100
    assert torch.autograd.gradcheck(lambda z: loss_of(z, watched, seconds, variant), logits)


@pytest.mark.parametrize("variant", VARIANTS)
def test_seconds_of_an_unwatched_impression_say_nothing(variant: WeightedLogisticVariant) -> None:
    logits, watched = torch.tensor([0.3, -1.0]), torch.tensor([1.0, 0.0])
    losses = [
        loss_of(logits, watched, torch.tensor([9.0, seconds]), variant) for seconds in (0.0, 500.0)
    ]
    assert losses[0].item() == losses[1].item()


@pytest.mark.parametrize("variant", VARIANTS)
def test_extreme_logits_stay_finite(variant: WeightedLogisticVariant) -> None:
    logits = torch.tensor([1e4, -1e4, 1e4, -1e4], requires_grad=True)
    watched, seconds = torch.tensor([1.0, 1, 0, 0]), torch.tensor([5.0, 5, 0, 0])
    loss = loss_of(logits, watched, seconds, variant)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.isfinite()
    assert gradient.isfinite().all()


def test_a_weight_is_a_number_of_copies() -> None:
    """Three copies as a positive and two as a negative cost as much as five impressions."""
    logits = torch.tensor([0.7, -0.2], dtype=torch.float64)
    weighted = weighted_logistic_loss(logits, torch.tensor([3.0, 0.0]), torch.tensor([2.0, 1.0]))
    copies = logits[[0, 0, 0, 0, 0, 1]]
    positive = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    apart = weighted_logistic_loss(copies, positive, 1 - positive)
    assert 2 * weighted.item() == pytest.approx(6 * apart.item(), rel=1e-6)
