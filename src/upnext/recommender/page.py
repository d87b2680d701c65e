"""Which of the ranked candidates stand on the page, and with which probability each came there.

What a request asks of its page goes together in one way, and with one seed always to the same end:

1. Rules have left items out before retrieval, so candidates are allowed ones (`rules.py`).
2. Candidates are ranked, and relevance is their share of the best one's expected watch time.
3. The page is filled from the top. Each slot takes the candidate of the greatest

       (1 − λ) r_i − λ max_{j above} s_ij

   among those whose channel has room left, and without which enough fresh ones can still come.
   r is relevance and s the cosine of two item vectors, below 0 taken as 0, so that both lie
   between 0 and 1; λ is `diversity`. Ties go to the better ranked.
4. The last `num_explored` slots draw from all that is left and whose channel has room,

       p_i = r_i^(1/T) / Σ_j r_j^(1/T)

   one after another without replacement (Plackett, Luce). At T = 1 chances are proportional to
   expected watch time: every candidate has one, and a draw costs less watch time than with equal
   chances. A larger T comes nearer to those, so that the least propensity is not so small, which
   whoever weights by 1 / p may prefer.

So the limit of a channel binds every slot, and ranking alone sees to the fresh ones. A slot's
propensity is 1 where ranking filled it, and p_i, given the slots above, where it was drawn.

Source: Carbonell, Goldstein 1998 (marginal relevance); Plackett 1975, Luce 1959.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from upnext.compiled import FLOATS, INT, compiled
from upnext.examples.history import Indices
from upnext.schema import MS_PER_DAY, NUM_RESERVED_ROWS, Floats, PageOptions, Rows, TimesMs

AS_RANKED = PageOptions()
"""Nothing asked but the longest watched."""
MOST_KEPT_SORTED = 300
"""Of more that are wanted than this, all are sorted: what is kept moves for each that is better."""
LEAST_WATCH_TIME_S = 1e-30
"""What less than that counts as, so that every share of the best has a logarithm."""

Relevance = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Page:
    """A page of n slots, from the top: places [n] in the list of candidates.

    propensities [n]: the probability of each choice, given the slots above. The last
    `num_explored` were drawn. `causes`: a sentence for each wish that candidates could not meet.
    """

    places: Indices
    propensities: NDArray[np.float64]
    num_explored: int = 0
    causes: tuple[str, ...] = ()

    @property
    def num_ranked(self) -> int:
        """How many slots ranking filled."""
        return len(self.places) - self.num_explored


def choose_page(
    item_rows: Rows,
    expected_watch_time_s: Floats | None,
    options: PageOptions,
    *,
    k: int,
    at_ms: int,
    item_vectors: Floats,
    channel_rows: Rows,
    published_at_ms: TimesMs,
) -> Page:
    """The page of one request; this file's own docstring says how it is chosen.

    Args:
        item_rows: [K] candidates, in the order of retrieval, which stands in for ranking where
            there is none.
        expected_watch_time_s: [K] seconds per impression, or None.
        options: `num_fresh` and `num_explored` are together at most k.
        k: slots.
        at_ms: time of the request.
        item_vectors: [N, D] by item row; used for diversity alone.
        channel_rows: [N] by item row; the reserved rows are nobody's channel.
        published_at_ms: [N] by item row.

    Time: O(k K), and O(k K D) with diversity.

    >>> page = choose_page(
    ...     np.array([2, 3, 4]), np.array([9, 30, 20], np.float32), PageOptions(max_per_channel=1),
    ...     k=2, at_ms=0, item_vectors=np.zeros((5, 1), np.float32),
    ...     channel_rows=np.array([0, 0, 2, 3, 3]), published_at_ms=np.zeros(5, np.int64))
    >>> page.places, page.propensities
    (array([1, 0]), array([1., 1.]))
    """
    if options == AS_RANKED:
        places = _best_first(expected_watch_time_s, len(item_rows), k)
        return Page(places, np.array([1.0] * len(places)))
    order = _best_first(expected_watch_time_s, len(item_rows), len(item_rows))
    rows = item_rows[order]
    relevance = _relevance(expected_watch_time_s, order)
    age_ms = at_ms - published_at_ms[rows]
    is_fresh = (age_ms >= 0) & (age_ms <= options.fresh_days * MS_PER_DAY)
    limits = _Limits(channel_rows[rows], is_fresh, options, num_slots=k - options.num_explored)
    vectors = _unit_vectors(item_vectors[rows]) if options.diversity > 0 else None
    ranked = _ranked_slots(relevance, vectors, limits, options.diversity)
    drawn, propensities = _drawn_slots(relevance, limits, options)
    return Page(
        order[np.array(ranked + drawn, np.int64)],
        np.array([1.0] * len(ranked) + propensities),
        len(drawn),
        tuple(_causes(options, k, int(is_fresh[ranked].sum()), len(ranked + drawn), limits)),
    )


def _best_first(seconds: Floats | None, num_candidates: int, most: int) -> Indices:
    """Places of so many candidates, by falling expected watch time; ties as retrieval has them."""
    if seconds is None:
        return np.arange(min(most, num_candidates))
    if most > MOST_KEPT_SORTED:
        return np.argsort(-seconds, kind="stable")[:most]
    return _greatest(seconds, most)


@compiled(FLOATS, INT)
def _greatest(values: Floats, most: int) -> Indices:
    """Places of so many values, the greatest first; ties as they stand, what is no number last."""
    most = min(most, len(values))
    places, kept = np.zeros(most, np.int64), np.full(most, -np.inf, np.float32)
    num_kept = 0
    for place in range(len(values)):
        value = values[place] if values[place] == values[place] else np.float32(-np.inf)
        if num_kept == most and (most == 0 or value <= kept[most - 1]):
            continue
        num_kept = min(num_kept + 1, most)
        slot = num_kept - 1
        while slot > 0 and kept[slot - 1] < value:
            kept[slot], places[slot] = kept[slot - 1], places[slot - 1]
            slot -= 1
        kept[slot], places[slot] = value, place
    return places


class _Limits:
    """What may still be chosen out of K candidates: channels have room, fresh ones are kept in.

    A candidate of an unknown channel is a channel of its own. So many fresh candidates can still
    come: Σ over channels of min(fresh ones left, room). While that is more than are wanted, and
    more slots are left than are wanted, the next slot may take any; else it must keep them in.
    """

    def __init__(
        self, channel_rows: Rows, is_fresh: Mask, options: PageOptions, *, num_slots: int
    ) -> None:
        are_known = (channel_rows >= NUM_RESERVED_ROWS) & (options.max_per_channel is not None)
        own = -1 - np.arange(len(channel_rows))
        channels, self.channel_of = np.unique(
            np.where(are_known, channel_rows, own), return_inverse=True
        )
        self.room = np.full(len(channels), options.max_per_channel or 1)
        self.is_fresh = is_fresh
        self.num_fresh = np.bincount(self.channel_of[is_fresh], minlength=len(channels))
        self.num_coming = int(np.minimum(self.num_fresh, self.room).sum())
        self.num_wanted = min(options.num_fresh, self.num_coming)
        self.num_slots = num_slots
        self.is_left = np.ones(len(channel_rows), bool)

    def may_come(self) -> Mask:
        """[K]: which candidates the next slot may take."""
        may_come = self.is_left & (self.room > 0)[self.channel_of]
        if self.num_wanted == 0:
            return may_come
        if self.num_wanted == self.num_slots:
            return may_come & self.is_fresh
        if self.num_wanted == self.num_coming:
            keeps_room = self.num_fresh < self.room
            return may_come & (self.is_fresh | keeps_room[self.channel_of])
        return may_come

    def take(self, place: int) -> None:
        """Fills the next slot."""
        channel = self.channel_of[place]
        if self.is_fresh[place]:
            self.num_wanted = max(0, self.num_wanted - 1)
            self.num_coming -= 1
            self.num_fresh[channel] -= 1
        elif self.num_fresh[channel] >= self.room[channel]:
            self.num_coming -= 1
        self.room[channel] -= 1
        self.is_left[place] = False
        self.num_slots -= 1


def _relevance(expected_watch_time_s: Floats | None, order: Indices) -> Relevance:
    """[K] best first, above 0 to 1: shares of the best; without ranking 1, 1 − 1/K, …, 1/K."""
    num_candidates = len(order)
    if expected_watch_time_s is None:
        return 1 - np.arange(num_candidates) / max(1, num_candidates)
    seconds = np.maximum(expected_watch_time_s[order].astype(np.float64), LEAST_WATCH_TIME_S)
    shares: Relevance = seconds / seconds.max(initial=LEAST_WATCH_TIME_S)
    return shares


def _unit_vectors(vectors: Floats) -> Floats:
    lengths = np.sqrt(np.einsum("kd,kd->k", vectors, vectors))[:, None]
    unit: Floats = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit


def _ranked_slots(
    relevance: Relevance, vectors: Floats | None, limits: _Limits, diversity: float
) -> list[int]:
    """Fills the slots that ranking fills; fewer where no candidate may come."""
    gain = (1 - diversity) * relevance
    nearest = np.zeros(len(relevance), np.float32)
    places: list[int] = []
    while limits.num_slots and (may_come := limits.may_come()).any():
        place = int(np.argmax(np.where(may_come, gain - diversity * nearest, -np.inf)))
        limits.take(place)
        places.append(place)
        if vectors is not None:
            np.maximum(nearest, vectors @ vectors[place], out=nearest)
    return places


def _drawn_slots(
    relevance: Relevance, limits: _Limits, options: PageOptions
) -> tuple[list[int], list[float]]:
    """Draws the last slots: places, and the probability of each when it was drawn."""
    places: list[int] = []
    propensities: list[float] = []
    if options.num_explored == 0:
        return places, propensities
    generator = np.random.default_rng(options.seed)
    weights = np.log(relevance) / options.exploration_temperature
    while len(places) < options.num_explored and (may_come := limits.may_come()).any():
        odds = np.exp(weights - weights[may_come].max(), where=may_come, out=np.zeros_like(weights))
        probabilities = odds / odds.sum()
        place = int(generator.choice(len(probabilities), p=probabilities))
        limits.take(place)
        places.append(place)
        propensities.append(float(probabilities[place]))
    return places, propensities


def _causes(
    options: PageOptions, k: int, num_fresh: int, num_filled: int, limits: _Limits
) -> Iterator[str]:
    if num_fresh < options.num_fresh:
        yield (
            f"page.num_fresh: {num_fresh} of {options.num_fresh} slots are fresh; the candidates "
            f"hold no more from the last {options.fresh_days:g} days"
        )
    if num_filled < k and limits.is_left.any():
        yield (
            f"page.max_per_channel: {num_filled} of {k} slots are filled; the channels of all "
            "other candidates are full"
        )
