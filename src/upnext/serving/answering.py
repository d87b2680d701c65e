"""One request's way through the server: which release, whose past, by when, and what if not."""

import asyncio
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from upnext.errors import UpnextError
from upnext.schema import Id, RecommendationRequest, Recommendations
from upnext.serving.live import DEFAULT_LABEL, LiveReleases


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request, and how it wants to be served.

    `label` or `version` names the release; without either, traffic decides by the user.
    `deadline_ms`: how long the answer may take; None takes the server's own limit.
    `request_id`: told in the answer and kept with what was served; made up where it is None.
    `is_logged`: whether the page counts as shown to its user, and becomes tomorrow's training data.
    """

    request: RecommendationRequest
    label: str | None = None
    version: int | None = None
    deadline_ms: float | None = None
    request_id: str | None = None
    is_logged: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An answer, the label that led to its release (None: a version was named), and an id."""

    recommendations: Recommendations
    label: str | None
    request_id: str


class NotServed(UpnextError):
    """No release is there that could answer: none has this label, or none is loaded yet."""


class Overloaded(UpnextError):
    """More requests wait than can be answered in time; `retry_after_s` tells when to ask again."""

    retry_after_s = 1


class Answering:
    """Answers requests from the live releases, in threads of its own."""

    def __init__(self, live: LiveReleases, *, num_threads: int = 2) -> None:
        self.live = live
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="recommend")

    async def recommend(self, asked: Asked) -> Answered:
        """The page of one request.

        Raises:
            RequestError: the request cannot be understood. NotServed: there is no such release.
            Overloaded: too many requests wait.
        """
        label = None if asked.version is not None else asked.label or DEFAULT_LABEL
        recommender = self.live.state.recommender(label) if label else None
        if recommender is None:
            raise NotServed("label", expected="a loaded release", got=repr(label))
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(self._threads, recommender.recommend, asked.request)
        request_id = asked.request_id or uuid.uuid4().hex
        return Answered(recommendations=answer, label=label, request_id=request_id)

    async def recommend_many(self, asked: Sequence[Asked]) -> list[Answered]:
        """The pages of some requests, each as if asked alone; raises what one of them raises."""
        return list(await asyncio.gather(*map(self.recommend, asked)))

    async def similar(
        self, item_id: Id, k: int, *, label: str | None = None, version: int | None = None
    ) -> Answered:
        """The k items whose vectors have the greatest cosine with this item's.

        Raises: RequestError: the release does not know the item (`where` is "item_id").
        """
        raise NotImplementedError

    async def user_vectors(self, asked: Sequence[Asked]) -> tuple[list[list[float]], str]:
        """The user vectors [B, D] of some requests, and the release that made them."""
        raise NotImplementedError

    async def rank(self, asked: Asked, item_ids: Sequence[Id]) -> tuple[list[float], str]:
        """Expected watch times in seconds of given items, in their order, and the release.

        Raises: RequestError: the release does not know an item, or has no ranking.
        """
        raise NotImplementedError
