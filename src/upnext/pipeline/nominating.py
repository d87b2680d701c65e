"""Counted sources for a release, and what all sources thought of logged impressions in their time.

Ranking may learn from a source's score only if the source had not seen what came of it. So the
training impressions are cut by time into `[ranking] source_parts`; those of a part are scored by
sources and a retrieval that learned from what lies before the part. The first part has none.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.examples.encoder import Encoder
from upnext.examples.history import History
from upnext.examples.impressions import ImpressionExamples
from upnext.recommender.candidates import moments_of
from upnext.retrieval.trained import TrainedRetrieval
from upnext.schema import NUM_RESERVED_ROWS
from upnext.sources import Events, Shown, Sources, SourcesConfig, fit_sources
from upnext.sources.scores import SOURCE_FEATURES, SourceScorer, yardstick

REQUESTS_AT_ONCE = 512

Retrain = Callable[[History, int], TrainedRetrieval]
"""Learns retrieval anew from a history alone; the number tells the parts apart."""


def counted_sources(
    encoder: Encoder,
    history: History,
    examples: ImpressionExamples | None,
    config: SourcesConfig,
    *,
    until_ms: int | None = None,
) -> Sources:
    """The sources as all watches of a history, and impressions where there are any, make them."""
    user_rows, segment_rows = history.watches.user_rows(), None
    if config.segment is not None:
        column = encoder.user_feature_column(config.segment)
        segment_rows = history.feature_rows[user_rows, column]
    shown = None
    if examples is not None:
        at_ms = np.repeat(examples.at_ms, np.diff(examples.starts))
        shown = Shown(item_rows=examples.item_rows, at_ms=at_ms, watched=examples.watched)
    events = Events(
        user_rows=user_rows,
        item_rows=history.watches.rows,
        at_ms=history.watches.at_ms,
        segment_rows=segment_rows,
        published_at_ms=encoder.catalogue.published_at_ms,
        shown=shown,
    )
    return fit_sources(events, config, until_ms=until_ms)


def scored_in_their_time(
    encoder: Encoder,
    examples: ImpressionExamples,
    retrain: Retrain,
    config: SourcesConfig,
    *,
    num_parts: int,
) -> ImpressionExamples:
    """The examples with `source_scores`; requests stand in order of time."""
    scores = np.zeros((len(examples.item_rows), len(SOURCE_FEATURES)), np.float32)
    edges = np.linspace(0, examples.num_requests, num_parts + 1).astype(np.int64)
    for part in range(1, num_parts):
        first, end = edges[part], edges[part + 1]
        if first == end:
            continue
        cut_ms = int(examples.at_ms[first])
        before = examples.history.until(cut_ms)
        if not (before.watches.rows >= NUM_RESERVED_ROWS).any():
            continue
        retrieval = retrain(before, part)
        sources = counted_sources(encoder, examples.history, examples, config, until_ms=cut_ms)
        scorer = source_scorer(encoder, before, retrieval, sources)
        asked = examples.take(np.arange(first, end))
        impressions = slice(examples.starts[first], examples.starts[end])
        scores[impressions] = scores_of(encoder, asked, scorer, retrieval, config)
    return replace(examples, source_scores=scores)


def source_scorer(
    encoder: Encoder, before: History, retrieval: TrainedRetrieval, sources: Sources
) -> SourceScorer:
    """What scores candidates as of the end of a history."""
    num_rows = encoder.catalogue.num_rows
    num_watches = np.bincount(before.watches.rows, minlength=num_rows)
    num_watches[:NUM_RESERVED_ROWS] = 0
    return SourceScorer(
        item_vectors=retrieval.item_vectors(),
        sources=sources,
        yardstick_rows=yardstick(num_watches),
        known=num_watches > 0,
    )


def scores_of(
    encoder: Encoder,
    examples: ImpressionExamples,
    scorer: SourceScorer,
    retrieval: TrainedRetrieval,
    config: SourcesConfig,
) -> NDArray[np.float32]:
    """[M, S] what the sources think of all impressions of some requests."""
    parts = [np.zeros((0, len(SOURCE_FEATURES)), np.float32)]
    queries = retrieval.query_encoder.queries(examples.history, examples.user_rows, examples.at_ms)
    user_vectors = retrieval.user_vectors(examples.history, queries)
    for start in range(0, examples.num_requests, REQUESTS_AT_ONCE):
        requests: NDArray[Any] = np.arange(
            start, min(start + REQUESTS_AT_ONCE, examples.num_requests)
        )
        chosen, request_index = examples.impressions_of(requests)
        moments = moments_of(
            encoder,
            examples.history,
            examples.user_rows[requests],
            examples.at_ms[requests],
            segment=config.segment,
        )
        parts.append(
            scorer.scores(
                user_vectors[requests], moments, examples.item_rows[chosen], request_index
            )
        )
    return np.concatenate(parts)
