"""One request's way through the server: which release, whose past, by when, and what if not."""

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import Any, Protocol, TypeVar

from msgspec import structs

from upnext.config import require
from upnext.errors import ConfigError, UpnextError
from upnext.events.event import LAST_TIME_MS
from upnext.schema import MS_PER_DAY, Id, LivePast, RecommendationRequest, Recommendations
from upnext.serving.aftermath import Aftermath
from upnext.serving.asked import Answered, Asked
from upnext.serving.batching import OverloadedError, QueueConfig, WorkQueue, within
from upnext.serving.comparing import Comparing
from upnext.serving.lately import Lately
from upnext.serving.looking import Looked
from upnext.serving.releases import LiveReleases, Recommender
from upnext.serving.traffic import STABLE, Traffic

logger = logging.getLogger(__name__)

T = TypeVar("T")

NO_STORE = "the live store could not be read: what happened since the release was made is missing"
TOO_LATE = "not answered in time: what is watched most"
FAILED = "answering failed: what is watched most"
MOST_LOOKING = 32
"""Questions of those who look into releases that may wait."""
LATER_S = 0.002
"""How long after a page its aftermath comes: who asks again at once is let in first, and while that
is computed there is time for it."""
LATE_MS = MS_PER_DAY
"""An event may come so late that the logs of a release miss it, though it was before their end."""


@dataclass(frozen=True, kw_only=True)
class AnsweringConfig:
    """How long an answer may take, and what is done after some."""

    deadline_ms: float = 250.0
    """What a request that names no deadline is given; then what is watched most is answered."""
    max_deadline_ms: float = 10_000.0
    """What a request may ask for at most."""
    compared_share: float = 0.001
    """Share of requests after which the index is compared with an exact search, in a thread beside
    those that answer, begun only while nobody waits; 0 never does."""

    def __post_init__(self) -> None:
        above = {"deadline_ms": 0, "max_deadline_ms": 0}
        require("answering", self, at_least={"compared_share": 0}, above=above)
        if self.compared_share > 1:
            got = str(self.compared_share)
            raise ConfigError("[answering] compared_share", expected="0 to 1", got=got)


class Pasts(Protocol):
    """What a live store knows of users; it may fail."""

    def past_of(self, user_id: Id, *, since_ms: int, until_ms: int) -> LivePast:
        """What one user did from `since_ms` on and before `until_ms`."""


class Answering:
    """Answers requests from the live releases; see `recommend` for what happens to one.

    `pasts`: where the live past of users is found; None knows of nothing. `aftermath`: what is done
    once a page is answered.
    """

    def __init__(
        self,
        live: LiveReleases,
        config: AnsweringConfig | None = None,
        queue: QueueConfig | None = None,
        *,
        pasts: Pasts | None = None,
        aftermath: Aftermath | None = None,
    ) -> None:
        self.live, self.config, self.traffic = live, config or AnsweringConfig(), Traffic()
        self._pasts, self._aftermath = pasts, aftermath or Aftermath()
        self.queue = WorkQueue(queue or QueueConfig(), on_waited=self._aftermath.of_waiting)
        # Of its own, so that what is watched most can be told however busy the others are.
        self._otherwise = ThreadPoolExecutor(1, thread_name_prefix="otherwise")
        self._looking = ThreadPoolExecutor(1, thread_name_prefix="look")
        self._num_looking = 0
        self._ranking = Lately()
        self._comparing = Comparing(live, self._compare, self._aftermath.of_comparison)
        self._unseen: set[asyncio.Task[None]] = set()
        self._answered: deque[tuple[Asked, Answered]] = deque()

    async def recommend(self, asked: Asked) -> Answered:
        """The page of one request.

        It waits for a free thread, with others of its release, and is answered from the live past
        of its user. If there is no answer by its deadline, or all stages fail, it is answered with
        what is watched most, and `degraded` says why.

        Raises:
            NotServedError: there is no such release.
            OverloadedError: it would have waited for too much of the time until its deadline.
        """
        began_s = time.monotonic()
        with self.live.acquire(self._label_of(asked), asked.version) as route:
            try:
                answer = await self._page(route.recommender, asked)
            except OverloadedError:
                self._aftermath.of_refusal()
                raise
        timings_ms = {**answer.timings_ms, "served": (time.monotonic() - began_s) * 1e3}
        answered = Answered(
            recommendations=structs.replace(answer, timings_ms=timings_ms),
            label=route.label,
            version=route.version,
            request_id=asked.request_id or token_hex(16),
        )
        self._answered.append((asked, answered))
        asyncio.get_running_loop().call_later(LATER_S, self._look_back)
        if self.traffic.is_shadowed() and self.queue.is_idle:
            self._ask_shadow(asked, answered)
        elif random.random() < self.config.compared_share and self.queue.is_idle:
            self._later(self._comparing.of(answered.version, asked.request))
        return answered

    def is_full(self) -> bool:
        """Whether a request is to be refused unread: the usual deadline is too near for it.

        Its own deadline nobody knows yet. Beyond capacity, who would wait longer is refused too.
        """
        return self.queue.is_full(self.config.deadline_ms / 1e3)

    def turns_away(self) -> bool:
        """Whether a request is refused unread; if so, it is counted."""
        is_full = self.is_full()
        if is_full:
            self._aftermath.of_refusal()
        return is_full

    async def similar(
        self, item_id: Id, k: int, *, label: str | None = None, version: int | None = None
    ) -> Answered:
        """The k items whose vectors have the greatest cosine with this item's.

        Raises: RequestError: the release does not know the item (`where` is "item_id").
        """
        anybody = Asked(request=RecommendationRequest(), label=label, version=version)
        with self.live.acquire(self._label_of(anybody), version) as route:
            answer = await self._alone(lambda: route.recommender.similar(item_id, k))
        return Answered(
            recommendations=answer,
            label=route.label,
            version=route.version,
            request_id=token_hex(16),
        )

    async def user_vectors(self, asked: Sequence[Asked]) -> tuple[list[list[float]], str]:
        """The user vectors [B, D] of some requests for one release, and which that is."""
        with self.live.acquire(self._label_of(asked[0]), asked[0].version) as route:
            requests = [one.request for one in asked]
            vectors = await self._alone(
                lambda: route.recommender.user_vectors(
                    requests, self._live_pasts(route.recommender, requests)[0]
                )
            )
        return vectors.tolist(), route.recommender.release

    async def rank(self, asked: Asked, item_ids: Sequence[Id]) -> tuple[list[float], str]:
        """Expected watch times in seconds of given items, in their order, and the release.

        Raises: RequestError: the release does not know an item. ReleaseError: it has no ranking.
        """
        with self.live.acquire(self._label_of(asked), asked.version) as route:
            seconds = await self._alone(
                lambda: route.recommender.rank(
                    asked.request,
                    self._live_pasts(route.recommender, [asked.request])[0][0],
                    item_ids,
                )
            )
        return seconds.tolist(), route.recommender.release

    async def look(
        self,
        see: Callable[[Recommender], Iterator[T | None]],
        *,
        label: str | None = None,
        version: int | None = None,
    ) -> Looked[T]:
        """What is seen of a release, `stable` unless another is named.

        Args:
            see: yields None for each step of what takes long, then what is seen. Others have
                their turn between two steps, and nobody waits for all of them.

        Raises: OverloadedError, NotServedError, and whatever `see` raises.
        """
        named = STABLE if label is None and version is None else label
        with self.live.acquire(named, version) as route:
            steps = see(route.recommender)
            while (seen := await self._beside(lambda: next(steps))) is None:
                pass
        return Looked(seen=seen, release=route.recommender.release, label=route.label)

    def live_past(
        self, recommender: Recommender, user_id: Id
    ) -> tuple[LivePast | None, Sequence[str]]:
        """What a user did lately, as their next request would find it, and why that is not known.

        Reads the store, so it is to be called where that may be waited for.
        """
        pasts, causes = self._live_pasts(recommender, [RecommendationRequest(user_id=user_id)])
        return pasts[0], causes

    def _ask_shadow(self, asked: Asked, answered: Answered) -> None:
        """Lets the shadow answer too, while nobody else waits; who asked has the answer already."""
        shadow = self.traffic.shadow
        version = None if shadow is None else self.live.state.labels.get(shadow.label)
        if shadow is None or version is None or version == answered.version:
            return
        unseen = replace(asked, label=shadow.label, version=None, is_logged=False)
        self._later(self._shadow(unseen, shadow.label, answered))

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        """Begins something that nobody waits for."""
        task = asyncio.create_task(work)
        self._unseen.add(task)  # the loop itself keeps no hold of its tasks
        task.add_done_callback(self._unseen.discard)

    def _look_back(self) -> None:
        while self._answered:
            asked, answered = self._answered.popleft()
            try:
                self._aftermath.of(asked, answered)
            except Exception:  # such as a full disk; the pages after it are still to be kept
                logger.exception("the page of request %s has no aftermath", answered.request_id)

    async def _shadow(self, unseen: Asked, label: str, answered: Answered) -> None:
        with contextlib.suppress(UpnextError), self.live.acquire(label) as route:
            answer = await self._page(route.recommender, unseen)
            self._aftermath.of_shadow(label, answered.recommendations, answer)

    def close(self) -> None:
        """Ends once all that waits is answered."""
        self.queue.close()
        self._otherwise.shutdown()
        self._looking.shutdown()
        self._comparing.close()
        self._look_back()  # on what was answered when the loop ended

    def _label_of(self, asked: Asked) -> str | None:
        """The label that is asked, or that traffic gives to who asks; None where a version is."""
        if asked.label is not None or asked.version is not None:
            return asked.label
        label = self.traffic.label_of(asked.request.user_id)
        return label if label in self.live.state.labels else STABLE

    async def _page(self, recommender: Recommender, asked: Asked) -> Recommendations:
        """By its deadline, whatever it takes. Raises OverloadedError: it was not let in."""
        wanted_ms = asked.deadline_ms or self.config.deadline_ms
        allowed_s = min(wanted_ms, self.config.max_deadline_ms) / 1e3
        by_s = time.monotonic() + allowed_s
        waiting = self.queue.submit(
            lambda some: self._recommend_all(recommender, some, by_s),
            asked.request,
            kind=(id(recommender), allowed_s),  # together they hurry as the first one must
            give_up_s=by_s,
        )
        try:
            return await within(allowed_s, waiting)
        except TimeoutError:
            cause = TOO_LATE
        except Exception:
            logger.exception("release %s failed", recommender.release)
            cause = FAILED
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._otherwise, lambda: self._popular(recommender, asked.request, cause)
        )

    async def _beside(self, compute: Callable[[], T]) -> T:
        """One step of looking, in a thread beside those that answer, so that no page waits for it.

        Raises: OverloadedError: too much is looked at already.
        """
        if self._num_looking >= MOST_LOOKING:
            got = f"{self._num_looking} questions that wait"
            raise OverloadedError("the server", expected="fewer that look into it", got=got)
        self._num_looking += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._looking, compute)
        finally:
            self._num_looking -= 1

    async def _alone(self, compute: Callable[[], T]) -> T:
        """What is neither batched nor done without: one computation, in its turn.

        Raises: OverloadedError: its turn did not come, or it took too long.
        """
        allowed_s = self.config.max_deadline_ms / 1e3
        waiting = self.queue.submit(
            lambda _: [compute()], None, kind=object(), give_up_s=time.monotonic() + allowed_s
        )
        try:
            made: T = await within(allowed_s, waiting)
        except TimeoutError:
            got = f"none within {allowed_s:g} s"
            raise OverloadedError("the server", expected="an answer", got=got) from None
        return made

    def _recommend_all(
        self, recommender: Recommender, requests: Sequence[RecommendationRequest], by_s: float
    ) -> Sequence[Recommendations]:
        """In a thread of the queue; `by_s` is the deadline of the first, and the earliest."""
        live, causes = self._live_pasts(recommender, requests)
        rank_before_s = by_s - self._ranking.longest_s(at_s=time.monotonic())
        answers = recommender.recommend_all(requests, live, rank_before_s=rank_before_s)
        ranking_s = answers[0].timings_ms.get("ranking", 0.0) / 1e3
        self._ranking = self._ranking.told(ranking_s, at_s=time.monotonic())
        if not causes:
            return answers
        return [structs.replace(one, degraded=[*one.degraded, *causes]) for one in answers]

    def _live_pasts(
        self, recommender: Recommender, requests: Sequence[RecommendationRequest]
    ) -> tuple[list[LivePast | None], list[str]]:
        """What happened lately to who asks, and why that is not known."""
        if self._pasts is None:
            return [None] * len(requests), []
        since_ms = max(0, recommender.known_until_ms - LATE_MS)
        try:
            return [
                None
                if one.user_id is None
                else self._pasts.past_of(
                    one.user_id,
                    since_ms=since_ms,
                    until_ms=LAST_TIME_MS if one.at_ms is None else one.at_ms,
                )
                for one in requests
            ], []
        except UpnextError:
            logger.exception("the live store could not be read")
            return [None] * len(requests), [NO_STORE]

    def _compare(self, recommender: Recommender, request: RecommendationRequest) -> float | None:
        """In a thread of its own, while nobody waits."""
        live, _ = self._live_pasts(recommender, [request])
        return recommender.index_recall(request, live[0])

    def _popular(
        self, recommender: Recommender, request: RecommendationRequest, cause: str
    ) -> Recommendations:
        live, causes = self._live_pasts(recommender, [request])
        answer = recommender.popular(request, live[0], cause)
        return structs.replace(answer, degraded=[*answer.degraded, *causes])
