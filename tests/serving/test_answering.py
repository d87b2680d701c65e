"""Whatever happens to a request on its way, it is answered, in time, by one release."""

import asyncio
import re
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import pytest
from tests.patience import SOON_S

from upnext.errors import RequestError, UpnextError
from upnext.events.event import ServedPage
from upnext.schema import Id, LivePast, RecommendationRequest
from upnext.serving.aftermath import Aftermath
from upnext.serving.answering import LATER_S, MOST_LOOKING, Answering, AnsweringConfig
from upnext.serving.asked import Answered, Asked
from upnext.serving.batching import OverloadedError, QueueConfig
from upnext.serving.metrics import Metrics
from upnext.serving.releases import LiveReleases, NotServedError
from upnext.serving.traffic import ShadowConfig, Traffic

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


class Hold:
    """What keeps whoever comes first until it may go on."""

    def __init__(self) -> None:
        self.began, self.go = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.began.set()
        self.go.wait(SOON_S)


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
    hold = fakes.on_request[1] = Hold()
    answering = Answering(live, AnsweringConfig(deadline_ms=9_000), QueueConfig(max_batch=4))

    async def ask() -> list[Answered]:
        first = asyncio.create_task(answering.recommend(asked()))
        await asyncio.to_thread(hold.began.wait, SOON_S)
        labels = ["canary", "stable", "canary", "stable"]
        others = [asyncio.create_task(answering.recommend(asked(label=one))) for one in labels]
        await asyncio.sleep(0)
        hold.go.set()
        return await asyncio.gather(first, *others)

    answers = run(ask())
    answering.close()
    assert [one.recommendations.release for one in answers] == ["1", "2", "1", "2", "1"]


def test_those_in_a_hurry_go_by_themselves(live: LiveReleases, fakes: Any) -> None:
    """Beside others they would be ranked by when these must be answered."""
    hold = fakes.on_request[1] = Hold()
    answering = Answering(live, AnsweringConfig(deadline_ms=30_000, max_deadline_ms=60_000))

    async def ask() -> None:
        first = asyncio.create_task(answering.recommend(asked()))
        await asyncio.to_thread(hold.began.wait, SOON_S)
        allowed_ms = (None, 60_000, None, 60_000, 30_000)
        some = [
            asyncio.create_task(answering.recommend(asked(deadline_ms=ms))) for ms in allowed_ms
        ]
        await asyncio.sleep(0)
        hold.go.set()
        await asyncio.gather(first, *some)

    run(ask())
    answering.close()
    (_, begun_s), (num_usual, usual_s), (num_patient, patient_s) = fakes.batches
    assert (num_usual, num_patient) == (3, 2)
    assert begun_s <= usual_s < patient_s - 20


def test_beyond_capacity_a_request_is_refused(live: LiveReleases, fakes: Any) -> None:
    hold = fakes.on_request[1] = Hold()
    metrics = Metrics()
    answering = Answering(
        live,
        AnsweringConfig(deadline_ms=9_000),
        QueueConfig(max_waiting=1),
        aftermath=Aftermath(metrics=metrics),
    )

    async def ask() -> None:
        first = asyncio.create_task(answering.recommend(asked()))
        await asyncio.to_thread(hold.began.wait, SOON_S)
        second = asyncio.create_task(answering.recommend(asked()))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await answering.recommend(asked())
        hold.go.set()
        await asyncio.gather(first, second)

    run(ask())
    answering.close()
    told = metrics.to_text().decode()
    assert "upnext_refused_total 1.0" in told
    assert "upnext_queue_waited_seconds_count 2.0" in told


class Pages:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.kept: list[ServedPage] = []

    def log_pages(self, pages: Sequence[ServedPage]) -> None:
        self.kept += pages


class Picky:
    """Keeps all pages but those of one request, of which it raises."""

    def __init__(self) -> None:
        self.kept: list[str] = []

    def log_pages(self, pages: Sequence[ServedPage]) -> None:
        if pages[0].request_id == "1":
            raise OSError("no room")
        self.kept += [page.request_id for page in pages]


@pytest.mark.parametrize("waits_s", [0.0, 2 * LATER_S])
def test_each_page_has_its_aftermath_once_whatever_befalls_another(
    live: LiveReleases, waits_s: float
) -> None:
    pages = Picky()
    config = AnsweringConfig(deadline_ms=9_000)
    answering = Answering(live, config, aftermath=Aftermath(pages=pages))

    async def ask() -> None:
        for number in range(4):
            await answering.recommend(asked(request_id=str(number)))
            await asyncio.sleep(waits_s)

    run(ask())
    answering.close()
    assert pages.kept == ["0", "2", "3"]


class Shadowed:
    """An answering with one thread whose shadow is `canary`, and what comes of its answers."""

    def __init__(self, live: LiveReleases, *, share: float = 1.0) -> None:
        self.pages, self.metrics = Pages(), Metrics()
        self.answering = Answering(
            live,
            AnsweringConfig(deadline_ms=9_000),
            QueueConfig(max_batch=1),
            aftermath=Aftermath(metrics=self.metrics, pages=self.pages),
        )
        self.answering.traffic = Traffic(shadow=ShadowConfig(label="canary", share=share))

    async def num_unseen(self, expected: int) -> int:
        """Answers of the shadow, once as many as expected have come."""
        by_s = asyncio.get_running_loop().time() + SOON_S
        while self._num_unseen() < expected:
            assert asyncio.get_running_loop().time() < by_s
            await asyncio.sleep(0.005)
        return self._num_unseen()

    def _num_unseen(self) -> int:
        told = re.findall(
            r'upnext_answers_total{label="shadow of canary",.*} (.*)',
            self.metrics.to_text().decode(),
        )
        return int(float(told[0])) if told else 0


def test_a_shadow_is_asked_the_same_and_its_answer_is_neither_shown_nor_kept(
    live: LiveReleases, fakes: Any
) -> None:
    shadowed = Shadowed(live)

    async def ask() -> Answered:
        answered = await shadowed.answering.recommend(asked(request_id="mine"))
        assert await shadowed.num_unseen(1) == 1
        return answered

    answered = run(ask())
    shadowed.answering.close()
    assert (answered.recommendations.release, answered.label) == ("1", "stable")
    assert fakes.requests == [asked().request] * 2
    assert [(page.request_id, page.release) for page in shadowed.pages.kept] == [("mine", "1")]
    assert 'upnext_shadow_overlap_count{label="canary"} 1.0' in shadowed.metrics.to_text().decode()


def test_a_shadow_that_fails_is_counted_and_harms_nobody(live: LiveReleases, fakes: Any) -> None:
    shadowed = Shadowed(live)
    fakes.on_request[2] = lambda: 1 / 0

    async def ask() -> list[Answered]:
        answers = [await shadowed.answering.recommend(asked()) for _ in range(3)]
        assert await shadowed.num_unseen(1) >= 1
        return answers

    answers = run(ask())
    shadowed.answering.close()
    assert not any(one.recommendations.degraded for one in answers)
    assert 'cause="failed",label="shadow of canary"' in shadowed.metrics.to_text().decode()


def test_a_shadow_answers_only_while_nobody_else_waits(live: LiveReleases, fakes: Any) -> None:
    shadowed, go = Shadowed(live), threading.Semaphore(0)
    fakes.on_request[1] = lambda: go.acquire(timeout=SOON_S)

    async def ask() -> None:
        tasks = [asyncio.create_task(shadowed.answering.recommend(asked())) for _ in range(2)]
        go.release()
        await tasks[0]  # the second is held now, or waits
        go.release()
        await tasks[1]
        assert await shadowed.num_unseen(1) == 1

    run(ask())
    shadowed.answering.close()
    assert len(fakes.requests) == 3


@pytest.mark.parametrize("why", ["no share", "no such label", "the same release", "no shadow"])
def test_without_another_release_or_a_share_there_is_no_shadow(
    live: LiveReleases, fakes: Any, why: str
) -> None:
    shadowed = Shadowed(live, share=0.0 if why == "no share" else 1.0)
    if why == "no such label":
        shadowed.answering.traffic = Traffic(shadow=ShadowConfig(label="beta", share=1.0))
    elif why == "the same release":
        live.label("canary", 1)
    elif why == "no shadow":
        shadowed.answering.traffic = Traffic()

    async def ask() -> None:
        for _ in range(3):
            await shadowed.answering.recommend(asked())

    run(ask())
    shadowed.answering.close()
    assert len(fakes.requests) == 3


def test_each_stage_answers_by_itself(answering: Answering) -> None:
    similar = run(answering.similar("x", 4))
    assert (len(similar.recommendations.items), similar.label) == (4, "stable")
    with pytest.raises(RequestError):
        run(answering.similar("unknown", 4))
    vectors, release = run(answering.user_vectors([asked(), asked("ben")]))
    assert (vectors, release) == ([[0, 1, 2], [3, 4, 5]], "1")
    assert run(answering.rank(asked(), ["a", "b"])) == ([2.0, 1.0], "1")


def test_a_single_question_whose_turn_never_comes_is_refused_in_the_end(
    live: LiveReleases, fakes: Any
) -> None:
    go = threading.Event()
    fakes.on_request[1] = lambda: go.wait(SOON_S)
    answering = Answering(live, AnsweringConfig(deadline_ms=50, max_deadline_ms=100))

    async def ask() -> None:
        held = asyncio.create_task(answering.recommend(asked()))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="none within"):
            await answering.similar("x", 3)
        go.set()
        await held

    run(ask())
    answering.close()
    with live.acquire("stable") as route:
        assert route.version == 1


def test_what_is_similar_is_answered_where_traffic_names_a_label_that_is_gone(
    answering: Answering,
) -> None:
    answering.traffic = Traffic(split={"gone": 1.0})
    assert run(answering.similar("x", 2)).label == "stable"


@pytest.mark.parametrize(
    ("options", "release", "label"),
    [({}, "1", "stable"), ({"label": "canary"}, "2", "canary"), ({"version": 2}, "2", None)],
)
def test_the_release_that_is_named_is_looked_at_whatever_traffic_says(
    answering: Answering, options: dict[str, Any], release: str, label: str | None
) -> None:
    answering.traffic = Traffic(split={"canary": 1.0})

    def see(recommender: Any) -> Iterator[str | None]:
        yield None
        yield f"seen in {recommender.release}"

    looked = run(answering.look(see, **options))
    assert (looked.seen, looked.release, looked.label) == (f"seen in {release}", release, label)


def test_no_page_waits_for_a_look(answering: Answering, fakes: Any) -> None:
    is_answered = threading.Event()
    fakes.on_request[1] = is_answered.set

    def see(_recommender: Any) -> Iterator[str | None]:
        yield None
        assert is_answered.wait(20)
        yield "seen"

    async def both() -> Any:
        return await asyncio.gather(answering.look(see), answering.recommend(asked()))

    looked, _ = run(both())
    assert looked.seen == "seen"


def test_more_than_enough_looks_are_refused(answering: Answering) -> None:
    may_end = threading.Event()

    def see(_recommender: Any) -> Iterator[str | None]:
        assert may_end.wait(SOON_S)
        yield "seen"

    async def many() -> Any:
        looks = [asyncio.create_task(answering.look(see)) for _ in range(MOST_LOOKING + 1)]
        while not looks[-1].done():
            await asyncio.sleep(0.01)
        may_end.set()
        return await asyncio.gather(*looks, return_exceptions=True)

    *seen, refused = run(many())
    assert [one.seen for one in seen] == ["seen"] * MOST_LOOKING
    assert isinstance(refused, OverloadedError)


def test_a_look_that_fails_says_why(answering: Answering) -> None:
    def see(_recommender: Any) -> Iterator[str | None]:
        yield None
        raise RequestError("item_id", expected="a known item", got="none")

    with pytest.raises(RequestError, match="a known item"):
        run(answering.look(see))
    assert run(answering.recommend(asked())).label == "stable"


def test_a_release_that_is_looked_at_stays_until_it_was_seen(
    answering: Answering, live: LiveReleases
) -> None:
    live.load(3)

    def see(recommender: Any) -> Iterator[str | None]:
        live.unload(3)
        assert 3 in live.state.draining
        yield None
        yield str(recommender.release)

    assert run(answering.look(see, version=3)).seen == "3"
    assert live.state.draining == {}
