"""Simulated pages once more: what another mix of sources would have shown there, and its worth.

With it, estimates from logged propensities are held against the truth.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.logs.simulation.fatigue import Fatigue
from upnext.logs.simulation.logging_policy import Groups, LoggingPolicy
from upnext.logs.simulation.tables import REQUESTS_PER_DAY
from upnext.logs.simulation.truth import Truth
from upnext.logs.simulation.world import START_MS, LoggingWeights
from upnext.schema import MS_PER_DAY, Floats, Impressions, Rows, TimesMs, Watches

REQUESTS_AT_ONCE = 256
"""All items of so many requests are valued together; bounds the memory."""


@dataclass(frozen=True)
class ReplayedPages:
    """B pages of one day, as they were logged, and the policy that filled them.

    Rows are the world's own. user_rows, at_ms [B]; recent_rows [B, related_memory]; the others
    [B, page_size], by position.
    """

    truth: Truth
    fatigue: Fatigue
    policy: LoggingPolicy
    user_rows: Rows
    at_ms: TimesMs
    recent_rows: Rows
    item_rows: Rows
    propensities: Floats
    watch_time_s: Floats

    def probabilities(self, weights: LoggingWeights) -> NDArray[np.float64]:
        """[B, page_size] π: how likely that mix puts the logged item there, under those above."""
        policy = self.policy.with_weights(weights)
        return policy.slot_probabilities(self.item_rows, self.recent_rows, self.at_ms)

    def expected(
        self, weights: LoggingWeights, values: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """[B, page_size] mean of the values [B, N] of all items, when that mix fills one slot.

            Σ_{i not above} p(i) v(i) / (1 − Σ_{j above} p(j))

        The slots above are as logged; what they hold cannot come again.
        """
        policy = self.policy.with_weights(weights)
        p = policy.probabilities(self._everything(), self.recent_rows, self.at_ms)
        p_shown = np.take_along_axis(p, self.item_rows, axis=1)
        v_shown = p_shown * np.take_along_axis(values, self.item_rows, axis=1)
        above = np.cumsum(v_shown, axis=1) - v_shown
        p_above = np.cumsum(p_shown, axis=1) - p_shown
        means: NDArray[np.float64] = ((p * values).sum(axis=1)[:, None] - above) / (1 - p_above)
        return means

    def true_watch_time_s(self) -> Floats:
        """[B, N] expected seconds of every item in a slot that is looked at.

        For the slot at a position multiply by `truth.examination`.
        """
        everything = self._everything()
        counts = self.fatigue.counts(self.user_rows, everything, self.at_ms)
        return self.truth.expected_watch_time_s(self.user_rows, everything, self.at_ms, *counts)

    def _everything(self) -> Rows:
        num_items = self.truth.world.config.num_items
        everything = np.arange(num_items, dtype=np.int32)
        return np.broadcast_to(everything, (len(self.user_rows), num_items))


def replayed_pages(
    truth: Truth, impressions: Impressions, watches: Watches, *, from_day: int = 0
) -> Iterator[ReplayedPages]:
    """The simulated pages from a day on, counted from 0, in order of time.

    Args:
        impressions, watches: the whole logs, since policies remember.
    """
    config = truth.world.config
    groups, fatigue = Groups.of(truth.world), Fatigue.of_logs(truth, impressions, watches)
    by_request = impressions.frame.sort("request_id", "position")
    days = pl.col("request_id") // REQUESTS_PER_DAY
    for day in range(from_day, config.num_days):
        num_watches = _watches_before(truth, watches, day)
        policy = LoggingPolicy(truth.world, groups, START_MS + day * MS_PER_DAY, num_watches)
        shown = by_request.filter(days == day)
        for part in shown.iter_slices(REQUESTS_AT_ONCE * config.page_size):
            yield _replayed(truth, fatigue, policy, part)


def _replayed(
    truth: Truth, fatigue: Fatigue, policy: LoggingPolicy, shown: pl.DataFrame
) -> ReplayedPages:
    config = truth.world.config
    first = shown.gather_every(config.page_size)
    user_rows, at_ms = truth.user_rows(first["user_id"]), first["shown_at_ms"].to_numpy()
    shape = (first.height, config.page_size)
    return ReplayedPages(
        truth=truth,
        fatigue=fatigue,
        policy=policy,
        user_rows=user_rows,
        at_ms=at_ms,
        recent_rows=fatigue.watched.last(user_rows, at_ms, config.related_memory),
        item_rows=truth.item_rows(shown["item_id"]).reshape(shape),
        propensities=shown["propensity"].to_numpy().reshape(shape),
        watch_time_s=shown["watch_time_s"].to_numpy().reshape(shape),
    )


def _watches_before(truth: Truth, watches: Watches, day: int) -> Rows:
    """[N] watches that started in the last popularity_days before the day."""
    config, until_ms = truth.world.config, START_MS + day * MS_PER_DAY
    from_ms = until_ms - config.popularity_days * MS_PER_DAY
    lately = watches.frame.filter(pl.col("started_at_ms").is_between(from_ms, until_ms - 1))
    rows = truth.item_rows(lately["item_id"])
    return np.bincount(rows, minlength=config.num_items).astype(np.int32)
