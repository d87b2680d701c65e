"""Predicted seconds become the seconds that came: a rising curve, fitted after training."""

from typing import Literal

import numpy as np
import torch
from scipy.optimize import isotonic_regression
from torch import nn

from upnext.schema import Floats

CalibrationKind = Literal["isotonic", "scale", "none"]
NUM_PIECES = 32
ENDLESS_S = 1e30
LEAST_MEAN_S = 1e-6
"""Of what was expected, and of what was watched; float32 could not hold a curve through less."""


class Calibration(nn.Module):
    """A piecewise linear, rising function through the origin, part of the exported graph.

        y(x) = Σ_k slope_k · min(max(x − start_k, 0), width_k)

    The last piece goes on for ever, so that what is beyond all that was seen keeps its order.
    As it is made it changes nothing.
    """

    starts: torch.Tensor
    widths: torch.Tensor
    slopes: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("starts", "widths", "slopes"):
            self.register_buffer(name, torch.zeros(NUM_PIECES))
        self._set(np.zeros(1), np.array([ENDLESS_S]), np.ones(1))

    def forward(self, seconds: torch.Tensor) -> torch.Tensor:
        """[M] predicted → [M] calibrated seconds."""
        within = torch.minimum((seconds[:, None] - self.starts).clamp(min=0.0), self.widths)
        return within @ self.slopes

    def fit(self, kind: CalibrationKind, predicted_s: Floats, actual_s: Floats) -> None:
        """Learns from what came of predictions, [n] each, on data that training did not see.

        `scale`: one factor, Σ actual / Σ predicted. `isotonic`: the rising curve that is nearest
        to the outcomes by least squares, over bins that each hold a like share of the impressions
        and of the predicted seconds; between the bins' middles it is linear, and the total is that
        of the outcomes. Nothing is learned where as good as nothing was watched, or expected.

        Source: Zadrozny and Elkan 2002, "Transforming classifier scores into accurate multiclass
        probability estimates".
        """
        totals_s = [float(seconds.sum(dtype=np.float64)) for seconds in (predicted_s, actual_s)]
        if kind == "none" or min(totals_s) <= LEAST_MEAN_S * len(predicted_s):
            return
        if kind == "scale":
            self._set(np.zeros(1), np.array([ENDLESS_S]), np.array([totals_s[1] / totals_s[0]]))
            return
        self._set(*_pieces(*_rising_means(predicted_s, actual_s)))
        with torch.no_grad():  # lines between the middles do not quite keep the total
            calibrated_s = self(torch.from_numpy(np.asarray(predicted_s, np.float32))).double()
            self.slopes.mul_(totals_s[1] / float(calibrated_s.sum()))

    def _set(
        self,
        starts: np.ndarray[tuple[int], np.dtype[np.float64]],
        widths: np.ndarray[tuple[int], np.dtype[np.float64]],
        slopes: np.ndarray[tuple[int], np.dtype[np.float64]],
    ) -> None:
        with torch.no_grad():
            for buffer, values, filler in (
                (self.starts, starts, ENDLESS_S),
                (self.widths, widths, 1.0),
                (self.slopes, slopes, 0.0),
            ):
                buffer.fill_(filler)
                buffer[: len(values)] = torch.from_numpy(values.astype(np.float32))


Means = np.ndarray[tuple[int], np.dtype[np.float64]]


def _rising_means(predicted_s: Floats, actual_s: Floats) -> tuple[Means, Means]:
    """Mean prediction and mean outcome of each block, both strictly rising and above 0."""
    order = np.argsort(predicted_s, kind="stable")
    predicted, actual = predicted_s[order].astype(np.float64), actual_s[order].astype(np.float64)
    share = np.arange(len(predicted)) / len(predicted) + np.cumsum(predicted) / predicted.sum()
    share = share[np.searchsorted(predicted, predicted)]  # equal predictions fall into one bin
    bins = np.minimum(share / 2 * (NUM_PIECES - 1), NUM_PIECES - 2).astype(np.int64)
    counts = np.bincount(bins)
    filled = counts > 0
    sums = [np.bincount(bins, weights=values)[filled] for values in (predicted, actual)]
    fitted = isotonic_regression(sums[1] / counts[filled], weights=counts[filled])
    edges = fitted.blocks[:-1]
    block_counts = np.add.reduceat(counts[filled], edges)
    means = np.add.reduceat(sums[0], edges) / block_counts
    outcomes = np.add.reduceat(sums[1], edges) / block_counts
    is_positive = (outcomes > 0) & (means > 0)
    return means[is_positive], outcomes[is_positive]


def _pieces(means: Means, outcomes: Means) -> tuple[Means, Means, Means]:
    """From the origin through all middles, and beyond the last one along its ray."""
    starts = np.concatenate([[0.0], means])
    widths = np.concatenate([np.diff(starts), [ENDLESS_S]])
    slopes = np.diff(np.concatenate([[0.0], outcomes])) / np.maximum(widths[:-1], 1e-30)
    return starts, widths, np.concatenate([slopes, outcomes[-1:] / means[-1:]])
