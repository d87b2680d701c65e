"""Continuous features made comparable: quantiles, powers of these, and logs; compiled."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from upnext.compiled import FLAG, FLOATS, compiled, part, table
from upnext.examples.quantiles import NUM_QUANTILES, quantile_bounds
from upnext.schema import Floats

LARGEST = np.float32(4)
"""No scaled log is further from 0."""
BEYOND = np.finfo(np.float32).max
LARGEST_SIZE = float(BEYOND)
ZERO, ONE = np.float32(0), np.float32(1)
LN_2 = 0.6931471805599453
SQUARE_ROOT_OF_HALF = 0x3FE6A09E667F3BCD
"""As the bits of a float64: m is between it and twice as much."""
Numbers = NDArray[np.float64]
ROWS_AT_ONCE = 256
"""Few enough that all their levels stay in the nearest memory."""


@dataclass(frozen=True)
class Scale:
    """What F features were like in training; `levels` tells what becomes of one.

    bounds [F, Q] where the bins of each begin, the largest number where there are no more; level,
    rise [F, Q] at the beginning of each bin and within it, width [F, Q] of each. mean, deviation
    [F] of the logs of sizes.
    """

    bounds: Floats
    widths: Floats
    starts: Floats
    rises: Floats
    mean: Floats
    deviation: Floats

    @property
    def num_features(self) -> int:
        """F."""
        return len(self.bounds)

    @classmethod
    def unfitted(cls, num_features: int) -> Self:
        """As of features of which nothing is known: all are told as 0, or as their log."""
        shape = (num_features, NUM_QUANTILES)
        zeros, ones = np.zeros(shape, np.float32), np.ones(shape, np.float32)
        by_feature = np.zeros(num_features, np.float32), np.ones(num_features, np.float32)
        return cls(np.full(shape, BEYOND, np.float32), ones, zeros, zeros.copy(), *by_feature)

    @classmethod
    def fitted(cls, values: Floats) -> Self:
        """From values in training [F, n].

        A feature that was the same all through training has log 0 whatever it is later, as nothing
        was learned of it: its weights are still random.
        """
        scale = cls.unfitted(len(values))
        for place, of_one in enumerate(values):
            bounds, levels = quantile_bounds(of_one)
            num_bins = len(bounds) - 1
            scale.bounds[place, :num_bins] = bounds[:-1]
            # A width below the smallest normal number may be flushed to zero, and 0 / 0 is nan.
            widths = np.maximum(np.diff(bounds), np.finfo(np.float32).tiny)
            scale.widths[place, :num_bins] = widths
            scale.starts[place, :num_bins] = levels[:-1]
            scale.rises[place, :num_bins] = np.diff(levels)
            # What is beyond all numbers, infinity, has the last level.
            scale.starts[place, num_bins:] = levels[-1]
        logs = np.sign(values) * np.log1p(np.abs(values.astype(np.float64)))
        is_known = np.isfinite(logs)
        count = np.maximum(is_known.sum(axis=1), 1)
        mean = np.where(is_known, logs, 0).sum(axis=1) / count
        squares = np.where(is_known, np.square(logs - mean[:, None]), 0)
        deviation = np.sqrt(squares.sum(axis=1) / count)
        scale.mean[:] = mean
        scale.deviation[:] = np.where(deviation > 1e-6, deviation, BEYOND)
        return scale

    def levels(self, values: Floats, *, powers: bool, logs: bool) -> Floats:
        """[n, width] of raw values [F, n]: all quantiles; their squares and roots; all logs.

        A quantile x̃ is the cumulative distribution in training, by linear interpolation in a bin:

            x̃ = level + rise · clip((x − bound) / width, 0, 1)

        x̃² and √x̃ beside it make super- and sub-linear functions. A log is

            (sign(x) log(1 + |x|) − mean) / deviation, from −4 to 4

        Quantiles tell the usual values apart, and say 1 of all that is beyond them; the candidates
        of a request are beyond them, as they were chosen because the user watches such items often.
        A value that is not known, nan, is 0 everywhere.

        Raises: ValueError: F is another number than in training.

        Source: Covington, Adams, Sargin 2016, section 4.1.
        """
        if len(values) != self.num_features:
            raise ValueError(f"values: expected {self.num_features} features, got {len(values)}")
        parts = (self.bounds, self.widths, self.starts, self.rises, self.mean, self.deviation)
        return _levels(values, *parts, powers, logs)


@part
def _find_bins(values: Floats, bounds: Floats, bins: NDArray[np.uint32]) -> None:
    """The last bound that each value has reached, 0 where none: counted, with all values abreast.

    That is more comparisons than a search takes, and fewer moments: none waits for another.
    """
    bins[:] = 0
    for place in range(1, len(bounds)):
        bound = bounds[place]
        if bound == BEYOND:
            break
        for n in range(len(values)):
            bins[n] += np.uint32(values[n] >= bound)


@part
def _quantiles(
    levels: Floats,
    values: Floats,
    bins: NDArray[np.uint32],
    bounds: Floats,
    widths: Floats,
    starts: Floats,
    rises: Floats,
) -> None:
    _find_bins(values, bounds, bins)
    for n in range(len(values)):
        b, value = bins[n], values[n]
        share = min(max((value - bounds[b]) / widths[b], ZERO), ONE)
        levels[n] = ZERO if np.isnan(value) else starts[b] + rises[b] * share


@part
def _signed_logs(values: Floats, rounded: Numbers, logs: Numbers) -> None:
    """sign(x) log(1 + |x|) to 1e-10 of itself, by arithmetic alone, so that it is done abreast.

    With u = 1 + |x| = 2ᵏ m and m about 1, log u = k log 2 + 2 artanh t, t = (m − 1) / (m + 1), of
    which a series of six terms is enough. What u has lost of a small x, log(u) x / (u − 1) has not.
    Source: Kahan; see Higham 2002, "Accuracy and stability of numerical algorithms", 1.14.1.
    """
    bits = rounded.view(np.int64)
    for n in range(len(values)):
        rounded[n] = 1.0 + min(abs(float(values[n])), LARGEST_SIZE)
    for n in range(len(values)):
        beyond = rounded[n] - 1.0
        exponent = (bits[n] - SQUARE_ROOT_OF_HALF) >> 52
        bits[n] -= exponent << 52
        t = (rounded[n] - 1.0) / (rounded[n] + 1.0)
        s = t * t
        series = 1 + s * (1 / 3 + s * (1 / 5 + s * (1 / 7 + s * (1 / 9 + s * (1 / 11 + s / 13)))))
        log = exponent * LN_2 + 2 * t * series
        # In what is too small for u to tell, the slope is 1.
        slope = log / beyond if beyond > 0 else 1.0
        logs[n] = slope * min(max(float(values[n]), -LARGEST_SIZE), LARGEST_SIZE)


@compiled(table(FLOATS), *(4 * (table(FLOATS),)), FLOATS, FLOATS, FLAG, FLAG)
def _levels(
    values: Floats,
    bounds: Floats,
    widths: Floats,
    starts: Floats,
    rises: Floats,
    mean: Floats,
    deviation: Floats,
    powers: bool,
    logs: bool,
) -> Floats:
    num_features, num_rows = values.shape
    num_levels = num_features * (3 if powers else 1)
    levels = np.empty((num_rows, num_levels + (num_features if logs else 0)), np.float32)
    bins, room = np.empty(ROWS_AT_ONCE, np.uint32), np.empty((2, ROWS_AT_ONCE))
    for first in range(0, num_rows, ROWS_AT_ONCE):
        size = min(ROWS_AT_ONCE, num_rows - first)
        block = levels[first : first + size]
        for f in range(num_features):
            some = values[f][first : first + size]
            _quantiles(block[:, f], some, bins[:size], bounds[f], widths[f], starts[f], rises[f])
            if powers:
                for n in range(size):
                    level = block[n, f]
                    block[n, num_features + f] = level * level
                    # Rounding may leave a level a hair below 0, whose root is no number.
                    block[n, 2 * num_features + f] = np.sqrt(max(level, ZERO))
            if logs:
                _signed_logs(some, room[0][:size], room[1][:size])
                for n in range(size):
                    scaled = np.float32((room[1, n] - mean[f]) / deviation[f])
                    scaled = min(max(scaled, -LARGEST), LARGEST)
                    block[n, num_levels + f] = ZERO if np.isnan(some[n]) else scaled
    return levels
