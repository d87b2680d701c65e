"""All counted sources together: what they nominate for a request, and what each thinks of an item.

Retrieval's candidates are not counted here; who has its index hands them in, and the union begins
with them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from upnext.best import Places, RowSets
from upnext.config import require
from upnext.schema import Floats, Rows, TimesMs
from upnext.sources.by_row import united
from upnext.sources.fresh import FreshUploads, Shown, fresh_uploads
from upnext.sources.popular import MostWatched, most_watched_lately
from upnext.sources.together import Heard, WatchedTogether, WatchedTogetherConfig, watched_together

SourceName = Literal["together", "popular", "fresh"]
Nominator = Literal["retrieval", "together", "popular", "fresh"]
SOURCES: tuple[SourceName, ...] = get_args(SourceName)
"""The S counted sources, in the order of `Sources.scores`' columns."""
NOMINATORS: tuple[Nominator, ...] = get_args(Nominator)
"""Who can nominate, in the order of `Nominations.nominated_by`: retrieval, then the sources."""


@dataclass(frozen=True, kw_only=True)
class SourcesConfig:
    """Which candidates are counted beside those that retrieval finds, and how."""

    num_together: int = 50
    """Candidates at most that were watched soon after the user's last watches; 0 turns it off."""
    num_popular: int = 50
    """Candidates at most that were most watched of late in the user's segment; 0 turns it off."""
    num_fresh: int = 50
    """Candidates at most that were published of late; 0 turns it off."""
    segment: str | None = None
    """One of [examples] user_features, such as "region", whose values are the segments of
    "popular"; unset, everybody is one segment."""
    segment_shrinkage: float = 1_000.0
    """Watches of everybody that each segment's own are mixed with: a segment with far fewer of its
    own follows everybody, one with far more itself."""
    lately_days: float = 7.0
    """How many last days "popular" counts."""
    fresh_days: float = 3.0
    """An item is fresh until so many days after it was published."""
    fresh_shrinkage: float = 100.0
    """Impressions with the usual watch rate that are added to those of each fresh item."""
    together: WatchedTogetherConfig = field(default_factory=WatchedTogetherConfig)
    """How pairs of watches count."""

    def __post_init__(self) -> None:
        counts = ("num_together", "num_popular", "num_fresh", "segment_shrinkage")
        above = dict.fromkeys(("lately_days", "fresh_days", "fresh_shrinkage"), 0)
        require("sources", self, at_least=dict.fromkeys(counts, 0), above=above)


@dataclass(frozen=True, kw_only=True)
class Events:
    """What is counted: E watches in any order, the catalogue's times, and impressions if any.

    `user_rows`, `item_rows`, `at_ms` [E] tell who watched what when, `segment_rows` [E] the
    segment of who watched, None that there are none. `published_at_ms` [N].
    """

    user_rows: NDArray[Any]
    item_rows: Rows
    at_ms: TimesMs
    segment_rows: Rows | None = None
    published_at_ms: TimesMs
    shown: Shown | None = None


@dataclass(frozen=True)
class Moments:
    """What the sources know of B requests.

    `history_rows` [B, H] item rows, newest last, 0 pads; `segment_rows` [B] rows in the vocabulary
    of the segment feature, 0 for everybody; `at_ms` [B].
    """

    history_rows: Rows
    segment_rows: Rows
    at_ms: TimesMs
    _heard: dict[WatchedTogether, Heard] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __len__(self) -> int:
        return len(self.at_ms)

    def heard_by(self, together: WatchedTogether) -> Heard:
        """What the watches say, worked out once: by it items are proposed, and scored once more."""
        if together not in self._heard:
            self._heard[together] = together.heard(self.history_rows)
        return self._heard[together]

    def take(self, places: NDArray[np.int64]) -> "Moments":
        """Some of the requests, in the order given."""
        if places.tolist() == list(range(len(self))):
            return self
        return Moments(self.history_rows[places], self.segment_rows[places], self.at_ms[places])


@dataclass(frozen=True)
class Nominations:
    """The candidates of B requests, each once, and who nominated them.

    `item_rows` [B, K], -1 pads; `nominated_by` [B, K, 1 + S] in the order of `NOMINATORS`, False
    where padded.
    """

    item_rows: Rows
    nominated_by: NDArray[np.bool_]


@dataclass(frozen=True)
class Sources:
    """The counted sources, as fitted at one time; None is one that is turned off."""

    config: SourcesConfig
    together: WatchedTogether | None
    popular: MostWatched | None
    fresh: FreshUploads | None

    def nominate(
        self,
        moments: Moments,
        *,
        found_rows: Rows | None = None,
        excluded_rows: Sequence[Rows] | None = None,
    ) -> Nominations:
        """The union of what retrieval found and what each source nominates.

        It begins with `found_rows` in their order. Then the sources take turns: the best item of
        each, the second best of each, and so on.

        Args:
            moments: the requests.
            found_rows: [B, K0] what retrieval found, best first, -1 pads.
            excluded_rows: what no source may nominate, such as what each user has watched;
                `found_rows` are taken as they are.
        """
        nothing = np.zeros((len(moments), 0), np.int32)
        found = nothing if found_rows is None else found_rows
        excluded = RowSets.of(excluded_rows, len(moments))
        lists = [found, *self._nominated(moments, excluded)]
        order, nominators = _turns(*(rows.shape[1] for rows in lists))
        listed = np.concatenate(lists, axis=1, dtype=np.int32)
        return Nominations(*united(listed, order, nominators, len(NOMINATORS)))

    def scores(
        self, moments: Moments, item_rows: NDArray[Any], request_index: NDArray[Any]
    ) -> Floats:
        """What each source thinks of given candidates, [M, S] in the order of `SOURCES`.

        The very numbers that the sources rank their own candidates by, and 0 where a source knows
        nothing of the item or is turned off.

        Args:
            moments: the requests.
            item_rows: [M] the candidates, of all requests.
            request_index: [M] the request that each is for, from 0 to B − 1.
        """
        scores = np.zeros((len(item_rows), len(SOURCES)), np.float32)
        if self.together is not None:
            scores[:, 0] = self.together.scores_of(
                moments.heard_by(self.together), item_rows, request_index
            )
        if self.popular is not None:
            scores[:, 1] = self.popular.scores(moments.segment_rows, item_rows, request_index)
        if self.fresh is not None:
            scores[:, 2] = self.fresh.scores(moments.at_ms, item_rows, request_index)
        return scores

    def with_items(self, published_at_ms: TimesMs) -> Self:
        """The same, but that items which were added to the catalogue can be fresh.

        `published_at_ms` [N2]: of all items, the known ones in their rows.
        """
        fresh = None if self.fresh is None else self.fresh.with_items(published_at_ms)
        return replace(self, fresh=fresh)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays by name, for a release; the config is kept apart."""
        return {
            f"{name}.{key}": array
            for name in SOURCES
            if (source := getattr(self, name)) is not None
            for key, array in source.to_arrays().items()
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], config: SourcesConfig) -> Self:
        """The inverse of `to_arrays`."""

        def part(name: SourceName) -> dict[str, NDArray[Any]]:
            prefix = f"{name}."
            return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

        together, popular, fresh = map(part, SOURCES)
        return cls(
            config,
            WatchedTogether.from_arrays(together, config.together) if together else None,
            MostWatched.from_arrays(popular) if popular else None,
            FreshUploads.from_arrays(fresh, fresh_days=config.fresh_days) if fresh else None,
        )

    def _nominated(self, moments: Moments, excluded: RowSets) -> tuple[Rows, ...]:
        """Each source's own candidates, in the order of `SOURCES`; [B, 0] of one turned off."""
        together = popular = fresh = np.zeros((len(moments), 0), np.int32)
        if self.together is not None:
            together, _ = self.together.candidates_of(
                moments.heard_by(self.together),
                self.config.num_together,
                excluded_rows=excluded,
            )
        if self.popular is not None:
            popular, _ = self.popular.candidates(
                moments.segment_rows, self.config.num_popular, excluded_rows=excluded
            )
        if self.fresh is not None:
            fresh, _ = self.fresh.candidates(
                moments.at_ms, self.config.num_fresh, excluded_rows=excluded
            )
        return together, popular, fresh


def fit_sources(events: Events, config: SourcesConfig, *, until_ms: int | None = None) -> Sources:
    """Counts the events strictly before `until_ms`; without it, all events."""
    num_rows = len(events.published_at_ms)
    together = popular = fresh = None
    if config.num_together:
        together = watched_together(
            events.user_rows,
            events.item_rows,
            events.at_ms,
            num_rows=num_rows,
            config=config.together,
            until_ms=until_ms,
        )
    if config.num_popular:
        popular = most_watched_lately(
            events.item_rows,
            events.at_ms,
            events.segment_rows,
            days=config.lately_days,
            until_ms=until_ms,
            shrinkage=config.segment_shrinkage,
        )
    if config.num_fresh:
        fresh = fresh_uploads(
            events.published_at_ms,
            fresh_days=config.fresh_days,
            shown=events.shown,
            shrinkage=config.fresh_shrinkage,
            until_ms=until_ms,
        )
    return Sources(config, together, popular, fresh)


@lru_cache
def _turns(num_found: int, *sizes: int) -> tuple[Places, Places]:
    """The columns of all lists [C] in the order in which they count, and whose list each is of."""
    turns = np.concatenate([np.full(num_found, -1), *map(np.arange, sizes)])
    order = np.argsort(turns, kind="stable")
    nominators = np.repeat(np.arange(1 + len(sizes)), [num_found, *sizes])
    for one in (order, nominators):
        one.flags.writeable = False  # they are everybody's
    return order, nominators
