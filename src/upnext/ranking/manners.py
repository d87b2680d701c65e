"""The manner of each channel, learned from who watched what of it: one vector a channel.

What a user thinks of one channel tells what he will think of another with a like manner, though he
was never shown it. Counts of his past with a channel cannot carry that over.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import expit, logit

from upnext.examples.catalogue import Catalogue
from upnext.examples.history import Indices
from upnext.examples.impressions import ImpressionExamples
from upnext.features.liking import SMALL_LOG_ODDS, Manners
from upnext.schema import UNKNOWN_ROW

Numbers = NDArray[np.float64]

MOST_IMPRESSIONS = 500_000
"""Of users drawn at random, each with all of his, manners are learned from about so many."""
NUM_ROUNDS = 20
NUM_CAREFUL = 2
"""Of them, those that go no further than is sure to be better."""
SEED = 7
"""Of the users drawn and of the first manners, whatever the seed of the network."""
START_DEVIATION, START_VARIANCE = 0.5, 0.25
"""Of the first manners, and of likings before they are learned."""
LEAST_VARIANCE = 1e-3
USUAL_IMPRESSIONS = 20.0
"""Counted beside a channel's own, at the usual rate, for the first estimate of its log-odds."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """n impressions: whose, of which channel, with which tags in which shares, and whether watched.

    `users`, `channels`, `watched` [n]; `tags`, `shares` [n, T], shares of known tags make 1. Users
    are counted from 0, channels and tags are rows.
    """

    users: Indices
    channels: Indices
    tags: Indices
    shares: Numbers
    watched: Numbers
    num_users: int

    @classmethod
    def of(
        cls,
        examples: ImpressionExamples,
        catalogue: Catalogue,
        *,
        num_channels: int,
        num_tags: int,
    ) -> "Seen":
        """The impressions of known channels below row `num_channels`, of users drawn at random."""
        users = np.repeat(examples.user_rows, np.diff(examples.starts))
        channels = catalogue.channel_rows[examples.item_rows].astype(np.int64)
        chosen = (channels > UNKNOWN_ROW) & (channels < num_channels)
        chosen &= _of_some_users(users)
        tags = catalogue.tag_rows[examples.item_rows[chosen]].astype(np.int64)
        is_known = (tags > UNKNOWN_ROW) & (tags < num_tags)
        distinct, places = np.unique(users[chosen], return_inverse=True)
        return cls(
            users=places,
            channels=channels[chosen],
            tags=np.where(is_known, tags, 0),
            shares=is_known / np.maximum(is_known.sum(axis=1, keepdims=True), 1),
            watched=examples.watched[chosen].astype(np.float64),
            num_users=len(distinct),
        )


def learn_manners(seen: Seen, size: int, *, num_channels: int, num_tags: int) -> Manners:
    """Fits log-odds of a watch that add up what a user likes:

        η = a_c + b_u + z_u · s_c + Σ_tags share_tag t_u,tag

    with normal priors on s (deviation 1), and on b, z and t (deviations learned). Each round takes
    a step in t, then in (z, b) of each user, then in (s, a) of each channel, the latter two
    as posteriors in closed form that know how uncertain the other side is. Without that, channels
    of which little was seen would look as if all were known of them.

    Source: Lim and Teh 2007, "Variational Bayesian approach to movie rating prediction", with the
    logistic likelihood's parabola about the last estimate in place of squared errors.
    """
    fit = _Fit(seen, size, num_channels=num_channels, num_tags=num_tags)
    for number in range(NUM_ROUNDS):
        fit.curvature = most_curved if number < NUM_CAREFUL else curved
        fit.learn_tags()
        fit.learn_users()
        fit.learn_channels()
    return Manners(
        log_odds=fit.log_odds,
        vectors=fit.vectors,
        moments=fit.moments,
        precision=1 / fit.variance,
        tag_precision=np.full(1, 1 / fit.tag_variance),
        num_tags=np.full(1, num_tags),
    )


class _Fit:
    """The estimates of all rounds so far."""

    def __init__(self, seen: Seen, size: int, *, num_channels: int, num_tags: int) -> None:
        self.seen, self.size = seen, size
        self.curvature: Callable[[Numbers], Numbers] = most_curved
        self.cells = _Cells(seen.users, seen.channels, (seen.num_users, num_channels))
        pairs = (seen.users[:, None] * num_tags + seen.tags).ravel()
        distinct, self.tag_cells = np.unique(pairs, return_inverse=True)
        self.usual_log_odds = float(logit(_between(seen.watched.mean())))
        shown = np.bincount(seen.channels, minlength=num_channels)
        watched = np.bincount(seen.channels, seen.watched, num_channels)
        usual = USUAL_IMPRESSIONS * _between(seen.watched.mean())
        self.log_odds: Numbers = logit((watched + usual) / (shown + USUAL_IMPRESSIONS))
        start = np.random.default_rng(SEED)
        self.vectors = np.ones((num_channels, size + 1))
        self.vectors[:, :size] = START_DEVIATION * start.standard_normal((num_channels, size))
        self.moments = _moments(self.vectors, np.zeros((size + 1, size + 1)))
        self.likings = np.zeros((seen.num_users, size + 1))
        self.liking_moments = _moments(self.likings, np.zeros((size + 1, size + 1)))
        self.variance = np.full(size + 1, START_VARIANCE)
        self.tag_likings = np.zeros(len(distinct))
        self.tag_variance = START_VARIANCE

    def learn_tags(self) -> None:
        """All tags at once, as the square of a mean is at most the mean of the squares."""
        left, weights = self._left()
        shares = self.seen.shares
        surprise = self._by_tag(shares * left[:, None])
        precision = self._by_tag(shares * weights[:, None]) + 1 / self.tag_variance
        self.tag_likings += (surprise - self.tag_likings / self.tag_variance) / precision
        certainty = self._by_tag(np.square(shares) * weights[:, None])
        spread = np.square(self.tag_likings) + 1 / (certainty + 1 / self.tag_variance)
        if (is_met := certainty > 0).any():
            self.tag_variance = max(LEAST_VARIANCE, float(spread[is_met].mean()))

    def learn_users(self) -> None:
        """What each likes, and how far likings spread."""
        left, weights = self._left()
        scores = self.cells.sums(left + weights * self._own())
        self.likings, covariances = _posteriors(
            self.cells.sums(weights), scores, self.vectors, self.moments, 1 / self.variance
        )
        self.liking_moments = _moments(self.likings, covariances)
        spread = np.diagonal(self.liking_moments, axis1=1, axis2=2).mean(axis=0)
        self.variance = np.maximum(LEAST_VARIANCE, spread)

    def learn_channels(self) -> None:
        """The manner of each, and its log-odds, which are a manner that everybody likes by 1."""
        left, weights = self._left()
        users, channels, size = self.seen.users, self.seen.channels, self.size
        own = self._own() - self.likings[users, size] + self.log_odds[channels]
        likings, moments = self.likings.copy(), self.liking_moments.copy()
        likings[:, size] = 1
        moments[:, size, :] = moments[:, :, size] = likings
        usual = np.zeros(size + 1)
        usual[size] = self.usual_log_odds
        means, covariances = _posteriors(
            self.cells.sums(weights).T.tocsr(),
            self.cells.sums(left + weights * own).T.tocsr(),
            likings,
            moments,
            np.ones(size + 1),
            usual,
        )
        self.log_odds = means[:, size].copy()
        means[:, size] = 1
        covariances[:, size, :] = covariances[:, :, size] = 0
        self.vectors, self.moments = means, _moments(means, covariances)

    def _by_tag(self, values: Numbers) -> Numbers:
        """The sums of [n, T] over each user and tag that met."""
        sums = np.bincount(self.tag_cells, values.ravel(), len(self.tag_likings))
        return sums.astype(np.float64)

    def _own(self) -> Numbers:
        """[n] z · s + b."""
        seen = self.seen
        own: Numbers = np.einsum("nd,nd->n", self.likings[seen.users], self.vectors[seen.channels])
        return own

    def _left(self) -> tuple[Numbers, Numbers]:
        """[n] watched or not, less its probability; and how the log of that curves."""
        of_tags = self.tag_likings[self.tag_cells].reshape(self.seen.shares.shape)
        log_odds = self.log_odds[self.seen.channels] + self._own()
        log_odds += (of_tags * self.seen.shares).sum(axis=1)
        probability = expit(log_odds)
        return self.seen.watched - probability, self.curvature(log_odds)


class _Cells:
    """The pairs of user and channel that occur, as the entries of sparse matrices."""

    def __init__(self, users: Indices, channels: Indices, shape: tuple[int, int]) -> None:
        keys, self._cell = np.unique(users * shape[1] + channels, return_inverse=True)
        self._columns, self._shape = keys % shape[1], shape
        counts = np.bincount(keys // shape[1], minlength=shape[0])
        self._starts = np.concatenate([[0], np.cumsum(counts)])

    def sums(self, values: Numbers) -> csr_array:
        """[U, C] the sum of the values [n] of each pair."""
        summed = np.bincount(self._cell, values, len(self._columns))
        return csr_array((summed, self._columns, self._starts), shape=self._shape)


def _posteriors(
    weights: csr_array,
    scores: csr_array,
    vectors: Numbers,
    moments: Numbers,
    precision: Numbers,
    usual: Numbers | None = None,
) -> tuple[Numbers, Numbers]:
    """Means [A, d] and covariances [A, d, d] of one side's vectors, given the other's [B, d]."""
    size = vectors.shape[1]
    information = (weights @ moments.reshape(len(moments), -1)).reshape(-1, size, size)
    covariances: Numbers = np.linalg.inv(information + np.diag(precision))
    towards = scores @ vectors + (0 if usual is None else precision * usual)
    means: Numbers = (covariances @ towards[:, :, None])[:, :, 0]
    return means, covariances


def _moments(means: Numbers, covariances: Numbers) -> Numbers:
    moments: Numbers = means[:, :, None] * means[:, None, :] + covariances
    return moments


def curved(log_odds: Numbers) -> Numbers:
    """σ(η) (1 − σ(η)), by which −log σ curves at η itself: Newton's own."""
    probability: Numbers = expit(log_odds)
    return probability * (1 - probability)


def most_curved(log_odds: Numbers) -> Numbers:
    """w(η) = (σ(η) − ½) / η, of the parabola that touches log σ at η and lies below it elsewhere.

    A step by w is never for the worse. Newton's own, by the smaller σ (1 − σ), may be where few
    watch: where one begins it hardly curves, and a user who watches half came out as averse.
    Source: Jaakkola and Jordan 2000, "Bayesian parameter estimation via variational methods".

    >>> most_curved(np.array([-3.5, 0.0, 3.5])).round(3)
    array([0.134, 0.25 , 0.134])
    """
    is_small = np.abs(log_odds) < SMALL_LOG_ODDS
    apart = np.where(is_small, 1.0, log_odds)
    curved: Numbers = np.where(is_small, 0.25, (expit(apart) - 0.5) / apart)
    return curved


def _between(share: float) -> float:
    """A share that has finite log-odds."""
    return min(max(float(share), 1e-4), 1 - 1e-4)


def _of_some_users(users: Indices) -> NDArray[np.bool_]:
    """[n] whether an impression's user is among those drawn."""
    counts = np.bincount(users)
    order = np.random.default_rng(SEED).permutation(len(counts))
    is_drawn = np.zeros(len(counts), bool)
    before = np.cumsum(counts[order]) - counts[order]
    is_drawn[order[before < MOST_IMPRESSIONS]] = True
    return is_drawn[users]
