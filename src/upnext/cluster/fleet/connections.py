"""Connections to one server: kept open, each for one request at a time."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httptools

CONNECT_TIMEOUT_S = 1.0
IDLE_S = 4.0
"""A connection that was idle for longer is not used: the server closes its own after 5 s."""


class LostError(Exception):
    """A server gave no whole answer, for whatever reason; whether it did what it was asked to is
    not known, unless `was_sent` is False."""

    def __init__(self, what: str, *, was_sent: bool = True) -> None:
        super().__init__(what)
        self.was_sent = was_sent


@dataclass(slots=True)
class Answer:
    """All of an answer: it is passed on whole, so that one that breaks off is asked for anew."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""


class Connection(asyncio.Protocol):
    """One connection, and the parser of what comes by it."""

    def __init__(self) -> None:
        self._may_be_kept = True
        self.idle_since_s = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self._answer = Answer()
        self._parts: list[bytes] = []
        self._has_no_body = False
        self._waits: asyncio.Future[Answer] | None = None

    @property
    def is_reusable(self) -> bool:
        """Whether another request may be sent."""
        return self._may_be_kept and not self._transport.is_closing()

    def ask(self, request: Sequence[bytes], *, has_no_body: bool) -> "asyncio.Future[Answer]":
        """Sends a request; its answer comes, or LostError."""
        self._answer, self._parts, self._has_no_body = Answer(), [], has_no_body
        self._waits = asyncio.get_running_loop().create_future()
        self._transport.writelines(request)
        return self._waits

    def close(self) -> None:
        """Gives up at once; whoever waits is told that the answer is lost."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """It may be used."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """A part of an answer; anything that is none ends the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits learns of it."""
        self._may_be_kept = False
        if self._waits is not None and not self._waits.done():
            self._waits.set_exception(LostError(f"the connection ended ({exc or 'closed'})"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header of the answer."""
        self._answer.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """After an answer to HEAD no body comes, though a length is told; its parser waits on."""
        if self._has_no_body:
            self._may_be_kept = False
            self._finish()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        self._may_be_kept = self._may_be_kept and self._parser.should_keep_alive()
        self._finish()

    def _finish(self) -> None:
        if self._waits is None or self._waits.done():  # nobody has asked, or it is given up
            self._may_be_kept = False
            return
        self._answer.status = self._parser.get_status_code()
        self._answer.body = b"".join(self._parts)
        self._waits.set_result(self._answer)


class Connections:
    """All connections to one address of a server, and how many requests are under way on them."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.num_in_flight = 0
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._are_closed = False

    async def ask(
        self, request: Sequence[bytes], *, has_no_body: bool = False, is_repeatable: bool = True
    ) -> Answer:
        """The answer to a request that is written out.

        A connection that the server has closed just now is replaced, if the request may be sent
        twice; one that may not is sent by a connection of its own.

        Raises: LostError: the server cannot be reached, or the connection ended.
        """
        self.num_in_flight += 1
        try:
            if is_repeatable and (idle := self._take_idle()) is not None:
                try:
                    return await self._ask(idle, request, has_no_body)
                except LostError:
                    if self._are_closed:
                        raise
            return await self._ask(await self._open(), request, has_no_body)
        finally:
            self.num_in_flight -= 1

    def close(self) -> None:
        """Gives all up; what is under way is lost, and what comes is refused."""
        self._are_closed = True
        for connection in tuple(self._all):
            connection.close()
        self._all.clear()
        self._idle.clear()

    async def _ask(
        self, connection: Connection, request: Sequence[bytes], has_no_body: bool
    ) -> Answer:
        is_whole = False
        try:
            answer = await connection.ask(request, has_no_body=has_no_body)
            is_whole = True
            return answer
        finally:
            if is_whole and connection.is_reusable and not self._are_closed:
                connection.idle_since_s = time.monotonic()
                self._idle.append(connection)
            else:
                self._all.discard(connection)
                connection.close()

    def _take_idle(self) -> Connection | None:
        """The one that was used last, if any still can be."""
        oldest_s = time.monotonic() - IDLE_S
        while self._idle:
            connection = self._idle.pop()
            if connection.is_reusable and connection.idle_since_s > oldest_s:
                return connection
            self._all.discard(connection)
            connection.close()
        return None

    async def _open(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await loop.create_connection(Connection, self.host, self.port)
        except (OSError, TimeoutError) as error:
            raise LostError(f"{error or 'no connection'}", was_sent=False) from None
        if self._are_closed:
            connection.close()
            raise LostError("given up", was_sent=False)
        self._all.add(connection)
        return connection
