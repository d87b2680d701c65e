"""A release with self-attention gives the user vectors of the network that was trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from upnext.examples.encoder import user_vocabulary
from upnext.pipeline.releasing import Learned, publish_release
from upnext.recommender import Recommender
from upnext.retrieval.config import RetrievalConfig
from upnext.retrieval.model import RetrievalNetworkConfig
from upnext.retrieval.train import train_retrieval

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease

from upnext.schema import Logs, PastWatch, RecommendationRequest

NETWORK = RetrievalNetworkConfig(
    history="attention", vector_size=8, embedding_size=8, hidden_sizes=(8,), tied=True
)
CONFIG = RetrievalConfig(network=NETWORK, batch_size=128, num_epochs=2, learning_rate=0.01)


@pytest.fixture(scope="module")
def attentive(
    tiny_release: TrainedRelease, tiny_logs: Logs, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Learned, Recommender]:
    """Retrieval with attention, and the release of it alone."""
    encoder = tiny_release.learned.encoder
    users = user_vocabulary(tiny_logs)
    history = encoder.history(tiny_logs, users)
    retrieval = train_retrieval(encoder, history, None, CONFIG)
    learned = replace(tiny_release.learned, retrieval=retrieval, ranking=None)
    registry: Path = tmp_path_factory.mktemp("attentive") / "registry"
    release = publish_release(
        registry,
        learned,
        config=replace(tiny_release.config, rank=False, retrieval=CONFIG),
        users=users,
        history=history,
        facts={},
    )
    return learned, Recommender.open(registry, release.version)


def test_the_exported_attention_is_the_trained_one(
    attentive: tuple[Learned, Recommender],
) -> None:
    """Long, short and empty histories, many moments at once and one alone."""
    learned, recommender = attentive
    history = recommender.history
    watches = history.watches
    moments = np.arange(0, len(watches.rows), 7)
    users, at_ms = watches.user_rows()[moments], watches.at_ms[moments]
    queries = recommender.retriever.query_encoder.queries(history, users, at_ms)
    assert (queries.watch_hi == queries.watch_lo).any()
    trained = learned.retrieval.user_vectors(history, queries)
    served = recommender.retriever.user_vectors(history, users, at_ms)
    assert np.std(trained, axis=0).min() > 1e-3
    np.testing.assert_allclose(served, trained, rtol=1e-3, atol=1e-4)
    for place in (0, 11, len(moments) - 1):
        one = slice(place, place + 1)
        alone = recommender.retriever.user_vectors(history, users[one], at_ms[one])
        np.testing.assert_allclose(alone[0], served[place], rtol=1e-3, atol=1e-4)


def test_what_a_request_tells_moves_the_answer(attentive: tuple[Learned, Recommender]) -> None:
    _, recommender = attentive
    items = [recommender.encoder.catalogue.items.id(row) for row in (2, 3, 9)]
    at_ms = int(recommender.history.watches.at_ms.max()) + 1
    answers = [
        recommender.recommend(
            RecommendationRequest(history=[PastWatch(item_id=i) for i in past], at_ms=at_ms)
        )
        for past in (items, items[::-1], [])
    ]
    scores = [[item.retrieval_score for item in answer.items] for answer in answers]
    assert scores[0] != scores[1]
    assert scores[1] != scores[2]
