"""Recommenders without a model, and requests without a socket."""

import asyncio
import queue
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import httpx
import numpy as np
import pytest
from msgspec import structs
from starlette.types import ASGIApp

from upnext.errors import RequestError
from upnext.events.event import Event
from upnext.events.store import Appended
from upnext.schema import (
    Floats,
    Id,
    LivePast,
    Recommendation,
    RecommendationRequest,
    Recommendations,
)
from upnext.serving.answering import Answering
from upnext.serving.asked import Answered, Asked
from upnext.serving.looking import Insight
from upnext.serving.releases import LiveReleases, NotServedError, Recommender

Send = Callable[..., httpx.Response]


@dataclass
class FakeReleases:
    """Opens recommenders that answer items 0 to k-1, and remembers what they were asked.

    `on_request`: by version, called before each answer. `on_open`: called before each opening.
    `on_popular`: called before what is watched most is told. `on_recall`: says what an index finds.
    `batches`: how many requests went together, and when ranking was to be done. `let_go`: the
    versions whose memory was given back.
    """

    opened: list[int] = field(default_factory=list)
    requests: list[RecommendationRequest] = field(default_factory=list)
    live: list[LivePast | None] = field(default_factory=list)
    batches: list[tuple[int, float]] = field(default_factory=list)
    on_open: dict[int, Callable[[], None]] = field(default_factory=dict)
    on_request: dict[int, Callable[[], None]] = field(default_factory=dict)
    on_popular: Callable[[], None] = lambda: None
    on_recall: Callable[[RecommendationRequest, LivePast | None], float | None] = lambda *_: None
    let_go: "queue.SimpleQueue[int]" = field(default_factory=queue.SimpleQueue)

    def open(self, version: int) -> Recommender:
        self.on_open.get(version, lambda: None)()
        self.opened.append(version)
        return _FakeRecommender(version, self)


@dataclass(frozen=True)
class _FakeRecommender:
    version: int
    fakes: FakeReleases

    @property
    def release(self) -> str:
        return str(self.version)

    @property
    def known_until_ms(self) -> int:
        return 0

    @property
    def num_tried(self) -> int:
        return 7

    def recommend_all(
        self,
        requests: Sequence[RecommendationRequest],
        live: Sequence[LivePast | None],
        *,
        rank_before_s: float,
    ) -> list[Recommendations]:
        self.fakes.live.extend(live)
        self.fakes.batches.append((len(requests), rank_before_s))
        return [self.recommend(request) for request in requests]

    def popular(
        self, request: RecommendationRequest, live: LivePast | None, cause: str
    ) -> Recommendations:
        self.fakes.on_popular()
        return structs.replace(self._page(request.k), degraded=[cause])

    @property
    def insight(self) -> Insight:
        raise NotImplementedError("there is nothing within a fake release")

    def similar(self, item_id: Id, k: int) -> Recommendations:
        if item_id == "unknown":
            raise RequestError("item_id", expected="a known item", got=repr(item_id))
        return self._page(k)

    def user_vectors(
        self, requests: Sequence[RecommendationRequest], live: Sequence[LivePast | None]
    ) -> Floats:
        return np.arange(3 * len(requests), dtype=np.float32).reshape(len(requests), 3)

    def rank(
        self, request: RecommendationRequest, live: LivePast | None, item_ids: Sequence[Id]
    ) -> Floats:
        return np.arange(len(item_ids), 0, -1, dtype=np.float32)

    def index_recall(self, request: RecommendationRequest, live: LivePast | None) -> float | None:
        return self.fakes.on_recall(request, live)

    def let_go(self) -> None:
        self.fakes.let_go.put(self.version)

    def recommend(self, request: RecommendationRequest) -> Recommendations:
        self.fakes.requests.append(request)
        self.fakes.on_request.get(self.version, lambda: None)()
        return self._page(request.k)

    def _page(self, k: int) -> Recommendations:
        items = [
            Recommendation(
                item_id=number,
                title=None,
                expected_watch_time_s=60.0 - number,
                retrieval_score=1.0,
                retrieval_rank=number + 1,
            )
            for number in range(k)
        ]
        return Recommendations(
            items=items, release=self.release, num_candidates=k, timings_ms={"all": 0.1}
        )


class FakeAnswering(Answering):
    """Answers by rules that tests can tell beforehand, and remembers what it was asked.

    Items are "v0", "v1", …, as many as asked; expected watch times fall from 60 s by one; an item
    that is ranked is expected to be watched for as many seconds as its number; a user vector is the
    lengths of user id and history.
    """

    def __init__(self, live: LiveReleases) -> None:
        self.live = live
        self.asked: list[Asked] = []
        self.failure: Exception | None = None

    def turns_away(self) -> bool:
        return False

    async def recommend(self, asked: Asked) -> Answered:
        version, label = self._route(asked.label, asked.version)
        self.asked.append(asked)
        items = [
            Recommendation(
                item_id=f"v{number}",
                title=None,
                expected_watch_time_s=60.0 - number,
                retrieval_score=2.0,
                retrieval_rank=number + 1,
                sources=("retrieval",),
            )
            for number in range(asked.request.k)
        ]
        answer = Recommendations(
            items=items,
            release=str(version),
            num_candidates=300,
            timings_ms={"total": 0.5},
            degraded=["on purpose"],
        )
        request_id = asked.request_id or f"made up {len(self.asked)}"
        return Answered(recommendations=answer, label=label, version=version, request_id=request_id)

    async def similar(
        self, item_id: Id, k: int, *, label: str | None = None, version: int | None = None
    ) -> Answered:
        if item_id == "unknown":
            raise RequestError("item_id", expected="an item of the release", got="'unknown'")
        asked = Asked(request=RecommendationRequest(k=k), label=label, version=version)
        answered = await self.recommend(asked)
        items = [
            structs.replace(item, title=str(item_id)) for item in answered.recommendations.items
        ]
        return replace(
            answered, recommendations=structs.replace(answered.recommendations, items=items)
        )

    async def user_vectors(self, asked: Sequence[Asked]) -> tuple[list[list[float]], str]:
        version, _ = self._route(asked[0].label, asked[0].version)
        self.asked += asked
        vectors = [
            [float(len(str(one.request.user_id))), float(len(one.request.history or ()))]
            for one in asked
        ]
        return vectors, str(version)

    async def rank(self, asked: Asked, item_ids: Sequence[Id]) -> tuple[list[float], str]:
        version, _ = self._route(asked.label, asked.version)
        self.asked.append(asked)
        return [float(str(item_id).lstrip("v")) for item_id in item_ids], str(version)

    def _route(self, label: str | None, version: int | None) -> tuple[int, str | None]:
        if self.failure is not None:
            raise self.failure
        state = self.live.state
        label = (label or "stable") if version is None else None
        found = version if label is None else state.labels.get(label)
        if found is None or found not in state.recommenders:
            got = repr(label or version)
            raise NotServedError("label", expected="a loaded release", got=got)
        return found, label


@dataclass
class FakeStore:
    """Keeps what it is given; `failure` is raised in place of that."""

    events: dict[str, Event] = field(default_factory=dict)
    failure: Exception | None = None
    on_append: Callable[[], None] = lambda: None

    def append(self, events: Sequence[Event]) -> Appended:
        self.on_append()
        if self.failure is not None:
            raise self.failure
        new = {event.event_id: event for event in events if event.event_id not in self.events}
        self.events = {**new, **self.events}
        return Appended(num_accepted=len(new), num_duplicates=len(events) - len(new))


@pytest.fixture
def answering(fakes: FakeReleases) -> FakeAnswering:
    """Release 1 is stable, 2 is canary."""
    live = LiveReleases(fakes.open)
    for name, version in (("stable", 1), ("canary", 2)):
        live.load(version)
        live.label(name, version)
    return FakeAnswering(live)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def fakes() -> FakeReleases:
    return FakeReleases()


@pytest.fixture(scope="session")
def send() -> Send:
    """`send(app, "POST", "/v1/recommendations", b"{}")` is the response."""

    def send(
        app: ASGIApp,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        async def send_and_wait() -> httpx.Response:
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://localhost"
            ) as client:
                return await client.request(method, path, content=body, headers=headers)

        return asyncio.run(send_and_wait())

    return send
