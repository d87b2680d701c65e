"""On simulated logs the truth is known: what would each way to choose a page really bring?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.evaluation.intervals import metric_value, sum_by_user
from upnext.evaluation.report import PolicyValue
from upnext.examples.history import Indices
from upnext.examples.vocabulary import Vocabulary
from upnext.examples.watches import WatchTargets
from upnext.logs.simulation.fatigue import Fatigue
from upnext.logs.simulation.truth import Truth, load_truth
from upnext.recommender import Recommender
from upnext.schema import NUM_RESERVED_ROWS, Floats, Logs, Rows, TimesMs

PAGE_SIZE = 10
BATCH_SIZE = 256
BEST = "best possible order of the candidates"
BEST_OF_ALL = "best possible of all known items"

Scores = Callable[[slice], Floats]


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


def policy_values(
    oracle: Oracle,
    recommender: Recommender,
    moments: WatchTargets,
    others: Mapping[str, Scores],
) -> tuple[PolicyValue, ...]:
    """Mean expected watch time of the 10 slots that each policy would fill, a slot looked at.

    All policies leave out what the user has watched.

    Args:
        moments: users and times; what they watched then is not asked.
        others: scores [b, N] of further policies for a slice of the moments.
    """
    names = ("two-stage", "retrieval alone", BEST, BEST_OF_ALL, *others)
    values: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    num_rows = recommender.encoder.catalogue.num_rows
    history = moments.history
    for start in range(0, len(moments), BATCH_SIZE):
        part = slice(start, min(start + BATCH_SIZE, len(moments)))
        users, times = moments.user_rows[part], moments.at_ms[part]
        starts, seen = moments[part].watched_before()
        excluded = np.split(seen, starts[1:-1])
        candidates = recommender.candidates_of(history, users, times, excluded)
        ranked = recommender.ranked(history, users, times, candidates)
        truth = oracle.expected_watch_time_s(users, times, candidates)
        everything = np.broadcast_to(np.arange(num_rows, dtype=np.int32), (len(users), num_rows))
        of_all = oracle.expected_watch_time_s(users, times, everything)
        mask_of = np.repeat(np.arange(len(users)), np.diff(starts))
        of_all[mask_of, seen] = 0.0
        pages = {
            "two-stage": oracle.expected_watch_time_s(users, times, ranked[:, :PAGE_SIZE]),
            "retrieval alone": truth[:, :PAGE_SIZE],
            BEST: -np.sort(-truth, axis=1)[:, :PAGE_SIZE],
            BEST_OF_ALL: -np.sort(-of_all, axis=1)[:, :PAGE_SIZE],
        }
        for name, scores_of in others.items():
            scores = np.array(scores_of(part))
            scores[:, :NUM_RESERVED_ROWS] = -np.inf
            scores[mask_of, seen] = -np.inf
            page = np.argsort(-scores, axis=1, kind="stable")[:, :PAGE_SIZE]
            pages[name] = np.take_along_axis(of_all, page, axis=1)
        for name, page_values in pages.items():
            values[name].append(page_values.mean(axis=1))
    by_policy = {name: np.concatenate(parts) for name, parts in values.items()}
    return _with_intervals(by_policy, moments.user_rows)


def _with_intervals(
    by_policy: Mapping[str, NDArray[np.float32]], user_rows: Indices
) -> tuple[PolicyValue, ...]:
    num_moments = sum_by_user(user_rows, np.ones(len(user_rows)))
    best = float(by_policy[BEST].mean())
    rows = []
    for name, seconds in by_policy.items():
        value = metric_value(sum_by_user(user_rows, seconds), num_moments)
        share = value.value / best
        rows.append(
            PolicyValue(
                name=name,
                expected_watch_time_s=value.value,
                low=value.low,
                high=value.high,
                share_of_best=share,
            )
        )
    return tuple(sorted(rows, key=lambda row: -row.expected_watch_time_s))
