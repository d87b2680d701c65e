"""One connection of uvicorn's that is not kept for a client that never says what it wants."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADERS_TIMEOUT_S = 10.0
"""How long the headers of a request may take, from when the client connected or began."""
MAX_HEADER_BYTES = 64 * 1024
"""Headers may be as long as this, and one read of the socket longer."""


class Connection(HttpToolsProtocol):
    """As uvicorn's, which waits for headers for ever and of any length; this one closes.

    What comes behind the headers is limited by `endpoints.read_body`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._until: asyncio.TimerHandle | None = None
        self._num_header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Headers are awaited."""
        super().connection_made(transport)
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        """More of a request has come: of its headers, or with all of them."""
        super().data_received(data)
        is_between = self.cycle is None or self.cycle.response_complete
        if not is_between or self.transport.is_closing():
            return
        if self._until is None:
            self._await_headers()
        self._num_header_bytes += len(data)
        if self._num_header_bytes > MAX_HEADER_BYTES:
            self.transport.close()

    def on_headers_complete(self) -> None:
        """A request begins; nothing is awaited."""
        self._forget_headers()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._forget_headers()
        super().connection_lost(exc)

    def _await_headers(self) -> None:
        self._until = self.loop.call_later(HEADERS_TIMEOUT_S, self.transport.close)
        self._num_header_bytes = 0

    def _forget_headers(self) -> None:
        if self._until is not None:
            self._until.cancel()
            self._until = None
