"""What would the release bring, choosing what stands first? Told from logged propensities alone.

Its own choice, always the one best item, is hardly ever what the logs show, so that they tell
nothing about it. They do tell about choices that are less sure of themselves: one of the release's
candidates, drawn in proportion to a power of its expected watch time ŝ,

    π(i | x) = ŝ_i^β / Σ_{j candidate} ŝ_j^β

β = 0 draws any candidate alike, as if there were no ranking; the greater β, the nearer to the best
item, and the fewer logged choices are left that tell anything. The weights' mean and the effective
number of slots say how far the logs reach. It is about the first slot, which has none above it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.evaluation.off_policy import OffPolicyValue, RewardModel, off_policy_value
from upnext.examples.history import History, Indices
from upnext.examples.vocabulary import Vocabulary
from upnext.pipeline.policies import Oracle
from upnext.recommender import Recommender
from upnext.schema import NUM_RESERVED_ROWS, UNKNOWN_ROW, Floats, Impressions, Rows, TimesMs

BATCH_SIZE = 256
POWERS: Mapping[str, float] = {
    "any candidate alike": 0.0,
    "in proportion to expected watch time": 1.0,
    "in proportion to its square": 2.0,
}
"""Each policy's name and its β."""


@dataclass(frozen=True)
class FirstSlots:
    """M logged choices of what stands first, in order of time; all [M], rows those of a release."""

    user_rows: Indices
    at_ms: TimesMs
    item_rows: Rows
    propensities: Floats
    watch_time_s: Floats

    @classmethod
    def of_impressions(
        cls, impressions: Impressions, items: Vocabulary, users: Vocabulary, *, num_slots: int
    ) -> "FirstSlots | None":
        """At most so many, drawn once; None where the logs hold no propensities."""
        frame = impressions.frame
        if "propensity" not in frame.columns:
            return None
        logged = frame.filter(
            pl.col("position") == 0, pl.col("propensity").is_between(0, 1, closed="right")
        )
        drawn = logged.sample(min(num_slots, logged.height), seed=0).sort("shown_at_ms", "user_id")
        watch_time_s, watched = drawn["watch_time_s"].to_numpy(), drawn["watched"].to_numpy()
        slots = cls(
            user_rows=users.rows(drawn["user_id"]).astype(np.int64),
            at_ms=drawn["shown_at_ms"].to_numpy(),
            item_rows=items.rows(drawn["item_id"]),
            propensities=drawn["propensity"].to_numpy(),
            watch_time_s=np.where(watched, watch_time_s, np.float32(0)),
        )
        return slots if len(slots.at_ms) else None


@dataclass(frozen=True)
class _Considered:
    """Candidates of M slots, what the ranker expects of them [M, K], and of what was logged [M]."""

    item_rows: Rows
    expected_s: Floats
    logged_expected_s: Floats


def first_slot_values(
    recommender: Recommender,
    history: History,
    slots: FirstSlots,
    *,
    mask_watched: bool,
    oracle: Oracle | None,
) -> tuple[OffPolicyValue, ...]:
    """The estimates for each β, with the ranker as the doubly robust estimate's model.

    Args:
        history: may go on beyond the slots; only what lies strictly before each is read.
        mask_watched: whether what the user has watched is no candidate.
        oracle: on simulated logs, for the truth.

    Returns: nothing where the release has no ranker.
    """
    if recommender.ranker is None:
        return ()
    found = _considered(recommender, history, slots, mask_watched)
    rows, expected_s = found.item_rows, found.expected_s
    truth_s = np.full(rows.shape, np.nan)
    if oracle is not None:
        truth_s = oracle.expected_watch_time_s(slots.user_rows, slots.at_ms, rows)
    is_logged = rows == slots.item_rows[:, None]
    values = []
    for policy, power in POWERS.items():
        chances = _chances(rows, expected_s, power)
        model = RewardModel(
            predicted_s=found.logged_expected_s,
            target_predicted_s=(chances * expected_s).sum(axis=1),
        )
        value = off_policy_value(
            policy,
            user_rows=slots.user_rows,
            watch_time_s=slots.watch_time_s,
            propensities=slots.propensities,
            target_probabilities=(chances * is_logged).sum(axis=1),
            model=model,
            truth_s=float((chances * truth_s).sum(axis=1).mean()),
        )
        values.append(value)
    return tuple(values)


def _considered(
    recommender: Recommender,
    history: History,
    slots: FirstSlots,
    mask_watched: bool,
) -> _Considered:
    parts = []
    for start in range(0, len(slots.at_ms), BATCH_SIZE):
        part = slice(start, start + BATCH_SIZE)
        users, times = slots.user_rows[part], slots.at_ms[part]
        starts, seen = history.watches.all_before(users, times)
        excluded = np.split(seen, starts[1:-1]) if mask_watched else None
        candidates = recommender.candidates_of(history, users, times, excluded)
        rows = np.concatenate([candidates, slots.item_rows[part, None]], axis=1)
        moments, places = np.nonzero(rows >= UNKNOWN_ROW)
        seconds = np.zeros(rows.shape, np.float32)
        seconds[moments, places] = recommender.expected_watch_time_s(
            history, users, times, moments, rows[moments, places]
        )
        parts.append(_Considered(candidates, seconds[:, :-1], seconds[:, -1]))
    return _Considered(
        np.concatenate([part.item_rows for part in parts]),
        np.concatenate([part.expected_s for part in parts]),
        np.concatenate([part.logged_expected_s for part in parts]),
    )


def _chances(item_rows: Rows, expected_s: Floats, power: float) -> NDArray[np.float64]:
    """π of each candidate, [M, K]; 0 in empty places."""
    is_there = item_rows >= NUM_RESERVED_ROWS
    odds = np.where(is_there, expected_s.astype(np.float64) ** power, 0.0)
    totals = np.maximum(odds.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    chances: NDArray[np.float64] = odds / totals
    return chances
