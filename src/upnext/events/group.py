"""One thread writes for all: whatever waits goes to disk together, and is paid for once."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from upnext.errors import StoreError
from upnext.events.event import Event, ServedPage

Batch = Sequence[Event]

EVENTS_A_GROUP = 2_000
PAGES_A_GROUP = 1_000
"""Once a commit has so many it takes no more, so that nobody waits for everybody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """How many events of a batch were new, and how many had been there before."""

    num_accepted: int
    num_duplicates: int


Waiting = tuple[Batch, "Future[Appended]"]
Commit = Callable[[Sequence[Batch], Sequence[ServedPage]], Sequence[Appended]]
"""Makes batches and pages durable, all or none; one result a batch. Raises StoreError."""


class GroupWriter:
    """Batches wait for the disk, pages wait for company; one thread commits what waits.

    `num_lost_pages`: pages that did not fit into the queue, or are not known to have been written.

    Args:
        max_waiting_pages: more are lost.
        pages_wait_s: how long a page waits for others, or for a batch, to go with.
    """

    def __init__(self, commit: Commit, *, max_waiting_pages: int, pages_wait_s: float) -> None:
        self.num_lost_pages = 0
        self._commit = commit
        self._max_waiting_pages, self._pages_wait_s = max_waiting_pages, pages_wait_s
        self._batches: deque[Waiting] = deque()
        self._pages: deque[ServedPage] = deque()
        self._changed = threading.Condition()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="events-writer", daemon=True)
        self._thread.start()

    def append(self, events: Batch) -> Appended:
        """Returns when the events are durable, and with them the pages that waited.

        Raises: StoreError: they could not be written, or the writer is closed.
        """
        future: Future[Appended] = Future()
        with self._changed:
            if self._is_closing:
                raise StoreError("the live store", expected="an open store", got="a closed one")
            self._batches.append((events, future))
            self._changed.notify()
        return future.result()

    def log_pages(self, pages: Sequence[ServedPage]) -> None:
        """Queues pages and returns at once."""
        with self._changed:
            num_waiting = len(self._pages)
            num_free = self._max_waiting_pages - num_waiting
            taken = [] if self._is_closing else pages[: max(0, num_free)]
            self._pages.extend(taken)
            self.num_lost_pages += len(pages) - len(taken)
            if num_waiting == 0:  # the others go with the first, and who answers is left alone
                self._changed.notify()

    def close(self) -> None:
        """Writes what waits and ends the thread."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            batches, pages = self._wait()
            if not batches and not pages:
                return
            self._write(batches, pages)

    def _wait(self) -> tuple[list[Waiting], list[ServedPage]]:
        """What is next, once there is a batch, or the first page has waited long enough."""
        with self._changed:
            self._changed.wait_for(lambda: self._batches or self._pages or self._is_closing)
            if not self._batches:
                self._changed.wait_for(
                    lambda: self._batches or self._is_closing, self._pages_wait_s
                )
            batches: list[Waiting] = []
            num_events = 0
            while self._batches and num_events < EVENTS_A_GROUP:
                batches.append(self._batches.popleft())
                num_events += len(batches[-1][0])
            num_pages = min(len(self._pages), PAGES_A_GROUP)
            return batches, [self._pages.popleft() for _ in range(num_pages)]

    def _write(self, batches: Sequence[Waiting], pages: Sequence[ServedPage]) -> None:
        try:
            results = self._commit([batch for batch, _ in batches], pages)
        except Exception as error:  # whatever it is, nobody may wait for ever
            with self._changed:
                self.num_lost_pages += len(pages)
            for _, future in batches:
                future.set_exception(error)
            return
        for (_, future), result in zip(batches, results, strict=True):
            future.set_result(result)
