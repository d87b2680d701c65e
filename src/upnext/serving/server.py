"""Runs the applications on their sockets: from a registry, or in a thread for a demo or a test."""

import contextlib
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from upnext.errors import ConfigError
from upnext.events.store import EventStore, open_store
from upnext.registry.slow import write_slow
from upnext.serving.aftermath import Aftermath
from upnext.serving.answering import Answering
from upnext.serving.app import create_app
from upnext.serving.config import HttpConfig, ServingConfig
from upnext.serving.connections import Connection
from upnext.serving.following import Following
from upnext.serving.gate import Gate, take_back
from upnext.serving.json_logs import log_as_json
from upnext.serving.keeping import Keeping
from upnext.serving.managing import create_managing_app
from upnext.serving.metrics import Metrics
from upnext.serving.processes import inherited_listeners, run_processes
from upnext.serving.releases import LiveReleases, Recommender
from upnext.serving.security import Access, Security, is_loopback, open_security
from upnext.serving.slow import SlowRequests

logger = logging.getLogger(__name__)

SWITCH_EVERY_S = 0.0005
"""How long a thread that computes may keep the one that listens waiting; Python's own is 5 ms."""

Say = Callable[[str], None]


def serve(
    registry: Path,
    open_recommender: Callable[[int], Recommender],
    config: ServingConfig,
    *,
    command: Sequence[str],
    say: Say,
) -> None:
    """Serves a registry until interrupted or terminated; what is under way is still answered.

    Args:
        open_recommender: opens a version, verified and tried.
        command: what runs this function in another process, where there are to be several.
        say: told once where the server listens, and of processes that end.

    Raises:
        ConfigError: a port is taken or an address is not ours; others could reach it, which
            `allow_remote` does not say is meant; or who reached it could change something
            without a token. StoreError: the live store cannot be opened.
    """
    _refuse_remote(config.http)
    securities = _securities(config)
    if config.logs == "json":
        log_as_json()
    listeners = inherited_listeners()
    is_first = not listeners
    if is_first:
        listeners = _listen_all(config.http)
        say(f"serving {registry} on {_told(config.http, listeners)}")
    if is_first and config.http.num_processes > 1:
        run_processes(
            command,
            listeners,
            config.http.num_processes,
            graceful_s=config.http.graceful_s + 5,
            say=say,
        )
        return
    sys.setswitchinterval(SWITCH_EVERY_S)
    # Both ends are one: uvicorn raises the signal once more, and SIGTERM's own way writes no pages.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        managing_port = listeners[1].getsockname()[1] if listeners[1:] else None
        app = stack.enter_context(
            _application(registry, open_recommender, config, securities, managing_port)
        )
        try:
            _server(app, graceful_s=config.http.graceful_s).run(sockets=listeners)
        finally:  # told twice, as a terminal and the first process do, it writes all the same
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def _application(
    registry: Path,
    open_recommender: Callable[[int], Recommender],
    config: ServingConfig,
    securities: tuple[Security, Security],
    managing_port: int | None,
) -> Iterator[ASGIApp]:
    """All that answers in this process, once every label of the registry is followed."""
    metrics = Metrics()
    live = LiveReleases(open_recommender)
    with contextlib.ExitStack() as stack:
        store = _open_store(registry, config)
        if store is not None:
            stack.callback(store.close)
        following = stack.enter_context(Following(live, registry))
        following.wait()
        slow = SlowRequests(lambda told: write_slow(registry, following.server, told))
        aftermath = Aftermath(
            metrics=metrics,
            pages=store,
            gate=Gate(config.gate),
            take_back=lambda *what: take_back(registry, *what),
            slow=slow,
        )
        answering = Answering(
            live, config.answering, config.queue, pasts=store, aftermath=aftermath
        )
        stack.callback(answering.close)
        stack.enter_context(Keeping(registry, answering, metrics, store, slow.tell))
        public, managing = securities
        app = metrics.counting(create_app(answering, store=store, security=public, metrics=metrics))
        if managing_port is not None:
            managing_app = create_managing_app(
                registry, managing, metrics, answering, gate=config.gate
            )
            app = ByPort(app, managing_app, managing_port)
        yield app


class ByPort:
    """Two applications in one process: what comes by the public port is for the first."""

    def __init__(self, public: ASGIApp, managing: ASGIApp, managing_port: int) -> None:
        self._public, self._managing = public, managing
        self._managing_port = managing_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on."""
        is_managing = scope["type"] == "http" and scope["server"][1] == self._managing_port
        await (self._managing if is_managing else self._public)(scope, receive, send)


@contextlib.contextmanager
def running_server(app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serves an application in a thread and yields its base URL once it answers.

    Port 0 takes a free one. Only loopback hosts.

    Raises:
        ConfigError: the port is taken or the host is not loopback.
        RuntimeError: the application failed to start.
    """
    if not is_loopback(host):
        raise ConfigError("host", expected="a loopback address", got=repr(host))
    listener = _listen(host, port)
    server = _server(app, graceful_s=10)
    thread = threading.Thread(target=_run, args=(server, listener), daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the application failed to start; the log says why")
            time.sleep(0.005)
        yield _url(host, listener)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def _open_store(registry: Path, config: ServingConfig) -> EventStore | None:
    if not config.live_history:
        return None
    path = registry / config.events.path  # an absolute path stays what it is
    return open_store(replace(config.events, path=str(path)))


def _securities(config: ServingConfig) -> tuple[Security, Security]:
    """Of the public and of the managing address."""
    http = config.http
    events: tuple[Access, ...] = ("events",) if config.live_history else ()
    public = open_security(config.security, host=http.host, changing=events)
    admin: tuple[Access, ...] = () if http.admin_port is None else ("admin",)
    return public, open_security(config.security, host=http.admin_host, changing=admin)


def _refuse_remote(http: HttpConfig) -> None:
    for host in (http.host, http.admin_host):
        if not (http.allow_remote or is_loopback(host)):
            raise ConfigError(
                "host",
                expected="a loopback address such as 127.0.0.1",
                got=repr(host),
                hint="anyone who reaches it can ask for anybody's recommendations; "
                "allow it explicitly, behind a proxy that knows who may.",
            )


def _listen_all(http: HttpConfig) -> list[socket.socket]:
    """The public socket, then the managing one if there is to be one."""
    public = _listen(http.host, http.port)
    if http.admin_port is None:
        return [public]
    try:
        managing = _listen(http.admin_host, http.admin_port)
    except ConfigError:
        public.close()
        raise
    port = managing.getsockname()[1]
    if port == public.getsockname()[1]:  # requests are told apart by it
        public.close()
        managing.close()
        raise ConfigError("[http] admin_port", expected="another port than port", got=str(port))
    return [public, managing]


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        where = f"{host}:{port}"
        hint = "choose another port; 0 takes a free one."
        raise ConfigError(where, expected="a free port", got=str(error), hint=hint) from None


def _told(http: HttpConfig, listeners: Sequence[socket.socket]) -> str:
    public = _url(http.host, listeners[0])
    managing = f", managed on {_url(http.admin_host, listeners[1])}" if listeners[1:] else ""
    return public + managing


def _url(host: str, listener: socket.socket) -> str:
    address = f"[{host}]" if ":" in host else host
    return f"http://{address}:{listener.getsockname()[1]}"


def _run(server: uvicorn.Server, listener: socket.socket) -> None:
    # An application that fails to start ends uvicorn by SystemExit; who waits for it is told so.
    with contextlib.suppress(SystemExit):
        server.run(sockets=[listener])


def _server(app: ASGIApp, *, graceful_s: float) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        http=Connection,
        log_config=None,
        log_level="warning",
        access_log=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=round(graceful_s),
    )
    return uvicorn.Server(config)
