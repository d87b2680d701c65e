"""What changes something: who may, what must be typed, and where a token goes."""

import logging
import time
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from tests.console.fake_server import FakeServer
from tests.console.released import TRAFFIC, held, released_answers, server_of
from tests.console.wellformed import problems_of

from upnext.console.sharing import fingerprint

TOKEN = "the-token-of-the-operators"
POINT = {"step": "point", "expected_previous": "2", "confirmation": "stable 3", "reason": "better"}
BACK = {"from": "2", "to": "1", "confirmation": "stable 1", "reason": "worse"}
SHARES = {
    "share-stable": "93",
    "share-canary": "7",
    "shown": fingerprint(TRAFFIC),
    "confirmation": "change shares",
}
STEPS = {"steps": [{"what": "label stable: 2 → 3", "after_s": 0.25}]}
PROMOTE = "/releases/3/promote?label=stable"


@pytest.fixture(autouse=True)
def released(fake: FakeServer) -> None:
    """Three releases; `stable` stands at 2, and both processes have 3 ready too."""
    fake.answers |= released_answers(3, stable=2)
    fake.answers["GET /insight/v1/releases"]["servers"] = [
        server_of(pid, held(2), held(3), stable=2) for pid in (11, 12)
    ]
    fake.answers |= {
        "POST /admin/v1/releases/3/load": STEPS,
        "PUT /admin/v1/labels/stable": STEPS,
        "POST /admin/v1/labels/stable/rollback": STEPS,
        "PUT /admin/v1/traffic": TRAFFIC,
    }


def changes(fake: FakeServer) -> list[Any]:
    return [asked for asked in fake.asked if asked.method != "GET"]


def until(visitor: httpx.Client, path: str, text: str) -> str:
    """A page once it tells that."""
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        if text in (page := visitor.get(path).text):
            return page
        time.sleep(0.01)
    raise AssertionError(f"{path} never told: {text}")


CASES: list[tuple[str, dict[str, str], str, Any]] = [
    (PROMOTE, {"step": "load"}, "POST /admin/v1/releases/3/load", {}),
    (
        PROMOTE,
        POINT,
        "PUT /admin/v1/labels/stable",
        {"version": 3, "expected_previous": 2, "reason": "better"},
    ),
    (
        "/rollback?label=stable",
        BACK,
        "POST /admin/v1/labels/stable/rollback",
        {"expected_previous": 2, "reason": "worse"},
    ),
    (
        "/shares",
        SHARES,
        "PUT /admin/v1/traffic",
        {
            "split": {"canary": 0.07, "stable": 0.93},
            "shadow": None,
            "expected_previous": {
                "split": {"stable": 0.93, "canary": 0.07},
                "shadow": {"label": "canary", "share": 0.1},
            },
        },
    ),
]
each = pytest.mark.parametrize(("path", "fields", "asked", "body"), CASES)
confirmed = pytest.mark.parametrize(("path", "fields", "asked", "body"), CASES[1:])


@each
def test_what_is_sent_is_sent_once_and_its_token_stays_nowhere(
    visitor: httpx.Client,
    fake: FakeServer,
    console: Starlette,
    caplog: pytest.LogCaptureFixture,
    path: str,
    fields: dict[str, str],
    asked: str,
    body: Any,
) -> None:
    caplog.set_level(logging.DEBUG)
    answer = visitor.post(path, data={**fields, "token": f" {TOKEN}\n"})
    assert answer.status_code == 303
    there = answer.headers["location"]
    page = until(visitor, there, ": done</strong>")
    assert problems_of(page) == []
    if fake.answers[asked] is STEPS:
        assert "label stable: 2 → 3" in page
        assert "0.25 s" in page
    visitor.get(there)
    sent = changes(fake)
    assert [(f"{one.method} {one.path}", one.body, one.token) for one in sent] == [
        (asked, body, TOKEN)
    ]
    assert {one.token for one in fake.asked if one.method == "GET"} == {None}
    operation = console.state.operations.get(1)
    assert TOKEN not in there + page + answer.text + repr(vars(operation)) + caplog.text


@each
@pytest.mark.parametrize("origin", ["http://evil.example", "null", ""])
def test_other_sites_send_nothing(
    visitor: httpx.Client,
    fake: FakeServer,
    path: str,
    fields: dict[str, str],
    asked: str,
    body: Any,
    origin: str,
) -> None:
    answer = visitor.post(path, data=fields, headers={"Origin": origin})
    assert (answer.status_code, changes(fake)) == (403, [])


@confirmed
@pytest.mark.parametrize("typed", ["", "stable", "stable 4", "Stable 3", "stable 3 ", "yes"])
def test_without_the_very_words_nothing_is_sent(
    visitor: httpx.Client,
    fake: FakeServer,
    path: str,
    fields: dict[str, str],
    asked: str,
    body: Any,
    typed: str,
) -> None:
    answer = visitor.post(path, data={**fields, "confirmation": typed, "token": TOKEN})
    assert (answer.status_code, changes(fake)) == (400, [])
    assert "nothing was sent" in answer.text
    assert "data-refresh-s" not in answer.text
    assert TOKEN not in answer.text
    assert problems_of(answer.text) == []
    assert fields.get("reason", "7") in answer.text


@each
@pytest.mark.parametrize("token", ["two words", "schlüssel", "a\r\nX-B: c"])
def test_what_can_be_no_token_is_not_repeated(
    visitor: httpx.Client,
    fake: FakeServer,
    path: str,
    fields: dict[str, str],
    asked: str,
    body: Any,
    token: str,
) -> None:
    answer = visitor.post(path, data={**fields, "token": token})
    assert (answer.status_code, changes(fake)) == (400, [])
    assert "printable ASCII" in answer.text
    assert token not in answer.text


@each
def test_without_a_token_none_is_passed_on(
    visitor: httpx.Client,
    fake: FakeServer,
    path: str,
    fields: dict[str, str],
    asked: str,
    body: Any,
) -> None:
    there = visitor.post(path, data={**fields, "token": ""}).headers["location"]
    until(visitor, there, ": done</strong>")
    assert [one.token for one in changes(fake)] == [None]


@each
@pytest.mark.parametrize("status", [401, 409])
def test_a_refusal_is_told_as_the_server_says_it(
    visitor: httpx.Client,
    fake: FakeServer,
    path: str,
    fields: dict[str, str],
    asked: str,
    body: Any,
    status: int,
) -> None:
    detail = {"where": "label", "expected": "version 2", "got": "version 1", "hint": "look anew."}
    fake.answers[asked] = (status, {"error": detail})
    there = visitor.post(path, data=fields).headers["location"]
    page = until(visitor, there, ": failed</strong>")
    assert "label: expected version 2, got version 1." in page
    assert "Hint: look anew." in page


@each
def test_a_server_that_is_killed_meanwhile_is_told(
    visitor: httpx.Client,
    fake: FakeServer,
    path: str,
    fields: dict[str, str],
    asked: str,
    body: Any,
) -> None:
    def die(_: object) -> object:
        raise ConnectionAbortedError

    fake.answers[asked] = die
    there = visitor.post(path, data=fields).headers["location"]
    page = until(visitor, there, ": failed</strong>")
    assert "expected a server that answers" in page


def test_nobody_knows_an_operation_that_was_forgotten(visitor: httpx.Client) -> None:
    for number in ("77", "x", "9" * 50):
        page = visitor.get(f"/shares?operation={number}").text
        assert f"knows nothing of operation {number}" in page


@each
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_who_only_looks_sends_nothing(
    visitor: httpx.Client,
    fake: FakeServer,
    path: str,
    fields: dict[str, str],
    asked: str,
    body: Any,
    method: str,
) -> None:
    answer = visitor.request(method, path, data=fields)
    assert (answer.status_code, changes(fake)) == (200, [])
