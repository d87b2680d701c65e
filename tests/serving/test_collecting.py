"""Events over HTTP: all of a body or nothing, acknowledged once durable, and nobody waits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.applications import Starlette

from upnext.errors import RequestError, StoreError
from upnext.events.store import EventsConfig, open_store
from upnext.serving.app import create_app
from upnext.serving.collecting import MAX_WAITING
from upnext.serving.examples import BODIES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.serving.conftest import FakeAnswering, FakeStore, Send

ROUTE = "/v1/events"
JSON = {"Content-Type": "application/json"}
SEARCH = {"kind": "search", "event_id": "e", "user_id": 7, "searched_at_ms": 5, "query": "tea"}


@pytest.fixture
def app(answering: FakeAnswering, store: FakeStore) -> Starlette:
    return create_app(answering, store=store)


def _post(app: Starlette, send: Send, events: list[dict[str, Any]]) -> httpx.Response:
    return send(app, "POST", ROUTE, json.dumps({"events": events}).encode(), JSON)


def test_events_are_counted_once(app: Starlette, send: Send, store: FakeStore) -> None:
    events = BODIES["collect"]["events"]
    first, again = _post(app, send, events), _post(app, send, events)
    assert (first.status_code, first.json()) == (200, {"num_accepted": 3, "num_duplicates": 0})
    assert again.json() == {"num_accepted": 0, "num_duplicates": 3}
    assert list(store.events) == [event["event_id"] for event in events]


@pytest.mark.parametrize(
    ("wrong", "where", "expected"),
    [
        ({"user_id": None}, "body.events[1].user_id", "int | str"),
        ({"query": ""}, "body.events[1].query", "str of length >= 1"),
        ({"searched_at_ms": -1}, "body.events[1].searched_at_ms", "int >= 0"),
        ({"kind": "like"}, "body.events[1].kind", "one of watch, impression, search"),
        ({"user_id": "u" * 257}, "body.events[1]", "user_id of 1 to 256 bytes"),
        ({"position": 1}, "body.events[1]", None),
    ],
)
def test_one_wrong_event_refuses_all_and_is_named(
    app: Starlette, send: Send, store: FakeStore, wrong: dict[str, Any], where: str, expected: str
) -> None:
    response = _post(app, send, [SEARCH, {**SEARCH, **wrong}])
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["where"] == where
    assert expected is None or error["expected"] == expected
    assert store.events == {}


@pytest.mark.parametrize("num_events", [0, 1_001])
def test_none_and_too_many_are_refused(app: Starlette, send: Send, num_events: int) -> None:
    response = _post(app, send, [SEARCH] * num_events)
    assert response.status_code == 400
    assert response.json()["error"]["where"] == "body.events"


def test_as_many_as_allowed_are_taken(app: Starlette, send: Send) -> None:
    events = [{**SEARCH, "event_id": f"e{number}"} for number in range(1_000)]
    assert _post(app, send, events).json() == {"num_accepted": 1_000, "num_duplicates": 0}


def test_a_store_that_fails_is_not_the_clients_fault(
    app: Starlette, send: Send, store: FakeStore
) -> None:
    store.failure = StoreError("/secret/path", expected="a disk", got="a secret")
    response = _post(app, send, [SEARCH])
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert "secret" not in response.text
    store.failure = None
    assert _post(app, send, [SEARCH]).status_code == 200


def test_what_the_store_refuses_is_a_400(app: Starlette, send: Send, store: FakeStore) -> None:
    store.failure = RequestError("events[0]", expected="a time from 5 to 9 ms", got="3")
    response = _post(app, send, [SEARCH])
    assert response.status_code == 400
    assert response.json()["error"]["where"] == "events[0]"


def test_a_server_without_a_store_says_so(answering: FakeAnswering, send: Send) -> None:
    response = _post(create_app(answering), send, [SEARCH])
    assert response.status_code == 501
    assert "[events]" in response.json()["error"]["hint"]


def test_a_slow_store_holds_up_nobody_and_only_so_many_wait(
    app: Starlette, store: FakeStore
) -> None:
    may_go_on = threading.Event()

    def hold() -> None:
        assert may_go_on.wait(60)

    store.on_append = hold

    async def flood() -> list[int]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:

            async def post() -> int:
                return (await client.post(ROUTE, json={"events": [SEARCH]})).status_code

            waiting = {asyncio.create_task(post()) for _ in range(MAX_WAITING + 10)}
            refused: set[asyncio.Task[int]] = set()
            while len(refused) < 10:
                done, waiting = await asyncio.wait(
                    waiting, timeout=60, return_when=asyncio.FIRST_COMPLETED
                )
                assert done
                refused |= done
            health = await client.get("/healthz")
            may_go_on.set()
            accepted = await asyncio.gather(*waiting)
            return [health.status_code, *(task.result() for task in refused), *accepted]

    assert asyncio.run(flood()) == [200, *[429] * 10, *[200] * MAX_WAITING]


def test_a_real_store_keeps_what_was_acknowledged(
    answering: FakeAnswering, send: Send, tmp_path: Path
) -> None:
    config = EventsConfig(path=str(tmp_path / "events.sqlite"))
    event = {**SEARCH, "searched_at_ms": time.time_ns() // 1_000_000}
    with contextlib.closing(open_store(config)) as store:
        app = create_app(answering, store=store)
        assert _post(app, send, [event]).json() == {"num_accepted": 1, "num_duplicates": 0}
        old = _post(app, send, [{**SEARCH, "event_id": "old"}])
        assert (old.status_code, old.json()["error"]["where"]) == (400, "events[0]")
    with contextlib.closing(open_store(config)) as store:
        (user,) = store.users()
        assert [search.event_id for search in user.searches] == ["e"]
        app = create_app(answering, store=store)
        assert _post(app, send, [event]).json() == {"num_accepted": 0, "num_duplicates": 1}
