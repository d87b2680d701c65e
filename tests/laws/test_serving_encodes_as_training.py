"""A request that tells a user's past is encoded, bit for bit, as training encoded that moment."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from upnext.examples.encoder import Encoder, ExamplesConfig, build_encoder, user_vocabulary
from upnext.examples.history import History
from upnext.examples.impressions import ImpressionExamples, build_impression_examples
from upnext.examples.past import told_by
from upnext.examples.ranking_inputs import CANDIDATE_INPUTS, REQUEST_INPUTS, RankingInputs
from upnext.examples.vocabulary import Vocabulary
from upnext.examples.watches import QueryEncoder, WatchExamples, build_watch_examples
from upnext.schema import Logs, PastWatch, RecommendationRequest

CONFIG = ExamplesConfig(
    max_items=80,
    num_watches=6,
    num_watches_ranked=8,
    num_searches=5,
    num_shown=15,
    clock=("hour", "weekday"),
    user_features=("region", "device"),
)
"""Few slots, so that they overflow; some items unknown."""


@dataclass(frozen=True)
class Platform:
    """What training makes of logs, and what a client of the server could tell of the same past."""

    logs: Logs
    encoder: Encoder
    users: Vocabulary
    history: History

    def request(self, user_row: int, at_ms: int) -> RecommendationRequest:
        """The user's own account: every watch, with times, and every query, oldest first."""
        user_id = self.users.id(user_row)
        assert self.logs.searches is not None
        assert self.logs.users is not None
        is_user = pl.col("user_id") == user_id
        watches = self.logs.watches.frame.filter(is_user).filter(pl.col("started_at_ms") < at_ms)
        searches = self.logs.searches.frame.filter(is_user).filter(pl.col("searched_at_ms") < at_ms)
        (features,) = self.logs.users.frame.filter(is_user).drop("user_id").to_dicts()
        return RecommendationRequest(
            user_id=user_id,
            history=[PastWatch(**watch) for watch in watches.drop("user_id").to_dicts()],
            searches=searches.sort("searched_at_ms", maintain_order=True)["query"].to_list(),
            user_features=features,
            at_ms=at_ms,
        )


@pytest.fixture(scope="module")
def platform(tiny_logs: Logs) -> Platform:
    encoder, users = build_encoder(tiny_logs, CONFIG), user_vocabulary(tiny_logs)
    return Platform(tiny_logs, encoder, users, encoder.history(tiny_logs, users))


@pytest.fixture(scope="module")
def watch_examples(platform: Platform) -> tuple[QueryEncoder, WatchExamples]:
    return build_watch_examples(platform.encoder, platform.history, completed_share=0.0)


@pytest.fixture(scope="module")
def impression_examples(platform: Platform) -> ImpressionExamples:
    assert platform.logs.impressions is not None
    return build_impression_examples(
        platform.encoder, platform.history, platform.users, platform.logs.impressions
    )


def retrieval_inputs(
    query_encoder: QueryEncoder, history: History, user_rows: NDArray[Any], at_ms: NDArray[Any]
) -> dict[str, NDArray[Any]]:
    queries = query_encoder.queries(history, user_rows, at_ms)
    return {
        "watched": history.watches.rows_in(queries.watch_lo, queries.watch_hi, CONFIG.num_watches),
        "searched": history.searches.rows_in(
            queries.search_lo, queries.search_hi, CONFIG.num_searches
        ),
        "context rows": queries.context_rows,
        "context values": queries.context_values,
    }


def assert_line_has_the_bits_of(
    trained: Mapping[str, NDArray[Any]], line: int, served: Mapping[str, NDArray[Any]]
) -> None:
    assert trained.keys() == served.keys()
    for name, array in served.items():
        assert array.dtype == trained[name].dtype, name
        assert array[0].shape == trained[name][line].shape, name
        assert array[0].tobytes() == trained[name][line].tobytes(), name


def moments(user_rows: NDArray[Any], at_ms: NDArray[Any]) -> Iterator[tuple[int, int, int]]:
    """Line, user row and time of each example."""
    for line in range(len(user_rows)):
        yield line, int(user_rows[line]), int(at_ms[line])


def test_retrieval_is_told_what_training_was_told(
    platform: Platform, watch_examples: tuple[QueryEncoder, WatchExamples]
) -> None:
    query_encoder, examples = watch_examples
    user_rows = examples.queries.user_rows
    trained = retrieval_inputs(query_encoder, platform.history, user_rows, examples.at_ms)
    assert trained["context values"].tobytes() == examples.queries.context_values.tobytes()
    assert (trained["watched"] == 1).any()
    assert (trained["watched"] > 1).all(axis=1).any()
    assert (trained["searched"] > 1).any()
    for line, user_row, at_ms in moments(user_rows, examples.at_ms):
        told = told_by(platform.encoder, platform.request(user_row, at_ms), at_ms)
        served = retrieval_inputs(query_encoder, told, np.array([0]), np.array([at_ms]))
        assert_line_has_the_bits_of(trained, line, served)


def test_ranking_is_told_what_training_was_told(
    platform: Platform, impression_examples: ImpressionExamples
) -> None:
    examples = impression_examples
    inputs, _ = examples.inputs(platform.encoder, np.arange(examples.num_requests))
    trained = inputs.arrays()
    of_requests = {name: trained[name] for name in REQUEST_INPUTS}
    assert trained["item_counts"].any(axis=0).all()
    for line, user_row, at_ms in moments(examples.user_rows, examples.at_ms):
        told = told_by(platform.encoder, platform.request(user_row, at_ms), at_ms)
        kept = platform.history.of_user(user_row)
        past = replace(kept, watches=told.watches, feature_rows=told.feature_rows)
        mine = slice(examples.starts[line], examples.starts[line + 1])
        served = RankingInputs(
            platform.encoder,
            past,
            user_rows=np.array([0]),
            at_ms=np.array([at_ms]),
            request_index=np.zeros(mine.stop - mine.start, np.int64),
            item_rows=examples.item_rows[mine],
            position=examples.position[mine],
        ).arrays()
        assert_line_has_the_bits_of(of_requests, line, {name: served[name] for name in of_requests})
        for name in set(CANDIDATE_INPUTS) - {"request_index"}:
            assert served[name].tobytes() == trained[name][mine].tobytes(), name
