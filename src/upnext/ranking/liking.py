"""What a user likes beyond what was counted: how he takes to channels' manners, and to tags."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from upnext.ranking.features import Inputs
from upnext.ranking.manners import SMALL_LOG_ODDS, Manners
from upnext.schema import UNKNOWN_ROW

MOST_IDS = 4_096
"""Rows of channels, and of tags, that can be liked: those of the most frequent ones."""
UNMOVED = 1e300
"""Precision of a liking that no past can move from 0."""
GRID = 2.0**-20
"""Likings are multiples of it, so that what is nothing but for rounding is nothing everywhere:
quantiles jump at 0, where many likings are."""
Curvature = Callable[[torch.Tensor], torch.Tensor]
"""Log-odds → how much the log of their probability is taken to curve."""
LIKING_FEATURES = ("liking of the channel's manner", "liking of the tags")


class Liking(nn.Module):
    """Raw inputs → [M, 2], the log-odds that a candidate gains by what its user likes.

    The posterior under the model of `manners`, of this user's past alone and in closed form: no
    weight is learned of a user, so that it holds of one who came after training. Each step moves

        t by (Σ share (watched − p) − precision t) / (Σ share w + precision)   of each tag
        z to (Σ w E[s s'] + precision)⁻¹ Σ (watched − p + w z s) s             of manners

    from 0 on. Sums are over the impressions that are told, p = σ(η) being the probability of a
    watch by the channel's log-odds and the likings so far. In the first of two steps w is that of
    `most_curved`, which goes no further than is sure to be better; by then p is about right, and
    the second goes by p (1 − p) to where more steps would lead. Watches count if no older than the
    oldest of these impressions, for what else was shown before is not known; if nothing was shown,
    none does. Where watches fill all their slots, impressions count if no older than the oldest of
    these, for what came of those before is not known. As it is made, nobody likes anything.

    In double precision, so that whoever adds up in another order rounds to the same features.
    """

    log_odds: torch.Tensor
    vectors: torch.Tensor
    moments: torch.Tensor
    precision: torch.Tensor
    tag_precision: torch.Tensor

    def __init__(self, size: int, *, num_channels: int, num_tags: int) -> None:
        super().__init__()
        self.size = size
        self.num_channels, self.num_tags = (min(n, MOST_IDS) for n in (num_channels, num_tags))
        width, double = size + 1, torch.float64
        for name, start in (
            ("log_odds", torch.zeros(self.num_channels, dtype=double)),
            ("vectors", torch.zeros(self.num_channels, width, dtype=double)),
            ("moments", torch.zeros(self.num_channels, width**2, dtype=double)),
            ("precision", torch.ones(width, dtype=double)),
            ("tag_precision", torch.full((1,), UNMOVED, dtype=double)),
        ):
            self.register_buffer(name, start)

    def fit(self, manners: Manners) -> None:
        """Takes what training learned of its channels."""
        vectors = manners.vectors.copy()
        vectors[: UNKNOWN_ROW + 1] = 0
        for buffer, values in (
            (self.log_odds, manners.log_odds),
            (self.vectors, vectors),
            (self.moments, manners.moments.reshape(len(vectors), -1)),
            (self.precision, manners.precision),
            (self.tag_precision, np.array([manners.tag_precision])),
        ):
            buffer.copy_(torch.from_numpy(values))

    def forward(self, inputs: Inputs) -> torch.Tensor:
        """[M, 2] as `LIKING_FEATURES` names them; 0 of what nothing is known of."""
        past = _Past(inputs, self.num_channels, self.num_tags)
        log_odds = of_all = _found(self.log_odds, past.shown)
        told = _Told(
            shown=self.vectors[past.shown],
            every=self.vectors[torch.cat([past.shown, past.watched], dim=1)],
            moments=self.moments[past.shown],
        )
        of_tags, own = log_odds.new_zeros(past.num_requests * past.tags), torch.zeros_like(log_odds)
        for curvature in (most_curved, curved):
            of_tags = of_tags + self._step_of_tags(past, curvature, of_tags, of_all)
            by_tags = past.of_tags(of_tags)
            manners = self._of_manners(past, told, curvature, log_odds + own + by_tags, own)
            own = (told.shown @ manners[:, :, None])[:, :, 0]
            of_all = log_odds + own + by_tags
        request, channels = inputs["request_index"], _within(inputs["channel_rows"], past.channels)
        liked = (manners.index_select(0, request) * self.vectors[channels])[:, : self.size]
        tags = _within(inputs["tag_rows"], past.tags)
        of_candidate = _found(of_tags, tags + (request * past.tags)[:, None])
        liked_tags = of_candidate * _shares(tags)
        both = torch.stack([liked.sum(dim=1), liked_tags.sum(dim=1)], dim=1)
        return (torch.round(both / GRID) * GRID).float()

    def _step_of_tags(
        self, past: "_Past", curvature: Curvature, of_tags: torch.Tensor, of_all: torch.Tensor
    ) -> torch.Tensor:
        """[R · tags] how t of each request moves, one request after the other."""
        unexpected = -past.shown_shares * torch.sigmoid(of_all)[:, :, None]
        weights = past.shown_shares * curvature(of_all)[:, :, None]
        sums = past.by_tag(torch.cat([unexpected, past.watched_shares, weights], dim=1))
        surprise, certainty = sums[0], sums[1]
        return (surprise - of_tags * self.tag_precision) / (certainty + self.tag_precision)

    def _of_manners(
        self,
        past: "_Past",
        told: "_Told",
        curvature: Curvature,
        of_all: torch.Tensor,
        own: torch.Tensor,
    ) -> torch.Tensor:
        """[R, D + 1] z of each request.

        Summed up over events, not over channels: those of one user are few among all that there
        are, whose moments are more than what a core has near at hand.
        """
        weights = past.shown_counts * curvature(of_all)
        scores = weights * own - past.shown_counts * torch.sigmoid(of_all)
        towards = torch.cat([scores, past.watched_counts], dim=1)[:, None] @ told.every
        width = self.size + 1
        information = (weights[:, None] @ told.moments).view(-1, width, width)
        return solved(information + torch.diag(self.precision), towards[:, 0])


@dataclass(frozen=True, kw_only=True)
class _Told:
    """What is known of the channels of past events, looked up once for both steps.

    shown [R, Hs, D + 1] the vectors of impressions' channels, every [R, Hs + H, D + 1] those of
    impressions and then of watches, moments [R, Hs, (D + 1)²] of impressions.
    """

    shown: torch.Tensor
    every: torch.Tensor
    moments: torch.Tensor


class _Past:
    """Which channels and tags the events that are told are of, and how much each counts."""

    def __init__(self, inputs: Inputs, channels: int, tags: int) -> None:
        self.channels, self.tags = channels, tags
        self.num_requests = inputs["shown_rows"].shape[0]
        self.shown = _within(inputs["shown_channel_rows"], channels)
        self.watched = _within(inputs["history_channel_rows"], channels)
        shown_age_s, watched_age_s = inputs["shown_age_s"], inputs["history_age_s"]
        # Newest last: only where all slots are filled is there a watch in the first.
        is_full, since_s = inputs["history_rows"][:, :1] > 0, watched_age_s[:, :1]
        is_judged = ~is_full | (shown_age_s <= since_s)
        oldest_s = (shown_age_s * is_judged).amax(dim=1, keepdim=True)
        is_told = (self.watched > UNKNOWN_ROW) & (watched_age_s <= oldest_s)
        self.shown_counts = ((self.shown > UNKNOWN_ROW) & is_judged).double()
        self.watched_counts = is_told.double()
        shown_tags = _within(inputs["shown_tag_rows"], tags)
        watched_tags = _within(inputs["history_tag_rows"], tags)
        self.shown_shares = _shares(shown_tags) * self.shown_counts[:, :, None]
        self.watched_shares = _shares(watched_tags) * self.watched_counts[:, :, None]
        begins = torch.arange(self.num_requests, device=oldest_s.device)[:, None, None] * tags
        self.shown_tags = shown_tags + begins
        self._num_sums = self.num_requests * tags
        every = [self.shown_tags, watched_tags + begins, self.shown_tags + self._num_sums]
        self._places = torch.cat(every, dim=1).flatten()

    def of_tags(self, likings: torch.Tensor) -> torch.Tensor:
        """[R, H] what the likings of all tags [R · tags] make of each impression's."""
        return (_found(likings, self.shown_tags) * self.shown_shares).sum(dim=2)

    def by_tag(self, values: torch.Tensor) -> torch.Tensor:
        """[2, R · tags] sums by request and tag of values [R, Hs + H + Hs, T].

        First of impressions' and watches' together, then of what stands behind them, which is of
        impressions again: all at once, which is quicker than one after the other.
        """
        nothing = values.new_zeros(2 * self._num_sums)
        return nothing.scatter_add(0, self._places, values.flatten()).view(2, self._num_sums)


def curved(log_odds: torch.Tensor) -> torch.Tensor:
    """σ(η) (1 − σ(η)), by which −log σ curves at η itself: Newton's own."""
    probability = log_odds.sigmoid()
    return probability * (1 - probability)


def most_curved(log_odds: torch.Tensor) -> torch.Tensor:
    """w(η) = (σ(η) − ½) / η, as in `manners.most_curved`."""
    is_small = log_odds.abs() < SMALL_LOG_ODDS
    apart = torch.where(is_small, torch.ones_like(log_odds), log_odds)
    return torch.where(is_small, torch.full_like(log_odds, 0.25), (apart.sigmoid() - 0.5) / apart)


def solved(matrices: torch.Tensor, towards: torch.Tensor) -> torch.Tensor:
    """[R, d] x of A x = b, of symmetric positive definite A [R, d, d] and b [R, d].

    Gauss and Jordan's elimination, which needs no pivots here: few operations of a fixed number,
    as ONNX has none that solves.
    """
    size = towards.shape[1]
    whole = torch.cat([matrices, towards[:, :, None]], dim=2)
    units = torch.eye(size, dtype=towards.dtype, device=towards.device)
    for pivot in range(size):
        line = whole[:, pivot : pivot + 1] / whole[:, pivot : pivot + 1, pivot : pivot + 1]
        whole = whole - (whole[:, :, pivot : pivot + 1] - units[:, pivot : pivot + 1]) * line
    return whole[:, :, size]


def _within(rows: torch.Tensor, num_rows: int) -> torch.Tensor:
    """The rows, and 0 in place of those beyond the ones that can be liked."""
    ids = rows.to(torch.int64)
    return ids * (ids < num_rows)


def _shares(tags: torch.Tensor) -> torch.Tensor:
    """How much of an item each of its known tags is, the tags [.., T] being rows: together 1."""
    are_known = (tags > UNKNOWN_ROW).double()
    return are_known / are_known.sum(dim=-1, keepdim=True).clamp(min=1.0)


def _found(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """values[places], of one line of values."""
    return values.index_select(0, places.flatten()).view_as(places)
