"""Where nobody logged impressions, each watch is set beside candidates that were never watched."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from upnext.examples.impressions import ImpressionExamples
from upnext.examples.watches import build_watch_examples
from upnext.index import ExactIndex
from upnext.pipeline.unshown import UNWATCHED_PER_REQUEST, examples_without_impressions
from upnext.schema import NUM_RESERVED_ROWS, LivePast, RecommendationRequest

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease

NUM_CANDIDATES = 40

Parts = tuple[ImpressionExamples, ImpressionExamples]


def parts_of(trained: TrainedRelease, seed: int) -> Parts:
    return examples_without_impressions(
        trained.learned.encoder,
        trained.recommender.history,
        trained.learned.retrieval,
        trained.config.retrieval,
        num_candidates=NUM_CANDIDATES,
        seed=seed,
    )


@pytest.fixture(scope="module")
def parts(tiny_release: TrainedRelease) -> Parts:
    return parts_of(tiny_release, seed=1)


def test_each_request_is_a_watch_and_validation_comes_last(
    parts: Parts, tiny_release: TrainedRelease
) -> None:
    _, examples = build_watch_examples(
        tiny_release.learned.encoder, tiny_release.recommender.history, completed_share=0.0
    )
    logged = set(
        zip(
            examples.queries.user_rows.tolist(),
            examples.at_ms.tolist(),
            examples.item_rows.tolist(),
            examples.watch_time_s.tolist(),
            strict=True,
        )
    )
    for part in parts:
        made = zip(
            part.user_rows.tolist(),
            part.at_ms.tolist(),
            part.item_rows[part.starts[:-1]].tolist(),
            part.watch_time_s[part.starts[:-1]].tolist(),
            strict=True,
        )
        assert set(made) <= logged
    assert 0 < parts[1].num_requests < parts[0].num_requests
    assert parts[0].at_ms.max() <= parts[1].at_ms.min()


def test_only_the_first_of_each_request_was_watched(parts: Parts) -> None:
    for part in parts:
        is_first = np.zeros(len(part.item_rows), bool)
        is_first[part.starts[:-1]] = True
        assert (part.watched == is_first).all()
        assert (part.watch_time_s[~is_first] == 0).all()
        assert (part.position == 0).all()


def test_watched_and_unwatched_are_candidates_of_the_moment(
    parts: Parts, tiny_release: TrainedRelease
) -> None:
    """Both come from where serving takes its candidates, else ranking learns to tell them apart."""
    retrieval = tiny_release.learned.retrieval
    index = ExactIndex.build(retrieval.item_vectors())
    for part in parts:
        history, users, at_ms = part.history, part.user_rows, part.at_ms
        vectors = retrieval.user_vectors(
            history, retrieval.query_encoder.queries(history, users, at_ms)
        )
        starts, rows = history.watches.all_before(users, at_ms)
        before = np.split(rows, starts[1:-1])
        candidates, _ = index.search(vectors, NUM_CANDIDATES + 3, excluded_rows=before)
        for request in range(part.num_requests):
            shown = part.item_rows[part.starts[request] : part.starts[request + 1]].tolist()
            assert len(set(shown)) == len(shown) <= 1 + UNWATCHED_PER_REQUEST
            assert min(shown) >= NUM_RESERVED_ROWS
            assert set(shown) <= set(candidates[request].tolist())


def test_the_seed_decides_what_is_drawn(parts: Parts, tiny_release: TrainedRelease) -> None:
    again, other = parts_of(tiny_release, seed=1)[0], parts_of(tiny_release, seed=2)[0]
    np.testing.assert_array_equal(again.item_rows, parts[0].item_rows)
    assert again.item_rows.tolist() != other.item_rows.tolist()


def test_searches_move_nothing_where_training_knew_of_none(plain_release: TrainedRelease) -> None:
    recommender = plain_release.recommender
    request = RecommendationRequest(user_id=recommender.users.id(2), at_ms=60)
    searched = replace(request, searches=["one two three"] * 9)
    assert recommender.recommend(searched).items == recommender.recommend(request).items


def test_pages_served_since_move_nothing_of_a_ranker_that_learned_of_none(
    plain_release: TrainedRelease,
) -> None:
    recommender = plain_release.recommender
    shown = [recommender.encoder.catalogue.items.id(row) for row in range(2, 12)]
    live = LivePast(shown=shown, shown_at_ms=list(range(13, 23)))
    request = RecommendationRequest(user_id=recommender.users.id(2), at_ms=60)
    assert recommender.recommend(request, live).items == recommender.recommend(request).items


def test_a_ranker_is_trained_without_impressions_and_the_release_says_so(
    plain_release: TrainedRelease,
) -> None:
    assert plain_release.recommender.ranker is not None
    assert plain_release.release.metadata["has_impressions"] is False
    assert plain_release.release.metadata["ranking_epochs"]
