"""What users had watched, searched and been shown strictly before a time t."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.compiled import INDICES, INT, ROWS, compiled
from upnext.examples.counts import HourlyCounts
from upnext.schema import UNKNOWN_ROW, Floats, Rows, TimesMs

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class EventLog:
    """Events of one kind, user by user, each user's in order of time.

    User u's events are those in [starts[u], starts[u + 1]). Shapes: starts [U + 1]; `rows`,
    `at_ms` and `watch_time_s` [E]. Events that are no watches have a watch time of 0.
    """

    starts: Indices
    rows: Rows
    at_ms: TimesMs
    watch_time_s: Floats

    @classmethod
    def from_events(
        cls,
        *,
        user_rows: NDArray[Any],
        rows: Rows,
        at_ms: TimesMs,
        num_users: int,
        watch_time_s: Floats | None = None,
    ) -> "EventLog":
        """Sorts events of all users; those of one user at one time keep their order."""
        order = np.lexsort((at_ms, user_rows))
        starts = np.zeros(num_users + 1, np.int64)
        np.cumsum(np.bincount(user_rows, minlength=num_users), out=starts[1:])
        spent = np.zeros(len(rows), np.float32) if watch_time_s is None else watch_time_s
        return cls(starts, rows[order], at_ms[order], spent[order])

    @classmethod
    def empty(cls, num_users: int) -> "EventLog":
        """No events, for any of the users."""
        return cls(
            np.zeros(num_users + 1, np.int64),
            np.zeros(0, np.int32),
            np.zeros(0, np.int64),
            np.zeros(0, np.float32),
        )

    @classmethod
    def of_one(cls, rows: Rows, at_ms: TimesMs, watch_time_s: Floats | None = None) -> "EventLog":
        """The events of one user, as user 0, in order of time."""
        spent = np.zeros(len(rows), np.float32) if watch_time_s is None else watch_time_s
        return cls(np.array([0, len(rows)], np.int64), rows, at_ms, spent)

    @classmethod
    def joined(cls, logs: Sequence["EventLog"]) -> "EventLog":
        """All users of some logs, one log after the other."""
        if len(logs) == 1:
            return logs[0]
        counts = np.concatenate([np.diff(log.starts) for log in logs])
        return cls(
            np.concatenate([[0], np.cumsum(counts)]),
            np.concatenate([log.rows[log.starts[0] : log.starts[-1]] for log in logs]),
            np.concatenate([log.at_ms[log.starts[0] : log.starts[-1]] for log in logs]),
            np.concatenate([log.watch_time_s[log.starts[0] : log.starts[-1]] for log in logs]),
        )

    @property
    def num_users(self) -> int:
        """U."""
        return len(self.starts) - 1

    def user_rows(self) -> Indices:
        """The user of each event, [E]."""
        return np.repeat(np.arange(self.num_users), np.diff(self.starts))

    def until(self, at_ms: int) -> "EventLog":
        """The events strictly before a time, of the same users, watched for as long as by then."""
        kept = self.at_ms < at_ms
        num_kept = np.concatenate([[0], np.cumsum(kept)])
        began_ms = self.at_ms[kept]
        ran_s = ((at_ms - began_ms) / 1000).astype(np.float32)
        spent_s = np.minimum(self.watch_time_s[kept], ran_s)
        return EventLog(num_kept[self.starts], self.rows[kept], began_ms, spent_s)

    def of_user(self, user_row: int) -> "EventLog":
        """The events of one user, as user 0."""
        lo, hi = int(self.starts[user_row]), int(self.starts[user_row + 1])
        starts = np.array([0, hi - lo], np.int64)
        return EventLog(starts, self.rows[lo:hi], self.at_ms[lo:hi], self.watch_time_s[lo:hi])

    def and_later(self, more: "EventLog") -> "EventLog":
        """One user's events, and more of them in order of time, which are mostly later.

        What is in both, the same row at the same time, counts once, as it is here.
        """
        known, is_new = self._not_yet_here(more)
        at_ms = np.concatenate([self.at_ms, more.at_ms[is_new]])
        order = np.argsort(at_ms, kind="stable") if known < len(self.at_ms) else slice(None)
        return EventLog.of_one(
            np.concatenate([self.rows, more.rows[is_new]])[order],
            at_ms[order],
            np.concatenate([self.watch_time_s, more.watch_time_s[is_new]])[order],
        )

    def lacks(self, more: "EventLog") -> NDArray[np.bool_]:
        """Which of one user's events, in order of time, `and_later` would add to these."""
        return self._not_yet_here(more)[1]

    def _not_yet_here(self, more: "EventLog") -> tuple[int, NDArray[np.bool_]]:
        """Where events begin here that are as late as the first there; which there are not here."""
        first = more.at_ms[:1]
        known = int(np.searchsorted(self.at_ms, first)[0]) if len(first) else len(self.at_ms)
        here = set(zip(self.at_ms[known:].tolist(), self.rows[known:].tolist(), strict=True))
        there = zip(more.at_ms.tolist(), more.rows.tolist(), strict=True)
        return known, np.array([event not in here for event in there], bool)

    def window_before(
        self, user_rows: NDArray[Any], at_ms: TimesMs, max_events: int
    ) -> tuple[Indices, Indices]:
        """[lo, hi) of each user's last `max_events` events strictly before each time: 2 × [B].

        Raises: IndexError: there is no such user here.
        """
        users = np.ascontiguousarray(user_rows, np.int64)
        times_ms = np.ascontiguousarray(at_ms, np.int64)
        return _windows_before(self.starts, self.at_ms, users, times_ms, max_events)

    def all_before(self, user_rows: NDArray[Any], at_ms: TimesMs) -> tuple[Indices, Rows]:
        """Rows of *all* events of each user strictly before each time.

        Query b's are rows[starts[b] : starts[b + 1]]; returns starts [B + 1] and rows.
        """
        return _one_after_the_other(
            self.rows, *self.window_before(user_rows, at_ms, len(self.rows))
        )

    def rows_in(self, lo: Indices, hi: Indices, num_slots: int) -> Rows:
        """[B, H] rows of the events in windows, newest last, 0 pads."""
        return _in_slots(self.rows, lo, hi, num_slots)


@dataclass(frozen=True)
class History:
    """The past of U users: watches, tokens of searches, impressions, and declared features.

    `shown` holds impressions, watched or not. `feature_rows` [U, F] are rows in the vocabularies
    of the declared user features. `item_counts` and `channel_counts` tell what all users together
    did, by item row and by channel row.
    """

    watches: EventLog
    searches: EventLog
    shown: EventLog
    feature_rows: Rows
    item_counts: HourlyCounts = field(default_factory=HourlyCounts.empty)
    channel_counts: HourlyCounts = field(default_factory=HourlyCounts.empty)

    def counted(self, channel_rows: Rows, duration_s: Floats) -> "History":
        """The same with its events counted; of item row r these are the channel and the length."""
        lengths_s = duration_s[self.watches.rows]
        share = np.minimum(self.watches.watch_time_s / np.maximum(lengths_s, 1), 1)
        share[lengths_s <= 0] = 1

        def counts(rows_of: Callable[[Rows], Rows]) -> HourlyCounts:
            return HourlyCounts.of(
                watched_rows=rows_of(self.watches.rows),
                started_at_ms=self.watches.at_ms,
                watch_time_s=self.watches.watch_time_s,
                watch_share=share,
                shown_rows=rows_of(self.shown.rows),
                shown_at_ms=self.shown.at_ms,
            )

        return replace(
            self,
            item_counts=counts(lambda rows: rows),
            channel_counts=counts(lambda rows: channel_rows[rows]),
        )

    def until(self, at_ms: int) -> "History":
        """The same users' past as of a time: their events strictly before it.

        What all users did is counted on, as whoever asks it names a time.
        """
        return replace(
            self,
            watches=self.watches.until(at_ms),
            searches=self.searches.until(at_ms),
            shown=self.shown.until(at_ms),
        )

    def of_user(self, user_row: int) -> "History":
        """The past of one user, as user 0, with the counts of all."""
        return replace(
            self,
            watches=self.watches.of_user(user_row),
            searches=self.searches.of_user(user_row),
            shown=self.shown.of_user(user_row),
            feature_rows=self.feature_rows[user_row : user_row + 1],
        )

    @classmethod
    def empty(cls, num_users: int, num_features: int) -> "History":
        """The past of users of whom nothing is known."""
        return cls(
            watches=EventLog.empty(num_users),
            searches=EventLog.empty(num_users),
            shown=EventLog.empty(num_users),
            feature_rows=np.full((num_users, num_features), UNKNOWN_ROW, np.int32),
        )

    @classmethod
    def joined(cls, pasts: Sequence["History"]) -> "History":
        """All users of some pasts, one past after the other; what all did is that of the first."""
        return replace(
            pasts[0],
            watches=EventLog.joined([past.watches for past in pasts]),
            searches=EventLog.joined([past.searches for past in pasts]),
            shown=EventLog.joined([past.shown for past in pasts]),
            feature_rows=np.concatenate([past.feature_rows for past in pasts]),
        )

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays by name, for a release."""
        parts = {name: part for name, part in vars(self).items() if name != "feature_rows"}
        arrays = {
            f"{name}.{key.name}": getattr(part, key.name)
            for name, part in parts.items()
            for key in fields(part)
        }
        return arrays | {"feature_rows": self.feature_rows}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "History":
        """The inverse of `to_arrays`."""

        def part(name: str) -> dict[str, NDArray[Any]]:
            prefix = f"{name}."
            return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

        return cls(
            watches=EventLog(**part("watches")),
            searches=EventLog(**part("searches")),
            shown=EventLog(**part("shown")),
            feature_rows=arrays["feature_rows"],
            item_counts=HourlyCounts(**part("item_counts")),
            channel_counts=HourlyCounts(**part("channel_counts")),
        )


@compiled(INDICES, INDICES, INDICES, INDICES, INT)
def _windows_before(
    starts: Indices, event_ms: TimesMs, user_rows: Indices, at_ms: TimesMs, max_events: int
) -> tuple[Indices, Indices]:
    """A binary search for each query, within its user's events."""
    lo, hi = np.empty_like(user_rows), np.empty_like(user_rows)
    for query, user in enumerate(user_rows):
        if not 0 <= user < len(starts) - 1:
            raise IndexError("a user of whom this log knows nothing: a row beyond its last")
        first, end = starts[user], starts[user + 1]
        if not 0 <= first <= end <= len(event_ms):
            raise IndexError("a user whose events are not all in this log")
        earlier, later = first, end
        while earlier < later:
            middle = (earlier + later) // 2
            if event_ms[middle] < at_ms[query]:
                earlier = middle + 1
            else:
                later = middle
        lo[query], hi[query] = max(first, earlier - max_events), earlier
    return lo, hi


@compiled(ROWS, INDICES, INDICES)
def _one_after_the_other(rows: Rows, lo: Indices, hi: Indices) -> tuple[Indices, Rows]:
    starts = np.zeros(len(lo) + 1, np.int64)
    for window in range(len(lo)):
        starts[window + 1] = starts[window] + hi[window] - lo[window]
    joined = np.empty(starts[-1], np.int32)
    for window in range(len(lo)):
        joined[starts[window] : starts[window + 1]] = rows[lo[window] : hi[window]]
    return starts, joined


@compiled(ROWS, INDICES, INDICES, INT)
def _in_slots(rows: Rows, lo: Indices, hi: Indices, num_slots: int) -> Rows:
    slots = np.zeros((len(lo), num_slots), np.int32)
    for window in range(len(lo)):
        first = max(lo[window], hi[window] - num_slots)
        slots[window, num_slots - (hi[window] - first) :] = rows[first : hi[window]]
    return slots


def ranges(lo: Indices, hi: Indices) -> Indices:
    """lo[0], …, hi[0] - 1, lo[1], …, hi[1] - 1, … one after the other.

    >>> ranges(np.array([3, 9, 5]), np.array([5, 9, 6])).tolist()
    [3, 4, 5]
    """
    sizes = hi - lo
    before = np.cumsum(sizes) - sizes
    counted: Indices = np.arange(sizes.sum()) + np.repeat(lo - before, sizes)
    return counted
