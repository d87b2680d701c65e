"""What users of the test days were really shown, and what the ranker expected of it."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from upnext.evaluation.compare import ShownImpressions
from upnext.evaluation.slices import ImpressionFacts
from upnext.examples.catalogue import Catalogue
from upnext.examples.impressions import ImpressionExamples, build_impression_examples
from upnext.pipeline.measuring.bench import Bench
from upnext.pipeline.measuring.parts import Arrays
from upnext.recommender import Recommender
from upnext.schema import MS_PER_DAY, UNKNOWN_ROW, Floats, Impressions, Items, Rows

UNDATED_MS = -1


@dataclass(frozen=True)
class ScoredImpressions:
    """M impressions at the positions they had; item_rows, those of the release, and seconds [M]."""

    shown: ShownImpressions
    facts: ImpressionFacts
    item_rows: Rows
    expected_watch_time_s: Floats


@dataclass(frozen=True, kw_only=True)
class ShownScores:
    """Scores what was shown in some `requests`, [R] of those in `examples`.

    `recommender` has a ranker. It is told of an item what the release knows, in `met`. Whether an
    item is new, or long, is read from `listed`, the whole table of items: the newest are just those
    that the release has never met.
    """

    recommender: Recommender
    examples: ImpressionExamples
    listed: Catalogue
    requests: NDArray[np.int64]
    batch_size: int = 256

    @classmethod
    def of(cls, bench: Bench) -> Self | None:
        """On requests of the test, drawn once; None where nothing was shown, or nothing ranks."""
        impressions = bench.split.test.impressions
        if impressions is None or impressions.frame.is_empty() or not bench.recommender.ranker:
            return None
        return cls.of_impressions(
            bench, impressions, bench.logs.items, num_requests=bench.config.evaluation.num_requests
        )

    @classmethod
    def of_impressions(
        cls, bench: Bench, impressions: Impressions, items: Items, *, num_requests: int
    ) -> Self:
        """On at most so many requests of these, with items as they are listed here."""
        known = bench.recommender.encoder.catalogue
        listed = known.with_items(known.new_items(items), first_seen_ms=UNDATED_MS)
        encoder = replace(bench.recommender.encoder, catalogue=listed)
        examples = build_impression_examples(encoder, bench.history, bench.users, impressions)
        count = min(num_requests, examples.num_requests)
        drawn = np.random.default_rng(0).choice(examples.num_requests, count, replace=False)
        return cls(
            recommender=bench.recommender,
            examples=examples,
            listed=listed,
            requests=np.sort(drawn),
        )

    @property
    def num_events(self) -> int:
        """As many as there are requests."""
        return len(self.requests)

    def measure(self, batch: slice) -> Arrays:
        """`expected_s` [m] of the impressions of these requests, at the positions they had."""
        examples, part = self.met, self.requests[batch]
        chosen, request_index = examples.impressions_of(part)
        expected_s = self.recommender.expected_watch_time_s(
            examples.history,
            examples.user_rows[part],
            examples.at_ms[part],
            request_index,
            examples.item_rows[chosen],
            position=examples.position[chosen],
        )
        return {"expected_s": expected_s}

    def scored(self, found: Arrays) -> ScoredImpressions:
        """What was shown, what came of it, and what was expected."""
        examples = self.examples
        chosen, request_of = examples.impressions_of(self.requests)
        return ScoredImpressions(
            shown=ShownImpressions(
                user_rows=examples.user_rows[self.requests][request_of],
                request_ids=request_of,
                watched=examples.watched[chosen],
                watch_time_s=examples.watch_time_s[chosen],
            ),
            facts=_facts(examples, self.listed, self.requests),
            item_rows=self.met.item_rows[chosen],
            expected_watch_time_s=found["expected_s"],
        )

    @cached_property
    def met(self) -> ImpressionExamples:
        """The same impressions, but that items the release never met are unknown."""
        item_rows = self.examples.item_rows
        is_known = item_rows < self.recommender.encoder.catalogue.num_rows
        known_rows = np.where(is_known, item_rows, np.int32(UNKNOWN_ROW))
        return replace(self.examples, item_rows=known_rows)


def _facts(
    examples: ImpressionExamples, listed: Catalogue, requests: NDArray[np.int64]
) -> ImpressionFacts:
    chosen, request_of = examples.impressions_of(requests)
    user_rows, at_ms = examples.user_rows[requests], examples.at_ms[requests]
    watches = examples.history.watches
    lo, hi = watches.window_before(user_rows, at_ms, len(watches.rows))
    item_rows = examples.item_rows[chosen]
    published_ms, duration_s = listed.published_at_ms[item_rows], listed.duration_s[item_rows]
    age_ms = at_ms[request_of] - published_ms
    is_dated = (item_rows > UNKNOWN_ROW) & (published_ms >= 0) & (age_ms >= 0)
    return ImpressionFacts(
        num_watches_before=(hi - lo)[request_of],
        item_age_days=np.where(is_dated, age_ms / MS_PER_DAY, np.nan),
        duration_s=np.where(duration_s > 0, duration_s, np.nan),
        position=examples.position[chosen],
    )
