"""Weighted logistic regression: a classifier whose odds are an expected watch time."""

from typing import Literal

import torch
from torch.nn import functional

WeightedLogisticVariant = Literal["exact", "paper"]


def weighted_logistic_loss(
    logits: torch.Tensor,
    watched: torch.Tensor,
    watch_time_s: torch.Tensor,
    *,
    variant: WeightedLogisticVariant,
) -> torch.Tensor:
    """Mean weighted cross entropy over impressions.

    A watched impression i weighs T_i = its watch time in seconds, an unwatched one weighs 1:

        paper:  Σ_watched T_i · log(1 + e^{−z_i}) + Σ_unwatched log(1 + e^{z_i})
        exact:  Σ_watched T_i · log(1 + e^{−z_i}) + Σ_all       log(1 + e^{z_i})

    At the minimum for N alike impressions, k of them watched, the odds e^z are ΣT_i / (N − k) with
    the paper's weights, which is E[T] / (1 − P) at a click rate P; counting every impression once
    as a unit negative makes them ΣT_i / N = E[T].

    Args:
        logits, watched, watch_time_s: [M]; `watched` is 0 or 1.

    Returns: a scalar.
    Source: Covington, Adams, Sargin 2016, section 4.2.
    """
    positive = watched * watch_time_s * functional.softplus(-logits)
    unit_negative = functional.softplus(logits)
    if variant == "paper":
        unit_negative = (1 - watched) * unit_negative
    return (positive + unit_negative).mean()
