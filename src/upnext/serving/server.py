"""Runs the applications on their sockets: from a registry, or in a thread for a demo or a test."""

import contextlib
import gc
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from upnext.errors import ConfigError
from upnext.events.store import EventStore, open_store
from upnext.registry.labels import journal_path
from upnext.registry.slow import write_slow
from upnext.serving.aftermath import Aftermath
from upnext.serving.answering import Answering
from upnext.serving.app import create_app
from upnext.serving.config import ServingConfig
from upnext.serving.connections import Door
from upnext.serving.following import Following
from upnext.serving.gate import Gate, take_back
from upnext.serving.json_logs import log_as_json
from upnext.serving.keeping import Keeping
from upnext.serving.listening import (
    ByPort,
    ended_by_signals,
    http_server,
    listen,
    listen_all,
    refuse_remote,
    run,
    told,
    url_of,
)
from upnext.serving.managing import create_managing_app
from upnext.serving.metrics import Metrics
from upnext.serving.processes import inherited_listeners, run_processes
from upnext.serving.releases import LiveReleases, Recommender
from upnext.serving.security import Access, Security, is_loopback, open_security
from upnext.serving.shedding import Doorkeeper
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
    refuse_remote(config.http)
    securities = securities_of(config)
    if config.logs == "json":
        log_as_json()
    listeners = inherited_listeners()
    is_first = not listeners
    if is_first:
        listeners = listen_all(config.http)
        say(f"serving {registry} on {told(config.http, listeners)}")
        if not journal_path(registry).exists():
            say("no label yet: `upnext label REGISTRY stable VERSION` tells which release answers.")
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
    # What was imported stays. To look through it for garbage now and then takes 150 ms, in which
    # nobody is answered.
    gc.freeze()
    with ended_by_signals(), contextlib.ExitStack() as stack:
        managing_port = listeners[1].getsockname()[1] if listeners[1:] else None
        app, door = stack.enter_context(
            _application(registry, open_recommender, config, securities, managing_port)
        )
        run(http_server(app, graceful_s=config.http.graceful_s, door=door), listeners)


@contextlib.contextmanager
def _application(
    registry: Path,
    open_recommender: Callable[[int], Recommender],
    config: ServingConfig,
    securities: tuple[Security, Security],
    managing_port: int | None,
) -> Iterator[tuple[ASGIApp, Doorkeeper]]:
    """All that answers in this process, once every label of the registry is followed.

    Beside it, what refuses pages beyond capacity before it hears of them.
    """
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
        yield app, Doorkeeper(answering, public, metrics, managing_port=managing_port)


@contextlib.contextmanager
def running_server(
    app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0, door: Door | None = None
) -> Iterator[str]:
    """Serves an application in a thread and yields its base URL once it answers.

    Port 0 takes a free one. Only loopback hosts. `door`: as in `http_server`.

    Raises:
        ConfigError: the port is taken or the host is not loopback.
        RuntimeError: the application failed to start.
    """
    if not is_loopback(host):
        raise ConfigError("host", expected="a loopback address", got=repr(host))
    listener = listen(host, port)
    server = http_server(app, graceful_s=10, door=door)
    thread = threading.Thread(target=_run, args=(server, listener), daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the application failed to start; the log says why")
            time.sleep(0.005)
        yield url_of(host, listener)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def _open_store(registry: Path, config: ServingConfig) -> EventStore | None:
    if not config.live_history:
        return None
    path = registry / config.events.path  # an absolute path stays what it is
    return open_store(replace(config.events, path=str(path)))


def securities_of(config: ServingConfig) -> tuple[Security, Security]:
    """Of the public and of the managing address.

    Raises: ConfigError: as `open_security`.
    """
    http = config.http
    events: tuple[Access, ...] = ("events",) if config.live_history else ()
    public = open_security(config.security, host=http.host, changing=events)
    admin: tuple[Access, ...] = () if http.admin_port is None else ("admin",)
    return public, open_security(config.security, host=http.admin_host, changing=admin)


def _run(server: uvicorn.Server, listener: socket.socket) -> None:
    # An application that fails to start ends uvicorn by SystemExit; who waits for it is told so.
    with contextlib.suppress(SystemExit):
        server.run(sockets=[listener])
