"""Beyond capacity a request for a page is refused unread, in the words of its protocol."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.types import Message, Receive, Scope
from starlette.types import Send as Tell
from tests.patience import SOON_S
from tests.serving.conftest import FakeReleases, Send

from upnext.serving import listening
from upnext.serving.aftermath import Aftermath
from upnext.serving.answering import Answering
from upnext.serving.app import create_app
from upnext.serving.batching import QueueConfig
from upnext.serving.connections import Connection
from upnext.serving.metrics import Metrics
from upnext.serving.releases import LiveReleases
from upnext.serving.security import Security
from upnext.serving.server import running_server
from upnext.serving.shedding import Doorkeeper

OWN = "/v1/recommendations"
ASKING = [OWN, "/v1/models/recommend:predict", "/v2/models/recommend/infer"]
NONSENSE = b"this is read by nobody"


class Full:
    """An answering whose only place to wait is taken, until the end of the `with` block."""

    def __init__(self, fakes: FakeReleases) -> None:
        live = LiveReleases(fakes.open)
        live.load(1)
        live.label("stable", 1)
        self.metrics, self._go = Metrics(), threading.Event()
        self.answering = Answering(
            live, queue=QueueConfig(max_waiting=1), aftermath=Aftermath(metrics=self.metrics)
        )

    def __enter__(self) -> "Full":
        began = threading.Event()

        def hold(_some: object) -> list[None]:
            began.set()
            assert self._go.wait(SOON_S)
            return [None]

        async def fill() -> None:
            self.answering.queue.submit(hold, None, kind=object(), give_up_s=float("inf"))
            assert await asyncio.to_thread(began.wait, SOON_S)
            self.answering.queue.submit(hold, None, kind=object(), give_up_s=float("inf"))

        asyncio.run(fill())
        return self

    def __exit__(self, *_: object) -> None:
        self._go.set()
        self.answering.close()


@pytest.fixture
def full(fakes: FakeReleases) -> Iterator[Full]:
    with Full(fakes) as full:
        yield full


@pytest.mark.parametrize("path", ASKING)
def test_it_is_told_when_to_come_back_in_the_shape_of_any_error(
    full: Full, send: Send, path: str
) -> None:
    response = send(create_app(full.answering), "POST", path, NONSENSE)
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")
    assert response.headers["content-type"] == "application/json"
    error = json.loads(response.content)["error"]
    assert error["expected"] == "to answer in time" if path == OWN else "in time" in error
    assert "upnext_refused_total 1.0" in full.metrics.to_text().decode()


@pytest.mark.parametrize("path", ASKING)
def test_nothing_is_read_of_what_is_refused(full: Full, path: str) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("the body was asked for")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
    }
    asyncio.run(create_app(full.answering)(scope, receive, send))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[0]["status"] == 429


def test_who_may_not_ask_is_not_told_how_busy_it_is(full: Full, send: Send) -> None:
    security = Security(hosts=None, tokens={"read": b"a token that nobody has"})
    response = send(create_app(full.answering, security=security), "POST", OWN, NONSENSE)
    assert response.status_code == 401


@pytest.mark.parametrize("path", ["/readyz", "/v2/health/ready", "/v1/models/recommend"])
def test_what_waits_for_nobody_is_answered_all_the_same(full: Full, send: Send, path: str) -> None:
    assert send(create_app(full.answering), "GET", path).status_code == 200


def test_while_there_is_room_a_request_is_read(fakes: FakeReleases, send: Send) -> None:
    live = LiveReleases(fakes.open)
    live.load(1)
    live.label("stable", 1)
    answering = Answering(live)
    assert send(create_app(answering), "POST", OWN, NONSENSE).status_code == 400
    assert send(create_app(answering), "POST", OWN, b"{}").status_code == 200
    answering.close()


PUBLIC, MANAGING = 80, 81
REFUSAL = b"content-length: 2\r\n\r\nno"
HOST = (b"host", b"localhost")
OPEN = Security(hosts=frozenset([b"localhost"]), origins=frozenset([b"https://a.example"]))


@pytest.mark.parametrize(
    ("port", "method", "url", "more", "is_refused"),
    [
        (PUBLIC, b"POST", OWN, [], True),
        (PUBLIC, b"GET", OWN, [], False),
        (PUBLIC, b"POST", f"{OWN}:batch", [], False),
        (PUBLIC, b"POST", f"{OWN}?k=3", [], False),
        (PUBLIC, b"POST", "/v1/events", [], False),
        (PUBLIC, b"POST", OWN, [(b"origin", b"https://a.example")], False),
        (PUBLIC, b"POST", OWN, [(b"host", b"b.example")], False),
        (MANAGING, b"POST", OWN, [], False),
    ],
)
def test_at_the_door_pages_alone_are_refused_and_only_where_that_is_all_there_is_to_tell(
    full: Full,
    port: int,
    method: bytes,
    url: str,
    more: Sequence[tuple[bytes, bytes]],
    is_refused: bool,
) -> None:
    door = Doorkeeper(full.answering, OPEN, full.metrics, managing_port=MANAGING)
    response = door(port, method, url.encode(), [HOST, *more])
    assert bool(response) == is_refused
    told = full.metrics.to_text().decode()
    counted = 'upnext_responses_total{route="recommend",status="429"} 1.0'
    assert (counted in told, "upnext_refused_total 1.0" in told) == (is_refused, is_refused)


def test_at_the_door_who_has_no_token_is_let_through_to_be_told(full: Full) -> None:
    closed = Security(hosts=None, tokens={"read": b"a secret"})
    door = Doorkeeper(full.answering, closed, full.metrics)
    assert door(PUBLIC, b"POST", OWN.encode(), [HOST]) == b""
    assert door(PUBLIC, b"POST", OWN.encode(), [HOST, (b"authorization", b"Bearer a secret")])


def connected(url: str) -> closing[HTTPConnection]:
    return closing(HTTPConnection(urlsplit(url).netloc, timeout=SOON_S))


def asked_over(connection: HTTPConnection, **headers: str) -> tuple[HTTPResponse, bytes]:
    connection.request("POST", OWN, b"{}", headers)
    response = connection.getresponse()
    return response, response.read()


def test_the_door_tells_what_the_route_would(full: Full, send: Send) -> None:
    app = create_app(full.answering)
    by_route = send(app, "POST", OWN, NONSENSE)
    door = Doorkeeper(full.answering, OPEN, full.metrics)
    with running_server(app, door=door) as url, connected(url) as connection:
        response, body = asked_over(connection)
    assert response.status == by_route.status_code == 429
    assert body == by_route.content
    for name in ("retry-after", "content-type", "content-length"):
        assert response.headers[name] == by_route.headers[name]
    assert "date" in response.headers


def test_a_connection_goes_on_whatever_was_refused_on_it(fakes: FakeReleases) -> None:
    live = LiveReleases(fakes.open)
    live.load(1)
    live.label("stable", 1)
    answering = Answering(live)
    refusals: list[bytes] = []

    def door(_port: int | None, _method: bytes, url: bytes, _headers: object) -> bytes:
        return refusals.pop() if url == OWN.encode() and refusals else b""

    with running_server(create_app(answering), door=door) as url, connected(url) as connection:
        for num_refused in (2, 1, 3):
            refusals += [REFUSAL] * num_refused
            statuses = [asked_over(connection)[0].status for _ in range(num_refused + 1)]
            assert statuses == [429] * num_refused + [200]
            assert connection.sock is not None  # it was never closed
        refusals.append(b"never sent: it asks for more than an answer")
        assert asked_over(connection, Connection="close")[0].status == 200
    answering.close()


def test_a_body_that_comes_after_its_refusal_is_no_request(fakes: FakeReleases) -> None:
    live = LiveReleases(fakes.open)
    live.load(1)
    live.label("stable", 1)
    answering = Answering(live)
    refusals = [REFUSAL]

    def door(*_: object) -> bytes:
        return refusals.pop() if refusals else b""

    with running_server(create_app(answering), door=door) as url:
        where = urlsplit(url)
        with socket.create_connection((where.hostname, where.port), SOON_S) as stream:
            head = f"POST {OWN} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40\r\n\r\n"
            stream.sendall(head.encode())
            assert stream.recv(1000).startswith(b"HTTP/1.1 429")
            stream.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"[:40])
            stream.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = stream.recv(1000)
            assert received.startswith(b"HTTP/1.1 200")
            assert received.count(b"HTTP/1.1") == 1
    answering.close()


HASTE_S = 0.02
"""How long `Hasty` is kept while it is idle."""
ASKED = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Hasty(Connection):
    """A connection that is closed almost at once where nothing is under way."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.timeout_keep_alive = HASTE_S  # type: ignore[assignment]


async def slow(scope: Scope, receive: Receive, send: Tell) -> None:
    """Answers after longer than `Hasty` is kept."""
    if scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
        return
    await asyncio.sleep(10 * HASTE_S)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def refuses_pages(_port: int | None, _method: bytes, url: bytes, _headers: object) -> bytes:
    return REFUSAL if url == OWN.encode() else b""


def page(num_bytes: int, version: str = "1.1", more: str = "") -> bytes:
    """A request for a page, whose body has so many bytes."""
    head = f"POST {OWN} HTTP/{version}\r\nHost: localhost\r\n{more}Content-Length: {num_bytes}"
    return head.encode() + b"\r\n\r\n" + b" " * num_bytes


def statuses(url: str, *sent: bytes) -> list[bytes]:
    """Of the answers to what is sent at once, and to what is sent after the first of them.

    All there are until the server closes, or as many as requests were sent.
    """
    where, received = urlsplit(url), b""
    num = sum(part.count(b" HTTP/1.") for part in sent)
    with socket.create_connection((where.hostname, where.port), SOON_S) as stream:
        stream.sendall(sent[0])
        while received.count(b"HTTP/1.1 ") < num and (more := stream.recv(1 << 16)):
            for part in () if received else sent[1:]:
                stream.sendall(part)
            received += more
    return [answer[:3] for answer in received.split(b"HTTP/1.1 ")[1:]]


def test_a_connection_is_not_idle_while_one_waits_whoever_was_refused_just_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listening, "Connection", Hasty)
    with running_server(slow, door=refuses_pages) as url:
        assert statuses(url, page(2) + ASKED) == [b"429", b"200"]


def test_a_body_that_comes_with_its_head_is_no_header_however_long() -> None:
    with running_server(slow, door=refuses_pages) as url:
        assert statuses(url, page(100_000), ASKED) == [b"429", b"200"]


def test_who_is_kept_only_if_told_so_is_let_through_to_be_told() -> None:
    """HTTP/1.0 takes an answer without `Connection: keep-alive` for the last one."""
    kept = page(2, "1.0", "Connection: keep-alive\r\n")
    with running_server(slow, door=refuses_pages) as url:
        assert statuses(url, kept) == [b"200"]
