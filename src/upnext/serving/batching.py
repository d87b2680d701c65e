"""A bounded queue: what waits is worked off by a few threads, some of it at once.

Nothing is held back to fill a batch. A thread takes what waits when it becomes free, so a quiet
server answers each request alone and at once, and a busy one answers some together, which takes
less time than one after the other.
"""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from upnext.config import require
from upnext.errors import ConfigError, UpnextError
from upnext.serving.batch_times import BatchTimes

T = TypeVar("T")
Work = Callable[[Sequence[Any]], Sequence[Any]]
"""Some things that waited, to as many results; a result that is an exception is raised."""


class OverloadedError(UpnextError):
    """More waits than can be answered in time; `retry_after_s` tells when to ask again."""

    retry_after_s = 1


@dataclass(frozen=True, kw_only=True)
class QueueConfig:
    """How much may wait, and who works it off."""

    num_threads: int = 1
    """Threads that answer. Each keeps one core busy, and has no helpers of its own."""
    max_batch: int = 8
    """Requests at most that one thread answers at once."""
    max_waiting: int = 256
    """Requests at most that wait; what is beyond is refused at once."""
    max_wait_share: float = 0.5
    """Of the time that an answer may take, how much of it may be spent waiting for a thread; what
    is expected to wait longer is refused at once, unless it would be the next."""

    def __post_init__(self) -> None:
        least = dict.fromkeys(("num_threads", "max_batch", "max_waiting"), 1)
        require("queue", self, at_least=least, above={"max_wait_share": 0})
        if self.max_wait_share > 1:
            got = str(self.max_wait_share)
            raise ConfigError("[queue] max_wait_share", expected="above 0, to 1", got=got)


@dataclass(eq=False, slots=True)
class Ticket:
    """One thing that waits since `since_s`. Tickets of equal `kind` may be worked off at once."""

    kind: object
    work: Work
    asked: Any
    since_s: float
    give_up_s: float
    result: "asyncio.Future[Any]"


class WorkQueue:
    """Threads that answer, and what waits for them. Belongs to one event loop.

    `on_waited`: told how many seconds each thing waited that a thread takes. `now_s`: the clock.
    """

    def __init__(
        self,
        config: QueueConfig,
        *,
        on_waited: Callable[[float], None] = lambda _: None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._on_waited, self._now_s = config, on_waited, now_s
        self._waiting: deque[Ticket] = deque()
        # A condition would do; what wakes a thread here is C, and half as long in doing so.
        self._lock, self._wakes = threading.Lock(), SimpleQueue[None]()
        self._num_resting, self._is_closed = 0, False
        self._times = BatchTimes()
        self._expected_ends_s: dict[int, float] = {}
        self._threads = [
            threading.Thread(target=self._work, name=f"answer-{number}", daemon=True)
            for number in range(config.num_threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def num_waiting(self) -> int:
        """What no thread has taken yet."""
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Whether a thread is free, and would take at once what is asked now."""
        return not self._waiting and len(self._expected_ends_s) < self._config.num_threads

    def expected_wait_s(self) -> float:
        """How long what is asked now would wait, judging by the last ones."""
        now_s, most = self._now_s(), self._config.max_batch
        with self._lock:
            num_full, num_left = divmod(len(self._waiting), most)
            work_s = num_full * self._times.expected_s(most) + self._times.expected_s(num_left)
            work_s += sum(max(0.0, end_s - now_s) for end_s in self._expected_ends_s.values())
        return work_s / self._config.num_threads

    def is_full(self, allowed_s: float) -> bool:
        """Whether what is asked now, and may take so long, is refused: it would wait too long.

        Whoever would be the next is let in, however long the last ones took: a thread would rest
        for his refusal, and nothing would be learned of how long it takes by now.
        """
        if not self._waiting and not self._expected_ends_s:  # as it is mostly, asked thrice a page
            return False
        if len(self._waiting) >= self._config.max_waiting:
            return True
        if self.expected_wait_s() <= self._config.max_wait_share * allowed_s:
            return False
        with self._lock:
            return not all(ticket.result.done() for ticket in self._waiting)

    def submit(
        self, work: Work, asked: Any, *, kind: object, give_up_s: float
    ) -> "asyncio.Future[Any]":
        """A future of what `work` makes of `asked`; once it is done otherwise, nobody works for it.

        Args:
            kind: what has an equal one may be worked off at once.
            give_up_s: on the queue's clock, when nobody wants the result any more.

        Raises: OverloadedError: `is_full` says so of the time until then.
        """
        if self._is_closed:
            raise OverloadedError("the server", expected="to be running", got="its end")
        now_s = self._now_s()
        if self.is_full(give_up_s - now_s):
            raise OverloadedError(
                "the server",
                expected="to answer in time",
                got=f"{len(self._waiting)} requests that wait",
                hint="ask again in a second, or of another server.",
            )
        result = asyncio.get_running_loop().create_future()
        ticket = Ticket(kind, work, asked, now_s, give_up_s, result)
        with self._lock:
            self._waiting.append(ticket)
            self._wake(1)
        return ticket.result

    def close(self) -> None:
        """Ends the threads once all that waits is worked off."""
        with self._lock:
            self._is_closed = True
            self._wake(self._num_resting)
        for thread in self._threads:
            thread.join()

    def _wake(self, most: int) -> None:
        """So many threads that rest, while the lock is held."""
        for _ in range(min(most, self._num_resting)):
            self._num_resting -= 1
            self._wakes.put(None)

    def _work(self) -> None:
        with threadpool_limits(limits=1):
            while tickets := self._take():
                began_s = self._now_s()
                try:
                    for ticket in tickets:
                        self._on_waited(began_s - ticket.since_s)
                    results = tickets[0].work([ticket.asked for ticket in tickets])
                except Exception as error:  # told to all who wait for it
                    results = [error] * len(tickets)
                with self._lock:
                    del self._expected_ends_s[threading.get_ident()]
                    self._times.see(len(tickets), self._now_s() - began_s)
                with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
                    tickets[0].result.get_loop().call_soon_threadsafe(_tell, tickets, results)

    def _take(self) -> list[Ticket]:
        """The first that waits, and others of its kind; nothing at the end."""
        while True:
            with self._lock:
                now_s = self._now_s()
                while self._waiting:
                    first = self._waiting.popleft()
                    if not _is_given_up(first, now_s):
                        tickets = [first, *self._others_like(first, now_s)]
                        end_s = now_s + self._times.expected_s(len(tickets))
                        self._expected_ends_s[threading.get_ident()] = end_s
                        return tickets
                if self._is_closed:
                    return []
                self._num_resting += 1
            self._wakes.get()

    def _others_like(self, first: Ticket, now_s: float) -> list[Ticket]:
        others: list[Ticket] = []
        left: deque[Ticket] = deque()
        while self._waiting and len(others) + 1 < self._config.max_batch:
            ticket = self._waiting.popleft()
            if ticket.kind != first.kind:
                left.append(ticket)
            elif not _is_given_up(ticket, now_s):
                others.append(ticket)
        self._waiting.extendleft(reversed(left))
        return others


async def within(allowed_s: float, waiting: "asyncio.Future[T]") -> T:
    """What a future of this loop brings; as `asyncio.wait_for`, which takes two rounds more of it.

    Raises: TimeoutError: nothing came in time, and nobody waits for it any more.
    """
    too_late = waiting.get_loop().call_later(allowed_s, _give_up, waiting)
    try:
        return await waiting
    finally:
        too_late.cancel()


def _give_up(waiting: "asyncio.Future[Any]") -> None:
    if not waiting.done():
        waiting.set_exception(TimeoutError())


def _is_given_up(ticket: Ticket, now_s: float) -> bool:
    """Whether nobody waits for it any more; the one who waited has answered otherwise."""
    return ticket.result.done() or now_s > ticket.give_up_s


def _tell(tickets: Sequence[Ticket], results: Sequence[Any]) -> None:
    for ticket, result in zip(tickets, results, strict=True):
        if ticket.result.done():
            continue
        if isinstance(result, Exception):
            ticket.result.set_exception(result)
        else:
            ticket.result.set_result(result)
