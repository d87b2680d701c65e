"""What the outputs of a ranking network mean, how they are learned, and the seconds they predict.

Every objective predicts expected seconds of watch time per impression, so that all of them can be
compared, calibrated and served alike. Each is a module, because the numbers that turn outputs into
seconds (a mean, quantiles) are counted in training and exported with the network. `count` takes
what it needs of the training impressions and returns outputs that suit them on the whole; `loss` is
the mean over impressions of outputs [M, O]; `seconds` turns these into expected watch time [M].
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from upnext.ranking.config import RankingConfig
from upnext.ranking.loss import (
    WeightedLogisticVariant,
    watch_time_weights,
    weighted_logistic_loss,
)

GREATEST_LOG_S = 60.0
"""Of seconds; a network astray may say more, which no float32 could hold."""
NUM_DURATION_GROUPS = 20
NUM_WATCH_QUANTILES = 20


@dataclass(frozen=True)
class Outcomes:
    """What came of M impressions: watched (0 or 1), watch_time_s, and the items' duration_s.

    `drawn`: how often up-sampling drew each as a positive and as a negative; None without it.
    """

    watched: torch.Tensor
    watch_time_s: torch.Tensor
    duration_s: torch.Tensor
    drawn: tuple[torch.Tensor, torch.Tensor] | None = None


class WeightedLogistic(nn.Module):
    """Odds that are seconds: `watch_time_weights` and e^z."""

    def __init__(self, variant: WeightedLogisticVariant) -> None:
        super().__init__()
        self.variant: WeightedLogisticVariant = variant

    def count(self, outcomes: Outcomes) -> Sequence[float]:
        """The odds of all impressions together."""
        positive, negative = self._weights(outcomes)
        return [_log(float(positive.mean()) / max(float(negative.mean()), 1e-6))]

    def loss(self, outputs: torch.Tensor, outcomes: Outcomes) -> torch.Tensor:
        """As `weighted_logistic_loss`."""
        return weighted_logistic_loss(outputs[:, 0], *(outcomes.drawn or self._weights(outcomes)))

    def seconds(self, outputs: torch.Tensor, duration_s: torch.Tensor) -> torch.Tensor:
        """e^z."""
        return torch.exp(outputs[:, 0].clamp(max=GREATEST_LOG_S))

    def _weights(self, outcomes: Outcomes) -> tuple[torch.Tensor, torch.Tensor]:
        return watch_time_weights(outcomes.watched, outcomes.watch_time_s, variant=self.variant)


class Click(nn.Module):
    """Clicks alone: σ(z), times the mean watch."""

    mean_watch_s: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean_watch_s", torch.ones(()))

    def count(self, outcomes: Outcomes) -> Sequence[float]:
        """The click rate, and the mean watch."""
        num_watches = outcomes.watched.sum().clamp(min=1)
        total_s = (outcomes.watched * outcomes.watch_time_s).sum()
        self.mean_watch_s.fill_(float(total_s / num_watches))
        return [_click_logit(outcomes)]

    def loss(self, outputs: torch.Tensor, outcomes: Outcomes) -> torch.Tensor:
        """Cross entropy of watched or not."""
        return functional.binary_cross_entropy_with_logits(outputs[:, 0], outcomes.watched)

    def seconds(self, outputs: torch.Tensor, duration_s: torch.Tensor) -> torch.Tensor:
        """σ(z) · mean watch."""
        return torch.sigmoid(outputs[:, 0]) * self.mean_watch_s


class ClickAndShare(nn.Module):
    """Clicks, and the share of its duration that a watch lasts: σ(z₁) σ(z₂) duration.

    Shares above 1, of players that loop, count as 1; an item without a duration as one of the mean
    watch's length. The idea of a product of two predictions, of which the second is learned where
    the first came true, is that of Ma et al. 2018, "Entire space multi-task model".
    """

    typical_s: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("typical_s", torch.ones(()))

    def count(self, outcomes: Outcomes) -> Sequence[float]:
        """Click rate and mean share."""
        num_watches = outcomes.watched.sum().clamp(min=1)
        total_s = float((outcomes.watched * outcomes.watch_time_s).sum())
        self.typical_s.fill_(max(total_s / float(num_watches), 1e-3))
        mean_share = float((outcomes.watched * self._shares(outcomes)).sum() / num_watches)
        return [_click_logit(outcomes), _logit(mean_share)]

    def loss(self, outputs: torch.Tensor, outcomes: Outcomes) -> torch.Tensor:
        """Cross entropy of both, of the share over watched impressions only."""
        clicks = functional.binary_cross_entropy_with_logits(outputs[:, 0], outcomes.watched)
        shares = functional.binary_cross_entropy_with_logits(
            outputs[:, 1], self._shares(outcomes), weight=outcomes.watched
        )
        return clicks + shares

    def seconds(self, outputs: torch.Tensor, duration_s: torch.Tensor) -> torch.Tensor:
        """σ(z₁) σ(z₂) duration."""
        both = torch.sigmoid(outputs[:, 0]) * torch.sigmoid(outputs[:, 1])
        return both * self._lengths_s(duration_s)

    def _lengths_s(self, duration_s: torch.Tensor) -> torch.Tensor:
        return torch.where(duration_s > 0, duration_s, self.typical_s)

    def _shares(self, outcomes: Outcomes) -> torch.Tensor:
        return (outcomes.watch_time_s / self._lengths_s(outcomes.duration_s)).clamp(0.0, 1.0)


class Regression(nn.Module):
    """The seconds themselves, by least squares: log(1 + e^z), in units of their deviation."""

    unit_s: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("unit_s", torch.ones(()))

    def count(self, outcomes: Outcomes) -> Sequence[float]:
        """Mean and deviation of the seconds, 0 where not watched."""
        seconds = outcomes.watched * outcomes.watch_time_s
        self.unit_s.fill_(max(float(seconds.std(correction=0)), 1e-3))
        units = float(seconds.mean() / self.unit_s)
        # log(e^x − 1) is x where e^x would leave the range of numbers.
        return [units if units > 30 else _log(math.expm1(units))]

    def loss(self, outputs: torch.Tensor, outcomes: Outcomes) -> torch.Tensor:
        """Half the mean squared error, in units squared."""
        actual = outcomes.watched * outcomes.watch_time_s / self.unit_s
        return 0.5 * functional.mse_loss(functional.softplus(outputs[:, 0]), actual)

    def seconds(self, outputs: torch.Tensor, duration_s: torch.Tensor) -> torch.Tensor:
        """log(1 + e^z) units."""
        return functional.softplus(outputs[:, 0]) * self.unit_s


class D2q(nn.Module):
    """Clicks, and where a watch stands among those of items about as long.

    A watched impression's label is q, the share of watches in its duration group that are no
    longer; serving turns the predicted q̂ back by that group's quantiles:

        σ(z₁) · F⁻¹_group(σ(z₂))

    Source: Zhan et al. 2022, "Deconfounding duration bias in watch-time prediction" (D2Q).
    """

    bounds_s: torch.Tensor
    watch_s: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bounds_s", torch.full((NUM_DURATION_GROUPS - 1,), torch.inf))
        quantiles = torch.zeros(NUM_DURATION_GROUPS, NUM_WATCH_QUANTILES + 1)
        self.register_buffer("watch_s", quantiles)

    def count(self, outcomes: Outcomes) -> Sequence[float]:
        """Duration groups of as many watches each, and the quantiles of watch time in each."""
        is_watched = outcomes.watched > 0
        duration_s = outcomes.duration_s[is_watched].cpu().numpy()
        watch_time_s = outcomes.watch_time_s[is_watched].cpu().numpy()
        inner = np.linspace(0, 1, NUM_DURATION_GROUPS + 1)[1:-1]
        self.bounds_s.copy_(torch.from_numpy(np.quantile(duration_s, inner)))
        groups = self._groups(outcomes.duration_s[is_watched]).cpu().numpy()
        levels = np.linspace(0, 1, NUM_WATCH_QUANTILES + 1)
        for group in range(NUM_DURATION_GROUPS):
            mine = watch_time_s[groups == group]
            of_group = np.quantile(mine if len(mine) else watch_time_s, levels)
            self.watch_s[group] = torch.from_numpy(of_group.astype(np.float32))
        return [_click_logit(outcomes), 0.0]

    def loss(self, outputs: torch.Tensor, outcomes: Outcomes) -> torch.Tensor:
        """Cross entropy of clicks, and the squared error of the quantile of watched ones."""
        clicks = functional.binary_cross_entropy_with_logits(outputs[:, 0], outcomes.watched)
        error = torch.sigmoid(outputs[:, 1]) - self._quantile(outcomes)
        return clicks + (outcomes.watched * error.square()).mean()

    def seconds(self, outputs: torch.Tensor, duration_s: torch.Tensor) -> torch.Tensor:
        """σ(z₁) · F⁻¹(σ(z₂))."""
        quantiles = self.watch_s[self._groups(duration_s)]
        steps = torch.arange(NUM_WATCH_QUANTILES, device=outputs.device)
        ramps = torch.sigmoid(outputs[:, 1:]) * NUM_WATCH_QUANTILES - steps
        rises = (quantiles[:, 1:] - quantiles[:, :-1]) * ramps.clamp(0.0, 1.0)
        return torch.sigmoid(outputs[:, 0]) * (quantiles[:, 0] + rises.sum(dim=1))

    def _groups(self, duration_s: torch.Tensor) -> torch.Tensor:
        return (duration_s[:, None] > self.bounds_s).sum(dim=1)

    def _quantile(self, outcomes: Outcomes) -> torch.Tensor:
        """F of the group at each watch time: linear between its quantiles."""
        quantiles = self.watch_s[self._groups(outcomes.duration_s)]
        widths = (quantiles[:, 1:] - quantiles[:, :-1]).clamp(min=1e-6)
        ramps = (outcomes.watch_time_s[:, None] - quantiles[:, :-1]) / widths
        return ramps.clamp(0.0, 1.0).mean(dim=1)


Objective = WeightedLogistic | Click | ClickAndShare | Regression | D2q


def new_objective(config: RankingConfig) -> Objective:
    """The objective that a config names."""
    match config.objective:
        case "weighted-logistic":
            return WeightedLogistic(config.variant)
        case "click":
            return Click()
        case "click-and-share":
            return ClickAndShare()
        case "regression":
            return Regression()
        case "d2q":
            return D2q()


def _click_logit(outcomes: Outcomes) -> float:
    return _logit(float(outcomes.watched.mean()))


def _logit(share: float) -> float:
    inside = min(max(share, 1e-6), 1 - 1e-6)
    return math.log(inside / (1 - inside))


def _log(value: float) -> float:
    return math.log(max(value, 1e-6))
