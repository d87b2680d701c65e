"""The demo shows its own server and no other; the whole way is in test_cli.py."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from upnext import demo
from upnext.errors import ConfigError
from upnext.serving.server import running_server


def answering(content: Any) -> Starlette:
    async def readyz(_request: Request) -> Response:
        return Response(json.dumps(content))

    return Starlette(routes=[Route("/readyz", readyz)])


@contextmanager
def process(code: str) -> Iterator[subprocess.Popen[bytes]]:
    """Stands in for our own server: one that lives until it is killed, or has ended."""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as started:
        try:
            yield started
        finally:
            started.kill()


def test_our_own_server_with_the_new_release_is_waited_for() -> None:
    app = answering({"labels": {"stable": 7}})
    with running_server(app) as url, process("input()") as server:
        demo._wait_until_ready(url, server, 7)
        assert server.poll() is None


@pytest.mark.parametrize(
    "content", [{"labels": {"stable": 6}}, {"labels": {}}, {"labels": None}, ["labels"], 7]
)
def test_another_server_on_the_port_is_not_taken_for_ours(
    monkeypatch: pytest.MonkeyPatch, content: Any
) -> None:
    monkeypatch.setattr(demo, "START_S", 0.05)
    with (
        running_server(answering(content)) as url,
        process("input()") as server,
        pytest.raises(ConfigError, match="ready with release 7") as caught,
    ):
        demo._wait_until_ready(url, server, 7)
    assert "--port N" in caught.value.hint


def test_an_equal_release_elsewhere_does_not_stand_in_for_a_server_that_ended() -> None:
    app = answering({"labels": {"stable": 7}})
    with running_server(app) as url, process("") as server:
        server.wait()
        with pytest.raises(ConfigError, match="ready with release 7"):
            demo._wait_until_ready(url, server, 7)


def test_a_taken_port_is_told_before_a_server_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port}: expected a free port") as caught:
            demo._refuse_taken_port(port)
    assert "--port N" in caught.value.hint
    demo._refuse_taken_port(port)


def test_a_port_that_is_taken_gives_way_to_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert demo._free_port(port) != port
    assert demo._free_port(port) == port
    assert demo._free_port(port, but=port) != port


def test_a_process_ends_with_its_block() -> None:
    with demo._process("--help") as started:
        pass
    assert started.poll() is not None
