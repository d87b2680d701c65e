"""Real sockets: the server answers, guards its name, and binds beyond loopback only when told."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import httpx
import pytest
from starlette.applications import Starlette

from upnext.errors import ConfigError
from upnext.serving.answering import Answering
from upnext.serving.app import create_app
from upnext.serving.releases import LiveReleases
from upnext.serving.security import is_loopback
from upnext.serving.server import running_server, serve

if TYPE_CHECKING:
    from tests.serving.conftest import FakeReleases

SERVE = """
from upnext.serving.releases import LiveReleases
from upnext.serving.server import serve

serve(LiveReleases(lambda version: None), port=0, on_listening=lambda url: print(url, flush=True))
"""


@pytest.fixture
def app(fakes: FakeReleases) -> Starlette:
    live = LiveReleases(fakes.open)
    live.load(1)
    live.label("stable", 1)
    return create_app(Answering(live))


def test_it_answers_over_a_socket_and_is_gone_afterwards(app: Starlette) -> None:
    with running_server(app) as url:
        answer = httpx.post(f"{url}/v1/recommendations", json={"k": 2})
        assert answer.status_code == 200
        assert len(answer.json()["items"]) == 2
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/healthz")


def test_servers_run_beside_and_after_each_other(app: Starlette) -> None:
    with running_server(app) as first, running_server(app) as second:
        assert first != second
        assert {httpx.get(f"{url}/healthz").status_code for url in (first, second)} == {200}
    with running_server(app) as third:
        assert httpx.post(f"{third}/v1/recommendations", json={}).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:99", 200),
        ("[::1]:8080", 200),
        ("attacker.example", 400),
        ("localhost.attacker.example", 400),
    ],
)
def test_only_loopback_names_are_answered_on_loopback(
    app: Starlette, host: str, status: int
) -> None:
    with running_server(app) as url:
        assert httpx.get(f"{url}/healthz", headers={"Host": host}).status_code == status


def test_an_endless_body_is_cut_off(app: Starlette) -> None:
    def chunks() -> Iterator[bytes]:
        while True:
            yield b" " * 65_536

    with running_server(app) as url:
        # The refusal may be read, or the connection be gone while the rest is still being sent.
        with contextlib.suppress(httpx.WriteError, httpx.ReadError):
            response = httpx.post(f"{url}/v1/recommendations", content=chunks())
            assert response.status_code == 413
        assert httpx.post(f"{url}/v1/recommendations", json={}).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_other_machines_are_served_only_when_that_is_meant(fakes: FakeReleases, host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(ConfigError, match="allow it explicitly"):
        serve(LiveReleases(fakes.open), host=host, port=0)


def test_a_thread_serves_loopback_only(app: Starlette) -> None:
    with pytest.raises(ConfigError, match="loopback"), running_server(app, host="0.0.0.0"):
        pytest.fail("it served")


def test_a_taken_port_is_told(fakes: FakeReleases) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match="free port"):
            serve(LiveReleases(fakes.open), port=port, on_listening=pytest.fail)


def test_an_application_that_cannot_start_is_told() -> None:
    def lifespan(_app: Starlette) -> AbstractAsyncContextManager[None]:
        raise OSError("no power")

    app = Starlette(lifespan=lifespan)
    with pytest.raises(RuntimeError, match="failed to start"), running_server(app):
        pytest.fail("it served")


def test_serving_ends_when_asked_to_and_says_nothing() -> None:
    command = [sys.executable, "-c", SERVE]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert httpx.get(f"{url}/healthz").status_code == 200
        os.kill(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, "")
