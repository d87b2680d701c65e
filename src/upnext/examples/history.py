"""What users had watched, searched and been shown strictly before a time t."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.schema import Floats, Rows, TimesMs

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

    @property
    def num_users(self) -> int:
        """U."""
        return len(self.starts) - 1

    def user_rows(self) -> Indices:
        """The user of each event, [E]."""
        return np.repeat(np.arange(self.num_users), np.diff(self.starts))

    def of_user(self, user_row: int) -> "EventLog":
        """The events of one user, as user 0."""
        lo, hi = int(self.starts[user_row]), int(self.starts[user_row + 1])
        starts = np.array([0, hi - lo], np.int64)
        return EventLog(starts, self.rows[lo:hi], self.at_ms[lo:hi], self.watch_time_s[lo:hi])

    def window_before(
        self, user_rows: NDArray[Any], at_ms: TimesMs, max_events: int
    ) -> tuple[Indices, Indices]:
        """[lo, hi) of each user's last `max_events` events strictly before each time: 2 × [B].

        One binary search for all queries at once, each within its user's events.
        """
        first, end = self.starts[user_rows], self.starts[user_rows + 1]
        lo, hi = first, end
        while (searching := lo < hi).any():
            middle = (lo + hi) // 2
            earlier = searching & (self.at_ms[np.where(searching, middle, 0)] < at_ms)
            lo = np.where(earlier, middle + 1, lo)
            hi = np.where(searching & ~earlier, middle, hi)
        return np.maximum(first, lo - max_events), lo

    def all_before(self, user_rows: NDArray[Any], at_ms: TimesMs) -> tuple[Indices, Rows]:
        """Rows of *all* events of each user strictly before each time.

        Query b's are rows[starts[b] : starts[b + 1]]; returns starts [B + 1] and rows.
        """
        lo, hi = self.window_before(user_rows, at_ms, len(self.rows))
        starts = np.concatenate([[0], np.cumsum(hi - lo)])
        index = np.arange(starts[-1]) + np.repeat(lo - starts[:-1], hi - lo)
        return starts, self.rows[index]

    def slots(self, lo: Indices, hi: Indices, num_slots: int) -> tuple[Indices, NDArray[np.bool_]]:
        """Event indices [B, H] of windows, newest last, and which slots are filled."""
        index = hi[:, None] - num_slots + np.arange(num_slots)
        filled = index >= lo[:, None]
        return np.where(filled, index, 0), filled

    def take(self, values: NDArray[Any], index: Indices, filled: NDArray[np.bool_]) -> NDArray[Any]:
        """values[index] where filled, else 0, in the shape of `index`."""
        if len(values) == 0:
            return np.zeros(index.shape, values.dtype)
        return np.where(filled, values[index], values.dtype.type(0))

    def rows_in(self, lo: Indices, hi: Indices, num_slots: int) -> Rows:
        """[B, H] rows of the events in windows, newest last, 0 pads."""
        rows: Rows = self.take(self.rows, *self.slots(lo, hi, num_slots))
        return rows


@dataclass(frozen=True)
class History:
    """The past of U users: watches, tokens of searches, impressions, and declared features.

    `shown` holds impressions, watched or not. `feature_rows` [U, F] are rows in the vocabularies
    of the declared user features.
    """

    watches: EventLog
    searches: EventLog
    shown: EventLog
    feature_rows: Rows

    def of_user(self, user_row: int) -> "History":
        """The past of one user, as user 0."""
        return History(
            self.watches.of_user(user_row),
            self.searches.of_user(user_row),
            self.shown.of_user(user_row),
            self.feature_rows[user_row : user_row + 1],
        )

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays by name, for a release."""
        logs = {"watches": self.watches, "searches": self.searches, "shown": self.shown}
        arrays = {
            f"{kind}.{key}": value for kind, log in logs.items() for key, value in vars(log).items()
        }
        return arrays | {"feature_rows": self.feature_rows}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "History":
        """The inverse of `to_arrays`."""

        def log(kind: str) -> EventLog:
            return EventLog(**{key: arrays[f"{kind}.{key}"] for key in EventLog.__annotations__})

        return cls(log("watches"), log("searches"), log("shown"), arrays["feature_rows"])


def ranges(lo: Indices, hi: Indices) -> Indices:
    """lo[0], …, hi[0] - 1, lo[1], …, hi[1] - 1, … one after the other.

    >>> ranges(np.array([3, 9, 5]), np.array([5, 9, 6])).tolist()
    [3, 4, 5]
    """
    sizes = hi - lo
    before = np.cumsum(sizes) - sizes
    counted: Indices = np.arange(sizes.sum()) + np.repeat(lo - before, sizes)
    return counted
