"""What everybody did with an item before time t: how often it was shown and watched, how long."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from upnext.compiled import FLOATS, INDICES, INT, ROWS, compiled, table
from upnext.examples.once import once
from upnext.schema import MS_PER_HOUR, NUM_RESERVED_ROWS, Floats, Rows, TimesMs

HOUR_BITS = 24
FIRST_HOUR = 1 << (HOUR_BITS - 1)
"""Added to hours since 1970, so that those before are told apart too: nine centuries each way."""
COUNTED = ("impressions", "watches", "watch_time_s", "watch_share")
PARTS = np.array([1, 1, 1_000, 1_000_000])
EVENTS_AT_ONCE = 1 << 23
ENTRIES_AT_ONCE = 1 << 18

Sums = NDArray[np.float64]


@dataclass(frozen=True)
class HourlyCounts:
    """Running sums of each row, a row being an item or a channel, hour by hour.

    A request at time t is told what was over before its own hour began: an impression counts from
    the hour after it was shown in, a watch from the hour after it *ended* in, so that nothing that
    happens at t or later can move what is told at t, and counters that are brought up to date once
    an hour tell the same.

    Entry e stands for `keys[e]` = row · 2²⁴ + 2²³ + hour since 1970, ascending, and holds its sums
    up to the end of that hour: `sums` [E, 4] impressions, watches, seconds watched, and shares of
    their items' durations watched, as `COUNTED` names them.
    """

    keys: NDArray[np.int64]
    sums: Floats

    @classmethod
    def of(
        cls,
        *,
        watched_rows: Rows,
        started_at_ms: TimesMs,
        watch_time_s: Floats,
        watch_share: Floats,
        shown_rows: Rows,
        shown_at_ms: TimesMs,
    ) -> Self:
        """Counts all watches and impressions, in any order; rows below 2 are left out."""
        parts = [
            *_hourly(watched_rows, started_at_ms, (watch_time_s, watch_share)),
            *_hourly(shown_rows, shown_at_ms, None),
        ]
        keys, sums = _added_up(
            np.concatenate([keys for keys, _ in parts]), np.concatenate([sums for _, sums in parts])
        )
        running = _running(keys, sums) / PARTS
        return cls(keys, running.astype(np.float32))

    @classmethod
    def empty(cls) -> Self:
        """Nothing was counted."""
        return cls(np.zeros(0, np.int64), np.zeros((0, len(COUNTED)), np.float32))

    def before(self, rows: NDArray[Any], at_ms: TimesMs) -> Floats:
        """[M, 4]: the sums of each row [M] up to the last full hour before each time [M]."""
        if not len(self.keys):
            return np.zeros((len(rows), len(COUNTED)), np.float32)
        return _told_before(
            self.keys,
            self.sums,
            self._bounds,
            self._last_hour,
            np.ascontiguousarray(rows, np.int32),
            np.ascontiguousarray(at_ms, np.int64),
        )

    def of_row(self, row: int) -> tuple[TimesMs, Sums]:
        """Hours since 1970 in which something of a row ended, ascending, and what: [n], [n, 4]."""
        lo, hi = np.searchsorted(self.keys, np.array([row, row + 1]) << HOUR_BITS)
        added = np.diff(self.sums[lo:hi].astype(np.float64), axis=0, prepend=0)
        return _hours(self.keys[lo:hi]), added

    def watches_by_hour(self) -> tuple[int, NDArray[np.float64]]:
        """The first hour since 1970 with an entry, and how many watches ended in each from it on.

        Of all rows together; some millions of entries at once.
        """
        if not len(self.keys):
            return 0, np.zeros(0)
        first_hour, num_hours = self._first_hour, self._last_hour - self._first_hour + 1
        ended = np.zeros(num_hours)
        for start in range(0, len(self.keys), EVENTS_AT_ONCE):
            before = max(0, start - 1)
            keys = self.keys[before : start + EVENTS_AT_ONCE]
            running = self.sums[before : start + EVENTS_AT_ONCE, 1].astype(np.float64)
            is_first = np.diff(keys >> HOUR_BITS, prepend=-1) > 0
            added = np.where(is_first, running, np.diff(running, prepend=0))
            mine = slice(start - before, None)
            places = _hours(keys[mine]) - first_hour
            ended += np.bincount(places, weights=added[mine], minlength=num_hours)
        return first_hour, ended

    def work_out(self) -> None:
        """What is else worked out when first asked, and takes longer than many answers."""
        if len(self.keys):
            _ = self._last_hour

    @once
    def _first_hour(self) -> int:
        bounds = self._bounds
        return int(_hours(self.keys[bounds[:-1][np.diff(bounds) > 0]]).min())

    @once
    def _last_hour(self) -> int:
        # Of each row its last entry is the latest, so that few of the entries are looked at.
        bounds = self._bounds
        return int(_hours(self.keys[bounds[1:][np.diff(bounds) > 0] - 1]).max())

    @once
    def _bounds(self) -> NDArray[np.int64]:
        """Row r's entries are in [bounds[r], bounds[r + 1]); a row after the last one has none.

        So that only of rows with something later than what is asked for an entry is sought: of few,
        or none, when serving. Counted a few entries at a time, for whoever answers meanwhile.
        """
        num_rows = int(self.keys[-1] >> HOUR_BITS) + 1
        bounds = np.zeros(num_rows + 2, np.int64)
        for start in range(0, len(self.keys), ENTRIES_AT_ONCE):
            rows = self.keys[start : start + ENTRIES_AT_ONCE] >> HOUR_BITS
            counts = np.bincount(rows - rows[0])
            first = int(rows[0]) + 1
            bounds[first : first + len(counts)] += counts
        return np.cumsum(bounds, out=bounds)


@compiled(INDICES, table(FLOATS), INDICES, INT, ROWS, INDICES)
def _told_before(
    keys: NDArray[np.int64],
    sums: Floats,
    bounds: NDArray[np.int64],
    last_hour: int,
    rows: Rows,
    at_ms: TimesMs,
) -> Floats:
    """Of each row its last entry before the hour; sought only where there may be later ones."""
    told = np.zeros((len(rows), sums.shape[1]), np.float32)
    for place, row in enumerate(rows):
        if row + 1 >= len(bounds) or bounds[row] == bounds[row + 1]:
            continue
        first, end = bounds[row], bounds[row + 1]
        hour = at_ms[place] // MS_PER_HOUR
        wanted = (np.int64(row) << HOUR_BITS) + hour + FIRST_HOUR
        if hour <= last_hour and keys[end - 1] >= wanted:
            earlier = first
            while earlier < end:
                middle = (earlier + end) // 2
                if keys[middle] < wanted:
                    earlier = middle + 1
                else:
                    end = middle
        if first < end:
            for column in range(sums.shape[1]):
                told[place, column] = sums[end - 1, column]
    return told


def _keys(rows: NDArray[Any], hours: NDArray[Any]) -> NDArray[np.int64]:
    return (rows.astype(np.int64) << HOUR_BITS) + (hours.astype(np.int64) + FIRST_HOUR)


def _hours(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    return (keys & ((1 << HOUR_BITS) - 1)) - FIRST_HOUR


def _hourly(
    rows: Rows, at_ms: TimesMs, watched: tuple[Floats, Floats] | None
) -> Iterator[tuple[NDArray[np.int64], Sums]]:
    """Keys and what is added under them [n, 4], some millions of events at once.

    `watched`: seconds and shares. All is counted in whole `PARTS`, whose sums are exact in whatever
    order they come.
    """
    for start in range(0, max(1, len(rows)), EVENTS_AT_ONCE):
        part = slice(start, start + EVENTS_AT_ONCE)
        added = np.zeros((len(rows[part]), len(COUNTED)))
        if watched is None:
            added[:, 0] = 1
        else:
            added[:, 1] = 1
            for column, values in zip((2, 3), watched, strict=True):
                added[:, column] = np.ceil(values[part].astype(np.float64) * PARTS[column])
        hours = (at_ms[part] + added[:, 2].astype(np.int64)) // MS_PER_HOUR
        known = rows[part] >= NUM_RESERVED_ROWS
        yield _added_up(_keys(rows[part][known], hours[known]), added[known])


def _added_up(keys: NDArray[np.int64], added: Sums) -> tuple[NDArray[np.int64], Sums]:
    """Each key once, ascending, with the sum of what is added under it."""
    distinct, places = np.unique(keys, return_inverse=True)
    columns = [
        np.bincount(places, weights=added[:, column], minlength=len(distinct))
        for column in range(added.shape[1])
    ]
    return distinct, np.stack(columns, axis=1)


def _running(keys: NDArray[np.int64], sums: Sums) -> Sums:
    """Sums up to each entry, over the entries of its row alone."""
    running = np.cumsum(sums, axis=0)
    rows = keys >> HOUR_BITS
    first = np.searchsorted(rows, rows)
    return running - (running - sums)[first]
