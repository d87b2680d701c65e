"""Stage-1 examples: windows of history and the context of a moment → the watched item."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.compiled import INDICES, compiled
from upnext.examples.encoder import Encoder
from upnext.examples.history import History, Indices, ranges
from upnext.examples.quantiles import quantile_bounds, to_quantile, with_powers
from upnext.examples.vocabulary import Vocabulary
from upnext.schema import (
    MS_PER_DAY,
    NUM_RESERVED_ROWS,
    UNKNOWN_ROW,
    Floats,
    Rows,
    TimesMs,
    Watches,
)

NEVER_DAYS = 10_000.0
"""Days since the last watch of a user who never watched."""

EVENTS_AT_ONCE = 1 << 22
"""Events that are looked through together, where all of them may be too many for memory."""

MAX_COUNTED = 1_000_000
"""Examples that quantiles are taken from; more would not move them."""


@dataclass(frozen=True)
class Queries:
    """B moments of users, as retrieval sees them, without their histories' contents.

    Windows [lo, hi) point into `History.watches` and `History.searches`; so a training step can
    read each event once although many windows hold it. context_rows [B, C] are rows of the
    context tables; context_values [B, V] lie in [0, 1].
    """

    user_rows: Indices
    watch_lo: Indices
    watch_hi: Indices
    search_lo: Indices
    search_hi: Indices
    context_rows: Rows
    context_values: Floats

    def __len__(self) -> int:
        return len(self.user_rows)

    def __getitem__(self, chosen: slice | NDArray[Any]) -> "Queries":
        return Queries(*(value[chosen] for value in vars(self).values()))


@dataclass(frozen=True)
class QueryEncoder:
    """Encodes moments for retrieval; `idle_bounds`: quantiles of days since the last watch."""

    encoder: Encoder
    idle_bounds: Floats

    num_context_values = 5

    def queries(self, history: History, user_rows: NDArray[Any], at_ms: TimesMs) -> Queries:
        """What may be known of user_rows[b] at at_ms[b]: events strictly before, and the clock.

        How much was searched is told only where training knew of searches: elsewhere it learned
        nothing of that, and its weights are random still.
        """
        config = self.encoder.config
        watch_lo, watch_hi = history.watches.window_before(user_rows, at_ms, config.num_watches)
        search_lo, search_hi = history.searches.window_before(user_rows, at_ms, config.num_searches)
        idle = to_quantile(idle_days(history, watch_lo, watch_hi, at_ms), self.idle_bounds)
        knows_searches = self.encoder.search_tokens.num_rows > NUM_RESERVED_ROWS
        context_values = np.empty((len(idle), self.num_context_values), np.float32)
        context_values[:, :3] = with_powers(idle)
        context_values[:, 3] = (watch_hi - watch_lo) / config.num_watches
        context_values[:, 4] = knows_searches * (search_hi - search_lo) / config.num_searches
        return Queries(
            user_rows=np.asarray(user_rows, np.int64),
            watch_lo=watch_lo,
            watch_hi=watch_hi,
            search_lo=search_lo,
            search_hi=search_hi,
            context_rows=self.encoder.context_rows(history.feature_rows[user_rows], at_ms),
            context_values=context_values,
        )


@dataclass(frozen=True)
class WatchExamples:
    """Watches to be predicted, as places in `history.watches`: [n] `events`, user by user.

    Only the places are held; what an example looks like is worked out when it is asked for, so that
    a hundred million of them fit a small machine. Take a batch with `examples[chosen]`.
    """

    history: History
    query_encoder: QueryEncoder
    events: Indices
    last_ms: int

    def __len__(self) -> int:
        return len(self.events)

    def __getitem__(self, chosen: slice | NDArray[Any]) -> "WatchExamples":
        return replace(self, events=self.events[chosen])

    @property
    def user_rows(self) -> Indices:
        """[n] whose watch each is."""
        rows: Indices = np.searchsorted(self.history.watches.starts, self.events, side="right") - 1
        return rows

    @property
    def at_ms(self) -> TimesMs:
        """[n] when each watch began."""
        return self.history.watches.at_ms[self.events]

    @property
    def item_rows(self) -> Rows:
        """[n] what was watched."""
        return self.history.watches.rows[self.events]

    @property
    def watch_time_s(self) -> Floats:
        """[n] for how long."""
        return self.history.watches.watch_time_s[self.events]

    @property
    def queries(self) -> Queries:
        """What was known of each user at that moment."""
        return self.query_encoder.queries(self.history, self.user_rows, self.at_ms)

    @property
    def example_age_days(self) -> Floats:
        """[n] t_max − t: how old each example is at the last training watch, 0 or more.

        Source: Covington, Adams, Sargin 2016, section 3.3.
        """
        return ((self.last_ms - self.at_ms) / MS_PER_DAY).astype(np.float32)

    @property
    def item_age_days(self) -> Floats:
        """[n] t − publication: how old the watched item was. The second reading of example age."""
        published_ms = self.query_encoder.encoder.catalogue.published_at_ms[self.item_rows]
        return ((self.at_ms - published_ms) / MS_PER_DAY).astype(np.float32)


def build_watch_examples(
    encoder: Encoder, history: History, *, completed_share: float
) -> tuple[QueryEncoder, WatchExamples]:
    """Every completed watch of a known item is an example, from whatever source it came.

    The user's *next* watch is predicted from what came before it, never a held-out one from its
    surroundings. `completed_share`: watches of a smaller share of the item's duration are history,
    but no positives; an unknown duration counts as completed. Idleness is scaled by the quantiles
    of at most a million examples, evenly spaced.
    Source: Covington, Adams, Sargin 2016, sections 3.1, 3.4.
    """
    log = history.watches
    is_example = log.rows > UNKNOWN_ROW
    if completed_share > 0:
        is_example &= log.watch_time_s >= completed_share * encoder.catalogue.duration_s[log.rows]
    events = np.flatnonzero(is_example)
    some = events[:: 1 + len(events) // MAX_COUNTED]
    user_rows, at_ms = np.searchsorted(log.starts, some, side="right") - 1, log.at_ms[some]
    lo, hi = log.window_before(user_rows, at_ms, encoder.config.num_watches)
    query_encoder = QueryEncoder(encoder, quantile_bounds(idle_days(history, lo, hi, at_ms)))
    return query_encoder, WatchExamples(
        history=history,
        query_encoder=query_encoder,
        events=events,
        last_ms=int(log.at_ms.max(initial=0)),
    )


def idle_days(history: History, watch_lo: Indices, watch_hi: Indices, at_ms: TimesMs) -> Floats:
    """Days since the last watch before each time, [B]; `NEVER_DAYS` where there is none."""
    return _idle_days(history.watches.at_ms, watch_lo, watch_hi, np.ascontiguousarray(at_ms))


@compiled(INDICES, INDICES, INDICES, INDICES)
def _idle_days(event_ms: TimesMs, watch_lo: Indices, watch_hi: Indices, at_ms: TimesMs) -> Floats:
    days = np.full(len(at_ms), NEVER_DAYS, np.float32)
    for moment in range(len(at_ms)):
        last = watch_hi[moment] - 1
        if watch_lo[moment] <= last:
            days[moment] = (at_ms[moment] - event_ms[last]) / MS_PER_DAY
    return days


@dataclass(frozen=True)
class WatchTargets:
    """Watches to be predicted: at at_ms[b] user user_rows[b] went on to watch item_rows[b].

    item_rows is 1 where training did not know the item: it counts, and nothing can hit it.
    """

    history: History
    user_rows: Indices
    at_ms: TimesMs
    item_rows: Rows

    def __len__(self) -> int:
        return len(self.user_rows)

    def __getitem__(self, chosen: slice | NDArray[Any]) -> "WatchTargets":
        return WatchTargets(
            self.history, self.user_rows[chosen], self.at_ms[chosen], self.item_rows[chosen]
        )

    def history_rows(self, num_slots: int) -> Rows:
        """[B, H] item rows of the last watches before each target, newest last, 0 pads."""
        watches = self.history.watches
        lo, hi = watches.window_before(self.user_rows, self.at_ms, num_slots)
        return watches.rows_in(lo, hi, num_slots)

    def watched_before(self) -> tuple[Indices, Rows]:
        """All that each user had watched before: target b's are rows[starts[b] : starts[b + 1]]."""
        return self.history.watches.all_before(self.user_rows, self.at_ms)

    def first_watches(self) -> "WatchTargets":
        """The targets that their users had not watched before; some users' events at a time."""
        starts = self.history.watches.starts
        by_user = np.argsort(self.user_rows, kind="stable")
        users, first = np.unique(self.user_rows[by_user], return_index=True)
        num_events = np.cumsum(starts[users + 1] - starts[users])
        cuts = 1 + np.flatnonzero(np.diff(num_events // EVENTS_AT_ONCE))
        is_again = np.zeros(len(self), bool)
        for part in np.split(by_user, first[cuts]):
            is_again[part] = self[part]._were_watched()
        return self[~is_again]

    def _were_watched(self) -> NDArray[np.bool_]:
        """Which targets their users had watched before; reads all events of these users."""
        log, users = self.history.watches, np.unique(self.user_rows)
        lo, hi = log.starts[users], log.starts[users + 1]
        events = ranges(lo, hi)
        rows = log.rows[events]
        num_rows = 1 + max(rows.max(initial=0), self.item_rows.max(initial=0))
        # Each user's events stand in order of time, so the first of a pair is the earliest.
        pairs, first = np.unique(np.repeat(users, hi - lo) * num_rows + rows, return_index=True)
        asked = self.user_rows * num_rows + self.item_rows
        place = np.searchsorted(pairs, asked)
        was_watched = np.append(pairs, -1)[place] == asked
        earlier = np.append(log.at_ms[events[first]], 0)[place] < self.at_ms
        is_again: NDArray[np.bool_] = was_watched & earlier & (self.item_rows > UNKNOWN_ROW)
        return is_again

    def sample(self, num_targets: int, *, seed: int) -> "WatchTargets":
        """At most `num_targets` of them, drawn without replacement, in their order."""
        if len(self) <= num_targets:
            return self
        drawn = np.random.default_rng(seed).choice(len(self), num_targets, replace=False)
        return self[np.sort(drawn)]


def watch_targets(
    encoder: Encoder, history: History, users: Vocabulary, watches: Watches
) -> WatchTargets:
    """Every one of these watches as a target, in order of time; `history` may go on beyond them."""
    frame = watches.frame.sort("started_at_ms", maintain_order=True)
    return WatchTargets(
        history=history,
        user_rows=users.rows(frame["user_id"]).astype(np.int64),
        at_ms=frame["started_at_ms"].to_numpy(),
        item_rows=encoder.catalogue.items.rows(frame["item_id"]),
    )
