"""How sure is a number? Intervals by drawing users anew, alone and for a difference of two systems.

Users are drawn, not events: one user's events go up and down together.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

MAX_CLUSTERS = 10_000
CELLS_AT_ONCE = 2_000_000


@dataclass(frozen=True, slots=True)
class MetricValue:
    """A number and its 95% interval; nan for what is not defined, or has no interval."""

    value: float
    low: float = math.nan
    high: float = math.nan

    def __str__(self) -> str:
        """For instance `0.437 [0.405, 0.469]`, or `–` for what is not defined."""
        if math.isnan(self.value):
            return "–"
        if math.isnan(self.low):
            return short_number(self.value)
        low, high = short_number(self.low), short_number(self.high)
        return f"{short_number(self.value)} [{low}, {high}]"


def short_number(number: float) -> str:
    """Three decimals for shares and ratios, one for what is ten or more, such as seconds.

    >>> short_number(0.43659), short_number(100.997)
    ('0.437', '101.0')
    """
    return f"{number:.3f}" if abs(number) < 10 else f"{number:.1f}"


def ratio_of_sums(numerators: NDArray[Any], denominators: NDArray[Any]) -> float:
    """Σ numerators / Σ denominators; nan where there is nothing to divide by.

    >>> ratio_of_sums(np.array([1, 2]), np.array([2, 4]))
    0.5
    """
    total = float(denominators.sum(dtype=np.float64))
    return float(numerators.sum(dtype=np.float64)) / total if total else math.nan


def metric_value(numerators: NDArray[Any], denominators: NDArray[Any]) -> MetricValue:
    """A ratio of sums over users [U] with its interval; nan where nothing can be divided by.

    >>> metric_value(np.array([1, 2]), np.array([2, 4]))
    MetricValue(value=0.5, low=0.5, high=0.5)
    """
    value = ratio_of_sums(numerators, denominators)
    if math.isnan(value):
        return MetricValue(value)
    return MetricValue(value, *bootstrap_interval(numerators, denominators))


def sum_by_user(user_rows: NDArray[Any], values: NDArray[Any]) -> Values:
    """Sums the values [B] of each user, [U]; users in ascending order.

    >>> sum_by_user(np.array([7, 3, 7]), np.array([1.0, 2.0, 4.0]))
    array([2., 5.])
    """
    users, places = np.unique(user_rows, return_inverse=True)
    return np.bincount(places, weights=values, minlength=len(users)).astype(np.float64)


def bootstrap_interval(
    numerators: NDArray[Any],
    denominators: NDArray[Any],
    *,
    num_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of Σ numerators / Σ denominators when users are drawn anew.

    Each resample draws as many users as there are, with replacement. Beyond 10,000 users, they are
    first dealt at random into 10,000 clusters, which are drawn in their place: sums of independent
    users are independent too, so the interval stays true, and time and memory stay small.

    Args:
        numerators: [U] one number a user, as `sum_by_user` gives.
        denominators: [U] likewise, for instance each user's number of events.
        num_resamples: how often users are drawn anew.
        level: the share of resamples inside the interval.
        seed: of the draws; the same seed gives the same interval.

    Returns: (low, high); nan, nan if no resample has a denominator.

    >>> low, high = bootstrap_interval(np.arange(100) % 2, np.ones(100))
    >>> 0.35 < low < 0.45 < 0.55 < high < 0.65
    True
    """
    sums = _resampled_sums(np.stack([numerators, denominators], axis=1), num_resamples, seed)
    defined = sums[sums[:, 1] != 0]
    if len(defined) == 0:
        return float("nan"), float("nan")
    ratios = defined[:, 0] / defined[:, 1]
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_bootstrap_interval(
    numerators: NDArray[Any],
    other_numerators: NDArray[Any],
    denominators: NDArray[Any],
    *,
    num_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Interval of how much better one system is than another on the same users and events.

        Σ (numerators − other numerators) / Σ denominators

    What makes an event hard for both falls out, so it is far narrower than two intervals apart.

    >>> paired_bootstrap_interval(np.array([3, 5]), np.array([1, 1]), np.array([2, 4]))
    (1.0, 1.0)
    """
    difference = np.asarray(numerators, np.float64) - other_numerators
    return bootstrap_interval(
        difference, denominators, num_resamples=num_resamples, level=level, seed=seed
    )


def _resampled_sums(columns: NDArray[Any], num_resamples: int, seed: int) -> Values:
    """Sums of the columns [U, C] over users drawn with replacement, [num_resamples, C]."""
    rng = np.random.default_rng(seed)
    clusters = np.asarray(columns, np.float64)
    if len(clusters) > MAX_CLUSTERS:
        cluster_of = rng.permutation(len(clusters)) % MAX_CLUSTERS
        sums = [np.bincount(cluster_of, weights=column) for column in clusters.T]
        clusters = np.stack(sums, axis=1)
    num_clusters = len(clusters)
    if num_clusters == 0:
        return np.zeros((num_resamples, columns.shape[1]))
    block = max(1, CELLS_AT_ONCE // num_clusters)
    parts = []
    for start in range(0, num_resamples, block):
        size = min(block, num_resamples - start)
        drawn = rng.integers(0, num_clusters, (size, num_clusters))
        cells = (drawn + num_clusters * np.arange(size)[:, None]).ravel()
        counts = np.bincount(cells, minlength=size * num_clusters).reshape(size, num_clusters)
        parts.append(counts @ clusters)
    return np.concatenate(parts)
