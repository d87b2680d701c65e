"""What training had in memory and what a release serves from files are the same two models."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import upnext.recommender.opened
from upnext.examples.history import Indices
from upnext.examples.impressions import ImpressionExamples, build_impression_examples
from upnext.examples.ranking_inputs import CANDIDATE_INPUTS, REQUEST_INPUTS, RankingInputs
from upnext.examples.watches import WatchExamples, build_watch_examples
from upnext.pipeline.learning_logs import split_logs
from upnext.pipeline.nominating import source_scorer
from upnext.recommender import Recommender
from upnext.recommender.candidates import moments_of
from upnext.registry.release import open_release
from upnext.schema import NUM_RESERVED_ROWS, Floats, Logs, RecommendationRequest, Rows, TimesMs

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease

OF_CANDIDATE = set(CANDIDATE_INPUTS) - {
    "request_index",
    "item_rows",
    "position",
    "source_scores",
}
"""What does not depend on who was asked for beside it, nor on which sources a release has."""


@pytest.fixture(scope="module")
def train_logs(tiny_logs: Logs, tiny_release: TrainedRelease) -> Logs:
    return split_logs(tiny_logs, tiny_release.config.split).train


@pytest.fixture(scope="module")
def watch_examples(tiny_release: TrainedRelease, train_logs: Logs) -> WatchExamples:
    encoder, users = tiny_release.learned.encoder, tiny_release.recommender.users
    return build_watch_examples(encoder, encoder.history(train_logs, users), completed_share=0.0)[1]


@pytest.fixture(scope="module")
def impression_examples(tiny_release: TrainedRelease, train_logs: Logs) -> ImpressionExamples:
    """Encoded from the training logs alone, as training did; serving knows the later days too."""
    encoder, users = tiny_release.learned.encoder, tiny_release.recommender.users
    assert train_logs.impressions is not None
    history = encoder.history(train_logs, users)
    return build_impression_examples(encoder, history, users, train_logs.impressions)


def test_logged_requests_are_served_with_the_inputs_of_training(
    tiny_release: TrainedRelease,
    impression_examples: ImpressionExamples,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served: list[RankingInputs] = []

    def encode_and_keep(*args: Any, **kwargs: Any) -> RankingInputs:
        served.append(RankingInputs(*args, **kwargs))
        return served[-1]

    monkeypatch.setattr(upnext.recommender.opened, "RankingInputs", encode_and_keep)
    recommender = tiny_release.recommender
    num_compared = 0
    for request in range(0, impression_examples.num_requests, 20):
        recommender.recommend(
            RecommendationRequest(
                user_id=recommender.users.id(int(impression_examples.user_rows[request])),
                at_ms=int(impression_examples.at_ms[request]),
                k=1,
            )
        )
        trained, _ = impression_examples.inputs(tiny_release.learned.encoder, np.array([request]))
        for name in REQUEST_INPUTS:
            _assert_same_bits(served[-1][name], trained[name])
        _, in_served, in_trained = np.intersect1d(
            served[-1].item_rows, trained.item_rows, return_indices=True
        )
        for name in OF_CANDIDATE:
            _assert_same_bits(served[-1][name][in_served], trained[name][in_trained])
        num_compared += len(in_served)
    assert num_compared > 30


def test_the_exported_ranker_scores_as_the_trained_one(
    tiny_release: TrainedRelease, impression_examples: ImpressionExamples
) -> None:
    ranker, learned = tiny_release.recommender.ranker, tiny_release.learned
    assert ranker is not None
    assert learned.ranking is not None
    shape = (len(impression_examples.item_rows), ranker.num_sources)
    scores = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    requests = np.arange(0, impression_examples.num_requests, 3)
    raw, _ = replace(impression_examples, source_scores=scores).inputs(learned.encoder, requests)
    with torch.inference_mode():
        seconds = learned.ranking.model(raw).numpy()
    assert len(np.unique(seconds)) > 100
    np.testing.assert_allclose(ranker.seconds_of(raw), seconds, rtol=1e-4)


def test_the_exported_tower_makes_the_user_vectors_of_the_trained_one(
    tiny_release: TrainedRelease, watch_examples: WatchExamples
) -> None:
    recommender, retrieval = tiny_release.recommender, tiny_release.learned.retrieval
    users, times = watch_examples.queries.user_rows, watch_examples.at_ms
    served = recommender.retriever.user_vectors(recommender.history, users, times)
    trained = retrieval.user_vectors(watch_examples.history, watch_examples.queries)
    assert np.std(trained, axis=0).min() > 1e-3
    np.testing.assert_allclose(served, trained, rtol=1e-4, atol=1e-5)


def test_a_release_keeps_every_bit_of_what_was_counted_and_learned(
    tiny_release: TrainedRelease,
) -> None:
    recommender, learned = tiny_release.recommender, tiny_release.learned
    _assert_same_bits(recommender.retriever.item_vectors, learned.retrieval.item_vectors())
    kept, counted = recommender.encoder.to_arrays(), learned.encoder.to_arrays()
    assert kept.keys() == counted.keys()
    for name, array in counted.items():
        _assert_same_bits(kept[name], array)
    assert recommender.encoder.config == learned.encoder.config


def test_both_stages_together_answer_as_the_models_in_memory(
    tiny_release: TrainedRelease, train_logs: Logs
) -> None:
    recommender = tiny_release.recommender
    at_ms = np.array([recommender.history.watches.at_ms.max() + 1])
    for user in range(NUM_RESERVED_ROWS, recommender.users.num_rows, 7):
        candidates, seconds = _answer_in_memory(tiny_release, train_logs, np.array([user]), at_ms)
        items = recommender.recommend(
            RecommendationRequest(user_id=recommender.users.id(user), at_ms=int(at_ms[0]))
        ).items
        rows = recommender.encoder.catalogue.items.rows([item.item_id for item in items])
        by_row = dict(zip(candidates.tolist(), seconds.tolist(), strict=True))
        best = np.sort(seconds)[::-1][: len(items)]
        np.testing.assert_allclose([by_row[row] for row in rows.tolist()], best, rtol=1e-4)
        told = [item.expected_watch_time_s for item in items]
        np.testing.assert_allclose(np.array(told, np.float64), best, rtol=1e-4)


def test_a_copy_of_a_release_gives_the_same_answers(
    tiny_release: TrainedRelease, tmp_path: Path
) -> None:
    shutil.copytree(tiny_release.registry, tmp_path / "copy")
    copy = Recommender.open(tmp_path / "copy", open_release(tmp_path / "copy", 1).version)
    at_ms = int(copy.history.watches.at_ms.max()) + 1
    for user in range(NUM_RESERVED_ROWS, copy.users.num_rows, 7):
        request = RecommendationRequest(user_id=copy.users.id(user), at_ms=at_ms)
        answers = [one.recommend(request).items for one in (copy, tiny_release.recommender)]
        assert answers[0] == answers[1]


def _answer_in_memory(
    trained: TrainedRelease, train_logs: Logs, user: Indices, at_ms: TimesMs
) -> tuple[Rows, Floats]:
    """Candidates and their seconds, by the networks that training left and without a file."""
    learned, history = trained.learned, trained.recommender.history
    assert learned.ranking is not None
    queries = learned.retrieval.query_encoder.queries(history, user, at_ms)
    user_vectors = learned.retrieval.user_vectors(history, queries)
    watched = np.unique(history.watches.all_before(user, at_ms)[1])
    found, _ = learned.index.search(
        user_vectors, trained.config.recommender.num_candidates, excluded_rows=[watched]
    )
    moments = moments_of(learned.encoder, history, user, at_ms, segment=None)
    nominated = learned.sources.nominate(moments, found_rows=found, excluded_rows=[watched])
    candidates = nominated.item_rows[0][nominated.item_rows[0] >= NUM_RESERVED_ROWS]
    before = learned.encoder.history(train_logs, trained.recommender.users)
    scorer = source_scorer(learned.encoder, before, learned.retrieval, learned.sources)
    one_request = np.zeros(len(candidates), np.int64)
    raw = RankingInputs(
        learned.encoder,
        history,
        user_rows=user,
        at_ms=at_ms,
        request_index=one_request,
        item_rows=candidates,
        position=np.zeros(len(candidates), np.float32),
        source_scores=scorer.scores(user_vectors, moments, candidates, one_request),
    )
    with torch.inference_mode():
        seconds: Floats = learned.ranking.model(raw).numpy()
    return candidates, seconds


def _assert_same_bits(one: Any, other: Any) -> None:
    assert one.dtype == other.dtype
    np.testing.assert_array_equal(one, other)
