"""Hostile clients: whatever is sent, the server says little, and stays as small as it was."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from starlette.applications import Starlette
from tests.patience import SOON_S, get, post

from upnext.serving import connections, endpoints
from upnext.serving.app import create_app
from upnext.serving.endpoints import MAX_BODY_BYTES
from upnext.serving.examples import BODIES
from upnext.serving.routes import ENDPOINTS
from upnext.serving.security import Security
from upnext.serving.server import running_server

if TYPE_CHECKING:
    from tests.serving.conftest import FakeAnswering, FakeStore, Send

JSON = {"Content-Type": "application/json"}
EVERY_POST = pytest.mark.parametrize(
    "path",
    [
        endpoint.shown_path.format(model="recommend", version=1, label="stable")
        for endpoint in ENDPOINTS
        if endpoint.method == "POST"
    ],
)
BOMBS = {
    "deep arrays": b"[" * 1_000_000,
    "deep arrays, closed": b"[" * 500_000 + b"]" * 500_000,
    "deep objects": b'{"a":' * 200_000,
    "deep inside a request": b'{"requests": [{"history": ' + b"[" * 900_000,
    "deep inside an instance": b'{"instances": [{"history": ' + b"[" * 900_000,
    "a huge number": b'{"k": ' + b"9" * 1_000_000 + b"}",
    "a huge fraction": b'{"k": 0.' + b"9" * 1_000_000 + b"}",
    "a huge exponent": b'{"k": 1e' + b"9" * 1_000_000 + b"}",
    "many events": b'{"events": [' + b"{}," * 300_000 + b"{}]}",
    "many requests": b'{"requests": [' + b"{}," * 300_000 + b"{}]}",
    "many rows": b'{"instances": [' + b"{}," * 300_000 + b"{}]}",
    "many tensors": b'{"inputs": [' + b"{}," * 300_000 + b"{}]}",
    "many fields": b"{" + b",".join(b'"f%d":1' % n for n in range(70_000)) + b"}",
    "a long name": b'{"' + b"k" * 1_000_000 + b'": 1}',
    "escapes": b'{"user_id": "' + b"\\u0041" * 160_000 + b'"}',
    "too long by one": b" " * (MAX_BODY_BYTES + 1),
    "nothing": b"",
}


@pytest.fixture
def app(answering: FakeAnswering, store: FakeStore) -> Starlette:
    return create_app(answering, store=store)


def _is_refused(response: httpx.Response) -> bool:
    assert list(response.json()) == ["error"]
    assert len(response.content) < 3_000
    return response.status_code in (400, 413)


@EVERY_POST
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_in_few_words(app: Starlette, send: Send, path: str, bomb: str) -> None:
    assert _is_refused(send(app, "POST", path, BOMBS[bomb], JSON))


@EVERY_POST
def test_compressed_bodies_are_refused(app: Starlette, send: Send, path: str) -> None:
    body = gzip.compress(b" " * 10_000_000)
    for encoding in ("gzip", "deflate", "br", "zstd", "gzip, identity", "x" * 5_000):
        response = send(app, "POST", path, body, {**JSON, "Content-Encoding": encoding})
        assert response.status_code == 415
        assert len(response.content) < 3_000
    assert (
        send(app, "POST", path, b"{", {**JSON, "Content-Encoding": "identity"}).status_code == 400
    )


@st.composite
def near_bodies(draw: st.DrawFn) -> bytes:
    """An example of a body, a few bytes of which are others."""
    body = bytearray(json.dumps(draw(st.sampled_from(list(BODIES.values())))).encode())
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(body)))
        body[place : place + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(body)


@EVERY_POST
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=st.binary(max_size=100) | near_bodies())
def test_no_bytes_make_the_server_fail(app: Starlette, send: Send, path: str, body: bytes) -> None:
    response = send(app, "POST", path, body, JSON)
    assert response.status_code in (200, 400, 404)


@pytest.mark.parametrize("mode", GenerationMode, ids=lambda mode: mode.value)
def test_the_description_holds_whatever_is_sent(url: str, mode: GenerationMode) -> None:
    """Statuses, types and schemas of all answers are those of the description."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    num_asked = 0
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        if mode is GenerationMode.POSITIVE or operation.body or operation.query:
            _ask_whatever(operation, mode)
            num_asked += 1
    assert num_asked > 5


def _ask_whatever(operation: Any, mode: GenerationMode) -> None:
    # Not all that is described is taken: its 5.0 is an integer, and a label goes with a version.
    excluded = [positive_data_acceptance]
    if operation.path.endswith(":batch"):  # answered, whatever its requests are
        excluded.append(negative_data_rejection)

    @settings(
        max_examples=10, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        case.call_and_validate(excluded_checks=excluded)

    ask()


@pytest.fixture
def url(app: Starlette) -> Iterator[str]:
    with running_server(app) as url:
        yield url


def _connect(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=SOON_S)


def _status(connection: socket.socket) -> int:
    """That of the next answer, all of which is read, in however many pieces it comes."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status


def _read_all(connection: socket.socket) -> bytes:
    """What comes until the server closes."""
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_a_body_that_stalls_is_given_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "BODY_TIMEOUT_S", 0.1)
    head = b"POST /v1/recommendations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
    with contextlib.ExitStack() as open_ones:
        stalled = [open_ones.enter_context(_connect(url)) for _ in range(50)]
        for connection in stalled:
            connection.sendall(head)
        assert post(f"{url}/v1/recommendations", json={}).status_code == 200
        for connection in stalled:
            answer = _read_all(connection)
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"connection: close" in answer.lower()


@pytest.mark.parametrize(
    ("num_before", "said"),
    [
        (0, b""),
        (0, b"P"),
        (0, b"\r\n"),
        (0, b"GET / HTTP/1.1\r\nHost: localhost\r\n"),
        (1, b"P"),
        (1, b"\r\n"),
        (2, b"GET / HTTP/1.1\r\nHost: localhost\r\n"),
    ],
)
def test_a_client_that_says_no_more_is_given_up(
    url: str, monkeypatch: pytest.MonkeyPatch, num_before: int, said: bytes
) -> None:
    if not num_before:
        monkeypatch.setattr(connections, "HEADERS_TIMEOUT_S", 0.1)
    with _connect(url) as connection:
        for _ in range(num_before):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert _status(connection) == 200
        monkeypatch.setattr(connections, "HEADERS_TIMEOUT_S", 0.1)
        with contextlib.suppress(ConnectionError):  # it may be closed before all of that is sent
            connection.sendall(said)
            assert _read_all(connection) == b""
    assert get(f"{url}/healthz").status_code == 200


def test_headers_without_end_are_cut_off(url: str) -> None:
    with _connect(url) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ")
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"x" * 100_000_000)
            pytest.fail("the server took all of it")
    assert get(f"{url}/healthz").status_code == 200


def test_the_body_of_a_refused_request_is_read_past_but_not_for_ever(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    with _connect(url) as connection:
        connection.sendall(refused % 500_000)
        assert _status(connection) == 415
        connection.sendall(b" " * 500_000)
        for _ in range(20):  # by then the server has read the end of the body, and nothing more
            assert get(f"{url}/healthz").status_code == 200
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert _status(connection) == 200
    monkeypatch.setattr(connections, "HEADERS_TIMEOUT_S", 0.1)
    with _connect(url) as connection:
        connection.sendall(refused % 10**12)
        with contextlib.suppress(ConnectionError):
            while True:
                connection.sendall(b" " * 65_536)
    assert get(f"{url}/healthz").status_code == 200


@pytest.mark.parametrize("host", ["[", "[::1", "a b", "", "localhost:port", "@", "//"])
def test_a_host_that_is_none_is_refused(answering: FakeAnswering, send: Send, host: str) -> None:
    at_home = create_app(answering)
    assert send(at_home, "GET", "/healthz", headers={"Host": host}).status_code == 400
    assert send(at_home, "GET", "/nothing", headers={"Host": host}).status_code == 404
    everywhere = create_app(answering, security=Security(hosts=None))
    assert send(everywhere, "GET", "/healthz", headers={"Host": host}).status_code == 200
    answering.failure = RuntimeError("a secret")
    response = send(everywhere, "POST", "/v1/recommendations", b"{}", {"Host": host})
    assert response.status_code == 500
    assert "secret" not in response.text


def test_long_headers_pass_and_requests_follow_each_other(url: str) -> None:
    with httpx.Client(timeout=SOON_S) as client:
        for _ in range(3):
            headers = {"X-Long": "x" * 30_000}
            answer = client.post(f"{url}/v1/recommendations", json={}, headers=headers)
            assert answer.status_code == 200


def test_a_client_that_leaves_in_the_middle_harms_nobody(url: str) -> None:
    for rest in (b"", b"{", b'{"k": 1}'):
        with _connect(url) as connection:
            connection.sendall(
                b"POST /v1/recommendations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\n"
                + rest
            )
    assert post(f"{url}/v1/recommendations", json={}).status_code == 200


SERVE = """
import asyncio, resource, sys, threading
sys.path.insert(0, sys.argv[1])
from tests.serving.conftest import FakeAnswering, FakeReleases, FakeStore
from upnext.serving.app import create_app
from upnext.serving.releases import LiveReleases
from upnext.serving.security import Security
from upnext.serving.server import running_server

live = LiveReleases(FakeReleases().open)
live.load(1)
live.label("stable", 1)
with running_server(create_app(FakeAnswering(live), store=FakeStore())) as url:
    print(url, flush=True)
    for _ in sys.stdin:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)
"""


def test_bombs_do_not_make_the_server_grow(pytestconfig: pytest.Config) -> None:
    """The most memory that it ever had, after many bombs, is about that after a few."""
    command = [sys.executable, "-c", SERVE, str(pytestconfig.rootpath)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        url = process.stdout.readline().strip()

        def throw_all() -> int:
            for bomb in BOMBS.values():
                for path in ("/v1/events", "/v1/recommendations:batch", "/v2/models/rank/infer"):
                    with contextlib.suppress(httpx.WriteError, httpx.ReadError):
                        answer = httpx.post(url + path, content=bomb, headers=JSON, timeout=60)
                        assert answer.status_code in (400, 413)
            process.stdin.write("\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            return int(process.stdout.readline())  # type: ignore[union-attr]

        first_kb = throw_all()
        last_kb = max(throw_all() for _ in range(3))
        assert get(f"{url}/healthz").status_code == 200
        process.stdin.close()
        assert process.wait(60) == 0
    assert last_kb - first_kb < 64 * 1024
