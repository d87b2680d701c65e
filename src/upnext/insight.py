"""What whoever looks into a release is told: its items, its users, and how they lie together.

The recommender works these out, servers pass them on, and who reads an answer may decode it into
the same types. Times are int64 milliseconds since 1970 in UTC; what is not known is None.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from upnext.schema import Id


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemCard:
    """What a release knows of an item; `num_watches` counts those of its training logs.

    `published_at_ms`: where the owner did not tell, the first time the logs show the item. `tags`:
    the first `[examples] max_tags` of them.
    """

    item_id: Id | None
    title: str | None
    channel_id: Id | None
    tags: Sequence[str]
    duration_s: float | None
    published_at_ms: int | None
    num_watches: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DayOfItem:
    """What everybody did with an item on one day, which begins at `day_ms`.

    A watch is counted on the day it ended.
    """

    day_ms: int
    num_impressions: int
    num_watches: int
    watch_time_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemDays:
    """One item, day by day: every day from the first to the last on which something happened."""

    item: ItemCard
    known_until_ms: int
    per_day: Sequence[DayOfItem]


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourCard(ItemCard):
    """An item and the cosine of its vector with another one's."""

    cosine: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """The items most like one: of all items, and of those that the index proposes.

    `recall`: the share of `exact` that is in `index`; 1 where there are none.
    """

    item_id: Id
    exact: Sequence[NeighbourCard]
    index: Sequence[NeighbourCard]
    recall: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemAgeing:
    """The probability of an item by days since its publication: figure 4 of the paper, of one item.

    Lists go with `days`. `as_trained` and `at_age`: means over the same `num_users` users, for each
    as of published + day, at the example age that an example of that moment had in training (which
    ended at `trained_until_ms`), and at `example_age_days`. `num_watches` and `watched_share`: the
    item's watches on that day, and their share of those of all known items; days begin on the full
    hour.

    `num_items_summed`: items that the softmax's denominator is summed over; where these are not
    all, the rarer ones are a sample, each standing for several.
    """

    item_id: Id
    published_at_ms: int
    trained_until_ms: int
    example_age_days: float
    num_users: int
    num_items_summed: int
    days: Sequence[int]
    as_trained: Sequence[float]
    at_age: Sequence[float]
    watched_share: Sequence[float]
    num_watches: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserCard:
    """A user of a release, and their watches there."""

    user_id: Id
    num_watches: int
    last_watch_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchCard(ItemCard):
    """A watch of a user's past, and the item; its id is None where training did not know it.

    `watch_share`: of the item's duration, 1 at most. `is_live`: the live store alone holds it.
    """

    started_at_ms: int
    watch_time_s: float
    watch_share: float | None
    is_live: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchCard:
    """A search of a user's past. A release keeps no queries, only their `tokens` that it knows."""

    query: str | None
    tokens: Sequence[str]
    searched_at_ms: int
    is_live: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UserPast:
    """What a release and the live store know of a user, the newest first, each event once.

    `num_watches` and `num_shown` count all of it. `degraded`: what is missing, and why.
    """

    user_id: Id
    is_known: bool
    num_watches: int
    num_shown: int
    watches: Sequence[WatchCard]
    searches: Sequence[SearchCard]
    degraded: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemMap:
    """Items on a plane, like ones near each other: one place in every list an item.

    Of the items, from the most watched to the least, every tenth part has as many points, so that
    rare ones are seen too. `trustworthiness`: how far neighbours on the plane are neighbours in
    truth, 1 being all of them; None where nobody measured it. `tag`: the item's first.
    """

    method: str
    num_items: int
    num_points: int
    trustworthiness: float | None
    item_id: Sequence[Id]
    title: Sequence[str | None]
    x: Sequence[float]
    y: Sequence[float]
    channel_id: Sequence[Id | None]
    tag: Sequence[str | None]
    published_at_ms: Sequence[int | None]
    num_watches: Sequence[int]
