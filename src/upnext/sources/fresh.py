"""Fresh uploads: what was published in the last days, and how gladly it was watched so far."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from upnext.best import Found, Places, best_first
from upnext.compiled import DOUBLE, FLOATS, INDICES, ROWS, compiled, part
from upnext.schema import MS_PER_DAY, NUM_RESERVED_ROWS, Floats, Rows, TimesMs
from upnext.sources.pairs import are_items, are_late


@dataclass(frozen=True)
class Shown:
    """E impressions, in any order: of which item, when, and whether it was watched."""

    item_rows: Rows
    at_ms: TimesMs
    watched: NDArray[np.bool_]


@dataclass(frozen=True)
class FreshUploads:
    """Items in the order of their publication, and how gladly each is watched when shown.

        score(i, t) = lift(i) · (1 − age / fresh_days)    age = t − published, in (0, fresh_days)
        lift(i) = (watched(i) / r + a) / (shown(i) + a)   r = watched / shown, of all items

    Of an item that is just out its whole score is left, at the end of its fresh days nothing. The
    lift is the watch rate of its impressions, as a multiple of the rate of all items; the
    shrinkage a adds impressions with that usual rate. What was never shown has a lift of 1, and so
    has every item where the logs have no impressions: then the newest is the best.

    `published_at_ms`, `lifts` [N]; `rows_by_time` [N − 2] are the items, the oldest first, and
    `times_ms` [N − 2] when they were published.
    """

    published_at_ms: TimesMs
    lifts: Floats
    rows_by_time: Rows
    times_ms: TimesMs
    fresh_days: float

    def candidates(
        self, at_ms: TimesMs, k: int, *, excluded_rows: Sequence[Rows] | None = None
    ) -> Found:
        """The k items with the highest score, ties to the smaller row.

        Two binary searches find the items of the last `fresh_days`; no others are looked at.

        Args:
            at_ms: [B] when each request is made; what is published at that time or later is left
                out.
            excluded_rows: what each request leaves out, such as what its user has watched.

        Returns: rows and scores, [B, k] each; -1 and -inf where too few items are fresh.
        """
        oldest_ms = at_ms - int(self.fresh_days * MS_PER_DAY)
        lo, hi = np.searchsorted(self.times_ms, oldest_ms), np.searchsorted(self.times_ms, at_ms)
        # Before all time there is no number for the oldest, and it wraps around to be the latest.
        proposed = _proposals(
            lo,
            np.maximum(lo, hi),
            at_ms,
            self.rows_by_time,
            self.times_ms,
            self.lifts,
            self._fresh_ms,
        )
        return best_first(*proposed, k, excluded_rows=excluded_rows)

    def scores(
        self, at_ms: TimesMs, item_rows: NDArray[Any], request_index: NDArray[Any]
    ) -> Floats:
        """The scores of given candidates, [M]; 0 where the item is not fresh, or not known.

        Args:
            at_ms: [B] when each request is made.
            item_rows: [M] the candidates, of all requests.
            request_index: [M] the request that each is for, from 0 to B − 1.
        """
        return _scores(
            np.ascontiguousarray(item_rows, np.int32),
            np.ascontiguousarray(request_index, np.int64),
            at_ms,
            self.published_at_ms,
            self.lifts,
            self._fresh_ms,
        )

    def with_items(self, published_at_ms: TimesMs) -> Self:
        """The same rows, and after them items that were never shown.

        `published_at_ms` [N2], its first N as they were.
        """
        num_added = len(published_at_ms) - len(self.lifts)
        by_time = _by_time(published_at_ms)
        return replace(
            self,
            published_at_ms=published_at_ms,
            lifts=np.concatenate([self.lifts, np.ones(num_added, np.float32)]),
            rows_by_time=by_time,
            times_ms=published_at_ms[by_time],
        )

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays by name, for a release; `fresh_days` is a setting, and kept apart."""
        return {name: value for name, value in vars(self).items() if name != "fresh_days"}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], *, fresh_days: float) -> Self:
        """The inverse of `to_arrays`."""
        names = cls.__annotations__.keys() - {"fresh_days"}
        return cls(**{name: arrays[name] for name in names}, fresh_days=fresh_days)

    @property
    def _fresh_ms(self) -> float:
        return self.fresh_days * MS_PER_DAY


@part
def _score(age_ms: int, lift: float, fresh_ms: float) -> float:
    """As `FreshUploads` tells it."""
    left = 1 - age_ms / fresh_ms
    return lift * left if age_ms > 0 and left > 0 else 0.0


@compiled(INDICES, INDICES, INDICES, ROWS, INDICES, FLOATS, DOUBLE)
def _proposals(
    lo: Places,
    hi: Places,
    at_ms: TimesMs,
    rows_by_time: Rows,
    times_ms: TimesMs,
    lifts: Floats,
    fresh_ms: float,
) -> tuple[Places, Rows, Floats]:
    """Where each request's items start, [B + 1], which are lo to hi by time; rows and scores."""
    starts = np.zeros(len(lo) + 1, np.int64)
    starts[1:] = np.cumsum(hi - lo)
    rows, scores = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32)
    count = 0
    for request in range(len(lo)):
        for place in range(lo[request], hi[request]):
            row, age_ms = rows_by_time[place], at_ms[request] - times_ms[place]
            rows[count], scores[count] = row, _score(age_ms, lifts[row], fresh_ms)
            count += 1
    return starts, rows, scores


@compiled(ROWS, INDICES, INDICES, INDICES, FLOATS, DOUBLE)
def _scores(
    item_rows: Rows,
    request_index: Places,
    at_ms: TimesMs,
    published_at_ms: TimesMs,
    lifts: Floats,
    fresh_ms: float,
) -> Floats:
    """Of given candidates, [M]; 0 of what is no item here."""
    scores = np.zeros(len(item_rows), np.float32)
    for place in range(len(item_rows)):
        row = item_rows[place]
        if NUM_RESERVED_ROWS <= row < len(lifts):
            age_ms = at_ms[request_index[place]] - published_at_ms[row]
            scores[place] = _score(age_ms, lifts[row], fresh_ms)
    return scores


def fresh_uploads(
    published_at_ms: TimesMs,
    *,
    fresh_days: float,
    shown: Shown | None = None,
    shrinkage: float = 100.0,
    until_ms: int | None = None,
) -> FreshUploads:
    """Sorts items by publication and counts their impressions.

    Args:
        published_at_ms: [N] of each item; rows 0 and 1 are left away.
        fresh_days: how long an item is fresh.
        shown: the impressions; None where the logs have none.
        shrinkage: a in `FreshUploads`' formula, above 0, in impressions.
        until_ms: the time before which impressions count; just after the last one, unless given.

    >>> days = np.array([0, 0, 1, 2, 9]) * MS_PER_DAY
    >>> fresh = fresh_uploads(days, fresh_days=2.0)
    >>> fresh.candidates(np.array([5 * MS_PER_DAY // 2]), 3)
    (array([[ 3,  2, -1]], dtype=int32), array([[0.75, 0.25, -inf]], dtype=float32))
    """
    if shown is None:
        lifts = np.ones(len(published_at_ms), np.float32)
    else:
        lifts = _lifts(shown, until_ms, num_rows=len(published_at_ms), shrinkage=shrinkage)
    by_time = _by_time(published_at_ms)
    return FreshUploads(
        published_at_ms=published_at_ms,
        lifts=lifts,
        rows_by_time=by_time,
        times_ms=published_at_ms[by_time],
        fresh_days=fresh_days,
    )


def _by_time(published_at_ms: TimesMs) -> Rows:
    items = published_at_ms[NUM_RESERVED_ROWS:]
    return (np.argsort(items, kind="stable") + NUM_RESERVED_ROWS).astype(np.int32)


def _lifts(shown: Shown, until_ms: int | None, *, num_rows: int, shrinkage: float) -> Floats:
    """lift(i) of every row, [N]; 1 for all where nothing was watched."""
    counted = are_late(shown.at_ms, None, until_ms) & are_items(shown.item_rows, num_rows)
    rows, watched = shown.item_rows[counted], shown.watched[counted]
    num_shown = np.bincount(rows, minlength=num_rows)
    num_watched = np.bincount(rows[watched], minlength=num_rows)
    if not num_watched.any():
        return np.ones(num_rows, np.float32)
    usual_rate = num_watched.sum() / num_shown.sum()
    lifts: Floats = (num_watched / usual_rate + shrinkage) / (num_shown + shrinkage)
    return lifts.astype(np.float32)
