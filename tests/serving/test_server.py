"""Real sockets: the server answers, guards its name, and binds beyond loopback only when told."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from starlette.applications import Starlette
from tests.patience import get, post

from upnext.errors import ConfigError
from upnext.serving.answering import Answering
from upnext.serving.app import create_app
from upnext.serving.config import HttpConfig, ServingConfig
from upnext.serving.releases import LiveReleases
from upnext.serving.security import is_loopback
from upnext.serving.server import running_server, serve

if TYPE_CHECKING:
    from tests.serving.conftest import FakeReleases


@pytest.fixture
def app(fakes: FakeReleases) -> Iterator[Starlette]:
    live = LiveReleases(fakes.open)
    live.load(1)
    live.label("stable", 1)
    answering = Answering(live)
    yield create_app(answering)
    answering.close()


def serve_nothing(registry: Path, fakes: FakeReleases, config: ServingConfig) -> None:
    """For a configuration that is refused before anything is said."""
    serve(registry, fakes.open, config, command=["false"], say=pytest.fail)


def test_it_answers_over_a_socket_and_is_gone_afterwards(app: Starlette) -> None:
    with running_server(app) as url:
        answer = post(f"{url}/v1/recommendations", json={"k": 2})
        assert answer.status_code == 200
        assert len(answer.json()["items"]) == 2
    with pytest.raises(httpx.ConnectError):
        get(f"{url}/healthz")


def test_servers_run_beside_and_after_each_other(app: Starlette) -> None:
    with running_server(app) as first, running_server(app) as second:
        assert first != second
        assert {get(f"{url}/healthz").status_code for url in (first, second)} == {200}
    with running_server(app) as third:
        assert post(f"{third}/v1/recommendations", json={}).status_code == 200


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
        assert get(f"{url}/healthz", headers={"Host": host}).status_code == status


def test_an_endless_body_is_cut_off(app: Starlette) -> None:
    def chunks() -> Iterator[bytes]:
        while True:
            yield b" " * 65_536

    with running_server(app) as url:
        # The refusal may be read, or the connection be gone while the rest is still being sent.
        with contextlib.suppress(httpx.WriteError, httpx.ReadError):
            response = post(f"{url}/v1/recommendations", content=chunks())
            assert response.status_code == 413
        assert post(f"{url}/v1/recommendations", json={}).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
@pytest.mark.parametrize("which", ["host", "admin_host"])
def test_other_machines_are_served_only_when_that_is_meant(
    fakes: FakeReleases, tmp_path: Path, host: str, which: str
) -> None:
    assert not is_loopback(host)
    names = {"host": "127.0.0.1", "admin_host": "127.0.0.1", which: host}
    http = HttpConfig(port=0, admin_port=0, host=names["host"], admin_host=names["admin_host"])
    with pytest.raises(ConfigError, match="allow it explicitly"):
        serve_nothing(tmp_path, fakes, ServingConfig(http=http))


@pytest.mark.parametrize(
    ("http", "token"),
    [
        (HttpConfig(port=0, host="0.0.0.0", allow_remote=True), "events"),
        (HttpConfig(port=0, admin_port=0, admin_host="0.0.0.0", allow_remote=True), "admin"),
    ],
    ids=["public", "admin"],
)
def test_other_machines_change_nothing_without_a_token(
    fakes: FakeReleases, tmp_path: Path, http: HttpConfig, token: str
) -> None:
    with pytest.raises(ConfigError, match=f"{token}_token_file"):
        serve_nothing(tmp_path, fakes, ServingConfig(http=http))


def test_a_thread_serves_loopback_only(app: Starlette) -> None:
    with pytest.raises(ConfigError, match="loopback"), running_server(app, host="0.0.0.0"):
        pytest.fail("it served")


@pytest.mark.parametrize("which", ["port", "admin_port"])
def test_a_taken_port_is_told(fakes: FakeReleases, tmp_path: Path, which: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        http = replace(HttpConfig(port=0), **{which: taken.getsockname()[1]})
        with pytest.raises(ConfigError, match="free port"):
            serve_nothing(tmp_path, fakes, ServingConfig(http=http))


def test_one_port_on_two_addresses_is_refused(fakes: FakeReleases, tmp_path: Path) -> None:
    """Requests are told apart by their port: who reaches the public one could move labels."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    http = HttpConfig(host="127.0.0.1", port=port, admin_host="127.0.0.2", admin_port=port)
    with pytest.raises(ConfigError, match="another port"):
        serve_nothing(tmp_path, fakes, ServingConfig(http=http))


def test_an_application_that_cannot_start_is_told() -> None:
    def lifespan(_app: Starlette) -> AbstractAsyncContextManager[None]:
        raise OSError("no power")

    app = Starlette(lifespan=lifespan)
    with pytest.raises(RuntimeError, match="failed to start"), running_server(app):
        pytest.fail("it served")
