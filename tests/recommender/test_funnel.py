"""Requests that go together are answered as each alone, and no failing stage leaves one without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from upnext.recommender import Recommender
from upnext.recommender.files import Network
from upnext.schema import (
    ItemRules,
    LivePast,
    PageOptions,
    PastWatch,
    RecommendationRequest,
    Recommendations,
)
from upnext.serving.metrics import causes_of

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease

DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def recommender(tiny_release: TrainedRelease) -> Recommender:
    return tiny_release.recommender


@pytest.fixture(scope="module")
def at_ms(recommender: Recommender) -> int:
    return int(recommender.history.watches.at_ms.max()) + DAY_MS


@pytest.fixture(scope="module")
def user(recommender: Recommender) -> RecommendationRequest:
    """Whoever watched most."""
    starts = recommender.history.watches.starts
    at_ms = int(recommender.history.watches.at_ms.max()) + DAY_MS
    user_id = recommender.users.id(int(np.diff(starts).argmax()))
    return RecommendationRequest(user_id=user_id, at_ms=at_ms, k=8)


def ids(answer: Recommendations) -> list[object]:
    return [item.item_id for item in answer.items]


def watched_by(recommender: Recommender, request: RecommendationRequest) -> set[object]:
    assert request.user_id is not None
    rows = recommender.history.watches.of_user(recommender.users.row(request.user_id)).rows
    return {recommender.encoder.catalogue.items.id(int(row)) for row in rows if row > 1}


def of_all_kinds(recommender: Recommender, at_ms: int) -> list[RecommendationRequest]:
    items = recommender.encoder.catalogue.items
    tags = recommender.encoder.catalogue.tags
    users = [recommender.users.id(row) for row in (2, 3, 4)]
    told = [PastWatch(item_id=items.id(row)) for row in (5, 9, 3)]
    return [
        RecommendationRequest(user_id=users[0], at_ms=at_ms),
        RecommendationRequest(user_id=users[1], at_ms=at_ms - 3 * DAY_MS, k=3),
        RecommendationRequest(user_id="a stranger", at_ms=at_ms),
        RecommendationRequest(history=told, at_ms=at_ms, num_reasons=2, k=4),
        RecommendationRequest(user_id=users[2], searches=["ramen"], at_ms=at_ms, k=60),
        RecommendationRequest(
            user_id=users[0], at_ms=at_ms, rules=ItemRules(blocked_tags=[str(tags.id(2))])
        ),
        RecommendationRequest(user_id=users[1], at_ms=at_ms, exclude_watched=False),
        RecommendationRequest(
            user_id=users[2], at_ms=at_ms, page=PageOptions(diversity=0.4, num_explored=2, seed=3)
        ),
    ]


def test_requests_together_are_answered_as_each_alone(recommender: Recommender, at_ms: int) -> None:
    requests = of_all_kinds(recommender, at_ms)
    items = recommender.encoder.catalogue.items
    lately = LivePast(watched=[items.id(40)], started_at_ms=[at_ms - 60_000], watch_time_s=[30.0])
    live = [lately if place % 3 == 0 else None for place in range(len(requests))]
    together = recommender.recommend_all(requests, live)
    assert len(together) == len(requests)
    for request, past, ours in zip(requests, live, together, strict=True):
        alone = recommender.recommend(request, past)
        assert ids(ours) == ids(alone)
        assert ours.num_candidates == alone.num_candidates
        assert ours.degraded == alone.degraded
        for one, other in zip(ours.items, alone.items, strict=True):
            assert one.expected_watch_time_s == pytest.approx(other.expected_watch_time_s, rel=1e-4)
            assert (one.sources, one.explored) == (other.sources, other.explored)
            assert one.propensity == pytest.approx(other.propensity, rel=1e-3)
            assert len(one.reasons) == request.num_reasons


def test_what_was_watched_just_now_changes_the_answer_and_is_not_in_it(
    recommender: Recommender, user: RecommendationRequest
) -> None:
    before = recommender.recommend(user)
    assert user.at_ms is not None
    top = before.items[0].item_id
    live = LivePast(watched=[top], started_at_ms=[user.at_ms - 1], watch_time_s=[60.0])
    after = recommender.recommend(user, live)
    assert top not in ids(after)
    seconds = {item.item_id: item.expected_watch_time_s for item in before.items}
    kept = [item for item in after.items if item.item_id in seconds]
    assert kept
    assert any(item.expected_watch_time_s != seconds[item.item_id] for item in kept)


class Broken:
    """Whatever it is asked for, it fails."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name} today")

    def __call__(self, *args: object) -> Any:
        raise RuntimeError("not today")


def breaks(recommender: Recommender, stage: str) -> Recommender:
    broken: Any = Broken()
    nominators, retriever = recommender.nominators, recommender.retriever
    assert recommender.ranker is not None
    tower = Network(broken, retriever.tower.inputs)
    match stage:
        case "user_vector":
            retriever = replace(retriever, tower=tower)
        case "index":
            retriever = replace(retriever, index=broken)
        case "sources":
            sources = replace(nominators.sources, together=broken)
            scorer = replace(nominators.scorer, sources=sources)
            nominators = replace(nominators, scorer=scorer)
        case "ranking":
            network = Network(broken, recommender.ranker.network.inputs)
            return replace(recommender, ranker=replace(recommender.ranker, network=network))
    nominators = replace(nominators, retriever=retriever)
    return replace(recommender, retriever=retriever, nominators=nominators)


@pytest.mark.parametrize("stage", ["user_vector", "index", "sources", "ranking"])
def test_whatever_stage_fails_there_is_a_page_of_what_was_not_watched(
    recommender: Recommender, user: RecommendationRequest, stage: str
) -> None:
    answer = breaks(recommender, stage).recommend(user)
    assert len(set(ids(answer))) == user.k
    assert not set(ids(answer)) & watched_by(recommender, user)
    assert any(cause.startswith(f"{stage} failed (RuntimeError)") for cause in answer.degraded)
    assert stage in causes_of(answer.degraded), "a server counts and judges by it"
    assert not any("today" in cause for cause in answer.degraded)
    nominators: set[str] = {name for item in answer.items for name in item.sources}
    if stage in ("user_vector", "index"):
        assert "retrieval" not in nominators
    if stage == "sources":
        assert nominators == {"retrieval"}
    if stage == "ranking":
        assert ids(answer) == nearest(recommender, user)


def nearest(recommender: Recommender, request: RecommendationRequest) -> Sequence[object]:
    """Retrieval's own first k."""
    answer = replace(recommender, ranker=None).recommend(request)
    return ids(answer)


def test_after_its_time_nothing_is_ranked(
    recommender: Recommender, user: RecommendationRequest
) -> None:
    answer, other = recommender.recommend_all([user, user], [None, None], rank_before_s=0.0)
    assert ids(answer) == ids(other) == nearest(recommender, user)
    assert [item.expected_watch_time_s for item in answer.items] == [None] * 8
    assert any("too late" in cause for cause in answer.degraded)


def test_what_is_popular_is_told_without_a_network(
    recommender: Recommender, user: RecommendationRequest
) -> None:
    answer = breaks(breaks(recommender, "user_vector"), "ranking").popular(user, None, "too busy")
    assert len(set(ids(answer))) == user.k
    assert not set(ids(answer)) & watched_by(recommender, user)
    assert answer.degraded == ("too busy",)
    allowed = [recommender.encoder.catalogue.items.id(row) for row in (7, 9)]
    ruled = replace(user, rules=ItemRules(allowed_items=allowed), exclude_watched=False)
    assert set(ids(recommender.popular(ruled, None, ""))) == set(allowed)


def test_of_everything_watched_nothing_popular_is_left(recommender: Recommender) -> None:
    items = recommender.encoder.catalogue.items
    everything = [PastWatch(item_id=items.id(row)) for row in range(2, items.num_rows)]
    request = RecommendationRequest(history=everything, k=5)
    assert not recommender.popular(request, None, "").items
    again = replace(request, exclude_watched=False)
    assert len(recommender.popular(again, None, "").items) == 5


def test_similar_items_are_those_of_the_greatest_cosine(recommender: Recommender) -> None:
    vectors = recommender.retriever.item_vectors[2:].astype(np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    items = recommender.encoder.catalogue.items
    for row in (2, 17, 60):
        answer = recommender.similar(items.id(row), 5)
        cosines = unit @ unit[row - 2]
        cosines[row - 2] = -np.inf
        best = np.argsort(-cosines)[:5]
        assert ids(answer) == [items.id(int(place) + 2) for place in best]
        scores = [item.retrieval_score for item in answer.items]
        np.testing.assert_allclose(scores, cosines[best], rtol=1e-5)


def test_given_items_are_ranked_as_candidates_are(
    recommender: Recommender, user: RecommendationRequest
) -> None:
    page = recommender.recommend(user).items
    seconds = recommender.rank(user, None, [item.item_id for item in page])
    expected = [item.expected_watch_time_s for item in page]
    np.testing.assert_allclose(seconds, np.array(expected, np.float32), rtol=1e-4)
