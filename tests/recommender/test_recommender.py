"""Whatever is asked, a release answers: items in order, none twice, none that cannot be had."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from upnext.errors import ConfigError, ReleaseError, RequestError
from upnext.recommender import Recommender, RecommenderConfig
from upnext.recommender.vectors import mean_vectors
from upnext.registry.release import publish
from upnext.schema import Id, Logs, PastWatch, Recommendation, RecommendationRequest

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease

HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def recommender(tiny_release: TrainedRelease) -> Recommender:
    return tiny_release.recommender


@pytest.fixture(scope="module")
def at_ms(tiny_logs: Logs) -> int:
    """Just after the last watch."""
    return int(tiny_logs.watches.frame["started_at_ms"].to_numpy().max()) + HOUR_MS


@pytest.fixture(scope="module")
def user_id(tiny_logs: Logs) -> Id:
    """Whoever watched most."""
    user: Id = tiny_logs.watches.frame["user_id"].mode().sort()[0]
    return user


@pytest.fixture(scope="module")
def past(tiny_logs: Logs, user_id: Id) -> list[PastWatch]:
    """All that this user watched, as a request would tell it."""
    return [PastWatch(**watch) for watch in _watches(tiny_logs, user_id).to_dicts()]


def test_a_known_user_gets_a_page_in_order_of_expected_watch_time(
    recommender: Recommender, user_id: Id, at_ms: int
) -> None:
    answer = recommender.recommend(RecommendationRequest(user_id=user_id, at_ms=at_ms, k=12))
    seconds = [item.expected_watch_time_s or 0.0 for item in answer.items]
    assert len(answer.items) == 12
    assert seconds == sorted(seconds, reverse=True)
    assert min(seconds) > 0
    assert len(set(_ids(answer.items))) == 12
    assert answer.release == "1"
    num_found = recommender.config.num_candidates
    assert num_found < answer.num_candidates <= num_found + recommender.nominators.num_counted
    assert not answer.degraded


def test_each_item_tells_its_title_and_what_retrieval_thought(
    recommender: Recommender, tiny_logs: Logs, user_id: Id, at_ms: int
) -> None:
    request = RecommendationRequest(user_id=user_id, at_ms=at_ms, k=30)
    items = recommender.recommend(request).items
    frame = tiny_logs.items.frame
    titles = dict(zip(frame["item_id"], frame["title"], strict=True))
    assert all(item.title == titles[item.item_id] for item in items)
    by_rank = {item.retrieval_rank: item.retrieval_score for item in items if item.retrieval_rank}
    assert len(by_rank) == sum("retrieval" in item.sources for item in items) > 1
    assert set(by_rank) <= set(range(1, 31))
    scores = [by_rank[rank] for rank in sorted(by_rank)]
    assert scores == sorted(scores, reverse=True)


def test_timings_tell_each_stage_and_the_whole(recommender: Recommender) -> None:
    timings = dict(recommender.recommend(RecommendationRequest()).timings_ms)
    total = timings.pop("total")
    assert set(timings) == {"past", "user_vector", "candidates", "ranking", "reasons", "page"}
    assert min(timings.values()) >= 0
    assert total == pytest.approx(sum(timings.values()))


@pytest.mark.parametrize(
    "request_of_a_stranger",
    [
        RecommendationRequest(),
        RecommendationRequest(user_id="nobody we know"),
        RecommendationRequest(user_id=-(2**63)),
        RecommendationRequest(user_id="ユーザー 👩‍🚀\0"),
        RecommendationRequest(user_id=""),
        RecommendationRequest(history=[]),
        RecommendationRequest(history=[PastWatch(item_id="no such item"), PastWatch(item_id=7)]),
        RecommendationRequest(history=[PastWatch(item_id="видео")], searches=["суп", ""]),
        RecommendationRequest(user_features={"region": "Atlantis"}),
        RecommendationRequest(at_ms=0),
    ],
)
def test_strangers_are_welcome(
    recommender: Recommender, request_of_a_stranger: RecommendationRequest
) -> None:
    items = recommender.recommend(request_of_a_stranger).items
    assert len(set(_ids(items))) == 10
    assert np.isfinite([item.expected_watch_time_s or np.nan for item in items]).all()
    assert np.isfinite([item.retrieval_score for item in items]).all()


def test_no_user_and_an_unknown_user_get_the_same(recommender: Recommender, at_ms: int) -> None:
    anonymous = recommender.recommend(RecommendationRequest(at_ms=at_ms))
    unknown = recommender.recommend(RecommendationRequest(user_id="new", at_ms=at_ms))
    empty = recommender.recommend(RecommendationRequest(history=[], searches=[], at_ms=at_ms))
    assert anonymous.items == unknown.items == empty.items


def test_before_any_event_a_known_user_has_no_past(
    recommender: Recommender, user_id: Id, past: list[PastWatch]
) -> None:
    before_ms = min(watch.started_at_ms or 0 for watch in past)
    then = RecommendationRequest(user_id=user_id, at_ms=before_ms)
    without = replace(then, history=[], searches=[])
    assert recommender.recommend(then).items == recommender.recommend(without).items


def test_all_that_can_be_had_is_given_where_more_is_asked_for(
    recommender: Recommender, user_id: Id, past: list[PastWatch], at_ms: int
) -> None:
    num_items = recommender.encoder.catalogue.num_rows - 2
    watched = {watch.item_id for watch in past} & set(recommender.encoder.catalogue.items.series())
    everything = RecommendationRequest(user_id=user_id, at_ms=at_ms, k=10 * num_items)
    unwatched = recommender.recommend(everything).items
    assert not watched & set(_ids(unwatched))
    assert len(unwatched) == num_items - len(watched)
    all_of_them = replace(everything, k=10_000_000_000, exclude_watched=False)
    assert len(recommender.recommend(all_of_them).items) == num_items


def test_of_a_user_who_watched_everything_nothing_is_left(
    recommender: Recommender, at_ms: int
) -> None:
    everything = [PastWatch(item_id=item) for item in recommender.encoder.catalogue.items.series()]
    request = RecommendationRequest(history=everything, at_ms=at_ms)
    assert recommender.recommend(request).items == []
    assert len(recommender.recommend(replace(request, exclude_watched=False)).items) == 10


@pytest.mark.parametrize("k", [0, -1])
def test_fewer_than_one_item_is_no_request(recommender: Recommender, k: int) -> None:
    with pytest.raises(RequestError, match=f"^k: expected 1 or more, got {k}"):
        recommender.recommend(RecommendationRequest(k=k))


def test_a_past_that_is_told_counts_as_the_one_that_is_stored(
    recommender: Recommender, user_id: Id, past: list[PastWatch], at_ms: int
) -> None:
    stored = RecommendationRequest(user_id=user_id, at_ms=at_ms, k=30)
    told = replace(stored, history=past)
    assert recommender.recommend(told).items == recommender.recommend(stored).items


def test_the_features_of_a_user_that_are_told_count_as_the_stored_ones(
    recommender: Recommender, tiny_logs: Logs, user_id: Id, at_ms: int
) -> None:
    assert tiny_logs.users is not None
    (features,) = tiny_logs.users.frame.filter(pl.col("user_id") == user_id).to_dicts()
    stored = RecommendationRequest(user_id=user_id, at_ms=at_ms)
    declared = {name: features[name] for name in recommender.encoder.config.user_features}
    told = replace(stored, user_features=declared)
    assert recommender.recommend(told).items == recommender.recommend(stored).items


def test_new_watches_change_the_answer_at_once(
    recommender: Recommender, user_id: Id, past: list[PastWatch], at_ms: int
) -> None:
    request = RecommendationRequest(user_id=user_id, history=past, at_ms=at_ms)
    first = recommender.recommend(request).items
    watched = PastWatch(item_id=first[0].item_id, started_at_ms=at_ms - 1)
    then = recommender.recommend(replace(request, history=[*past, watched])).items
    assert watched.item_id not in _ids(then)
    assert _scores(then).isdisjoint(_scores(first))


@pytest.mark.parametrize("ahead_ms", [0, 2_000])
def test_a_client_whose_clock_is_fast_loses_no_watch(
    recommender: Recommender, user_id: Id, past: list[PastWatch], at_ms: int, ahead_ms: int
) -> None:
    request = RecommendationRequest(user_id=user_id, history=past, at_ms=at_ms)
    best = recommender.recommend(request).items[0].item_id
    just_before, told = (
        replace(request, history=[*past, PastWatch(item_id=best, started_at_ms=then_ms)])
        for then_ms in (at_ms - 1, at_ms + ahead_ms)
    )
    answer = recommender.recommend(told).items
    assert best not in _ids(answer)
    assert answer == recommender.recommend(just_before).items


def test_searches_and_features_change_the_answer(
    recommender: Recommender, tiny_logs: Logs, at_ms: int
) -> None:
    assert tiny_logs.searches is not None
    assert tiny_logs.users is not None
    query = tiny_logs.searches.frame.sort("searched_at_ms")["query"][0]
    region = tiny_logs.users.frame["region"][0]
    plain = RecommendationRequest(at_ms=at_ms)
    answers = [
        recommender.recommend(request).items
        for request in (
            plain,
            replace(plain, searches=[query]),
            replace(plain, user_features={"region": region}),
        )
    ]
    scores = [_scores(items) for items in answers]
    assert scores[0].isdisjoint(scores[1])
    assert scores[0].isdisjoint(scores[2])


def test_threads_get_the_answers_that_one_alone_would_get(
    recommender: Recommender, tiny_logs: Logs, at_ms: int
) -> None:
    users = tiny_logs.watches.frame["user_id"].unique().sort().head(20).to_list()
    requests = [RecommendationRequest(user_id=user, at_ms=at_ms) for user in users] * 5
    alone = [recommender.recommend(request).items for request in requests]
    with ThreadPoolExecutor(2) as threads:
        together = [answer.items for answer in threads.map(recommender.recommend, requests)]
    assert together == alone


def test_ids_of_any_script_are_found_and_given_back(plain_release: TrainedRelease) -> None:
    recommender = plain_release.recommender
    for user in ("Zoë", "ユーザー 2", "👩‍🚀"):
        items = recommender.recommend(RecommendationRequest(user_id=user, at_ms=100)).items
        assert len(items) == 20 - 12
        assert all(str(item.item_id).startswith("видео ") for item in items)
    told = RecommendationRequest(history=[PastWatch(item_id="видео 3")], at_ms=100, k=20)
    assert "видео 3" not in _ids(recommender.recommend(told).items)


def test_a_release_without_a_ranker_answers_in_the_order_of_retrieval(
    retrieval_release: TrainedRelease, user_id: Id, at_ms: int
) -> None:
    request = RecommendationRequest(user_id=user_id, at_ms=at_ms)
    items = retrieval_release.recommender.recommend(request).items
    assert [item.retrieval_rank for item in items] == list(range(1, 11))
    assert {item.expected_watch_time_s for item in items} == {None}


def test_a_missing_release_is_told(tiny_release: TrainedRelease) -> None:
    with pytest.raises(ReleaseError, match="expected a release"):
        Recommender.open(tiny_release.registry, 99)


@pytest.mark.parametrize("key", ["examples", "examples.clock", "recommender.num_candidates"])
def test_a_release_that_leaves_a_setting_open_is_of_another_version(
    tiny_release: TrainedRelease, tmp_path: Path, key: str
) -> None:
    table = tiny_release.release.json("config.json")
    *sections, name = key.split(".")
    del (table[sections[0]] if sections else table)[name]

    def write_files(directory: Path) -> Mapping[str, Any]:
        (directory / "config.json").write_text(json.dumps(table), encoding="utf-8")
        return {}

    version = publish(tmp_path, write_files).version
    with pytest.raises(ReleaseError, match="another version of upnext; train again") as caught:
        Recommender.open(tmp_path, version)
    assert caught.value.where == "release 1, config.json"
    assert not sections or caught.value.expected == f"the key {name}"


def test_no_candidates_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="num_candidates"):
        RecommenderConfig(num_candidates=0)


def test_the_mean_is_of_the_known_rows() -> None:
    table = np.array([[9, 9], [9, 9], [1, 2], [3, 6]], np.float32)
    rows = np.array([[0, 1, 2, 3], [0, 0, 3, 3], [0, 0, 1, 0]], np.int32)
    assert mean_vectors(table, rows).tolist() == [[2, 4], [3, 6], [0, 0]]


def _watches(logs: Logs, user_id: Id) -> pl.DataFrame:
    return logs.watches.frame.filter(pl.col("user_id") == user_id).drop("user_id")


def _ids(items: Sequence[Recommendation]) -> list[Id]:
    return [item.item_id for item in items]


def _scores(items: Sequence[Recommendation]) -> set[float]:
    return {item.retrieval_score for item in items}


def test_an_answer_says_why_it_is_less_than_it_could_be(
    tiny_release: TrainedRelease, retrieval_release: TrainedRelease
) -> None:
    request = RecommendationRequest(user_features={"shoe_size": "42"})
    (cause,) = tiny_release.recommender.recommend(request).degraded
    assert "shoe_size" in cause
    assert tiny_release.recommender.recommend(RecommendationRequest()).degraded == []
    (cause,) = retrieval_release.recommender.recommend(RecommendationRequest()).degraded
    assert "no ranking" in cause
