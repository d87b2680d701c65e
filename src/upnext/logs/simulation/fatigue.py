"""How often a user was shown, or watched, an item lately: as it happens, and from the logs."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.logs.simulation.truth import Truth
from upnext.schema import Impressions, Rows, TimesMs, Watches

NOTHING = -1
"""Stands where a user has fewer events than the memory is long."""
COMPARISONS_AT_ONCE = 20_000_000


class RecentItems:
    """Each user's last items in bounded memory: one ring of `size` rows a user."""

    def __init__(self, num_users: int, size: int) -> None:
        self._rings = np.full((num_users, size), NOTHING, dtype=np.int32)
        self._num_seen = np.zeros(num_users, dtype=np.int64)

    def add(self, user_rows: Rows, item_rows: Rows, added: NDArray[np.bool_]) -> None:
        """Appends those of item_rows [B, K] that are `added`, each line for another user."""
        slots = self._num_seen[user_rows, None] + np.cumsum(added, axis=1) - 1
        users = np.broadcast_to(user_rows[:, None], item_rows.shape)
        self._rings[users[added], slots[added] % self._rings.shape[1]] = item_rows[added]
        self._num_seen[user_rows] += added.sum(axis=1)

    def last(self, user_rows: Rows, num: int) -> Rows:
        """[B, num] the last items, newest first, NOTHING where there were fewer."""
        slots = self._num_seen[user_rows, None] - 1 - np.arange(num)
        item_rows: Rows = self._rings[user_rows[:, None], slots % self._rings.shape[1]]
        return item_rows

    def count(self, user_rows: Rows, item_rows: Rows) -> Rows:
        """[B, K] how often each of item_rows [B, K] is among the user's last items."""
        return _count_matches(self._rings[user_rows], item_rows)


@dataclass(frozen=True)
class PastItems:
    """One table of a log, ready to be asked what a user's last `size` items before t were."""

    size: int
    starts: NDArray[np.int64]
    """[U + 1] where each user's events begin and end."""
    item_rows: Rows
    """[events] by user, then time."""
    at_ms: TimesMs
    """[events] by user, then time."""

    @classmethod
    def of(cls, truth: Truth, frame: pl.DataFrame, time_column: str, size: int) -> Self:
        """Sorts the events by user, time and, on a page, position."""
        order = [c for c in ("user_id", time_column, "position") if c in frame.columns]
        frame = frame.sort(order, maintain_order=True)
        num_events = np.bincount(
            truth.user_rows(frame["user_id"]), minlength=truth.world.config.num_users
        )
        return cls(
            size=size,
            starts=np.concatenate([[0], np.cumsum(num_events)]),
            item_rows=truth.item_rows(frame["item_id"]),
            at_ms=frame[time_column].to_numpy(),
        )

    def count(self, user_rows: Rows, item_rows: Rows, at_ms: TimesMs) -> Rows:
        """[B, K] how often each of item_rows is among the user's last items strictly before t."""
        return _count_matches(self.last(user_rows, at_ms, self.size), item_rows)

    def last(self, user_rows: Rows, at_ms: TimesMs, num: int) -> Rows:
        """[B, num] the last items strictly before t, newest first, NOTHING where none is left."""
        slots = self._ends(user_rows, at_ms)[:, None] - 1 - np.arange(num)
        inside = slots >= self.starts[user_rows, None]
        recent = np.full(slots.shape, NOTHING, dtype=np.int32)
        recent[inside] = self.item_rows[slots[inside]]
        return recent

    def _ends(self, user_rows: Rows, at_ms: TimesMs) -> NDArray[np.int64]:
        """Index after the user's last event before t, by halving all intervals together."""
        low, high = self.starts[user_rows], self.starts[user_rows + 1]
        while (low < high).any():
            middle = (low + high) // 2
            is_before = self.at_ms[np.minimum(middle, self.at_ms.size - 1)] < at_ms
            open_ = low < high
            low = np.where(open_ & is_before, middle + 1, low)
            high = np.where(open_ & ~is_before, middle, high)
        return low


@dataclass(frozen=True)
class Fatigue:
    """The two counts that `Truth.click_probability` wants, found in the logs alone."""

    shown: PastItems
    watched: PastItems

    @classmethod
    def of_logs(cls, truth: Truth, impressions: Impressions, watches: Watches) -> Self:
        """Reads the simulated logs, whole or up to some time."""
        size = truth.world.config.fatigue_memory
        return cls(
            shown=PastItems.of(truth, impressions.frame, "shown_at_ms", size),
            watched=PastItems.of(truth, watches.frame, "started_at_ms", size),
        )

    def counts(self, user_rows: Rows, item_rows: Rows, at_ms: TimesMs) -> tuple[Rows, Rows]:
        """num_shown_before and num_watched_before, both [B, K], of item_rows [B, K] at at_ms [B].

        They are the numbers that the simulation itself used for a page shown at that time.
        """
        return (
            self.shown.count(user_rows, item_rows, at_ms),
            self.watched.count(user_rows, item_rows, at_ms),
        )


def _count_matches(recent: Rows, item_rows: Rows) -> Rows:
    counts = np.empty(item_rows.shape, dtype=np.int32)
    block = max(1, COMPARISONS_AT_ONCE // max(1, recent.shape[1] * item_rows.shape[1]))
    for start in range(0, len(item_rows), block):
        part = slice(start, start + block)
        matches = item_rows[part, :, None] == recent[part, None, :]
        counts[part] = matches.sum(axis=2, dtype=np.int32)
    return counts
