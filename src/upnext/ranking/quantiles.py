"""Continuous features made comparable, in the network's graph: their quantiles, their logs."""

import numpy as np
import torch
from torch import nn

from upnext.examples.quantiles import NUM_QUANTILES, quantile_bounds
from upnext.schema import Floats

LARGEST = 4.0
STRIDE = 8
"""Of so many bounds one is looked at first."""


class Quantiles(nn.Module):
    """Each feature x as x̃, its cumulative distribution in training: [n, F] → [n, F] in [0, 1].

    Linear interpolation between bounds: in bin b, from bound_b on,

        x̃ = level_b + step_b · clip((x − bound_b) / width_b, 0, 1)

    ONNX has no search in sorted numbers. The bin is found by counting how many of every eighth
    bound a value has reached, which is arithmetic on long runs, and then by halving what is left.
    Source: Covington, Adams, Sargin 2016, section 4.1.
    """

    bounds: torch.Tensor
    bins: torch.Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        beyond = torch.finfo(torch.float32).max
        self.register_buffer("bounds", torch.full((num_features, NUM_QUANTILES), beyond))
        bins = torch.zeros(4, num_features, NUM_QUANTILES)
        bins[1] = 1.0
        self.register_buffer("bins", bins)

    def fit(self, values: Floats) -> None:
        """Takes the bounds from training values [n, F]."""
        for place in range(values.shape[1]):
            bounds, levels = quantile_bounds(values[:, place])
            num_bins = len(bounds) - 1
            # A width below the smallest normal number would be flushed to zero, and 0 / 0 is nan.
            widths = np.maximum(np.diff(bounds), np.finfo(np.float32).tiny)
            told = np.stack([bounds[:-1], widths, levels[:-1], np.diff(levels)])
            self.bounds[place, :num_bins] = torch.from_numpy(bounds[:-1])
            self.bins[:, place, :num_bins] = torch.from_numpy(told.astype(np.float32))
            # What is beyond all numbers, infinity, has the last level.
            self.bins[2, place, num_bins:] = float(levels[-1])

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """x̃ of each value, 0 of nan."""
        by_feature = values.T
        starts = self.bounds[:, STRIDE::STRIDE, None]
        reached = (by_feature[:, None] >= starts).to(values.dtype)
        num_reached = reached.new_ones(1, starts.shape[1]) @ reached
        place = STRIDE * num_reached[:, 0].to(torch.int64)
        step = STRIDE // 2
        while step:
            is_reached = by_feature >= self.bounds.gather(1, place + step)
            place = place + step * is_reached.to(torch.int64)
            step //= 2
        bound, width, level, rise = (part.gather(1, place) for part in self.bins)
        levels = (level + rise * ((by_feature - bound) / width).clamp(0.0, 1.0)).T
        return torch.where(values.isnan(), torch.zeros_like(levels), levels)


class LogScale(nn.Module):
    """Each feature as the standardised log of its size: [.., F] → [.., F].

        (sign(x) log(1 + |x|) − mean) / deviation, from −4 to 4; 0 where x is not known, nan

    Quantiles tell the usual values apart, and say 1 of all that is beyond them. The candidates of a
    request are beyond them: they were chosen because the user watches such items often.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("deviation", torch.ones(num_features))

    def fit(self, values: Floats) -> None:
        """Takes mean and deviation from training values [n, F]."""
        logs = np.sign(values) * np.log1p(np.abs(values.astype(np.float64)))
        known = np.isfinite(logs)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, logs, 0).sum(axis=0) / count
        deviation = np.sqrt(np.where(known, np.square(logs - mean), 0).sum(axis=0) / count)
        self.mean.copy_(torch.from_numpy(mean))
        self.deviation.copy_(torch.from_numpy(np.where(deviation > 1e-6, deviation, 1.0)))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """The scaled log of each value."""
        logs = torch.sign(values) * _log1p(values.abs())
        scaled = ((logs - self.mean) / self.deviation).clamp(-LARGEST, LARGEST)
        return torch.where(values.isnan(), torch.zeros_like(scaled), scaled)


class Scaled(nn.Module):
    """Quantiles and, with `logs`, scaled logs beside them: [.., F] → [.., F] or [.., 2 F]."""

    def __init__(self, num_features: int, *, logs: bool) -> None:
        super().__init__()
        self.num_features = num_features
        self.quantiles = Quantiles(num_features)
        self.logs = LogScale(num_features) if logs else None

    @property
    def width(self) -> int:
        """Columns of what comes out."""
        return self.num_features * (1 if self.logs is None else 2)

    def fit(self, values: Floats) -> None:
        """Learns from training values [n, F]."""
        self.quantiles.fit(values)
        if self.logs is not None:
            self.logs.fit(values)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Quantiles first."""
        levels: torch.Tensor = self.quantiles(values)
        return levels if self.logs is None else torch.cat([levels, self.logs(values)], dim=-1)

    def with_powers(self, scaled: torch.Tensor) -> torch.Tensor:
        """What `forward` gave, with powers of the quantiles beside it."""
        levels, others = scaled[..., : self.num_features], scaled[..., self.num_features :]
        return torch.cat([with_powers(levels), others], dim=-1)


def with_powers(levels: torch.Tensor) -> torch.Tensor:
    """[.., F] → [.., 3 F]: x̃, x̃² and √x̃, for super- and sub-linear functions. Source: as above."""
    # Rounding may leave a level a hair below 0, whose root is no number.
    return torch.cat([levels, levels.square(), levels.clamp(min=0).sqrt()], dim=-1)


def _log1p(sizes: torch.Tensor) -> torch.Tensor:
    """log(1 + x) of x ≥ 0, exact for small x wherever it runs.

    ONNX has no such operator. Exported as log of the rounded sum u = 1 + x, small values would
    lose their last digits, and a small deviation multiplies that; log(u) / (u − 1) · x does not.
    Source: Kahan; see Higham 2002, "Accuracy and stability of numerical algorithms", 1.14.1.
    """
    rounded = 1.0 + sizes
    beyond = rounded - 1.0
    slope = torch.log(rounded) / beyond.clamp(1e-30, 1e30)  # inf / inf would be nan
    return torch.where(beyond > 0, slope, torch.ones_like(slope)) * sizes
