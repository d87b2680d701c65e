"""The policy that filled the simulated pages: four sources, mixed, with exact propensities."""

from copy import copy
from dataclasses import dataclass
from typing import Self, get_args

import numpy as np
from numpy.typing import NDArray

from upnext.logs.simulation.fatigue import NOTHING
from upnext.logs.simulation.naming import Source
from upnext.logs.simulation.world import LoggingWeights, World
from upnext.schema import MS_PER_DAY, Floats, Rows, TimesMs

SOURCES: tuple[Source, ...] = get_args(Source)
UNWATCHED_WEIGHT = 0.1
"""What an item without watches counts, in watches, so that it is not out of the race."""
MOST_DAYS_AHEAD = 30
"""What is published later than this cannot come up on the day; it must only not overflow."""


@dataclass(frozen=True)
class Groups:
    """Items by topic, then again by channel: group g is order[starts[g] : starts[g + 1]]."""

    num_topics: int
    order: Rows
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, world: World) -> Self:
        """Every item is in two groups, that of its main topic and that of its channel."""
        catalogue, config = world.catalogue, world.config
        by_topic = np.argsort(catalogue.main_topics, kind="stable")
        by_channel = np.argsort(catalogue.channels, kind="stable")
        sizes = np.concatenate(
            [
                np.bincount(catalogue.main_topics, minlength=config.num_topics),
                np.bincount(catalogue.channels, minlength=config.num_channels),
            ]
        )
        return cls(
            num_topics=config.num_topics,
            order=np.concatenate([by_topic, by_channel]).astype(np.int32),
            starts=np.concatenate([[0], np.cumsum(sizes)]),
        )


@dataclass(frozen=True)
class Pages:
    """Pages of different items: all fields are [B, page_size]."""

    item_rows: Rows
    sources: NDArray[np.int8]
    """Place in SOURCES of what nominated the item."""
    propensities: Floats
    """Probability that the policy chose the item for this slot, given the slots above it."""


@dataclass(frozen=True)
class _Requests:
    """What the policy knows of B requests."""

    num_published: NDArray[np.int64]
    """[B] items published by then."""
    groups: NDArray[np.int64]
    """[B, 2 related_memory] groups to draw related items from; NOTHING stands for popular."""

    def part(self, chosen: NDArray[np.int64]) -> "_Requests":
        return _Requests(self.num_published[chosen], self.groups[chosen])


class LoggingPolicy:
    """One day's policy: p(i) = Σ_s w_s p_s(i), drawn slot by slot until the page has no repeats.

        popular   p(i) = weight_i / Σ weights,  weight_i = watches of the last days + 0.1,
                  for what was published when the day began
        related   the same weights within the main topic or the channel (one half each) of one of
                  the user's last watches, all equally likely; popular where there are none
        fresh     p(i) ∝ exp(−age_i / fresh_days) over all published items
        random    the same for all published items

    Repeats on a page are drawn again, so a slot's propensity is p(i) / (1 − Σ_{j above} p(j)).
    """

    def __init__(self, world: World, groups: Groups, day_start_ms: int, num_watches: Rows) -> None:
        """`num_watches` [N] counts the watches of the last days, all before the day."""
        self._world, self._config, self._groups = world, world.config, groups
        self._source_weights = _by_source(world.config.logging)
        published_at_ms = world.catalogue.published_at_ms
        self._popular = np.where(published_at_ms <= day_start_ms, num_watches + UNWATCHED_WEIGHT, 0)
        self._popular_sums = np.cumsum(self._popular)
        self._group_sums = np.concatenate([[0], np.cumsum(self._popular[groups.order])])
        self._group_weights = np.diff(self._group_sums[groups.starts])
        newest = published_at_ms[np.searchsorted(published_at_ms, day_start_ms, "right") - 1]
        days_since_newest = np.minimum((published_at_ms - newest) / MS_PER_DAY, MOST_DAYS_AHEAD)
        self._fresh = np.exp(days_since_newest / self._config.fresh_days)
        self._fresh_sums = np.cumsum(self._fresh)

    def draw_pages(self, rng: np.random.Generator, recent_rows: Rows, at_ms: TimesMs) -> Pages:
        """Fills B pages for users who last watched recent_rows [B, related_memory]."""
        requests = self._requests(recent_rows, at_ms)
        item_rows, sources = self._distinct(rng, requests, *self._draw(rng, requests))
        propensities = _given_above(self._probabilities(requests, item_rows))
        return Pages(item_rows, sources, propensities.astype(np.float32))

    def with_weights(self, weights: LoggingWeights) -> "LoggingPolicy":
        """The same sources on the same day, mixed otherwise."""
        other = copy(self)
        other._source_weights = _by_source(weights)
        return other

    def probabilities(
        self, item_rows: Rows, recent_rows: Rows, at_ms: TimesMs
    ) -> NDArray[np.float64]:
        """p(i) of item_rows [B, K] for the first slot of a page."""
        return self._probabilities(self._requests(recent_rows, at_ms), item_rows)

    def slot_probabilities(
        self, page_rows: Rows, recent_rows: Rows, at_ms: TimesMs
    ) -> NDArray[np.float64]:
        """Of every slot of pages [B, page_size], given the slots above it: p(i) / (1 − Σ p(j))."""
        return _given_above(self.probabilities(page_rows, recent_rows, at_ms))

    def draw_from_topics(self, rng: np.random.Generator, topics: Rows) -> Rows:
        """A popular item of each topic; of all topics where the topic has none yet."""
        groups = np.where(self._group_weights[topics] > 0, topics, NOTHING)
        return self._draw_related(rng.random(groups.size), groups)

    def _requests(self, recent_rows: Rows, at_ms: TimesMs) -> _Requests:
        catalogue = self._world.catalogue
        topics = catalogue.main_topics[recent_rows].astype(np.int64)
        channels = catalogue.channels[recent_rows] + self._groups.num_topics
        groups = np.concatenate([topics, channels], axis=1)
        is_empty = np.tile(recent_rows == NOTHING, 2) | (self._group_weights[groups] <= 0)
        return _Requests(
            np.searchsorted(catalogue.published_at_ms, at_ms, side="right"),
            np.where(is_empty, NOTHING, groups),
        )

    def _draw(self, rng: np.random.Generator, requests: _Requests) -> tuple[Rows, NDArray[np.int8]]:
        """Independent draws, [B, 2 page_size], with repeats."""
        shape = (len(requests.num_published), 2 * self._config.page_size)
        sources = np.searchsorted(np.cumsum(self._source_weights)[:-1], rng.random(shape), "right")
        columns = rng.integers(requests.groups.shape[1], size=shape)
        chances = rng.random(shape)
        num_published = np.broadcast_to(requests.num_published[:, None], shape)
        item_rows = np.empty(shape, dtype=np.int32)
        for number, source in enumerate(SOURCES):
            mine = sources == number
            match source:
                case "popular":
                    item_rows[mine] = self._draw_popular(chances[mine])
                case "fresh":
                    totals = self._fresh_sums[num_published[mine] - 1]
                    item_rows[mine] = _inverse(self._fresh_sums, chances[mine], 0, totals)
                case "related":
                    groups = np.take_along_axis(requests.groups, columns, axis=1)[mine]
                    item_rows[mine] = self._draw_related(chances[mine], groups)
                case "random":
                    item_rows[mine] = chances[mine] * num_published[mine]
        return item_rows, sources.astype(np.int8)

    def _draw_popular(self, chances: NDArray[np.float64]) -> Rows:
        return _inverse(self._popular_sums, chances, 0, self._popular_sums[-1])

    def _draw_related(self, chances: NDArray[np.float64], groups: NDArray[np.int64]) -> Rows:
        """A popular item of each group; of all items where the group is NOTHING."""
        low = self._group_sums[self._groups.starts[groups]]
        high = self._group_sums[self._groups.starts[groups + 1]]
        is_empty = groups == NOTHING
        low[is_empty], high[is_empty] = 0, self._popular_sums[-1]
        places = _inverse(self._group_sums[1:], chances, low, high)
        return np.where(is_empty, self._draw_popular(chances), self._groups.order[places])

    def _distinct(
        self,
        rng: np.random.Generator,
        requests: _Requests,
        item_rows: Rows,
        sources: NDArray[np.int8],
    ) -> tuple[Rows, NDArray[np.int8]]:
        """The first page_size different items of each line; more is drawn where there are fewer.

        Drawing a slot again until it repeats nothing is the same as going on along one line of
        independent draws.
        """
        size = self._config.page_size
        equal = item_rows[:, :, None] == item_rows[:, None, :]
        is_repeat = np.tril(equal, -1).any(axis=2)
        places = np.argsort(is_repeat, axis=1, kind="stable")[:, :size]
        page_rows = np.take_along_axis(item_rows, places, axis=1)
        page_sources = np.take_along_axis(sources, places, axis=1)
        short = np.flatnonzero((~is_repeat).sum(axis=1) < size)
        if short.size:
            requests = requests.part(short)
            more_rows, more_sources = self._draw(rng, requests)
            page_rows[short], page_sources[short] = self._distinct(
                rng,
                requests,
                np.concatenate([item_rows[short], more_rows], axis=1),
                np.concatenate([sources[short], more_sources], axis=1),
            )
        return page_rows, page_sources

    def _probabilities(self, requests: _Requests, item_rows: Rows) -> NDArray[np.float64]:
        num_published = requests.num_published[:, None]
        is_published = item_rows < num_published
        popular = self._popular[item_rows] / self._popular_sums[-1]
        by_source = {
            "popular": popular,
            "fresh": self._fresh[item_rows] / self._fresh_sums[num_published - 1] * is_published,
            "related": self._related_probabilities(requests.groups, item_rows, popular),
            "random": is_published / num_published,
        }
        return sum(
            (w * by_source[s] for s, w in zip(SOURCES, self._source_weights, strict=True)),
            start=np.zeros(item_rows.shape),
        )

    def _related_probabilities(
        self, groups: NDArray[np.int64], item_rows: Rows, popular: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        catalogue = self._world.catalogue
        num_empty = np.count_nonzero(groups == NOTHING, axis=1, keepdims=True)
        totals: NDArray[np.float64] = num_empty * popular
        for of_item in (
            catalogue.main_topics[item_rows],
            catalogue.channels[item_rows] + self._groups.num_topics,
        ):
            num_matches = (of_item[:, :, None] == groups[:, None, :]).sum(axis=2)
            weights = np.where(num_matches > 0, self._group_weights[of_item], 1)
            totals += num_matches * self._popular[item_rows] / weights
        totals /= groups.shape[1]
        return totals


def _by_source(weights: LoggingWeights) -> NDArray[np.float64]:
    return np.array([getattr(weights, source) for source in SOURCES])


def _given_above(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """p(i) / (1 − Σ_{j above} p(j)) of pages [B, page_size]."""
    above = np.cumsum(probabilities, axis=1) - probabilities
    return probabilities / (1 - above)


def _inverse(
    sums: NDArray[np.float64],
    chances: NDArray[np.float64],
    low: NDArray[np.float64] | float,
    high: NDArray[np.float64] | float,
) -> Rows:
    """Where low + chance (high − low) falls among the running sums; never on a weight of 0."""
    points = np.minimum(low + chances * (high - low), np.nextafter(high, 0))
    return np.searchsorted(sums, points, side="right").astype(np.int32)
