"""Continuous features made comparable, in the network's graph: their quantiles, their logs."""

import numpy as np
import torch
from torch import nn

from upnext.examples.quantiles import NUM_QUANTILES, quantile_bounds
from upnext.schema import Floats

LARGEST = 4.0
STRIDE = 8
"""Of so many bounds one is looked at first."""
TINY = 1e-30
"""Beside numbers of which it changes none."""


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
        return _if_known(values.T, self.by_feature(values.T)).T

    def by_feature(self, values: torch.Tensor) -> torch.Tensor:
        """x̃ of values [F, n], side by side what is compared with the same bounds; any of nan."""
        starts = self.bounds[:, STRIDE::STRIDE, None]
        reached = (values[:, None] >= starts).to(values.dtype)
        by_strides = reached.new_full((1, starts.shape[1]), float(STRIDE))
        place = (by_strides @ reached)[:, 0].to(torch.int64)
        step = STRIDE // 2
        while step:
            further = place + step
            place = torch.where(values >= self.bounds.gather(1, further), further, place)
            step //= 2
        bound, width, level, rise = (part.gather(1, place) for part in self.bins)
        levels: torch.Tensor = level + rise * ((values - bound) / width).clamp(0.0, 1.0)
        return levels


class LogScale(nn.Module):
    """Each feature as the standardised log of its size: [.., F] → [.., F].

        (sign(x) log(1 + |x|) − mean) / deviation, from −4 to 4; 0 where x is not known, nan

    A feature that was the same all through training is 0 whatever it is later, as nothing was
    learned of it: its weights are still random.

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
        endless = float(np.finfo(np.float32).max)
        self.deviation.copy_(torch.from_numpy(np.where(deviation > 1e-6, deviation, endless)))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """The scaled log of each value."""
        return _if_known(values.T, self.by_feature(values.T)).T

    def by_feature(self, values: torch.Tensor) -> torch.Tensor:
        """The scaled log of values [F, n]; any of nan."""
        logs = _signed_log1p(values)
        scaled = (logs - self.mean[:, None]) / self.deviation[:, None]
        return scaled.clamp(-LARGEST, LARGEST)


class Scaled(nn.Module):
    """Quantiles and, with `logs`, scaled logs beside them: [n, F] → [n, F] or [n, 2 F]."""

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
        by_feature = values.T
        scaled = [self.quantiles.by_feature(by_feature)]
        if self.logs is not None:
            scaled.append(self.logs.by_feature(by_feature))
        levels = _if_known(by_feature, torch.stack(scaled))
        return levels.flatten(0, 1).T

    def with_powers(self, scaled: torch.Tensor) -> torch.Tensor:
        """What `forward` gave, with powers of the quantiles beside it."""
        levels, others = scaled[..., : self.num_features], scaled[..., self.num_features :]
        return torch.cat([levels, *_powers(levels), others], dim=-1)


def with_powers(levels: torch.Tensor) -> torch.Tensor:
    """[.., F] → [.., 3 F]: x̃, x̃² and √x̃, for super- and sub-linear functions. Source: as above."""
    return torch.cat([levels, *_powers(levels)], dim=-1)


def _powers(levels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    # Rounding may leave a level a hair below 0, whose root is no number.
    return levels.square(), levels.clamp(min=0).sqrt()


def _if_known(values: torch.Tensor, scaled: torch.Tensor) -> torch.Tensor:
    """What was made of the values, and 0 where a value is nan."""
    return torch.where(values.isnan(), 0.0, scaled)


def _signed_log1p(values: torch.Tensor) -> torch.Tensor:
    """sign(x) log(1 + |x|), exact for small x wherever it runs.

    ONNX has no such operator. Exported as log of the rounded sum u = 1 + |x|, small values would
    lose their last digits, and a small deviation multiplies that; log(u) / (u − 1) · x does not.
    The slope is 1 where nothing is left of u − 1.
    Source: Kahan; see Higham 2002, "Accuracy and stability of numerical algorithms", 1.14.1.
    """
    rounded = 1.0 + values.abs()
    beyond = (rounded - 1.0).clamp(TINY, 1 / TINY)  # inf / inf would be nan
    return (torch.log(rounded) + TINY) / beyond * values
