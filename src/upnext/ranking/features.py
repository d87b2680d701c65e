"""From raw arrays to normalised features, inside the network: exported with it, the same anywhere.

Inputs are named as in `RankingInputs`, with the embeddings of ids beside them: `item_vectors`
[M, E], `channel_vectors` [M, Ec], `tag_vectors` [M, T, Et] of the candidates and
`history_item_vectors` [R, H, E], `history_channel_vectors` [R, H, Ec] of the past.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from upnext.examples.quantiles import NUM_QUANTILES, quantile_bounds
from upnext.schema import Floats

Inputs = Mapping[str, torch.Tensor]

NEVER_S = 1e9
"""Seconds since something that never happened."""

CANDIDATE_FEATURES = (
    "watches of the item",
    "seconds since the item was watched",
    "watches of the channel",
    "share watched on the channel",
    "seconds watched on the channel",
    "seconds since the channel was watched",
    "watches sharing tags",
    "share watched with shared tags",
    "seconds watched with shared tags",
    "seconds since a shared tag was watched",
    "impressions of the item",
    "seconds since the item was shown",
    "item age in days",
    "duration in seconds",
    "position",
)
QUERY_FEATURES = (
    "watches in the history",
    "share watched in the history",
    "seconds watched in the history",
    "seconds since the last watch",
    "impressions in the history",
)


def candidate_features(inputs: Inputs) -> torch.Tensor:
    """[M, F]: what the request's user did before with the candidate and its likes; raw values.

    Source: Covington, Adams, Sargin 2016, section 4.1: the most important signals describe the
    user's previous interaction with the item itself and similar ones, and earlier impressions.
    """
    of_request = inputs["request_index"]
    share, spent = _watch_share(inputs)[of_request], inputs["history_watch_time_s"][of_request]
    age = inputs["history_age_s"][of_request]

    same_item = _same(inputs["history_rows"][of_request], inputs["item_rows"])
    same_channel = _same(inputs["history_channel_rows"][of_request], inputs["channel_rows"])
    shared_tags = _shared_tags(inputs["history_tag_rows"][of_request], inputs["tag_rows"])
    same_shown = _same(inputs["shown_rows"][of_request], inputs["item_rows"])
    features = [
        same_item.sum(dim=1),
        _since_last(same_item, age),
        same_channel.sum(dim=1),
        _weighted_mean(same_channel, share),
        (same_channel * spent).sum(dim=1),
        _since_last(same_channel, age),
        shared_tags.sum(dim=1),
        _weighted_mean(shared_tags, share),
        (shared_tags * spent).sum(dim=1),
        _since_last(shared_tags, age),
        same_shown.sum(dim=1),
        _since_last(same_shown, inputs["shown_age_s"][of_request]),
        inputs["item_age_days"],
        inputs["duration_s"],
        inputs["position"],
    ]
    return torch.stack(features, dim=1)


def query_features(inputs: Inputs) -> torch.Tensor:
    """[R, Fq]: the user's past as a whole, raw values; computed once per request."""
    filled = (inputs["history_rows"] > 0).float()
    features = [
        filled.sum(dim=1),
        _weighted_mean(filled, _watch_share(inputs)),
        _weighted_mean(filled, inputs["history_watch_time_s"]),
        _since_last(filled, inputs["history_age_s"]),
        (inputs["shown_rows"] > 0).float().sum(dim=1),
    ]
    return torch.stack(features, dim=1)


class Quantiles(nn.Module):
    """Each feature as x̃, x̃² and √x̃, x̃ being its cumulative distribution in training.

    Linear interpolation between the bounds is a sum of clipped ramps, one a bin, which any
    runtime computes alike: [.., F] → [.., 3 F]. Source: as above.
    """

    bounds: torch.Tensor
    widths: torch.Tensor
    steps: torch.Tensor
    base: torch.Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.register_buffer("bounds", torch.zeros(num_features, NUM_QUANTILES))
        self.register_buffer("widths", torch.ones(num_features, NUM_QUANTILES))
        self.register_buffer("steps", torch.zeros(num_features, NUM_QUANTILES))
        self.register_buffer("base", torch.zeros(num_features))

    def fit(self, values: Floats) -> None:
        """Takes the bounds from training values [n, F]."""
        for place in range(values.shape[1]):
            bounds, levels = quantile_bounds(values[:, place])
            num_bins = len(bounds) - 1
            self.bounds[place, :num_bins] = torch.from_numpy(bounds[:-1])
            # A width below the smallest normal number would be flushed to zero, and 0 / 0 is nan.
            widths = np.maximum(np.diff(bounds), np.finfo(np.float32).tiny)
            self.widths[place, :num_bins] = torch.from_numpy(widths)
            self.steps[place, :num_bins] = torch.from_numpy(np.diff(levels))
            self.base[place] = float(levels[0])

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """[B, F] → [B, 3 F]."""
        ramps = ((values[..., None] - self.bounds) / self.widths).clamp(0.0, 1.0)
        level = self.base + (ramps * self.steps).sum(dim=-1)
        return torch.cat([level, level.square(), level.sqrt()], dim=-1)


def _same(history_rows: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """[M, H]: 1.0 where a past row is the candidate's; pads and unknowns match nothing."""
    return ((history_rows == rows[:, None]) & (rows[:, None] > 1)).float()


def _shared_tags(history_tag_rows: torch.Tensor, tag_rows: torch.Tensor) -> torch.Tensor:
    """[M, H]: how many of the candidate's tags each past watch has."""
    equal = history_tag_rows[:, :, :, None] == tag_rows[:, None, None, :]
    return (equal & (tag_rows[:, None, None, :] > 1)).float().sum(dim=(2, 3))


def _watch_share(inputs: Inputs) -> torch.Tensor:
    """[R, H]: share of each past item that was watched, up to 1; 1 where no duration is known."""
    duration = inputs["history_duration_s"]
    share = inputs["history_watch_time_s"] / duration.clamp(min=1.0)
    return torch.where(duration > 0, share, torch.ones_like(share)).clamp(max=1.0)


def _weighted_mean(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return (weights * values).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-6)


def _since_last(matches: torch.Tensor, age_s: torch.Tensor) -> torch.Tensor:
    """Seconds since the newest match, `NEVER_S` without one."""
    return torch.where(matches > 0, age_s, torch.full_like(age_s, NEVER_S)).amin(dim=1)
