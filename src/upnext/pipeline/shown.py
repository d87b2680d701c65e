"""What users of the test days were really shown, and what the ranker expected of it."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from upnext.evaluation.compare import ShownImpressions
from upnext.evaluation.slices import ImpressionFacts
from upnext.examples.catalogue import Catalogue
from upnext.examples.history import History
from upnext.examples.impressions import ImpressionExamples, build_impression_examples
from upnext.examples.vocabulary import Vocabulary
from upnext.recommender import Recommender
from upnext.schema import MS_PER_DAY, UNKNOWN_ROW, Floats, Impressions, Items, Rows

BATCH_SIZE = 256
UNDATED_MS = -1


@dataclass(frozen=True)
class ScoredImpressions:
    """M impressions at the positions they had; item_rows, those of the release, and seconds [M]."""

    shown: ShownImpressions
    facts: ImpressionFacts
    item_rows: Rows
    expected_watch_time_s: Floats


def score_shown(
    recommender: Recommender,
    history: History,
    users: Vocabulary,
    items: Items,
    impressions: Impressions,
    *,
    num_requests: int,
) -> ScoredImpressions:
    """Scores the impressions of at most so many requests, drawn once.

    The ranker is told of an item what the release knows. Whether an item is new, or long, is read
    from the whole table of items: the newest are just those that the release has never met.
    """
    encoder, known = recommender.encoder, recommender.encoder.catalogue
    listed = known.with_items(known.new_items(items), first_seen_ms=UNDATED_MS)
    examples = build_impression_examples(
        replace(encoder, catalogue=listed), history, users, impressions
    )
    count = min(num_requests, examples.num_requests)
    drawn = np.random.default_rng(0).choice(examples.num_requests, count, replace=False)
    requests = np.sort(drawn)
    is_known = examples.item_rows < known.num_rows
    met = replace(examples, item_rows=np.where(is_known, examples.item_rows, np.int32(UNKNOWN_ROW)))
    chosen, request_of = examples.impressions_of(requests)
    return ScoredImpressions(
        shown=ShownImpressions(
            user_rows=examples.user_rows[requests][request_of],
            request_ids=request_of,
            watched=examples.watched[chosen],
            watch_time_s=examples.watch_time_s[chosen],
        ),
        facts=_facts(examples, listed, requests),
        item_rows=met.item_rows[chosen],
        expected_watch_time_s=_expected_watch_time_s(recommender, met, requests),
    )


def _expected_watch_time_s(
    recommender: Recommender, examples: ImpressionExamples, requests: NDArray[np.int64]
) -> Floats:
    seconds = [np.zeros(0, np.float32)]
    for start in range(0, len(requests), BATCH_SIZE):
        part = requests[start : start + BATCH_SIZE]
        chosen, request_index = examples.impressions_of(part)
        seconds.append(
            recommender.expected_watch_time_s(
                examples.history,
                examples.user_rows[part],
                examples.at_ms[part],
                request_index,
                examples.item_rows[chosen],
                position=examples.position[chosen],
            )
        )
    return np.concatenate(seconds)


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
