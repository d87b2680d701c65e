"""All of a fleet in the one process that clients reach: front, rotation, replicas, numbers."""

import socket
from collections.abc import Callable, Sequence
from functools import partial

import uvicorn
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from upnext.cluster.fleet.connections import Answer
from upnext.cluster.fleet.fleet import Fleet, Placed
from upnext.cluster.fleet.front import Front
from upnext.cluster.fleet.numbers import FleetNumbers
from upnext.cluster.fleet.servers import Rotation
from upnext.errors import ConfigError
from upnext.serving.config import ServingConfig
from upnext.serving.listening import ByPort, http_server, run
from upnext.serving.managing import METRICS_TYPE
from upnext.serving.security import Security

SERVER_NAME = "localhost"
"""What servers are called by the front, and answer to; its own names are for clients."""


class FleetEndpoint:
    """The public and the managing address of a fleet.

    Args:
        securities: of the two addresses.
        place: has one more replica placed.
        managing_port: None where there is no managing address.
        say: told of replicas that come and go.
    """

    def __init__(
        self,
        config: ServingConfig,
        securities: tuple[Security, Security],
        place: Callable[[], Placed],
        *,
        managing_port: int | None,
        say: Callable[[str], None],
    ) -> None:
        self._graceful_s = config.http.graceful_s
        _, self._managing_security = securities
        self._managing_port = managing_port
        self._rotation = Rotation()
        token = self._managing_security.tokens.get("read")
        self._numbers = FleetNumbers(self._rotation, host=SERVER_NAME, token=token)
        self._fleet = Fleet(
            config.fleet,
            self._rotation,
            place,
            numbers=self._numbers,
            graceful_s=config.http.graceful_s,
            host=SERVER_NAME,
            hopeless=self._end_for,
            say=say,
        )
        front = partial(
            Front, self._rotation, host=SERVER_NAME, max_in_flight=config.fleet.max_in_flight
        )
        alive = {"/healthz": _alive, "/v2/health/live": _live}
        self._public = front("public", securities[0], own=alive)
        self._managing = front("managing", securities[1], own={"/metrics": self._tell_numbers})
        self._server: uvicorn.Server | None = None
        self._error: ConfigError | None = None

    def run(self, listeners: Sequence[socket.socket]) -> None:
        """Answers until told to end by a signal. Raises ConfigError: no replica becomes ready."""
        self._server = http_server(self.app, graceful_s=self._graceful_s)
        run(self._server, listeners)
        if self._error is not None:
            raise self._error

    @property
    def app(self) -> ASGIApp:
        """Both addresses; replicas are there from its start to its end."""
        app: ASGIApp = self._public
        if self._managing_port is not None:
            app = ByPort(app, self._managing, self._managing_port)

        async def living(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                await self._while_serving(receive, send)
            else:
                await app(scope, receive, send)

        return living

    async def _while_serving(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self._fleet:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    def _end_for(self, error: ConfigError) -> None:
        self._error = error
        if self._server is not None:
            self._server.should_exit = True

    async def _tell_numbers(self, request: Request) -> Answer:
        """GET /metrics of the managing address."""
        self._managing_security.check(request.scope["headers"], "read", request.method)
        num_in_flight = self._public.num_in_flight + self._managing.num_in_flight - 1
        text = await self._numbers.to_text(self._fleet.num_in_state, num_in_flight)
        return Answer(200, [(b"content-type", METRICS_TYPE.encode())], text)


async def _alive(_request: Request) -> Answer:
    return Answer(200, [(b"content-type", b"application/json")], b'{"alive":true}')


async def _live(_request: Request) -> Answer:
    return Answer(200, [(b"content-type", b"application/json")], b'{"live":true}')
