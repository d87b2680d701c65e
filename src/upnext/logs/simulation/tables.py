"""What the simulated platform hands on: its catalogue, its users, and the events of each day."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.logs.simulation.logging_policy import SOURCES, Pages
from upnext.logs.simulation.naming import (
    DEVICES,
    REGIONS,
    channel_ids,
    numbered_ids,
    queries,
    titles,
    topic_names,
)
from upnext.logs.simulation.world import World, seeded
from upnext.schema import Floats, Items, Rows, TimesMs, Users

REQUESTS_PER_DAY = 1_000_000_000
"""More than a day holds: request ids are the day times this, plus the request's number."""
WATCH_SCHEMA = {
    "user_id": pl.Int32(),
    "item_id": pl.Int32(),
    "started_at_ms": pl.Int64(),
    "watch_time_s": pl.Float32(),
}
SEARCH_SCHEMA = {"user_id": pl.Int32(), "searched_at_ms": pl.Int64(), "found": pl.Int32()}
PAGE_SCHEMA = {
    "user_id": pl.Int32(),
    "item_id": pl.Int32(),
    "shown_at_ms": pl.Int64(),
    "position": pl.Int32(),
    "watched": pl.Boolean(),
    "watch_time_s": pl.Float32(),
    "source": pl.Int8(),
    "propensity": pl.Float32(),
}


def items_of(world: World) -> Items:
    """The catalogue as its owner would hand it on: nothing of the hidden qualities."""
    catalogue = world.catalogue
    rng = seeded(world.config.seed, "titles")
    num = catalogue.channels.size
    frame = pl.DataFrame(
        {
            "item_id": numbered_ids("v", num),
            "published_at_ms": catalogue.published_at_ms,
            "duration_s": catalogue.durations_s,
            "channel_id": channel_ids(catalogue.channel_topics).gather(catalogue.channels),
            "main": topic_names(catalogue.main_topics),
            "second": topic_names(catalogue.second_topics),
            "has_second": (catalogue.main_shares < 0.8)
            & (catalogue.second_topics != catalogue.main_topics),
            "title": titles(rng, catalogue.main_topics, catalogue.clickbaits),
        }
    )
    tags = (
        pl.when("has_second")
        .then(pl.concat_list("main", "second"))
        .otherwise(pl.concat_list("main"))
    )
    columns = ("item_id", "published_at_ms", "duration_s", "channel_id")
    return Items(frame.select(*columns, tags.alias("tags"), "title"))


def users_of(world: World) -> Users:
    """The users with the features that a platform would know: region and device."""
    audience = world.audience
    return Users(
        pl.DataFrame(
            {
                "user_id": numbered_ids("u", audience.regions.size),
                "region": pl.Series(REGIONS).gather(audience.regions),
                "device": pl.Series(DEVICES).gather(audience.devices),
            }
        )
    )


@dataclass(frozen=True)
class DayEvents:
    """The events of one day, in the world's rows, gathered round by round."""

    watches: list[pl.DataFrame] = field(default_factory=lambda: [pl.DataFrame(schema=WATCH_SCHEMA)])
    searches: list[pl.DataFrame] = field(
        default_factory=lambda: [pl.DataFrame(schema=SEARCH_SCHEMA)]
    )
    pages: list[pl.DataFrame] = field(default_factory=lambda: [pl.DataFrame(schema=PAGE_SCHEMA)])

    def add_watches(
        self, user_rows: Rows, item_rows: Rows, started_at_ms: TimesMs, watch_time_s: Floats
    ) -> None:
        """Watches, on a page or after a search: all [n]."""
        columns = (user_rows, item_rows, started_at_ms, watch_time_s)
        self.watches.append(_frame(WATCH_SCHEMA, columns))

    def add_searches(self, user_rows: Rows, searched_at_ms: TimesMs, found_rows: Rows) -> None:
        """Searches and the item that each of them found: all [n]."""
        self.searches.append(_frame(SEARCH_SCHEMA, (user_rows, searched_at_ms, found_rows)))

    def add_pages(
        self,
        user_rows: Rows,
        shown_at_ms: TimesMs,
        pages: Pages,
        watched: NDArray[np.bool_],
        watch_time_s: Floats,
    ) -> None:
        """B pages, users and times [B], outcomes [B, page_size]."""
        num_requests, page_size = pages.item_rows.shape
        columns = (
            np.repeat(user_rows, page_size),
            pages.item_rows.ravel(),
            np.repeat(shown_at_ms, page_size),
            np.tile(np.arange(page_size, dtype=np.int32), num_requests),
            watched.ravel(),
            watch_time_s.ravel(),
            pages.sources.ravel(),
            pages.propensities.ravel(),
        )
        self.pages.append(_frame(PAGE_SCHEMA, columns))

    def tables(self, world: World, day: int) -> dict[str, pl.DataFrame]:
        """Watches, impressions and searches with their owner's ids, in order of time."""
        catalogue, config = world.catalogue, world.config
        user_ids, item_ids = (
            numbered_ids("u", config.num_users),
            numbered_ids("v", config.num_items),
        )
        pages = pl.concat(self.pages).sort("shown_at_ms", "user_id", "position")
        searches = pl.concat(self.searches).sort("searched_at_ms", "user_id")
        found = searches["found"].to_numpy()
        query = queries(
            seeded(config.seed, "queries", day),
            catalogue.main_topics[found],
            catalogue.channels[found],
            catalogue.channel_topics,
        )
        request_id = day * REQUESTS_PER_DAY + np.arange(pages.height) // config.page_size
        tables = {
            "watches": pl.concat(self.watches).sort("started_at_ms", "user_id"),
            "impressions": pages.select(
                pl.Series("request_id", request_id),
                pl.all().exclude("source"),
                pl.Series("source", SOURCES).gather(pages["source"]),
            ),
            "searches": searches.select("user_id", "searched_at_ms", query.alias("query")),
        }
        ids = {"user_id": user_ids, "item_id": item_ids}
        return {
            name: frame.with_columns(
                known.gather(frame[column]).alias(column)
                for column, known in ids.items()
                if column in frame.columns
            )
            for name, frame in tables.items()
        }


def _frame(
    schema: Mapping[str, pl.DataType], columns: tuple[NDArray[np.generic], ...]
) -> pl.DataFrame:
    return pl.DataFrame(dict(zip(schema, columns, strict=True)), schema=schema)
