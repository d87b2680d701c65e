"""Whatever happens to a request on its way, it is answered, in time, by one release."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from upnext.errors import RequestError, UpnextError
from upnext.schema import Id, LivePast, RecommendationRequest
from upnext.serving.answering import Answering, AnsweringConfig
from upnext.serving.asked import Answered, Asked
from upnext.serving.batching import OverloadedError, QueueConfig
from upnext.serving.releases import LiveReleases, NotServedError
from upnext.serving.traffic import Traffic

SOON_S = 10.0
PAST = LivePast(watched=["soup"], started_at_ms=[1], watch_time_s=[2.0])

Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Pasts:
    """A live store that knows one past, or fails."""

    def __init__(self) -> None:
        self.is_broken = False

    def past_of(self, user_id: Id, *, since_ms: int, until_ms: int) -> LivePast:
        if self.is_broken:
            raise UpnextError("the live store", expected="an answer", got="none")
        return PAST


@pytest.fixture
def live(fakes: Any) -> LiveReleases:
    live = LiveReleases(fakes.open)
    for version in (1, 2):
        live.load(version)
    live.label("stable", 1)
    live.label("canary", 2)
    fakes.requests.clear()
    return live


@pytest.fixture
def answering(live: LiveReleases) -> Iterator[Answering]:
    answering = Answering(live, AnsweringConfig(deadline_ms=5_000), pasts=Pasts())
    yield answering
    answering.close()


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, SOON_S))


def asked(user_id: str | None = "ann", **options: Any) -> Asked:
    return Asked(request=RecommendationRequest(user_id=user_id, k=3), **options)


@pytest.mark.parametrize(
    ("options", "release", "label"),
    [
        ({}, "1", "stable"),
        ({"label": "canary"}, "2", "canary"),
        ({"version": 2}, "2", None),
        ({"version": 1}, "1", None),
    ],
)
def test_the_release_that_is_asked_answers(
    answering: Answering, options: dict[str, Any], release: str, label: str | None
) -> None:
    answered = run(answering.recommend(asked(**options)))
    assert answered.recommendations.release == release
    assert answered.label == label
    assert len(answered.recommendations.items) == 3


@pytest.mark.parametrize("options", [{"label": "next"}, {"version": 3}])
def test_a_release_that_is_not_there_is_told(answering: Answering, options: dict[str, Any]) -> None:
    with pytest.raises(NotServedError):
        run(answering.recommend(asked(**options)))


def test_traffic_decides_where_nothing_is_asked(answering: Answering) -> None:
    answering.traffic = Traffic(split={"canary": 1.0})
    assert run(answering.recommend(asked())).label == "canary"
    assert run(answering.recommend(asked(label="stable"))).label == "stable"
    answering.traffic = Traffic(split={"gone": 1.0})
    assert run(answering.recommend(asked())).label == "stable"


def test_a_request_keeps_its_id_or_is_given_one(answering: Answering) -> None:
    ids = {run(answering.recommend(asked())).request_id for _ in range(3)}
    assert len(ids) == 3
    assert run(answering.recommend(asked(request_id="mine"))).request_id == "mine"


def test_the_live_past_of_who_asks_is_told(answering: Answering, fakes: Any) -> None:
    run(answering.recommend(asked()))
    run(answering.recommend(asked(None)))
    assert fakes.live == [PAST, None]


def test_without_the_live_store_there_is_an_answer_that_says_so(
    live: LiveReleases, fakes: Any
) -> None:
    pasts = Pasts()
    pasts.is_broken = True
    answering = Answering(live, pasts=pasts)
    answered = run(answering.recommend(asked()))
    answering.close()
    assert len(answered.recommendations.items) == 3
    assert any("live store" in cause for cause in answered.recommendations.degraded)


def test_what_fails_altogether_is_answered_with_what_is_popular(
    answering: Answering, fakes: Any
) -> None:
    fakes.on_request[1] = lambda: 1 / 0
    answered = run(answering.recommend(asked()))
    assert len(answered.recommendations.items) == 3
    assert answered.recommendations.degraded == ["answering failed: what is watched most"]
    assert answered.recommendations.release == "1"


def test_by_its_deadline_a_request_is_answered_with_what_is_popular(
    answering: Answering, fakes: Any
) -> None:
    go = threading.Event()
    fakes.on_request[1] = lambda: go.wait(SOON_S)
    answered = run(answering.recommend(asked(deadline_ms=50)))
    go.set()
    assert answered.recommendations.degraded == ["not answered in time: what is watched most"]


def test_requests_that_wait_are_answered_together_each_by_its_own_release(
    live: LiveReleases, fakes: Any
) -> None:
    go, began = threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        go.wait(SOON_S)

    fakes.on_request[1] = hold
    answering = Answering(live, AnsweringConfig(deadline_ms=9_000), QueueConfig(max_batch=4))

    async def ask() -> list[Answered]:
        first = asyncio.create_task(answering.recommend(asked()))
        await asyncio.to_thread(began.wait, SOON_S)
        labels = ["canary", "stable", "canary", "stable"]
        others = [asyncio.create_task(answering.recommend(asked(label=one))) for one in labels]
        await asyncio.sleep(0)
        go.set()
        return await asyncio.gather(first, *others)

    answers = run(ask())
    answering.close()
    assert [one.recommendations.release for one in answers] == ["1", "2", "1", "2", "1"]


def test_beyond_capacity_a_request_is_refused(live: LiveReleases, fakes: Any) -> None:
    go, began = threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        go.wait(SOON_S)

    fakes.on_request[1] = hold
    answering = Answering(live, AnsweringConfig(deadline_ms=9_000), QueueConfig(max_waiting=1))

    async def ask() -> None:
        first = asyncio.create_task(answering.recommend(asked()))
        await asyncio.to_thread(began.wait, SOON_S)
        second = asyncio.create_task(answering.recommend(asked()))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await answering.recommend(asked())
        go.set()
        await asyncio.gather(first, second)

    run(ask())
    answering.close()


def test_each_stage_answers_by_itself(answering: Answering) -> None:
    similar = run(answering.similar("x", 4))
    assert (len(similar.recommendations.items), similar.label) == (4, "stable")
    with pytest.raises(RequestError):
        run(answering.similar("unknown", 4))
    vectors, release = run(answering.user_vectors([asked(), asked("ben")]))
    assert (vectors, release) == ([[0, 1, 2], [3, 4, 5]], "1")
    assert run(answering.rank(asked(), ["a", "b"])) == ([2.0, 1.0], "1")
