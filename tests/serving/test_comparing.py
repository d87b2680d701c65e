"""Indexes are compared after some answers, one at a time, and only while nobody waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from tests.patience import SOON_S

from upnext.errors import ConfigError
from upnext.schema import LivePast, RecommendationRequest
from upnext.serving.aftermath import Aftermath
from upnext.serving.answering import Answering, AnsweringConfig
from upnext.serving.asked import Asked
from upnext.serving.batching import QueueConfig
from upnext.serving.metrics import Metrics
from upnext.serving.releases import LiveReleases
from upnext.serving.traffic import ShadowConfig, Traffic

if TYPE_CHECKING:
    from tests.serving.conftest import FakeReleases

ASKED = Asked(request=RecommendationRequest(user_id="ann", k=3))


@dataclass
class Compared:
    """Takes the place of an exact search, and remembers what it was asked."""

    recall: float | None = 0.75
    requests: list[RecommendationRequest] = field(default_factory=list)
    may_go: threading.Event = field(default_factory=threading.Event)
    began: threading.Event = field(default_factory=threading.Event)
    thread: str = ""

    def __call__(self, request: RecommendationRequest, _live: LivePast | None) -> float | None:
        self.requests.append(request)
        self.thread = threading.current_thread().name
        self.began.set()
        assert self.may_go.wait(SOON_S)
        return self.recall


@pytest.fixture
def compared(fakes: FakeReleases) -> Compared:
    compared = Compared()
    compared.may_go.set()
    fakes.on_recall = compared
    return compared


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def make(fakes: FakeReleases, metrics: Metrics) -> Iterator[Callable[[float], Answering]]:
    made = []

    def make(share: float) -> Answering:
        live = LiveReleases(fakes.open)
        for version in (1, 2):
            live.load(version)
        live.label("stable", 1)
        live.label("canary", 2)
        config = AnsweringConfig(deadline_ms=5_000, compared_share=share)
        queue = QueueConfig(num_threads=1, max_batch=1)
        made.append(Answering(live, config, queue, aftermath=Aftermath(metrics=metrics)))
        return made[-1]

    yield make
    for answering in made:
        answering.close()


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, SOON_S))


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        await asyncio.sleep(0.002)


def told(metrics: Metrics, name: str, release: int = 1) -> float:
    for line in metrics.to_text().decode().splitlines():
        if line.startswith(f'upnext_index_recall_{name}{{release="{release}"}}'):
            return float(line.split()[-1])
    return 0.0


def test_what_was_found_is_counted_by_release(
    make: Callable[[float], Answering], compared: Compared, metrics: Metrics
) -> None:
    answering = make(1.0)

    async def ask() -> None:
        for place, recall in enumerate((0.5, 1.0, 0.75), start=1):
            compared.recall = recall
            await answering.recommend(ASKED)
            await until(lambda place=place: told(metrics, "count") == place)  # type: ignore[misc]
        await answering.recommend(Asked(request=ASKED.request, label="canary"))
        await until(lambda: told(metrics, "count", release=2) == 1)

    run(ask())
    assert told(metrics, "sum") == 2.25
    assert compared.requests == [ASKED.request] * 4
    assert compared.thread.startswith("compare")  # which is none of those that answer


def test_an_exact_index_is_not_counted(
    make: Callable[[float], Answering], compared: Compared, metrics: Metrics
) -> None:
    answering = make(1.0)
    compared.recall = None

    async def ask() -> None:
        await answering.recommend(ASKED)
        await until(compared.began.is_set)
        await until(lambda: not answering._unseen)

    run(ask())
    assert told(metrics, "count") == 0


def test_none_is_compared_where_the_share_is_none(
    make: Callable[[float], Answering], compared: Compared
) -> None:
    answering = make(0.0)

    async def ask() -> None:
        for _ in range(50):
            await answering.recommend(ASKED)

    run(ask())
    assert compared.requests == []


def test_nothing_is_compared_while_others_are_answered_or_wait(
    make: Callable[[float], Answering], compared: Compared, fakes: FakeReleases
) -> None:
    answering = make(1.0)
    go, begun = threading.Event(), threading.Event()

    def hold() -> None:
        if len(fakes.requests) > 3:  # two were answered as the releases were loaded
            begun.set()
            assert go.wait(SOON_S)

    fakes.on_request[1] = hold

    async def ask() -> None:
        asks = [asyncio.create_task(answering.recommend(ASKED)) for _ in range(3)]
        await asks[0]  # while the second is held, and the third waits
        await until(begun.is_set)
        assert compared.requests == []
        go.set()
        await asyncio.gather(*asks)
        await until(lambda: len(compared.requests) == 1)

    run(ask())
    assert len(compared.requests) == 1


def test_one_is_compared_at_a_time_and_nobody_waits_for_it(
    make: Callable[[float], Answering], compared: Compared, metrics: Metrics
) -> None:
    answering = make(1.0)
    compared.may_go.clear()

    async def ask() -> None:
        await answering.recommend(ASKED)
        await until(compared.began.is_set)
        for _ in range(10):
            await answering.recommend(ASKED)  # answered though the comparison goes on
        assert len(compared.requests) == 1
        compared.may_go.set()
        await until(lambda: told(metrics, "count") == 1)
        await answering.recommend(ASKED)
        await until(lambda: told(metrics, "count") == 2)

    run(ask())


def test_a_comparison_that_fails_is_told_in_the_log_and_is_not_the_last(
    make: Callable[[float], Answering],
    compared: Compared,
    fakes: FakeReleases,
    metrics: Metrics,
    caplog: pytest.LogCaptureFixture,
) -> None:
    answering = make(1.0)
    fakes.on_recall = lambda *_: 1 / 0

    async def ask() -> None:
        await answering.recommend(ASKED)
        await until(lambda: "the index of release 1 could not be compared" in caplog.text)
        fakes.on_recall = compared
        await until(lambda: not answering._unseen)
        await answering.recommend(ASKED)
        await until(lambda: told(metrics, "count") == 1)

    run(ask())


def test_a_shadow_goes_before(make: Callable[[float], Answering], compared: Compared) -> None:
    answering = make(1.0)
    answering.traffic = Traffic(shadow=ShadowConfig(label="canary", share=1.0))
    run(answering.recommend(ASKED))
    assert compared.requests == []


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(ConfigError, match="compared_share"):
        AnsweringConfig(compared_share=share)
