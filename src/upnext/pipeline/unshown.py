"""Ranking examples for logs that tell what was watched but not what was shown."""

import numpy as np
from numpy.typing import NDArray

from upnext.examples.encoder import Encoder
from upnext.examples.history import History
from upnext.examples.impressions import ImpressionExamples
from upnext.examples.vocabulary import NUM_RESERVED_ROWS
from upnext.examples.watches import Queries, build_watch_examples
from upnext.index import ExactIndex
from upnext.retrieval.train import RetrievalConfig, TrainedRetrieval
from upnext.schema import Rows

MAX_REQUESTS = 200_000
UNWATCHED_PER_REQUEST = 9
CANDIDATES = 100
VALIDATION_SHARE = 0.05
BATCH_SIZE = 2_048


def examples_without_impressions(
    encoder: Encoder,
    history: History,
    retrieval: TrainedRetrieval,
    config: RetrievalConfig,
    *,
    seed: int,
) -> tuple[ImpressionExamples, ImpressionExamples]:
    """Each watch beside items that retrieval would have proposed then and the user never watched.

    The release so made says that it never saw an impression: its expected watch times are then
    true only of this mixture, one watch to nine candidates, though their order is of use.

    Returns: training and validation examples, parted at random by request.
    """
    generator = np.random.default_rng(seed)
    _, examples = build_watch_examples(encoder, history, completed_share=config.completed_share)
    count = min(MAX_REQUESTS, len(examples.queries))
    chosen = np.sort(generator.choice(len(examples.queries), count, replace=False))
    queries = examples.queries[chosen]
    unwatched = _unwatched_candidates(history, retrieval, queries, generator)
    rows = np.column_stack([examples.item_rows[chosen], unwatched])
    is_shown = rows >= NUM_RESERVED_ROWS
    watched = np.zeros(rows.shape, bool)
    watched[:, 0] = True
    seconds = np.zeros(rows.shape, np.float32)
    seconds[:, 0] = examples.watch_time_s[chosen]

    def part(requests: NDArray[np.bool_]) -> ImpressionExamples:
        shown = is_shown[requests]
        return ImpressionExamples(
            history=history,
            user_rows=queries.user_rows[requests],
            at_ms=examples.at_ms[chosen][requests],
            starts=np.concatenate([[0], np.cumsum(shown.sum(axis=1))]),
            item_rows=rows[requests][shown],
            position=np.zeros(shown.sum(), np.float32),
            watched=watched[requests][shown],
            watch_time_s=seconds[requests][shown],
        )

    is_validation = generator.random(count) < VALIDATION_SHARE
    return part(~is_validation), part(is_validation)


def _unwatched_candidates(
    history: History,
    retrieval: TrainedRetrieval,
    queries: Queries,
    generator: np.random.Generator,
) -> Rows:
    """[B, UNWATCHED_PER_REQUEST] rows drawn from each moment's candidates; -1 where too few."""
    index = ExactIndex.build(retrieval.item_vectors())
    watches = history.watches
    drawn = np.empty((len(queries), UNWATCHED_PER_REQUEST), np.int32)
    for start in range(0, len(queries), BATCH_SIZE):
        part = slice(start, start + BATCH_SIZE)
        users = queries.user_rows[part]
        watched_ever = [watches.rows[watches.starts[u] : watches.starts[u + 1]] for u in users]
        candidates, _ = index.search(
            retrieval.user_vectors(history, queries[part]), CANDIDATES, excluded_rows=watched_ever
        )
        places = generator.random(candidates.shape).argsort(axis=1)[:, :UNWATCHED_PER_REQUEST]
        drawn[part] = np.take_along_axis(candidates, places, axis=1)
    return drawn
