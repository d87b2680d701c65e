"""What was promised and what came: expected and actual watch time of impressions that are alike.

Alike in the prediction itself, in the item's duration or in the position: a ranker may be right on
average and still promise too much of long items, or of the top of the page.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.evaluation.intervals import MetricValue, metric_value, sum_by_user

Bins = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationBin:
    """Impressions that are alike in something: what was promised of them and what came.

    `low` to `high`: the least and the greatest of what they are alike in, seconds or positions.
    `predicted_s`, `actual_s`: means, seconds an impression. `ratio`: Σ predicted / Σ actual with
    its interval by user; 1 is calibrated, nan where nothing was watched.
    """

    low: float
    high: float
    num_impressions: int
    predicted_s: float
    actual_s: float
    ratio: MetricValue


def calibration_by_quantile(
    values: NDArray[np.floating],
    predicted_s: NDArray[np.floating],
    actual_s: NDArray[np.floating],
    user_rows: NDArray[Any],
    *,
    num_bins: int = 10,
) -> tuple[CalibrationBin, ...]:
    """Bins of as many impressions each as equal values allow, the lowest values first.

    `values` [M] is what impressions are alike in: the predictions themselves for a reliability
    curve, or durations; nan is not known and stands in no bin. One bin holds all that are known.

    >>> predicted_s, actual_s = np.array([9.0, 1.0]), np.array([8.0, 0.0])
    >>> bins = calibration_by_quantile(predicted_s, predicted_s, actual_s, np.zeros(2), num_bins=2)
    >>> [(part.low, part.predicted_s, part.actual_s) for part in bins]
    [(1.0, 1.0, 0.0), (9.0, 9.0, 8.0)]
    """
    return _in_bins(quantile_bins(values, num_bins), values, predicted_s, actual_s, user_rows)


def calibration_by_value(
    values: NDArray[Any],
    predicted_s: NDArray[np.floating],
    actual_s: NDArray[np.floating],
    user_rows: NDArray[Any],
) -> tuple[CalibrationBin, ...]:
    """One bin for each value there is, such as each position; the lowest first.

    >>> position, seconds = np.array([0, 1, 0]), np.array([4.0, 1.0, 2.0])
    >>> bins = calibration_by_value(position, seconds, seconds, np.zeros(3))
    >>> [(part.low, part.num_impressions, part.actual_s) for part in bins]
    [(0.0, 2, 3.0), (1.0, 1, 1.0)]
    """
    bins = np.unique(values, return_inverse=True)[1]
    return _in_bins(bins, values, predicted_s, actual_s, user_rows)


def quantile_bins(values: NDArray[np.floating], num_bins: int) -> Bins:
    """The quantile bin of each value, [M] from 0 to num_bins − 1; equal values stand together.

    floor(num_bins · #(values below) / #values); -1 for nan.

    >>> quantile_bins(np.array([5.0, 1.0, 1.0, np.nan, 9.0]), 2)
    array([ 1,  0,  0, -1,  1])
    """
    known = np.sort(values[~np.isnan(values)])
    num_below = np.searchsorted(known, values, side="left")
    return np.where(np.isnan(values), -1, num_below * num_bins // max(1, len(known)))


def _in_bins(
    bins: Bins,
    values: NDArray[Any],
    predicted_s: NDArray[np.floating],
    actual_s: NDArray[np.floating],
    user_rows: NDArray[Any],
) -> tuple[CalibrationBin, ...]:
    """Bins from 0 on, without the empty ones."""
    parts = [np.flatnonzero(bins == number) for number in range(int(bins.max(initial=-1)) + 1)]
    return tuple(
        CalibrationBin(
            low=float(values[part].min()),
            high=float(values[part].max()),
            num_impressions=len(part),
            predicted_s=float(predicted_s[part].mean(dtype=np.float64)),
            actual_s=float(actual_s[part].mean(dtype=np.float64)),
            ratio=metric_value(
                sum_by_user(user_rows[part], predicted_s[part]),
                sum_by_user(user_rows[part], actual_s[part]),
            ),
        )
        for part in parts
        if len(part)
    )
