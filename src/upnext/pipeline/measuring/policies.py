"""On simulated logs the truth is known: what would each way to choose a page really bring?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from upnext.evaluation.intervals import metric_value, sum_by_user
from upnext.evaluation.report import PolicyValue
from upnext.examples.impressions import build_impression_examples
from upnext.examples.watches import WatchTargets
from upnext.pipeline.measuring.bench import Bench
from upnext.pipeline.measuring.oracle import Oracle
from upnext.pipeline.measuring.parts import Arrays
from upnext.recommender import Recommender
from upnext.schema import NUM_RESERVED_ROWS, UNKNOWN_ROW, Floats

PAGE_SIZE = 10
BEST = "best possible order of the candidates"
BEST_OF_ALL = "best possible of all known items"


@dataclass(frozen=True, kw_only=True)
class PolicyPages:
    """What the 10 slots that each policy would fill truly bring, at some moments.

    All policies leave out what the user has watched. `moments`: users and times; what they watched
    then is not asked. `others`: the scores [b, N] of further policies at some moments.
    """

    oracle: Oracle
    recommender: Recommender
    moments: WatchTargets
    others: Mapping[str, Callable[[WatchTargets], Floats]]
    batch_size: int = 256

    @classmethod
    def of(cls, bench: Bench) -> Self | None:
        """At moments of the logged requests of the test; None where there is no truth."""
        impressions, oracle = bench.split.test.impressions, bench.oracle
        if impressions is None or impressions.frame.is_empty() or oracle is None:
            return None
        examples = build_impression_examples(
            bench.recommender.encoder, bench.history, bench.users, impressions
        )
        unasked = np.full(examples.num_requests, UNKNOWN_ROW, np.int32)
        moments = WatchTargets(bench.history, examples.user_rows, examples.at_ms, unasked)
        return cls(
            oracle=oracle,
            recommender=bench.recommender,
            moments=moments.sample(bench.config.evaluation.num_policy_moments, seed=2),
            others={one.name: one.scores_at for one in bench.baselines},
        )

    @property
    def num_events(self) -> int:
        """As many as there are moments."""
        return len(self.moments)

    def measure(self, batch: slice) -> Arrays:
        """[b] mean expected watch time of a slot of the page, a slot looked at; of each policy."""
        moments = self.moments[batch]
        history, users, times = moments.history, moments.user_rows, moments.at_ms
        starts, seen = moments.watched_before()
        excluded = np.split(seen, starts[1:-1])
        candidates = self.recommender.candidates_of(history, users, times, excluded)
        ranked = self.recommender.ranked(history, users, times, candidates)
        truth = self.oracle.expected_watch_time_s(users, times, candidates)
        num_rows = self.recommender.encoder.catalogue.num_rows
        everything = np.broadcast_to(np.arange(num_rows, dtype=np.int32), (len(users), num_rows))
        of_all = self.oracle.expected_watch_time_s(users, times, everything)
        mask_of = np.repeat(np.arange(len(users)), np.diff(starts))
        of_all[mask_of, seen] = 0.0
        pages = {
            "two-stage": self.oracle.expected_watch_time_s(users, times, ranked[:, :PAGE_SIZE]),
            "retrieval alone": truth[:, :PAGE_SIZE],
            BEST: -np.sort(-truth, axis=1)[:, :PAGE_SIZE],
            BEST_OF_ALL: -np.sort(-of_all, axis=1)[:, :PAGE_SIZE],
        }
        for name, scores_of in self.others.items():
            scores = np.array(scores_of(moments))
            scores[:, :NUM_RESERVED_ROWS] = -np.inf
            scores[mask_of, seen] = -np.inf
            page = np.argsort(-scores, axis=1, kind="stable")[:, :PAGE_SIZE]
            pages[name] = np.take_along_axis(of_all, page, axis=1)
        return {name: page.mean(axis=1) for name, page in pages.items()}

    def values(self, found: Arrays) -> tuple[PolicyValue, ...]:
        """Means over the moments with their intervals, the best first."""
        user_rows = self.moments.user_rows
        num_moments = sum_by_user(user_rows, np.ones(len(user_rows)))
        best = float(found[BEST].mean())
        rows = []
        for name, seconds in found.items():
            value = metric_value(sum_by_user(user_rows, seconds), num_moments)
            rows.append(
                PolicyValue(
                    name=name,
                    expected_watch_time_s=value.value,
                    low=value.low,
                    high=value.high,
                    share_of_best=value.value / best,
                )
            )
        return tuple(sorted(rows, key=lambda row: -row.expected_watch_time_s))
