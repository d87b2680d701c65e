"""A continuous feature becomes its rank among the training values, evenly spread over [0, 1]."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.compiled import FLOATS, compiled
from upnext.schema import Floats

NUM_QUANTILES = 64


def quantile_bounds(values: NDArray[Any], *, num_quantiles: int = NUM_QUANTILES) -> Floats:
    """Bounds b_0 < … < b_Q at levels 0 … 1: [2, n ≤ Q + 1], first the bounds, then their levels.

    A value that many examples share would span several quantiles; it keeps one bound, at the
    middle of the levels that it spans, so that the result is strictly increasing. A constant gets a
    second bound at the same level, far enough from it to divide by the difference.
    Non-finite values are left out. Without any value the bounds are 0 and 1.
    """
    finite = np.asarray(values, np.float32)
    finite = finite[np.isfinite(finite)]
    if finite.size == 0:
        return np.array([[0.0, 1.0], [0.0, 1.0]], np.float32)
    levels = np.linspace(0.0, 1.0, num_quantiles + 1)
    bounds = np.quantile(finite, levels, method="nearest")
    distinct, first, counts = np.unique(bounds, return_index=True, return_counts=True)
    middle = (levels[first] + levels[first + counts - 1]) / 2
    if distinct.size == 1:
        nearer_zero = distinct / 2 if abs(distinct[0]) >= 1 else distinct - 1
        distinct = np.sort(np.concatenate([distinct, nearer_zero]))
        middle = np.array([0.5, 0.5])
    return np.stack([distinct, middle]).astype(np.float32)


def to_quantile(values: NDArray[Any], bounds: Floats) -> Floats:
    """The cumulative distribution at x, by linear interpolation between the bounds.

        x̃ = P(X ≤ x)

    Source: Covington, Adams, Sargin 2016, section 4.1.

    >>> bounds = quantile_bounds(np.arange(101.0), num_quantiles=4)
    >>> to_quantile(np.array([-5.0, 0.0, 25.0, 60.0, 1000.0]), bounds).tolist()
    [0.0, 0.0, 0.25, 0.6000000238418579, 1.0]
    """
    levels: Floats = np.interp(values, bounds[0], bounds[1]).astype(np.float32)
    return levels


@compiled(FLOATS)
def with_powers(levels: Floats) -> Floats:
    """[B] → [B, 3]: x̃, x̃² and √x̃, so that the network can form sub- and super-linear functions."""
    powers = np.empty((len(levels), 3), np.float32)
    for place, level in enumerate(levels):
        powers[place, 0] = level
        powers[place, 1] = level * level
        powers[place, 2] = np.sqrt(level)
    return powers
