"""What the console asks arrives as asked, and what goes wrong is told as what it is."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx
import pytest
from tests.console.fake_server import FakeServer

from upnext.console.client import Server, ServerDownError, ServerRefusedError

T = TypeVar("T")


def asking(fake: FakeServer, ask: Callable[[Server], Awaitable[T]], token: str | None = None) -> T:
    async def alone() -> T:
        async with Server(f"{fake.url}/", fake.url, read_token=token) as server:
            return await ask(server)

    return asyncio.run(alone())


def test_what_is_asked_arrives(fake: FakeServer) -> None:
    fake.answers["GET /insight/v1/items"] = {"items": []}
    told = asking(fake, lambda server: server.look("items", search="a & b/ü", k=5, label=None))
    assert told == {"items": []}
    asked = fake.asked[-1]
    assert (asked.method, asked.path) == ("GET", "/insight/v1/items")
    assert asked.query == {"search": "a & b/ü", "k": "5"}
    assert asked.token is None


def test_who_looks_shows_his_token_and_who_changes_the_one_that_is_given(fake: FakeServer) -> None:
    fake.answers["PUT /admin/v1/labels/stable"] = {"steps": []}
    fake.answers["POST /v1/recommendations"] = {"items": []}

    async def all_three(server: Server) -> None:
        await server.look("releases")
        await server.ask("/v1/recommendations", {"k": 3})
        await server.manage("PUT", "labels/stable", {"version": 2}, token="for-admins")
        await server.manage("PUT", "labels/stable", {"version": 2}, token=None)

    asking(fake, all_three, token="for-readers")
    assert [one.token for one in fake.asked] == ["for-readers", "for-readers", "for-admins", None]
    assert fake.asked[2].body == {"version": 2}


def test_a_refusal_tells_what_the_server_said(fake: FakeServer) -> None:
    detail = {"where": "label", "expected": "one there", "got": "'x'", "hint": "look"}
    fake.answers["GET /insight/v1/past"] = (404, {"error": detail})
    with pytest.raises(ServerRefusedError, match="label: expected one there, got 'x'") as caught:
        asking(fake, lambda server: server.look("past"))
    assert (caught.value.status, caught.value.hint) == (404, "look")


@pytest.mark.parametrize("told", ["not json", [], 7, {"error": "a text"}, {"error": None}])
def test_an_error_of_another_shape_is_an_error_too(fake: FakeServer, told: object) -> None:
    fake.answers["GET /insight/v1/past"] = (500, told)
    with pytest.raises(ServerRefusedError, match="500") as caught:
        asking(fake, lambda server: server.look("past"))
    assert caught.value.status == 500


def test_a_server_that_is_not_ready_says_so_and_is_not_down(fake: FakeServer) -> None:
    fake.answers["GET /readyz"] = (503, {"ready": False, "labels": {}})
    assert asking(fake, lambda server: server.ready()) == {"ready": False, "labels": {}}


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://["])
def test_nobody_there_is_told(url: str) -> None:
    async def ask() -> None:
        async with Server(url, url) as server:
            await server.look("releases")

    with pytest.raises(ServerDownError, match="upnext serve"):
        asyncio.run(ask())


def test_no_proxy_of_the_environment_is_asked(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert asking(fake, lambda server: server.look("releases"))["labels"] == {"stable": 2}


def test_redirects_are_not_followed() -> None:
    def send_away(request: httpx.Request) -> httpx.Response:
        assert request.url.host == "127.0.0.1"
        return httpx.Response(302, headers={"Location": "http://elsewhere.example/"})

    async def ask() -> None:
        transport = httpx.MockTransport(send_away)
        async with Server("http://127.0.0.1", "http://127.0.0.1", transport=transport) as server:
            await server.look("releases")

    with pytest.raises(ServerRefusedError):
        asyncio.run(ask())
