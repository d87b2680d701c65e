"""Runs the application on a socket: in the foreground, or in a thread for a demo or a test."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from upnext.errors import ConfigError
from upnext.serving.answering import Answering
from upnext.serving.app import create_app
from upnext.serving.releases import LiveReleases
from upnext.serving.security import SecurityConfig, is_loopback, open_security


def serve(
    live: LiveReleases,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    allow_remote: bool = False,
    on_listening: Callable[[str], None] | None = None,
) -> None:
    """Serves until interrupted or terminated; what is under way by then is still answered.

    Args:
        port: 0 takes a free one.
        on_listening: called once with the base URL, when whoever connects will be answered.

    Raises:
        ConfigError: the port is taken or the host is not ours; or it can be reached from other
            machines, and `allow_remote` does not say that this is meant: whoever reaches the
            server can ask for anybody's recommendations.
    """
    if not (allow_remote or is_loopback(host)):
        raise ConfigError(
            "host",
            expected="a loopback address such as 127.0.0.1",
            got=repr(host),
            hint="anyone who reaches it can ask for anybody's recommendations; "
            "allow it explicitly, behind a proxy that knows who may.",
        )
    app = create_app(Answering(live), security=open_security(SecurityConfig(), host=host))
    listener = _listen(host, port)
    if on_listening is not None:
        on_listening(_url(host, listener))
    with contextlib.suppress(KeyboardInterrupt):
        _server(app).run(sockets=[listener])


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
    server = _server(app)
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


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        where = f"{host}:{port}"
        hint = "choose another port; 0 takes a free one."
        raise ConfigError(where, expected="a free port", got=str(error), hint=hint) from None


def _url(host: str, listener: socket.socket) -> str:
    address = f"[{host}]" if ":" in host else host
    return f"http://{address}:{listener.getsockname()[1]}"


def _run(server: uvicorn.Server, listener: socket.socket) -> None:
    # An application that fails to start ends uvicorn by SystemExit; who waits for it is told so.
    with contextlib.suppress(SystemExit):
        server.run(sockets=[listener])


def _server(app: ASGIApp) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=10,
    )
    return uvicorn.Server(config)
