"""Simulates a small video platform day by day; its true expected watch times stay known."""

import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.errors import DataError
from upnext.logs.simulation.fatigue import RecentItems
from upnext.logs.simulation.logging_policy import Groups, LoggingPolicy, Pages
from upnext.logs.simulation.tables import DayEvents, items_of, users_of
from upnext.logs.simulation.truth import Truth, save_truth
from upnext.logs.simulation.world import (
    LONGEST_S,
    START_MS,
    SimulationConfig,
    World,
    draw_world,
    seeded,
)
from upnext.schema import MS_PER_DAY, Floats, Rows, TimesMs

USERS_AT_ONCE = 16_384
"""Users whose days are simulated together; bounds the memory."""
LONGEST_WATCH_S = LONGEST_S + 10
"""A whole item and the pause before it."""
HOURS_AROUND_FAVOURITE = 3.0
"""Standard deviation, in hours, of a user's times around the favourite hour."""


def simulate(
    config: SimulationConfig,
    directory: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes the logs of a simulated platform, and its truth, into a new or empty directory.

    One file a day for watches, impressions and searches, beside items.parquet, users.parquet and
    truth/. A day's files hold the sessions that began on that day. Per user, all searches, watches
    and requests have different times; the impressions of a page share the time of its request.
    Equal settings give equal bytes. No more than one day is held at a time. All of it is written
    beside the directory, into `<name>.unfinished`, and renamed at the end: what was interrupted
    never looks complete, and the next simulation clears it away.

    Args:
        progress: called after each day with the days done and the days in all.

    Raises: DataError: the directory is not empty.
    """
    if directory.exists() and any(directory.iterdir()):
        raise DataError(
            str(directory),
            expected="a new or empty directory",
            got="one with files in it",
            hint="the days of another simulation would mix with these; choose another place.",
        )
    world = draw_world(config)
    target = directory.resolve()
    unfinished = target.with_name(f"{target.name}.unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    _write(world, unfinished, progress)
    unfinished.replace(target)


def _write(
    world: World, directory: Path, progress: Callable[[int, int], None] | None = None
) -> None:
    for table in ("watches", "impressions", "searches"):
        (directory / table).mkdir(parents=True)
    items_of(world).frame.write_parquet(directory / "items.parquet")
    users_of(world).frame.write_parquet(directory / "users.parquet")
    save_truth(world.config, directory)
    for day, events in enumerate(_days(world)):
        for table, frame in events.items():
            frame.write_parquet(directory / table / f"day-{day:03d}.parquet")
        if progress is not None:
            progress(day + 1, world.config.num_days)


@dataclass(frozen=True)
class _Past:
    """What the platform must remember from day to day; the arrays change as time passes."""

    shown: RecentItems
    watched: RecentItems
    free_at_ms: TimesMs
    """[U] when the user is done with what began before."""
    num_watches: NDArray[np.int32]
    """[days, N] watches by the day of their start: a ring of the last days, today and what a
    session that begins today can reach."""
    popularity_days: int

    @classmethod
    def empty(cls, config: SimulationConfig) -> Self:
        longest_session_s = (config.page_size + 1) * LONGEST_WATCH_S
        num_days = config.popularity_days + 1 + math.ceil(longest_session_s * 1_000 / MS_PER_DAY)
        return cls(
            shown=RecentItems(config.num_users, config.fatigue_memory),
            watched=RecentItems(config.num_users, config.fatigue_memory),
            free_at_ms=np.full(config.num_users, START_MS, dtype=np.int64),
            num_watches=np.zeros((num_days, config.num_items), dtype=np.int32),
            popularity_days=config.popularity_days,
        )

    def watches_before(self, day: int) -> Rows:
        """[N] watches that started in the last popularity_days before the day."""
        size = len(self.num_watches)
        self.num_watches[(day - 1 - self.popularity_days) % size] = 0
        days_ago = np.arange(1, 1 + self.popularity_days)
        recent = self.num_watches[(day - days_ago) % size]
        num_watches: Rows = np.sum(recent, axis=0, dtype=np.int32)
        return num_watches

    def count_watches(self, item_rows: Rows, started_at_ms: TimesMs) -> None:
        days = (started_at_ms - START_MS) // MS_PER_DAY % len(self.num_watches)
        np.add.at(self.num_watches, (days, item_rows), 1)


def _days(world: World) -> Iterator[dict[str, pl.DataFrame]]:
    config = world.config
    past, groups = _Past.empty(config), Groups.of(world)
    for day in range(config.num_days):
        day_start_ms = START_MS + day * MS_PER_DAY
        policy = LoggingPolicy(world, groups, day_start_ms, past.watches_before(day))
        events = DayEvents()
        for block, first in enumerate(range(0, config.num_users, USERS_AT_ONCE)):
            users = np.arange(first, min(first + USERS_AT_ONCE, config.num_users), dtype=np.int32)
            rng = seeded(config.seed, "day", day, block)
            platform = _Platform(Truth(world), policy, past, rng, events)
            for user_rows, planned_ms in _planned_rounds(world, rng, users, day_start_ms):
                at_ms = np.maximum(planned_ms, past.free_at_ms[user_rows])
                on_time = at_ms < day_start_ms + MS_PER_DAY
                platform.hold_sessions(user_rows[on_time], at_ms[on_time])
        yield events.tables(world, day)


def _planned_rounds(
    world: World, rng: np.random.Generator, users: Rows, day_start_ms: int
) -> Iterator[tuple[Rows, TimesMs]]:
    """When users mean to come: the r-th round holds the r-th visit of all who come that often.

    Visits are Poisson; their times are normal around the user's favourite hour, round the clock.
    """
    audience = world.audience
    user_rows = np.repeat(users, rng.poisson(audience.requests_per_day[users]))
    hours = audience.favourite_hours[user_rows].astype(np.float64)
    hours += HOURS_AROUND_FAVOURITE * rng.standard_normal(user_rows.size)
    at_ms = day_start_ms + (hours % 24 / 24 * MS_PER_DAY).astype(np.int64)
    order = np.lexsort((at_ms, user_rows))
    user_rows, at_ms = user_rows[order], at_ms[order]
    rounds = np.arange(user_rows.size) - np.searchsorted(user_rows, user_rows)
    by_round = np.argsort(rounds, kind="stable")
    ends = np.cumsum(np.bincount(rounds, minlength=1))
    for chosen in np.split(by_round, ends)[:-1]:
        yield user_rows[chosen], at_ms[chosen]


@dataclass(frozen=True)
class _Platform:
    """Users, policy and truth at work together on one block of one day."""

    truth: Truth
    policy: LoggingPolicy
    past: _Past
    rng: np.random.Generator
    events: DayEvents

    def hold_sessions(self, user_rows: Rows, at_ms: TimesMs) -> None:
        """One session for each of the different users: perhaps a search, then a page."""
        searching = self.rng.random(user_rows.size) < self.truth.world.config.search_probability
        at_ms[searching] = self._search(user_rows[searching], at_ms[searching])
        related_memory = self.truth.world.config.related_memory
        pages = self.policy.draw_pages(
            self.rng, self.past.watched.last(user_rows, related_memory), at_ms
        )
        self._show(user_rows, at_ms, pages)

    def _search(self, user_rows: Rows, at_ms: TimesMs) -> TimesMs:
        """Searches for what the user likes and watches what is found; returns when it is over."""
        tastes = np.cumsum(self.truth.world.audience.tastes[user_rows], axis=1)
        points = self.rng.random((user_rows.size, 1)) * tastes[:, -1:]
        topics = np.minimum((tastes <= points).sum(axis=1), tastes.shape[1] - 1).astype(np.int32)
        item_rows = self.policy.draw_from_topics(self.rng, topics)[:, None]
        watched = np.ones(item_rows.shape, dtype=np.bool_)
        self.events.add_searches(user_rows, at_ms, item_rows[:, 0])
        return self._watch(user_rows, at_ms, item_rows, watched)[1]

    def _show(self, user_rows: Rows, at_ms: TimesMs, pages: Pages) -> None:
        clicks = self.truth.click_probability(
            user_rows,
            pages.item_rows,
            at_ms,
            self.past.shown.count(user_rows, pages.item_rows),
            self.past.watched.count(user_rows, pages.item_rows),
        )
        examination = self.truth.examination(np.arange(pages.item_rows.shape[1]))
        watched = self.rng.random(clicks.shape) < examination * clicks
        watch_time_s, self.past.free_at_ms[user_rows] = self._watch(
            user_rows, at_ms, pages.item_rows, watched
        )
        everything = np.ones(watched.shape, dtype=np.bool_)
        self.past.shown.add(user_rows, pages.item_rows, everything)
        self.events.add_pages(user_rows, at_ms, pages, watched, watch_time_s)

    def _watch(
        self, user_rows: Rows, at_ms: TimesMs, item_rows: Rows, watched: NDArray[np.bool_]
    ) -> tuple[Floats, TimesMs]:
        """Plays the watched of item_rows [B, K] one after the other, with pauses of 1 to 10 s.

        Returns the seconds watched [B, K], 0 where not, and when the user is free again [B].
        """
        mean_shares = self.truth.mean_watch_share(user_rows, item_rows)[watched]
        durations_s = self.truth.world.catalogue.durations_s[item_rows[watched]]
        watch_time_s = np.zeros(watched.shape, dtype=np.float32)
        watch_time_s[watched] = self.truth.draw_watch_shares(self.rng, mean_shares) * durations_s
        pauses_ms = self.rng.integers(1_000, 10_001, (len(user_rows), item_rows.shape[1] + 1))
        lengths_ms = np.ceil(1_000 * watch_time_s.astype(np.float64)).astype(np.int64)
        ends_ms = at_ms[:, None] + np.cumsum(lengths_ms + pauses_ms[:, :-1] * watched, axis=1)
        started_at_ms = (ends_ms - lengths_ms)[watched]
        users = np.broadcast_to(user_rows[:, None], watched.shape)[watched]
        self.past.watched.add(user_rows, item_rows, watched)
        self.past.count_watches(item_rows[watched], started_at_ms)
        self.events.add_watches(users, item_rows[watched], started_at_ms, watch_time_s[watched])
        return watch_time_s, ends_ms[:, -1] + pauses_ms[:, -1]
