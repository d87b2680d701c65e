"""Draws negatives: item rows, and the log of how often each was to be expected in the draw."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.schema import NUM_RESERVED_ROWS

SamplerName = Literal["uniform", "log_uniform", "unigram"]


@dataclass(frozen=True)
class NegativeSampler:
    """Draws real item rows independently, row j with probability q_j: log_q [N], cumulative [N]."""

    log_probability: torch.Tensor
    cumulative: torch.Tensor

    def draw(
        self, num_negatives: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """S rows [S], drawn with replacement, and log of their expected draws, log(S · q_j) [S].

        With that correction Σ_j exp(s_j − log(S · q_j)) over the draw has the expectation
        Σ_j exp(s_j) over the catalogue, whatever q is.
        """
        uniform = torch.rand(num_negatives, dtype=torch.float64, generator=generator)
        rows = torch.searchsorted(self.cumulative, uniform, right=True)
        return rows, self.log_probability[rows] + float(np.log(num_negatives))


def negative_sampler(
    name: SamplerName, *, num_watches: NDArray[Any], power: float
) -> NegativeSampler:
    """A sampler over the rows of a catalogue whose items were watched `num_watches` [N] times.

    uniform:      q_j = 1 / n
    log_uniform:  q_j = log((r + 2) / (r + 1)) / log(n + 1), r the rank by frequency from 0
    unigram:      q_j ∝ (watches of j) ** power; an item without any counts as one

    Rows 0 and 1 are never drawn. Source: Mikolov et al. 2013 for the power.
    """
    num_items = len(num_watches) - NUM_RESERVED_ROWS
    match name:
        case "uniform":
            weights = np.ones(num_items)
        case "log_uniform":
            ranks = np.arange(num_items)
            weights = np.log((ranks + 2) / (ranks + 1))
        case "unigram":
            weights = np.maximum(num_watches[NUM_RESERVED_ROWS:], 1).astype(np.float64) ** power
    probability = np.concatenate([np.zeros(NUM_RESERVED_ROWS), weights / weights.sum()])
    cumulative = np.cumsum(probability)
    cumulative[-1] = 1.0  # a uniform draw is below 1, so the last row catches the rounding
    with np.errstate(divide="ignore"):
        log_probability = np.log(probability)
    return NegativeSampler(
        torch.from_numpy(log_probability.astype(np.float32)), torch.from_numpy(cumulative)
    )
