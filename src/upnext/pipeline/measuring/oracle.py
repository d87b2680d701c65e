"""The truth of simulated logs, asked by the rows of a release."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from upnext.examples.history import Indices
from upnext.examples.vocabulary import Vocabulary
from upnext.logs.simulation.fatigue import Fatigue
from upnext.logs.simulation.truth import Truth, load_truth
from upnext.recommender import Recommender
from upnext.schema import NUM_RESERVED_ROWS, Floats, Logs, Rows, TimesMs


@dataclass(frozen=True)
class Oracle:
    """The truth, asked by vocabulary rows."""

    truth: Truth
    fatigue: Fatigue
    user_rows: Rows
    item_rows: Rows

    @classmethod
    def open(
        cls, directory: Path, logs: Logs, recommender: Recommender, users: Vocabulary
    ) -> "Oracle | None":
        """None where the logs were not simulated."""
        if not (directory / "truth").is_dir() or logs.impressions is None:
            return None
        truth = load_truth(directory)
        reserved = np.zeros(NUM_RESERVED_ROWS, np.int32)
        items = truth.item_rows(recommender.encoder.catalogue.items.series())
        return cls(
            truth,
            Fatigue.of_logs(truth, logs.impressions, logs.watches),
            np.concatenate([reserved, truth.user_rows(users.series().cast(pl.String))]),
            np.concatenate([reserved, items]),
        )

    def expected_watch_time_s(self, user_rows: Indices, at_ms: TimesMs, item_rows: Rows) -> Floats:
        """Seconds a slot that is looked at: user_rows, at_ms [B], item_rows [B, K] → [B, K].

        Padding (-1) and reserved rows bring nothing.
        """
        users, items = self.user_rows[user_rows], self.item_rows[np.maximum(item_rows, 0)]
        shown, watched = self.fatigue.counts(users, items, at_ms)
        seconds = self.truth.expected_watch_time_s(users, items, at_ms, shown, watched)
        return np.where(item_rows >= NUM_RESERVED_ROWS, seconds, np.float32(0))
