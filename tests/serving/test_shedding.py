"""Beyond capacity a request for a page is refused unread, in the words of its protocol."""

import asyncio
import json
import threading
from collections.abc import Iterator

import pytest
from starlette.types import Message
from tests.patience import SOON_S
from tests.serving.conftest import FakeReleases, Send

from upnext.serving.aftermath import Aftermath
from upnext.serving.answering import Answering
from upnext.serving.app import create_app
from upnext.serving.batching import QueueConfig
from upnext.serving.metrics import Metrics
from upnext.serving.releases import LiveReleases
from upnext.serving.security import Security

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
