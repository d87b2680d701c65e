"""The slowest requests of the last minutes that this process answered, and where their time went.

Time is cut into half minutes, each of which keeps its slowest few. So whatever comes, a request
costs one comparison with the least of those, and what is old is forgotten half a minute at a time.
"""

import heapq
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from upnext.registry.slow import NUM_SLOWEST, PART_MS, WINDOW_S, SlowOfProcess, SlowRequest
from upnext.serving.asked import Answered, Asked

MAX_CAUSES = 10
MAX_CAUSE_CHARACTERS = 200
"""Causes may name what a client made up, and that may be long."""


@dataclass(slots=True)
class _Part:
    """Half a minute. `slowest`: a heap of (took_ms, place, request), the quickest of them first."""

    began_ms: int
    num_seen: int = 0
    slowest: list[tuple[float, int, SlowRequest]] = field(default_factory=list)


class SlowRequests:
    """Remembers them; one thread tells it what it saw, another asks.

    `write`: where they are told to others. `clock_ms`: the time, UTC.
    """

    def __init__(
        self,
        write: Callable[[SlowOfProcess], None],
        *,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._write, self._clock_ms = write, clock_ms
        self._parts: deque[_Part] = deque()
        self._places = itertools.count()
        self._lock = threading.Lock()
        self._has_news = False

    def see(self, asked: Asked, answered: Answered) -> None:
        """One more answer that somebody is given."""
        took_ms = answered.recommendations.timings_ms.get("served", 0.0)
        at_ms = self._clock_ms()
        with self._lock:
            part = self._part(at_ms)
            part.num_seen += 1
            self._has_news = True
            is_full = len(part.slowest) == NUM_SLOWEST
            if is_full and took_ms <= part.slowest[0][0]:
                return
            one = (took_ms, next(self._places), _slow_request(asked, answered, at_ms, took_ms))
            (heapq.heapreplace if is_full else heapq.heappush)(part.slowest, one)

    def tell(self) -> None:
        """Writes what there is, unless that is what was written last."""
        with self._lock:
            self._forget(self._clock_ms())
            if not self._has_news:
                return
            self._has_news = False
            num_seen = {part.began_ms: part.num_seen for part in self._parts}
            kept = [one for part in self._parts for one in part.slowest]
        slowest = [request for *_, request in heapq.nlargest(NUM_SLOWEST, kept)]
        try:
            self._write(SlowOfProcess(num_seen=num_seen, slow=slowest))
        except BaseException:
            self._has_news = True
            raise

    def _part(self, at_ms: int) -> _Part:
        """The last part, or a new one if that is over."""
        if not self._parts or at_ms >= self._parts[-1].began_ms + PART_MS:
            self._parts.append(_Part(at_ms - at_ms % PART_MS))
            self._forget(at_ms)
        return self._parts[-1]

    def _forget(self, at_ms: int) -> None:
        """What is wholly outside the window."""
        while self._parts and self._parts[0].began_ms + PART_MS + WINDOW_S * 1e3 <= at_ms:
            self._parts.popleft()
            self._has_news = True


def _slow_request(asked: Asked, answered: Answered, at_ms: int, took_ms: float) -> SlowRequest:
    answer = answered.recommendations
    return SlowRequest(
        request_id=answered.request_id,
        at_ms=at_ms,
        release=answer.release,
        label=answered.label,
        took_ms=took_ms,
        timings_ms=answer.timings_ms,
        degraded=[cause[:MAX_CAUSE_CHARACTERS] for cause in answer.degraded[:MAX_CAUSES]],
        k=asked.request.k,
        num_candidates=answer.num_candidates,
        process=os.getpid(),
    )
