"""One connection of uvicorn's that is not kept for a client that never says what it wants."""

import asyncio
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from upnext.serving.security import Headers

HEADERS_TIMEOUT_S = 10.0
"""How long the headers of a request may take, from when the client connected or began; and how long
it may go on with a body after it was refused."""
MAX_HEADER_BYTES = 64 * 1024
"""Headers may be as long as this, and two reads of the socket longer."""


class Door(Protocol):
    """Refuses some requests for which it would be too much even to begin a task."""

    def __call__(self, port: int | None, method: bytes, url: bytes, headers: Headers, /) -> bytes:
        """Headers and body of the refusal (429) of a request that came by this port.

        An empty line between them; empty: it is let through.
        """


class Connection(HttpToolsProtocol):
    """As uvicorn's, which waits for headers for ever and of any length; this one closes.

    A body that is waited for is limited by `endpoints.read_body`. `door`: None lets all through.
    """

    def __init__(self, *args: Any, door: Door | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._door, self._is_refused = door, False
        self._until: asyncio.TimerHandle | None = None
        self._num_header_bytes = 0
        self._is_in_body = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Headers are awaited."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """More of a request has come; where nobody waits for it, the time runs."""
        was_in_body = self._is_in_body
        super().data_received(data)
        is_answered = self.cycle is None or self.cycle.response_complete
        if not is_answered or self.transport.is_closing():
            return
        if self._until is None:  # nothing was awaited before: a whole request may be in this read
            self._wait()
        # What ends a body is no header, however much of it came at once.
        elif not (was_in_body or self._is_in_body):
            self._num_header_bytes += len(data)
        if self._num_header_bytes > MAX_HEADER_BYTES:
            self.transport.close()

    def on_headers_complete(self) -> None:
        """A request begins; whoever answers it decides how long it may take."""
        self._stop_waiting()
        self._unset_keepalive_if_required()  # one that was refused in the same read had set it
        self._is_in_body = True
        refusal = self._refusal()
        self._is_refused = bool(refusal)
        if refusal:
            usual = [b"%s: %s\r\n" % header for header in self.server_state.default_headers]
            self.transport.write(b"".join([STATUS_LINE[429], *usual, refusal]))
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body; of what is refused nobody reads it."""
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """What comes next is another request."""
        self._is_in_body = False
        if self._is_refused:
            self.on_response_complete()
        else:
            super().on_message_complete()

    def _refusal(self) -> bytes:
        """Nothing where another request is under way, or this one is more than asked and sent."""
        is_free = self.cycle is None or self.cycle.response_complete
        is_free = is_free and not self.flow.write_paused  # its client reads what it is told
        is_plain = self.parser.should_keep_alive() and self.parser.get_http_version() == "1.1"
        is_plain = is_plain and not self.expect_100_continue
        if self._door is None or not is_free or not is_plain:
            return b""
        port = self.server[1] if self.server else None
        return self._door(port, self.parser.get_method(), self.url, self.headers)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._until = self.loop.call_later(HEADERS_TIMEOUT_S, self.transport.close)
        self._num_header_bytes = 0

    def _stop_waiting(self) -> None:
        if self._until is not None:
            self._until.cancel()
            self._until = None
