"""One thread writes for all: whatever waits goes to disk together, and is paid for once."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from upnext.errors import StoreError
from upnext.events.event import Event, ServedPage

Batch = Sequence[Event]


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """How many events of a batch were new, and how many had been there before."""

    num_accepted: int
    num_duplicates: int


Commit = Callable[[Sequence[Batch], Sequence[ServedPage]], Sequence[Appended]]
"""Makes batches and pages durable, all or none; one result a batch. Raises StoreError."""


class GroupWriter:
    """Batches wait for the disk, pages wait for company; one thread commits all that waits.

    `num_lost_pages`: pages that did not fit into the queue, or that could not be written.

    Args:
        max_waiting_pages: more are lost.
        pages_wait_s: how long a page waits for others, or for a batch, to go with.
    """

    def __init__(self, commit: Commit, *, max_waiting_pages: int, pages_wait_s: float) -> None:
        self.num_lost_pages = 0
        self._commit = commit
        self._max_waiting_pages, self._pages_wait_s = max_waiting_pages, pages_wait_s
        self._batches: list[tuple[Batch, Future[Appended]]] = []
        self._pages: deque[ServedPage] = deque()
        self._changed = threading.Condition()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="events-writer", daemon=True)
        self._thread.start()

    def append(self, events: Batch) -> Appended:
        """Returns when the events are durable, and with them all pages that waited.

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
            num_free = self._max_waiting_pages - len(self._pages)
            taken = [] if self._is_closing else pages[: max(0, num_free)]
            self._pages.extend(taken)
            self.num_lost_pages += len(pages) - len(taken)
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

    def _wait(self) -> tuple[list[tuple[Batch, "Future[Appended]"]], list[ServedPage]]:
        """All that waits, once there is a batch, or the first page has waited long enough."""
        with self._changed:
            self._changed.wait_for(lambda: self._batches or self._pages or self._is_closing)
            if not self._batches:
                is_due = lambda: self._batches or self._is_closing  # noqa: E731
                self._changed.wait_for(is_due, self._pages_wait_s)
            batches, pages = self._batches, list(self._pages)
            self._batches = []
            self._pages.clear()
        return batches, pages

    def _write(
        self, batches: Sequence[tuple[Batch, "Future[Appended]"]], pages: Sequence[ServedPage]
    ) -> None:
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
