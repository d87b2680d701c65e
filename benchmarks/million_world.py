"""Logs of a made-up platform with a million items, of which each was watched at least once.

Items belong to topics, users have three tastes among them and watch in sittings of one taste,
popular items more. A page of ten was shown around every sixth watch. What makes items alike, their
taste vectors, comes back beside the logs, so that networks need not find it out in hours.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.schema import MS_PER_DAY, MS_PER_HOUR, Floats, Impressions, Items, Logs, Watches

NUM_TOPICS, NUM_DIMENSIONS, NUM_TASTES = 2_000, 32, 3
CHANNELS_PER_TOPIC, NUM_TAGS = 25, 1_000
NUM_DAYS, USUAL_WATCHES, SITTING = 60, 80, 5
FEWEST_WATCHES, MOST_WATCHES = 10, 600
PAGE_SIZE, WATCHES_PER_PAGE = 10, 6

Numbers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class World:
    """The logs, and the taste vector of item number i: [num_items, 32]."""

    logs: Logs
    tastes: Floats


@dataclass(frozen=True, kw_only=True)
class _Catalogue:
    """Items by topic: those of topic t stand in `by_topic` from starts[t] to starts[t + 1].

    `mass` [num_items + 1] adds up their popularity in that order.
    """

    topic_of: Numbers
    by_topic: Numbers
    starts: Numbers
    mass: NDArray[np.float64]
    duration_s: Floats

    def draw(self, topics: Numbers, rng: np.random.Generator) -> Numbers:
        """An item of each of some topics, in proportion to popularity."""
        low, high = self.mass[self.starts[topics]], self.mass[self.starts[topics + 1]]
        place = np.searchsorted(self.mass, low + (high - low) * rng.random(len(topics)), "right")
        last = np.maximum(self.starts[topics + 1] - 1, self.starts[topics])
        return self.by_topic[np.clip(place - 1, self.starts[topics], last)]


@dataclass(frozen=True, kw_only=True)
class _Events:
    """Watches, user by user in order of time."""

    users: Numbers
    items: Numbers
    at_ms: Numbers
    watch_time_s: Floats


def million_world(num_items: int, num_users: int, *, end_ms: int, seed: int) -> World:
    """A world whose logs end at a time; ids are strings, as `v0000017` and `u00003`."""
    rng = np.random.default_rng(seed)
    catalogue, tastes = _catalogue(num_items, rng)
    liked = rng.integers(0, NUM_TOPICS, (num_users, NUM_TASTES))
    events = _events(catalogue, liked, end_ms, rng)
    logs = Logs(
        watches=Watches(_watches(events)),
        items=Items(_items(catalogue, events, end_ms, rng)),
        impressions=Impressions(_impressions(catalogue, events, liked, rng)),
    )
    return World(logs=logs, tastes=tastes)


def item_ids(numbers: Numbers) -> pl.Series:
    """The ids of items by number."""
    return "v" + pl.Series("item_id", numbers).cast(pl.String).str.zfill(7)


def user_ids(numbers: Numbers) -> pl.Series:
    """The ids of users by number."""
    return "u" + pl.Series("user_id", numbers).cast(pl.String).str.zfill(5)


def _catalogue(num_items: int, rng: np.random.Generator) -> tuple[_Catalogue, Floats]:
    scale = (1 / np.sqrt(1 + np.arange(NUM_DIMENSIONS) / 6)).astype(np.float32)
    topics = scale * rng.standard_normal((NUM_TOPICS, NUM_DIMENSIONS), np.float32)
    topic_of = rng.integers(0, NUM_TOPICS, num_items)
    own = scale * rng.standard_normal((num_items, NUM_DIMENSIONS), np.float32)
    by_topic = np.argsort(topic_of, kind="stable")
    popularity = rng.lognormal(0, 1.2, num_items)
    catalogue = _Catalogue(
        topic_of=topic_of,
        by_topic=by_topic,
        starts=np.searchsorted(topic_of[by_topic], np.arange(NUM_TOPICS + 1)),
        mass=np.concatenate([[0.0], np.cumsum(popularity[by_topic])]),
        duration_s=np.clip(rng.lognormal(5.5, 0.8, num_items), 15, 7_200).astype(np.float32),
    )
    tastes: Floats = np.float32(0.75) * topics[topic_of] + np.float32(0.65) * own
    return catalogue, tastes


def _events(
    catalogue: _Catalogue, liked: Numbers, end_ms: int, rng: np.random.Generator
) -> _Events:
    """What is watched by taste, and once more each item that nobody happened to watch."""
    num_users = len(liked)
    drawn = rng.lognormal(np.log(USUAL_WATCHES), 0.7, num_users)
    counts: Numbers = np.clip(drawn, FEWEST_WATCHES, MOST_WATCHES).astype(np.int64)
    users = np.repeat(np.arange(num_users), counts)
    sittings = rng.integers(0, NUM_TASTES, len(users) // SITTING + 1).repeat(SITTING)
    items = catalogue.draw(liked[users, sittings[: len(users)]], rng)
    unwatched = np.flatnonzero(np.bincount(items, minlength=len(catalogue.topic_of)) == 0)
    users = np.concatenate([users, _fans(catalogue.topic_of[unwatched], liked, rng)])
    items = np.concatenate([items, unwatched])
    at_ms = end_ms - 1 - rng.integers(0, NUM_DAYS * MS_PER_DAY, len(users))
    order = np.lexsort((at_ms, users))
    share = np.sqrt(rng.random(len(users), np.float32))
    seconds: Floats = np.maximum(share * catalogue.duration_s[items], 1).astype(np.float32)
    return _Events(
        users=users[order], items=items[order], at_ms=at_ms[order], watch_time_s=seconds[order]
    )


def _fans(topics: Numbers, liked: Numbers, rng: np.random.Generator) -> Numbers:
    """For each topic a user who likes it, or near it where nobody does."""
    order = np.argsort(liked.ravel(), kind="stable")
    sorted_topics = liked.ravel()[order]
    low = np.searchsorted(sorted_topics, topics, "left")
    high = np.searchsorted(sorted_topics, topics, "right")
    drawn = low + (rng.random(len(topics)) * (high - low)).astype(np.int64)
    users: Numbers = order[np.minimum(drawn, len(order) - 1)] // NUM_TASTES
    return users


def _watches(events: _Events) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user_id": user_ids(events.users),
            "item_id": item_ids(events.items),
            "started_at_ms": events.at_ms,
            "watch_time_s": events.watch_time_s,
        }
    )


def _items(
    catalogue: _Catalogue, events: _Events, end_ms: int, rng: np.random.Generator
) -> pl.DataFrame:
    numbers = np.arange(len(catalogue.topic_of))
    age_ms = (rng.exponential(200.0, len(numbers)) * MS_PER_DAY).astype(np.int64)
    first_ms = np.full(len(numbers), end_ms)
    np.minimum.at(first_ms, events.items, events.at_ms)
    channels = catalogue.topic_of + NUM_TOPICS * rng.integers(0, CHANNELS_PER_TOPIC, len(numbers))
    of_topic, other = catalogue.topic_of % NUM_TAGS, rng.integers(0, NUM_TAGS, len(numbers))
    tags = pl.DataFrame({"of_topic": of_topic, "other": other}).select(
        pl.concat_list(
            "t" + pl.col("of_topic").cast(pl.String), "t" + pl.col("other").cast(pl.String)
        ).alias("tags")
    )
    return pl.DataFrame(
        {
            "item_id": item_ids(numbers),
            "published_at_ms": np.minimum(end_ms - age_ms, first_ms - MS_PER_HOUR),
            "duration_s": catalogue.duration_s,
            "channel_id": "c" + pl.Series(channels).cast(pl.String),
            "tags": tags["tags"],
            "title": "Item number " + pl.Series(numbers).cast(pl.String),
        }
    )


def _impressions(
    catalogue: _Catalogue, events: _Events, liked: Numbers, rng: np.random.Generator
) -> pl.DataFrame:
    """Pages of ten: a watched item, and what else was drawn from the user's tastes."""
    chosen = np.arange(0, len(events.users), WATCHES_PER_PAGE)
    users, shape = events.users[chosen], (len(chosen), PAGE_SIZE)
    topics = liked[users[:, None], rng.integers(0, NUM_TASTES, shape)]
    strange = rng.random(shape) < 0.2
    topics[strange] = rng.integers(0, NUM_TOPICS, int(strange.sum()))
    items = catalogue.draw(topics.ravel(), rng).reshape(shape)
    slots = rng.integers(0, PAGE_SIZE, len(chosen))
    watched = np.arange(PAGE_SIZE) == slots[:, None]
    items[watched] = events.items[chosen]
    seconds = np.where(watched, events.watch_time_s[chosen][:, None], np.float32(0))
    return pl.DataFrame(
        {
            "request_id": np.repeat(np.arange(len(chosen)), PAGE_SIZE),
            "user_id": user_ids(np.repeat(users, PAGE_SIZE)),
            "item_id": item_ids(items.ravel()),
            "shown_at_ms": np.repeat(events.at_ms[chosen] - 1_000, PAGE_SIZE),
            "position": np.tile(np.arange(PAGE_SIZE, dtype=np.int32), len(chosen)),
            "watched": watched.ravel(),
            "watch_time_s": seconds.ravel(),
        }
    )
