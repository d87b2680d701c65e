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
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.evaluation.off_policy import OffPolicyValue, RewardModel, off_policy_value
from upnext.examples.history import History, Indices
from upnext.examples.vocabulary import Vocabulary
from upnext.pipeline.measuring.bench import Bench
from upnext.pipeline.measuring.oracle import Oracle
from upnext.pipeline.measuring.parts import Arrays
from upnext.recommender import Recommender
from upnext.schema import NUM_RESERVED_ROWS, UNKNOWN_ROW, Floats, Impressions, Rows, TimesMs

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
        drawn = logged.sample(min(num_slots, logged.height), seed=0).sort(
            "shown_at_ms", "user_id", maintain_order=True
        )
        watch_time_s, watched = drawn["watch_time_s"].to_numpy(), drawn["watched"].to_numpy()
        slots = cls(
            user_rows=users.rows(drawn["user_id"]).astype(np.int64),
            at_ms=drawn["shown_at_ms"].to_numpy(),
            item_rows=items.rows(drawn["item_id"]),
            propensities=drawn["propensity"].to_numpy(),
            watch_time_s=np.where(watched, watch_time_s, np.float32(0)),
        )
        return slots if len(slots.at_ms) else None


@dataclass(frozen=True, kw_only=True)
class FirstSlotChoices:
    """What each β would bring at `slots`, with the ranker as the doubly robust estimate's model.

    `history` may go on beyond the slots; only what lies strictly before each is read. `oracle`: on
    simulated logs, for the truth. `recommender` has a ranker.
    """

    recommender: Recommender
    history: History
    slots: FirstSlots
    masks_watched: bool
    oracle: Oracle | None
    batch_size: int = 256

    @classmethod
    def of(cls, bench: Bench) -> Self | None:
        """Of the test, where logs hold propensities; None where they do not, or nothing ranks."""
        impressions, recommender = bench.split.test.impressions, bench.recommender
        if impressions is None or recommender.ranker is None:
            return None
        slots = FirstSlots.of_impressions(
            impressions,
            recommender.encoder.catalogue.items,
            bench.users,
            num_slots=bench.config.evaluation.num_off_policy_slots,
        )
        if slots is None:
            return None
        return cls(
            recommender=recommender,
            history=bench.history,
            slots=slots,
            masks_watched=bench.masks_watched,
            oracle=bench.oracle,
        )

    @property
    def num_events(self) -> int:
        """As many as there are slots."""
        return len(self.slots.at_ms)

    def measure(self, batch: slice) -> Arrays:
        """Candidates `item_rows` [b, K], seconds that the ranker expects of them, `expected_s`.

        And of what was logged, `logged_expected_s` [b]; `truth_s` [b, K], nan where not known.
        """
        users, times = self.slots.user_rows[batch], self.slots.at_ms[batch]
        starts, seen = self.history.watches.all_before(users, times)
        watched = np.split(seen, starts[1:-1])
        excluded, again = (watched, None) if self.masks_watched else (None, watched)
        candidates = self.recommender.candidates_of(self.history, users, times, excluded, again)
        rows = np.concatenate([candidates, self.slots.item_rows[batch, None]], axis=1)
        moments, places = np.nonzero(rows >= UNKNOWN_ROW)
        seconds = np.zeros(rows.shape, np.float32)
        seconds[moments, places] = self.recommender.expected_watch_time_s(
            self.history, users, times, moments, rows[moments, places]
        )
        truth_s = np.full(candidates.shape, np.nan)
        if self.oracle is not None:
            truth_s = self.oracle.expected_watch_time_s(users, times, candidates)
        return {
            "item_rows": candidates,
            "expected_s": seconds[:, :-1],
            "logged_expected_s": seconds[:, -1],
            "truth_s": truth_s,
        }

    def values(self, found: Arrays) -> tuple[OffPolicyValue, ...]:
        """The estimates for each β."""
        rows, expected_s = found["item_rows"], found["expected_s"]
        is_logged = rows == self.slots.item_rows[:, None]
        values = []
        for policy, power in POWERS.items():
            chances = _chances(rows, expected_s, power)
            model = RewardModel(
                predicted_s=found["logged_expected_s"],
                target_predicted_s=(chances * expected_s).sum(axis=1),
            )
            value = off_policy_value(
                policy,
                user_rows=self.slots.user_rows,
                watch_time_s=self.slots.watch_time_s,
                propensities=self.slots.propensities,
                target_probabilities=(chances * is_logged).sum(axis=1),
                model=model,
                truth_s=float((chances * found["truth_s"]).sum(axis=1).mean()),
            )
            values.append(value)
        return tuple(values)


def _chances(item_rows: Rows, expected_s: Floats, power: float) -> NDArray[np.float64]:
    """π of each candidate, [M, K]; 0 in empty places."""
    is_there = item_rows >= NUM_RESERVED_ROWS
    odds = np.where(is_there, expected_s.astype(np.float64) ** power, 0.0)
    totals = np.maximum(odds.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    chances: NDArray[np.float64] = odds / totals
    return chances
