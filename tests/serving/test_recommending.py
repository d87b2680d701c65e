"""Recommendations one by one and in batches, and items like an item."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette

from upnext.schema import RecommendationRequest
from upnext.serving.app import create_app
from upnext.serving.asked import Asked
from upnext.serving.batching import OverloadedError

if TYPE_CHECKING:
    import httpx
    from tests.serving.conftest import FakeAnswering, Send

ROUTE = "/v1/recommendations"
BATCH = "/v1/recommendations:batch"


@pytest.fixture
def app(answering: FakeAnswering) -> Starlette:
    return create_app(answering)


def _post(app: Starlette, send: Send, path: str, body: object) -> httpx.Response:
    return send(app, "POST", path, json.dumps(body).encode())


def test_how_a_request_wants_to_be_served_arrives(
    app: Starlette, send: Send, answering: FakeAnswering
) -> None:
    body = {
        "user_id": "u1",
        "version": 2,
        "deadline_ms": 40,
        "request_id": "r 1",
        "is_logged": False,
    }
    answer = _post(app, send, ROUTE, body).json()
    assert answering.asked == [
        Asked(
            request=RecommendationRequest(user_id="u1"),
            version=2,
            deadline_ms=40.0,
            request_id="r 1",
            is_logged=False,
        )
    ]
    assert (answer["release"], answer["label"], answer["request_id"]) == ("2", None, "r 1")
    assert answer["degraded"] == ["on purpose"]
    assert answer["timings_ms"] == {"total": 0.5}


def test_a_request_that_says_nothing_is_logged_and_gets_an_id(
    app: Starlette, send: Send, answering: FakeAnswering
) -> None:
    answer = _post(app, send, ROUTE, {}).json()
    assert answering.asked == [Asked(request=RecommendationRequest())]
    assert (answer["label"], answer["request_id"]) == ("stable", "made up 1")


@pytest.mark.parametrize(
    ("named", "status"),
    [({"label": "beta"}, 404), ({"version": 9}, 404), ({"label": "stable", "version": 1}, 400)],
)
def test_a_release_that_is_not_there_is_told(
    app: Starlette, send: Send, named: dict[str, Any], status: int
) -> None:
    assert _post(app, send, ROUTE, named).status_code == status
    url = "/v1/items/v1/similar?" + "&".join(f"{name}={value}" for name, value in named.items())
    assert send(app, "GET", url).status_code == status
    (answer,) = _post(app, send, BATCH, {"requests": [named]}).json()["answers"]
    assert answer["status"] == status


def test_too_many_requests_are_asked_to_come_back(
    app: Starlette, send: Send, answering: FakeAnswering
) -> None:
    answering.failure = OverloadedError("the queue", expected="room", got="none")
    response = _post(app, send, ROUTE, {})
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")


def test_a_batch_answers_or_refuses_each_by_itself(app: Starlette, send: Send) -> None:
    requests = [{"k": 2}, {"k": 0}, "nonsense", {"label": "beta"}, {"label": "canary", "k": 1}]
    response = _post(app, send, BATCH, {"requests": requests})
    assert response.status_code == 200
    answers = response.json()["answers"]
    assert [len(one["items"]) if "items" in one else one["status"] for one in answers] == [
        2,
        400,
        400,
        404,
        1,
    ]
    assert answers[1]["error"]["where"] == "body.requests[1].k"
    assert answers[2]["error"]["where"] == "body.requests[2]"
    alone = _post(app, send, ROUTE, {"k": 2, "request_id": "r"}).json()
    (within,) = _post(app, send, BATCH, {"requests": [{"k": 2, "request_id": "r"}]}).json()[
        "answers"
    ]
    assert within == alone


def test_a_failure_within_a_batch_tells_no_details(
    app: Starlette, send: Send, answering: FakeAnswering
) -> None:
    answering.failure = RuntimeError("a secret")
    response = _post(app, send, BATCH, {"requests": [{}, {}]})
    assert [one["status"] for one in response.json()["answers"]] == [500, 500]
    assert "secret" not in response.text


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b'{"requests": []}', "body.requests"),
        (b'{"requests": [' + b"{}," * 100 + b"{}]}", "body.requests"),
        (b'{"requests": {}}', "body.requests"),
        (b"{}", "body"),
        (b'{"requests": [{}], "k": 1}', "body"),
        (b'{"requests": [{"k": 1, "k": 2}]}', "body"),
        (b'{"requests": [{"user_id": "\xff"}]}', "body"),
        (b'{"requests": [' + b"[" * 100_000, "body"),
    ],
)
def test_a_batch_that_is_none_is_refused_whole(
    app: Starlette, send: Send, body: bytes, where: str
) -> None:
    response = send(app, "POST", BATCH, body)
    assert response.status_code == 400
    assert response.json()["error"]["where"] == where


@pytest.mark.parametrize(
    ("in_url", "item_id"),
    [
        ("v1", "v1"),
        ("7", "7"),
        ("a%2Fb", "a/b"),
        ("a/similar", "a/similar"),
        ("%C3%A9%20%3F", "é ?"),
    ],
)
def test_items_like_an_item(app: Starlette, send: Send, in_url: str, item_id: str) -> None:
    response = send(app, "GET", f"/v1/items/{in_url}/similar?k=3&label=canary")
    assert response.status_code == 200
    answer = response.json()
    assert [item["title"] for item in answer["items"]] == [item_id] * 3
    assert (answer["release"], answer["label"]) == ("2", "canary")
    assert response.headers["x-upnext-release"] == "2"


def test_an_unknown_item_is_not_found(app: Starlette, send: Send) -> None:
    response = send(app, "GET", "/v1/items/unknown/similar")
    assert response.status_code == 404
    assert response.json()["error"]["where"] == "item_id"


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("k=0", "query.k"),
        ("k=x", "query.k"),
        ("k=1&k=2", "query"),
        ("kk=1", "query"),
        ("version=0", "query.version"),
        ("label=", "query.label"),
    ],
)
def test_a_wrong_query_is_told_by_place(app: Starlette, send: Send, query: str, where: str) -> None:
    response = send(app, "GET", f"/v1/items/v1/similar?{query}")
    assert response.status_code == 400
    assert response.json()["error"]["where"] == where
