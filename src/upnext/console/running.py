"""Runs the console on its own address until it is told to end."""

import contextlib
import ipaddress
import re
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn

from upnext.console.app import create_console_app
from upnext.console.client import Server
from upnext.errors import ConfigError

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


def run_console(
    *,
    server_url: str,
    managed_url: str,
    host: str = "127.0.0.1",
    port: int = 8090,
    allow_remote: bool = False,
    allowed_hosts: Sequence[str] = (),
    read_token_file: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Shows a server in the browser.

    Args:
        server_url, managed_url: the two addresses of `upnext serve`.
        allow_remote: whether `host` may be one that other machines reach; then whoever reaches it
            sees what everybody watches, and who changes something must have the server's token.
        allowed_hosts: names that it is called by there, such as "console.example".
        read_token_file: file of the token that the server wants of those who look.

    Raises:
        ConfigError: an address is none, the host is not loopback and that is not said to be meant,
            the port is taken, or the token cannot be read.
    """
    is_shared = not _is_loopback(host)
    _check(server_url, managed_url, host, allow_remote=allow_remote, has_names=bool(allowed_hosts))
    server = Server(
        server_url, managed_url, read_token=_token(read_token_file), is_shared=is_shared
    )
    hosts = {*LOOPBACK_NAMES, host, *(name.lower() for name in allowed_hosts)}
    config = uvicorn.Config(
        create_console_app(server, hosts=hosts),
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        ws="none",
        timeout_graceful_shutdown=3,
    )
    listener = _listen(config, host, port)
    say(f"console of {server_url} on http://{host}:{listener.getsockname()[1]}")
    # uvicorn raises what ended it once more; both signals are an end as it was asked for.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def _check(
    server_url: str, managed_url: str, host: str, *, allow_remote: bool, has_names: bool
) -> None:
    """Raises ConfigError: see `run_console`."""
    for flag, address in (("--server", server_url), ("--managed", managed_url)):
        if not _is_address(address):
            expected = "an address such as http://127.0.0.1:8080"
            raise ConfigError(flag, expected=expected, got=repr(address))
    is_shared = not _is_loopback(host)
    if is_shared and not allow_remote:
        raise ConfigError(
            "host",
            expected="a loopback address such as 127.0.0.1",
            got=repr(host),
            hint="whoever reaches the console sees what everybody watches; --allow-remote says "
            "that it is meant, behind a proxy that knows who may, with --allowed-host NAME.",
        )
    if is_shared and not has_names:
        raise ConfigError(
            "--allowed-host",
            expected="the name that browsers call the console by, such as console.example",
            got="none",
            hint="a web page may give its own name our address; the Host header shows it.",
        )


def _listen(config: uvicorn.Config, host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=config.backlog)
    except (OSError, OverflowError) as error:
        hint = "choose another with --port; 0 takes a free one."
        where = f"{host}:{port}"
        raise ConfigError(where, expected="a free port", got=str(error), hint=hint) from None


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # no port, or no IPv6 address
        return False


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _token(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        got = f"{path}: {error}"
        raise ConfigError("--read-token-file", expected="a token", got=got) from None
    if not re.fullmatch("[!-~]+", token):
        got = f"{path} with something else"
        raise ConfigError("--read-token-file", expected="visible ASCII characters", got=got)
    return token
