"""The routes: what they answer, and that no body whatever makes the server fail."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from upnext.errors import DataError, RequestError
from upnext.schema import RecommendationRequest
from upnext.serving.answering import Answering
from upnext.serving.app import create_app
from upnext.serving.endpoints import MAX_BODY_BYTES
from upnext.serving.releases import LiveReleases

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.serving.conftest import FakeAnswering, FakeReleases, Send

ROUTE = "/v1/recommendations"


@pytest.fixture
def live(fakes: FakeReleases) -> LiveReleases:
    live = LiveReleases(fakes.open)
    for name, version in (("stable", 1), ("canary", 2)):
        live.load(version)
        live.label(name, version)
    return live


@pytest.fixture
def app(live: LiveReleases) -> Starlette:
    return create_app(Answering(live))


def _error(response: httpx.Response) -> dict[str, str]:
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["error"]
    error: dict[str, str] = body["error"]
    assert list(error) == ["where", "expected", "got", "hint"]
    return error


def test_a_request_gets_its_items_from_stable(app: Starlette, send: Send) -> None:
    response = send(app, "POST", ROUTE, b'{"user_id": "nobody knows me", "k": 3}')
    assert response.status_code == 200
    assert response.headers["x-upnext-release"] == "1"
    answer = response.json()
    assert [item["item_id"] for item in answer["items"]] == [0, 1, 2]
    assert (answer["release"], answer["label"]) == ("1", "stable")


def test_a_request_may_name_another_label(app: Starlette, send: Send) -> None:
    answer = send(app, "POST", ROUTE, b'{"label": "canary"}').json()
    assert (answer["release"], answer["label"]) == ("2", "canary")


def test_the_recommender_gets_the_request_as_sent(
    app: Starlette, send: Send, fakes: FakeReleases
) -> None:
    send(app, "POST", ROUTE, b'{"user_id": 5, "k": 7, "searches": ["a"]}')
    assert fakes.requests[-1] == RecommendationRequest(user_id=5, k=7, searches=["a"])


@pytest.mark.parametrize(
    ("body", "where"),
    [(b'{"k": 0}', "body.k"), (b'{"kk": 1}', "body"), (b"{", "body"), (b'"x"', "body")],
)
def test_a_wrong_body_is_a_400_that_tells_where(
    app: Starlette, send: Send, body: bytes, where: str
) -> None:
    response = send(app, "POST", ROUTE, body)
    assert response.status_code == 400
    assert _error(response)["where"] == where


def test_an_unknown_label_is_a_404_that_tells_the_known_ones(app: Starlette, send: Send) -> None:
    response = send(app, "POST", ROUTE, b'{"label": "beta"}')
    assert response.status_code == 404
    assert _error(response)["expected"] == "one of stable, canary"


def test_the_largest_body_passes_and_one_byte_more_does_not(app: Starlette, send: Send) -> None:
    largest = b'{"k": 1'.ljust(MAX_BODY_BYTES - 1) + b"}"
    assert send(app, "POST", ROUTE, largest).status_code == 200
    response = send(app, "POST", ROUTE, largest + b" ")
    assert response.status_code == 413
    assert _error(response)["where"] == "body"


def test_a_body_without_a_length_is_not_read_beyond_the_limit(app: Starlette) -> None:
    num_chunks = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal num_chunks
        while True:
            num_chunks += 1
            yield b" " * 65_536

    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post(ROUTE, content=chunks())

    assert asyncio.run(post()).status_code == 413
    assert num_chunks == MAX_BODY_BYTES // 65_536 + 1


def test_what_the_recommender_refuses_is_a_400(answering: FakeAnswering, send: Send) -> None:
    answering.failure = RequestError("user_features", expected="one of region", got="'planet'")
    response = send(create_app(answering), "POST", ROUTE, b"{}")
    assert response.status_code == 400
    assert _error(response)["got"] == "'planet'"


@pytest.mark.parametrize(
    "failure",
    [RuntimeError("a secret"), DataError("a secret", expected="calm", got="panic")],
    ids=["foreign", "our own"],
)
def test_a_failure_is_a_500_that_leaks_nothing(
    answering: FakeAnswering, send: Send, failure: Exception
) -> None:
    app = create_app(answering)
    answering.failure = failure
    response = send(app, "POST", ROUTE, b"{}")
    assert response.status_code == 500
    assert _error(response)["hint"] == "the server's log says why."
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    answering.failure = None
    assert send(app, "POST", ROUTE, b"{}").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", ROUTE, 405), ("DELETE", "/healthz", 405), ("GET", "/v3", 404)],
)
def test_a_wrong_route_or_method_is_told_in_json(
    app: Starlette, send: Send, method: str, path: str, status: int
) -> None:
    response = send(app, method, path)
    assert response.status_code == status
    assert _error(response)["where"] == path
    assert ("allow" in response.headers) == (status == 405)


def test_the_server_is_alive_before_it_is_ready(send: Send, fakes: FakeReleases) -> None:
    live = LiveReleases(fakes.open)
    app = create_app(Answering(live))
    assert send(app, "GET", "/healthz").status_code == 200
    assert send(app, "GET", "/readyz").status_code == 503
    response = send(app, "POST", ROUTE, b"{}")
    assert response.status_code == 503
    assert _error(response)["expected"] == "a loaded release"

    live.load(4)
    assert send(app, "GET", "/readyz").status_code == 503
    live.label("stable", 4)
    assert send(app, "GET", "/readyz").status_code == 200
    assert send(app, "POST", ROUTE, b"{}").status_code == 200


def test_readiness_tells_releases_and_labels(app: Starlette, send: Send) -> None:
    assert send(app, "GET", "/readyz").json() == {
        "ready": True,
        "labels": {"stable": 1, "canary": 2},
        "releases": [1, 2],
        "problems": {},
    }


def test_the_front_page_names_routes_that_exist(app: Starlette, send: Send) -> None:
    routes = send(app, "GET", "/").json()["routes"]
    assert routes[ROUTE] == ["POST"]
    gets = [path for path, methods in routes.items() if "GET" in methods and "{" not in path]
    assert len(gets) > 5
    assert {send(app, "GET", path).status_code for path in gets} == {200}


def test_a_request_in_flight_keeps_its_release_through_a_swap(
    app: Starlette, live: LiveReleases, fakes: FakeReleases
) -> None:
    entered, may_answer = threading.Event(), threading.Event()

    def hold() -> None:
        entered.set()
        assert may_answer.wait(60)

    async def swap_meanwhile() -> tuple[str, str, int]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            fakes.on_request[1] = hold
            first = asyncio.create_task(client.post(ROUTE, json={}))
            assert await asyncio.to_thread(entered.wait, 60)
            live.label("stable", 2)
            live.unload(1)
            second = await client.post(ROUTE, json={})
            health = await client.get("/healthz")
            may_answer.set()
            return (await first).json()["release"], second.json()["release"], health.status_code

    assert asyncio.run(swap_meanwhile()) == ("1", "2", 200)


def test_health_answers_while_the_recommender_computes(app: Starlette, fakes: FakeReleases) -> None:
    may_answer = threading.Event()
    started = threading.Semaphore(0)

    def hold() -> None:
        started.release()
        assert may_answer.wait(60)

    async def ask_meanwhile() -> tuple[int, list[int]]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            fakes.on_request[1] = hold
            waiting = [asyncio.create_task(client.post(ROUTE, json={})) for _ in range(5)]
            assert await asyncio.to_thread(started.acquire, timeout=60)
            health = await client.get("/healthz")
            may_answer.set()
            return health.status_code, [(await task).status_code for task in waiting]

    assert asyncio.run(ask_meanwhile()) == (200, [200] * 5)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
fields = ["user_id", "history", "searches", "user_features", "k", "at_ms", "label", "kk"]
watches = st.lists(
    st.dictionaries(st.sampled_from(["item_id", "started_at_ms", "watch_time_s"]), json_values),
    max_size=2,
)
near_requests = st.dictionaries(st.sampled_from(fields), json_values | watches, max_size=4).map(
    lambda value: json.dumps(value).encode()
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=near_requests | st.binary(max_size=50))
def test_no_body_makes_the_server_fail(app: Starlette, send: Send, body: bytes) -> None:
    response = send(app, "POST", ROUTE, body)
    assert response.status_code in (200, 400, 404)
    if response.status_code != 200:
        assert _error(response)["where"].startswith("body")


def test_serving_needs_no_torch() -> None:
    program = (
        "import sys, upnext.serving.app, upnext.serving.server, upnext.serving.releases;"
        "print([name for name in ('torch', 'onnx', 'jinja2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"
