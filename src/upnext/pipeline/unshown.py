"""Ranking examples for logs that tell what was watched but not what was shown."""

import numpy as np
from numpy.typing import NDArray

from upnext.examples.encoder import Encoder
from upnext.examples.history import History
from upnext.examples.impressions import ImpressionExamples
from upnext.examples.watches import WatchExamples, build_watch_examples
from upnext.index import ExactIndex
from upnext.retrieval.config import RetrievalConfig
from upnext.retrieval.trained import TrainedRetrieval
from upnext.schema import NUM_RESERVED_ROWS, Rows

MAX_REQUESTS = 200_000
UNWATCHED_PER_REQUEST = 9
VALIDATION_SHARE = 0.05
BATCH_SIZE = 2_048


def examples_without_impressions(
    encoder: Encoder,
    history: History,
    retrieval: TrainedRetrieval,
    config: RetrievalConfig,
    *,
    num_candidates: int,
    seed: int,
) -> tuple[ImpressionExamples, ImpressionExamples]:
    """Each watch that retrieval would have proposed, beside others that it would have.

    Watched and unwatched come from the same `num_candidates` candidates of that moment, as they
    will in serving: were the watched item taken as it is, ranking would learn that what retrieval
    likes is not watched. The release so made says that it never saw an impression; its expected
    watch times are true only of this mixture, one watch to nine candidates.

    Returns: training examples, and the latest ones for validation.
    """
    generator = np.random.default_rng(seed)
    _, examples = build_watch_examples(encoder, history, completed_share=config.completed_share)
    count = min(MAX_REQUESTS, len(examples))
    chosen = np.sort(generator.choice(len(examples), count, replace=False))
    unwatched, is_proposed = _unwatched_candidates(
        retrieval,
        examples[chosen],
        num_candidates=num_candidates,
        generator=generator,
    )
    watches, unwatched = examples[chosen[is_proposed]], unwatched[is_proposed]
    at_ms, user_rows = watches.at_ms, watches.user_rows
    rows = np.column_stack([watches.item_rows, unwatched])
    is_shown = rows >= NUM_RESERVED_ROWS
    watched = np.zeros(rows.shape, bool)
    watched[:, 0] = True
    seconds = np.zeros(rows.shape, np.float32)
    seconds[:, 0] = watches.watch_time_s

    def part(requests: NDArray[np.int64]) -> ImpressionExamples:
        shown = is_shown[requests]
        return ImpressionExamples(
            history=history,
            user_rows=user_rows[requests],
            at_ms=at_ms[requests],
            starts=np.concatenate([[0], np.cumsum(shown.sum(axis=1))]),
            item_rows=rows[requests][shown],
            position=np.zeros(shown.sum(), np.float32),
            watched=watched[requests][shown],
            watch_time_s=seconds[requests][shown],
            source_scores=np.zeros((shown.sum(), 0), np.float32),
        )

    by_time = np.argsort(at_ms, kind="stable")
    num_train = len(by_time) - round(len(by_time) * VALIDATION_SHARE)
    return part(np.sort(by_time[:num_train])), part(np.sort(by_time[num_train:]))


def _unwatched_candidates(
    retrieval: TrainedRetrieval,
    examples: WatchExamples,
    *,
    num_candidates: int,
    generator: np.random.Generator,
) -> tuple[Rows, NDArray[np.bool_]]:
    """Rows [B, UNWATCHED_PER_REQUEST] drawn from each moment's candidates, -1 where too few.

    And whether the watched item is one of the candidates too, [B].
    """
    index = ExactIndex.build(retrieval.item_vectors())
    drawn = np.full((len(examples), UNWATCHED_PER_REQUEST), -1, np.int32)
    is_proposed = np.empty(len(examples), bool)
    for start in range(0, len(examples), BATCH_SIZE):
        part = slice(start, start + BATCH_SIZE)
        watches = examples[part]
        starts, rows = examples.history.watches.all_before(watches.user_rows, watches.at_ms)
        candidates, _ = index.search(
            retrieval.user_vectors(examples.history, watches.queries),
            num_candidates,
            excluded_rows=[np.unique(before) for before in np.split(rows, starts[1:-1])],
        )
        is_watched = candidates == watches.item_rows[:, None]
        is_proposed[part] = is_watched.any(axis=1)
        order = np.where(is_watched | (candidates < 0), 2.0, generator.random(candidates.shape))
        places = order.argsort(axis=1)[:, :UNWATCHED_PER_REQUEST]
        taken = np.take_along_axis(candidates, places, axis=1)
        drawn[part, : places.shape[1]] = np.where(
            np.take_along_axis(is_watched, places, axis=1), -1, taken
        )
    return drawn, is_proposed
