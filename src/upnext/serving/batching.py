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
from typing import Any

from threadpoolctl import threadpool_limits

from upnext.config import require
from upnext.errors import UpnextError

Work = Callable[[Sequence[Any]], Sequence[Any]]
"""Some things that waited, to as many results; a result that is an exception is raised."""

FORGETTING = 0.95
"""What is left of an estimate when a new figure is mixed in."""


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

    def __post_init__(self) -> None:
        least = dict.fromkeys(("num_threads", "max_batch", "max_waiting"), 1)
        require("queue", self, at_least=least)


@dataclass(eq=False, slots=True)
class Ticket:
    """One thing that waits since `since_s`. Tickets of one `kind` may be worked off at once."""

    kind: object
    work: Work
    asked: Any
    since_s: float
    give_up_s: float
    result: "asyncio.Future[Any]"


class WorkQueue:
    """Threads that answer, and what waits for them. Belongs to one event loop.

    `on_waited`: told how many seconds each thing waited that a thread takes.
    """

    def __init__(
        self, config: QueueConfig, *, on_waited: Callable[[float], None] = lambda _: None
    ) -> None:
        self._config, self._on_waited = config, on_waited
        self._waiting: deque[Ticket] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._num_running = 0
        self._num_busy = 0
        self._usual_s = 0.0
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
        return not self._waiting and self._num_busy < self._config.num_threads

    def expected_wait_s(self) -> float:
        """How long what is asked now would wait, judging by the last ones."""
        return (len(self._waiting) + self._num_running) * self._usual_s / self._config.num_threads

    def submit(
        self, work: Work, asked: Any, *, kind: object, give_up_s: float
    ) -> "asyncio.Future[Any]":
        """A future of what `work` makes of `asked`; whoever cancels it takes it out of the queue.

        Args:
            kind: what has the same one may be worked off at once.
            give_up_s: on the clock of `time.monotonic`, when nobody wants the result any more.

        Raises: OverloadedError: it would wait until then, or too much waits already.
        """
        if self._is_closed:
            raise OverloadedError("the server", expected="to be running", got="its end")
        now_s = time.monotonic()
        would_begin_s = now_s + self.expected_wait_s()
        if len(self._waiting) >= self._config.max_waiting or would_begin_s > give_up_s:
            raise OverloadedError(
                "the server",
                expected="to answer in time",
                got=f"{len(self._waiting)} requests that wait",
                hint="ask again in a second, or of another server.",
            )
        result = asyncio.get_running_loop().create_future()
        ticket = Ticket(kind, work, asked, now_s, give_up_s, result)
        with self._changed:
            self._waiting.append(ticket)
            self._changed.notify()
        return ticket.result

    def close(self) -> None:
        """Ends the threads once all that waits is worked off."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        with threadpool_limits(limits=1):
            while tickets := self._take():
                began_s = time.monotonic()
                try:
                    for ticket in tickets:
                        self._on_waited(began_s - ticket.since_s)
                    results = tickets[0].work([ticket.asked for ticket in tickets])
                except Exception as error:  # told to all who wait for it
                    results = [error] * len(tickets)
                each_s = (time.monotonic() - began_s) / len(tickets)
                with self._changed:
                    self._num_running -= len(tickets)
                    self._num_busy -= 1
                    self._usual_s += (each_s - self._usual_s) * (1 - FORGETTING)
                with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
                    tickets[0].result.get_loop().call_soon_threadsafe(_tell, tickets, results)

    def _take(self) -> list[Ticket]:
        """The first that waits, and others of its kind; nothing at the end."""
        with self._changed:
            while True:
                now_s = time.monotonic()
                while self._waiting:
                    first = self._waiting.popleft()
                    if not _is_given_up(first, now_s):
                        tickets = [first, *self._others_like(first, now_s)]
                        self._num_running += len(tickets)
                        self._num_busy += 1
                        return tickets
                if self._is_closed:
                    return []
                self._changed.wait()

    def _others_like(self, first: Ticket, now_s: float) -> list[Ticket]:
        others: list[Ticket] = []
        left: deque[Ticket] = deque()
        while self._waiting and len(others) + 1 < self._config.max_batch:
            ticket = self._waiting.popleft()
            if ticket.kind is not first.kind:
                left.append(ticket)
            elif not _is_given_up(ticket, now_s):
                others.append(ticket)
        self._waiting.extendleft(reversed(left))
        return others


def _is_given_up(ticket: Ticket, now_s: float) -> bool:
    """Whether nobody waits for it any more; the one who waited has answered otherwise."""
    return ticket.result.cancelled() or now_s > ticket.give_up_s


def _tell(tickets: Sequence[Ticket], results: Sequence[Any]) -> None:
    for ticket, result in zip(tickets, results, strict=True):
        if ticket.result.done():
            continue
        if isinstance(result, Exception):
            ticket.result.set_exception(result)
        else:
            ticket.result.set_result(result)
