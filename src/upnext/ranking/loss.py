"""Weighted logistic regression: a classifier whose odds are an expected watch time."""

from typing import Literal

import torch
from torch.nn import functional

WeightedLogisticVariant = Literal["exact", "paper"]


def watch_time_weights(
    watched: torch.Tensor, watch_time_s: torch.Tensor, *, variant: WeightedLogisticVariant
) -> tuple[torch.Tensor, torch.Tensor]:
    """How much each impression weighs as a positive and as a negative: 2 × [M].

    A watched impression i weighs T_i = its watch time in seconds as a positive. As a negative

        paper: 1 if it was not watched, or else 0        exact: 1, watched or not

    At the minimum for N alike impressions, k of them watched, the odds e^z are ΣT_i / (N − k) with
    the paper's weights, which is E[T] / (1 − P) at a click rate P; counting every impression once
    as a unit negative makes them ΣT_i / N = E[T].

    Args:
        watched, watch_time_s: [M]; `watched` is 0 or 1.

    Source: Covington, Adams, Sargin 2016, section 4.2.
    """
    negative = torch.ones_like(watched) if variant == "exact" else 1 - watched
    return watched * watch_time_s, negative


def weighted_logistic_loss(
    logits: torch.Tensor, positive_weight: torch.Tensor, negative_weight: torch.Tensor
) -> torch.Tensor:
    """Mean weighted cross entropy over M impressions, a scalar.

        Σ_i [ w⁺_i log(1 + e^{−z_i}) + w⁻_i log(1 + e^{z_i}) ] / M

    Weights that are counts, as up-sampling draws them, give the sum over the drawn copies.
    """
    positive = positive_weight * functional.softplus(-logits)
    return (positive + negative_weight * functional.softplus(logits)).mean()
