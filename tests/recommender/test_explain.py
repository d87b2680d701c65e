"""A reason is what the ranker says less, asked again without the thing that is named."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from msgspec import structs
from numpy.typing import NDArray

from upnext.errors import RequestError
from upnext.examples.history import EventLog, History
from upnext.examples.input_groups import OF_CANDIDATES
from upnext.examples.ranking_inputs import RankingInputs
from upnext.recommender import Recommender
from upnext.recommender.batch import Batch
from upnext.recommender.explain import NUM_WATCHES
from upnext.schema import (
    NUM_RESERVED_ROWS,
    UNKNOWN_ROW,
    Floats,
    Id,
    Logs,
    PageOptions,
    PastWatch,
    Reason,
    Recommendation,
    RecommendationRequest,
    Recommendations,
    Rows,
)

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease

ALL = 50
"""More reasons than there are."""


@dataclass(frozen=True)
class Asked:
    """What ranking was told of one user's candidates, to be asked again with another past."""

    recommender: Recommender
    history: History
    at_ms: int
    rows: Rows
    source_scores: Floats

    def seconds(self, history: History) -> Floats:
        """[M] of all candidates, and the sources' scores as they were."""
        ranker = self.recommender.ranker
        assert ranker is not None
        return ranker.seconds_of(self.inputs(history))

    def inputs(self, history: History) -> RankingInputs:
        return RankingInputs(
            self.recommender.encoder,
            history,
            user_rows=np.zeros(1, np.int64),
            at_ms=np.array([self.at_ms]),
            request_index=np.zeros(len(self.rows), np.int64),
            item_rows=self.rows,
            position=np.zeros(len(self.rows), np.float32),
            source_scores=self.source_scores,
        )

    def place(self, item_id: Id) -> int:
        row = self.recommender.encoder.catalogue.items.row(item_id)
        return int(np.flatnonzero(self.rows == row)[0])


@pytest.fixture(scope="module")
def recommender(tiny_release: TrainedRelease) -> Recommender:
    return tiny_release.recommender


@pytest.fixture(scope="module")
def request_of_somebody(tiny_logs: Logs) -> RecommendationRequest:
    """Of whoever watched most, an hour after the last watch; with all the reasons."""
    watches = tiny_logs.watches.frame
    at_ms = int(watches["started_at_ms"].to_numpy().max()) + 3_600_000
    user_id = watches["user_id"].mode().sort()[0]
    return RecommendationRequest(user_id=user_id, at_ms=at_ms, num_reasons=ALL)


@pytest.fixture(scope="module")
def answer(recommender: Recommender, request_of_somebody: RecommendationRequest) -> Recommendations:
    return recommender.recommend(request_of_somebody)


@pytest.fixture(scope="module")
def asked(recommender: Recommender, request_of_somebody: RecommendationRequest) -> Asked:
    user_id, at_ms = request_of_somebody.user_id, request_of_somebody.at_ms
    assert user_id is not None
    assert at_ms is not None
    history = recommender.history.of_user(recommender.users.row(user_id))
    user, times = np.zeros(1, np.int64), np.array([at_ms])
    watched = history.watches.all_before(user, times)[1]
    rows = recommender.candidates_of(history, user, times, [watched])[0]
    rows = rows[rows >= NUM_RESERVED_ROWS]
    vectors = recommender.retriever.user_vectors(history, user, times)
    of_one = np.zeros(len(rows), np.int64)
    moments = recommender.nominators.moments(Batch(history, user, times))
    scores = recommender.nominators.scorer.scores(vectors, moments, rows, of_one)
    return Asked(recommender, history, at_ms, rows, scores)


def test_without_a_watch_the_ranker_says_so_much_less(
    asked: Asked, answer: Recommendations
) -> None:
    """Asked about a user who never watched the item."""
    watches = asked.history.watches
    items = asked.recommender.encoder.catalogue.items
    for item_id in {reason.item_id for reason in answer.items[0].reasons if reason.item_id}:
        others = watches.rows != items.row(item_id)
        assert not others.all()
        _assert_tells(asked, answer, "watching", _with_watches(asked, others), item_id)


def test_every_one_of_the_last_watched_items_is_asked_about(
    asked: Asked, answer: Recommendations
) -> None:
    newest_first = dict.fromkeys(asked.history.watches.rows[::-1].tolist())
    ids = asked.recommender.encoder.catalogue.items
    last = [ids.id(row) for row in newest_first if row >= NUM_RESERVED_ROWS][:NUM_WATCHES]
    assert len(last) > 5
    for item in answer.items:
        told = [reason.item_id for reason in item.reasons if reason.about == "watching"]
        assert sorted(map(str, told)) == sorted(map(str, last))


def test_without_any_past_the_ranker_says_so_much_less(
    asked: Asked, answer: Recommendations
) -> None:
    history, nothing = asked.history, EventLog.empty(1)
    nobody = np.full_like(history.feature_rows, UNKNOWN_ROW)
    for about, without in (
        ("all that was watched", replace(history, watches=nothing)),
        ("all that was shown", replace(history, shown=nothing)),
        ("who asks, and when", replace(history, feature_rows=nobody)),
    ):
        _assert_tells(asked, answer, about, without)


def test_an_item_is_compared_with_the_middle_one_of_the_candidates(
    asked: Asked, answer: Recommendations
) -> None:
    ranker = asked.recommender.ranker
    assert ranker is not None
    arrays = dict(asked.inputs(asked.history).arrays())
    before = asked.seconds(asked.history)
    for about, name in OF_CANDIDATES.items():
        for item in answer.items[:3]:
            place, changed = asked.place(item.item_id), arrays[name].copy()
            changed[place] = np.median(arrays[name], axis=0)
            seconds = before - ranker.seconds_of(arrays | {name: changed})
            told = _seconds_of(item, about)
            assert told == pytest.approx(seconds[place], abs=1e-4 * float(before[place]))
    assert any(abs(_seconds_of(item, "how long it is")) > 0.01 for item in answer.items)


def test_the_strongest_come_first_and_no_more_than_were_asked_for(
    recommender: Recommender, request_of_somebody: RecommendationRequest, answer: Recommendations
) -> None:
    few = recommender.recommend(replace(request_of_somebody, num_reasons=3))
    for item, with_all in zip(few.items, answer.items, strict=True):
        sizes = [abs(reason.watch_time_s) for reason in with_all.reasons]
        assert sizes == sorted(sizes, reverse=True)
        assert len(item.reasons) == 3 < len(with_all.reasons) <= ALL
        assert item.reasons == with_all.reasons[:3]


def test_whoever_asks_for_no_reasons_gets_the_same_answer_without(
    recommender: Recommender, request_of_somebody: RecommendationRequest, answer: Recommendations
) -> None:
    plain = recommender.recommend(replace(request_of_somebody, num_reasons=0))
    assert [list(item.reasons) for item in plain.items] == [[]] * len(plain.items)
    assert _without_reasons(plain) == _without_reasons(answer)
    assert plain.num_candidates == answer.num_candidates
    assert plain.timings_ms.keys() == answer.timings_ms.keys()


@pytest.mark.parametrize("page", [{"k": 3}, {"k": 25}, {"page": PageOptions(diversity=0.8)}])
def test_the_reasons_for_an_item_do_not_depend_on_the_rest_of_the_page(
    recommender: Recommender,
    request_of_somebody: RecommendationRequest,
    answer: Recommendations,
    page: dict[str, Any],
) -> None:
    other = recommender.recommend(replace(request_of_somebody, **page))
    reasons = {item.item_id: _by_name(item) for item in other.items}
    in_both = [item for item in answer.items if item.item_id in reasons]
    assert [item.item_id for item in other.items] != [item.item_id for item in answer.items]
    assert len(in_both) >= 2
    for item in in_both:
        told, seconds = reasons[item.item_id], item.expected_watch_time_s
        assert seconds is not None
        assert told == pytest.approx(_by_name(item), rel=1e-4, abs=1e-4 * seconds)


def test_a_stranger_without_a_past_is_given_reasons_too(
    recommender: Recommender, request_of_somebody: RecommendationRequest
) -> None:
    stranger = RecommendationRequest(at_ms=request_of_somebody.at_ms, num_reasons=ALL)
    for item in recommender.recommend(stranger).items:
        told = _by_name(item)
        assert np.isfinite(list(told.values())).all()
        assert {about for about, _ in told} >= set(OF_CANDIDATES)
        assert "watching" not in {about for about, _ in told}
        assert abs(told["all that was watched", None]) < 1e-3


def test_unknown_items_of_a_past_are_no_reason_of_their_own(recommender: Recommender) -> None:
    history = [PastWatch(item_id="no such item"), PastWatch(item_id="nor this")]
    asked = RecommendationRequest(history=history, num_reasons=ALL)
    for item in recommender.recommend(asked).items:
        assert all(reason.item_id is None for reason in item.reasons)


def test_where_nothing_is_left_to_recommend_there_is_nothing_to_explain(
    recommender: Recommender,
) -> None:
    everything = [PastWatch(item_id=item) for item in recommender.encoder.catalogue.items.series()]
    asked = RecommendationRequest(history=everything, num_reasons=ALL)
    assert recommender.recommend(asked).items == []


def test_fewer_than_no_reasons_is_no_request(recommender: Recommender) -> None:
    with pytest.raises(RequestError, match=r"^num_reasons: expected 0 or more, got -1"):
        recommender.recommend(RecommendationRequest(num_reasons=-1))


def test_a_release_without_a_ranker_has_no_reasons(
    retrieval_release: TrainedRelease, request_of_somebody: RecommendationRequest
) -> None:
    items = retrieval_release.recommender.recommend(request_of_somebody).items
    assert len(items) == request_of_somebody.k
    assert not any(item.reasons for item in items)


def test_what_a_release_does_not_know_is_no_reason(plain_release: TrainedRelease) -> None:
    """Neither user features, nor what the sources think of an item."""
    asked = RecommendationRequest(user_id="Zoë", at_ms=100, num_reasons=ALL)
    items = plain_release.recommender.recommend(asked).items
    assert len(items) == 20 - 12
    for item in items:
        about = {reason.about for reason in item.reasons}
        assert {"watching", "how long it is"} <= about
        assert not {"who asks, and when", "what the sources of candidates think of it"} & about


def _with_watches(asked: Asked, kept: NDArray[np.bool_]) -> History:
    """The same past, of its watches only those that are kept."""
    watches = asked.history.watches
    fewer = EventLog.from_events(
        user_rows=np.zeros(int(kept.sum()), np.int64),
        rows=watches.rows[kept],
        at_ms=watches.at_ms[kept],
        num_users=1,
        watch_time_s=watches.watch_time_s[kept],
    )
    return replace(asked.history, watches=fewer)


def _assert_tells(
    asked: Asked,
    answer: Recommendations,
    about: str,
    without: History,
    item_id: Id | None = None,
) -> None:
    """The reasons of every item of the page are what the ranker says without it."""
    before, after = asked.seconds(asked.history), asked.seconds(without)
    assert np.abs(before - after).max() > 1e-3, about
    for item in answer.items:
        place = asked.place(item.item_id)
        assert item.expected_watch_time_s == pytest.approx(before[place], rel=1e-4)
        told = _seconds_of(item, about, item_id)
        assert told == pytest.approx(before[place] - after[place], abs=2e-4 * float(before[place]))


def _seconds_of(item: Recommendation, about: str, item_id: Id | None = None) -> float:
    return _by_name(item)[about, item_id]


def _by_name(item: Recommendation) -> dict[tuple[str, Id | None], float]:
    named = {(reason.about, reason.item_id): reason.watch_time_s for reason in item.reasons}
    assert len(named) == len(item.reasons)
    return named


def _without_reasons(answer: Recommendations) -> list[Recommendation]:
    nothing: list[Reason] = []
    return [structs.replace(item, reasons=nothing) for item in answer.items]
