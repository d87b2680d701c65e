"""Recommenders without a model, and requests without a socket."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import httpx
import numpy as np
import pytest
from starlette.types import ASGIApp

from upnext.errors import RequestError
from upnext.schema import (
    Floats,
    Id,
    LivePast,
    Recommendation,
    RecommendationRequest,
    Recommendations,
)
from upnext.serving.releases import Recommender

Send = Callable[..., httpx.Response]


@dataclass
class FakeReleases:
    """Opens recommenders that answer items 0 to k-1, and remembers what they were asked.

    `on_request`: by version, called before each answer. `on_open`: called before each opening.
    """

    opened: list[int] = field(default_factory=list)
    requests: list[RecommendationRequest] = field(default_factory=list)
    live: list[LivePast | None] = field(default_factory=list)
    on_open: dict[int, Callable[[], None]] = field(default_factory=dict)
    on_request: dict[int, Callable[[], None]] = field(default_factory=dict)

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

    def recommend_all(
        self,
        requests: Sequence[RecommendationRequest],
        live: Sequence[LivePast | None],
        *,
        rank_before_s: float,
    ) -> list[Recommendations]:
        self.fakes.live.extend(live)
        return [self.recommend(request) for request in requests]

    def popular(
        self, request: RecommendationRequest, live: LivePast | None, cause: str
    ) -> Recommendations:
        return replace(self._page(request.k), degraded=[cause])

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
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, content=body, headers=headers)

        return asyncio.run(send_and_wait())

    return send
