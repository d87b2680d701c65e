"""Where a server listens: its sockets, who may reach them, and what accepts from them."""

import contextlib
import signal
import socket
import warnings
from collections.abc import Iterator, Sequence
from functools import partial

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from upnext.errors import ConfigError
from upnext.serving.config import HttpConfig
from upnext.serving.connections import Connection, Door
from upnext.serving.security import is_loopback


def refuse_remote(http: HttpConfig) -> None:
    """Raises ConfigError: others could reach an address, and nobody has said that they may."""
    for host in (http.host, http.admin_host):
        if not (http.allow_remote or is_loopback(host)):
            raise ConfigError(
                "host",
                expected="a loopback address such as 127.0.0.1",
                got=repr(host),
                hint="anyone who reaches it can ask for anybody's recommendations; "
                "allow it explicitly, behind a proxy that knows who may.",
            )


def listen_all(http: HttpConfig) -> list[socket.socket]:
    """The public socket, then the managing one if there is to be one.

    Raises: ConfigError: a port is taken, both are the same, or an address is not ours.
    """
    public = listen(http.host, http.port)
    if http.admin_port is None:
        return [public]
    try:
        managing = listen(http.admin_host, http.admin_port)
    except ConfigError:
        public.close()
        raise
    port = managing.getsockname()[1]
    if port == public.getsockname()[1]:  # requests are told apart by it
        public.close()
        managing.close()
        raise ConfigError("[http] admin_port", expected="another port than port", got=str(port))
    return [public, managing]


def listen(host: str, port: int) -> socket.socket:
    """A socket that others may connect to. Raises ConfigError: the port is taken, or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        where = f"{host}:{port}"
        hint = "choose another port; 0 takes a free one."
        raise ConfigError(where, expected="a free port", got=str(error), hint=hint) from None


def told(http: HttpConfig, listeners: Sequence[socket.socket]) -> str:
    """Where people reach what listens there."""
    public = url_of(http.host, listeners[0])
    managing = f", managed on {url_of(http.admin_host, listeners[1])}" if listeners[1:] else ""
    return public + managing


def url_of(host: str, listener: socket.socket) -> str:
    """The base URL of a socket on a host."""
    address = f"[{host}]" if ":" in host else host
    return f"http://{address}:{listener.getsockname()[1]}"


class ByPort:
    """Two applications in one process: what comes by the public port is for the first."""

    def __init__(self, public: ASGIApp, managing: ASGIApp, managing_port: int) -> None:
        self._public, self._managing = public, managing
        self._managing_port = managing_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on."""
        is_managing = scope["type"] == "http" and scope["server"][1] == self._managing_port
        await (self._managing if is_managing else self._public)(scope, receive, send)


def http_server(app: ASGIApp, *, graceful_s: float, door: Door | None = None) -> uvicorn.Server:
    """Accepts from sockets, once it is run with them; at its end what is under way may finish.

    `door`: what refuses requests before the application hears of them.
    """
    config = uvicorn.Config(
        app,
        http=partial(Connection, door=door),  # type: ignore[arg-type]  # it is called, no more
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # nobody asks who the client is
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=round(graceful_s),
    )
    return uvicorn.Server(config)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Inside, SIGTERM ends what runs as SIGINT does; neither is an error."""
    # uvicorn raises it once more when it is done, and SIGTERM's own way would write no pages.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        yield


def run(server: uvicorn.Server, listeners: Sequence[socket.socket]) -> None:
    """Accepts until told to end by a signal, and finishes what was accepted."""
    # A signal that comes before the loop runs finds nothing to finish: no more is to be said of it.
    never_begun = r"coroutine 'Server\.serve' was never awaited"
    warnings.filterwarnings("ignore", never_begun, RuntimeWarning)
    try:
        server.run(sockets=list(listeners))
    finally:  # told twice, as a terminal and the first process do, it finishes all the same
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
