"""The route that is told what happened: events, acknowledged once they are durable."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from upnext.events.event import Event
from upnext.events.store import Appended
from upnext.serving.batching import OverloadedError
from upnext.serving.decoding import decode
from upnext.serving.endpoints import json_response, path_of, read_body
from upnext.serving.metrics import Metrics
from upnext.serving.security import RefusedError
from upnext.serving.wire import AppendedBody, EventsBody

NUM_THREADS = 4
"""A store writes what several wait for in one go, so that threads wait together."""
MAX_WAITING = 64
"""Bodies that may wait for the store; each is up to 1,000 events in memory."""


class TakesEvents(Protocol):
    """All that is needed of an `EventStore` here."""

    def append(self, events: Sequence[Event]) -> Appended:
        """Takes all events or none, durable on return. Raises StoreError, RequestError."""


class Collector:
    """Hands events to a store, in threads of its own: what is durable waits for the disk."""

    def __init__(self, store: TakesEvents, metrics: Metrics | None = None) -> None:
        self._store, self._metrics = store, metrics
        self._threads = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="events")
        self._num_waiting = 0

    async def append(self, events: Sequence[Event]) -> Appended:
        """Returns when the events are durable.

        Raises:
            OverloadedError: too many wait for the store. StoreError: it failed. RequestError: it
                does not take these events.
        """
        if self._num_waiting >= MAX_WAITING:
            raise OverloadedError("the live store", expected="time for events", got="too many")
        self._num_waiting += 1
        try:
            loop = asyncio.get_running_loop()
            appended = await loop.run_in_executor(self._threads, self._store.append, events)
        finally:
            self._num_waiting -= 1
        if self._metrics is not None:
            self._metrics.took_events(
                num_accepted=appended.num_accepted, num_duplicates=appended.num_duplicates
            )
        return appended


async def collect(request: Request) -> Response:
    """POST /v1/events."""
    collector: Collector | None = request.app.state.collector
    if collector is None:
        raise RefusedError(
            501,
            path_of(request),
            expected="a server with a live store",
            got="one without",
            hint="[events] in its configuration opens one.",
        )
    appended = await collector.append(decode(await read_body(request), EventsBody).events)
    body = AppendedBody(num_accepted=appended.num_accepted, num_duplicates=appended.num_duplicates)
    return json_response(body)
