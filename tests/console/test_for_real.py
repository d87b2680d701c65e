"""Promote and roll back through the pages, in a registry that a server follows."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from tests.console.test_changing import until
from tests.patience import SOON_S
from tests.serving.conftest import FakeReleases

from upnext.console.app import create_console_app
from upnext.console.client import Server
from upnext.registry.labels import append_move, read_labels, read_moves, read_standings
from upnext.registry.overview import overview
from upnext.registry.release import publish
from upnext.registry.servers import read_servers
from upnext.serving.admin import create_admin_app
from upnext.serving.endpoints import json_response
from upnext.serving.following import Following
from upnext.serving.releases import LiveReleases
from upnext.serving.security import SecurityConfig, open_security
from upnext.serving.server import running_server

TOKEN = "the-token-of-the-operators"


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """Four releases, of which `stable` stands at the first."""

    def write(directory: Path) -> Mapping[str, Any]:
        (directory / "a.txt").touch()
        return {}

    for _ in range(4):
        publish(tmp_path / "registry", write)
    append_move(tmp_path / "registry", "stable", 1)
    return tmp_path / "registry"


@pytest.fixture
def opened() -> FakeReleases:
    return FakeReleases()


@pytest.fixture
def visitor(registry: Path, opened: FakeReleases, tmp_path: Path) -> Iterator[httpx.Client]:
    """A browser before the console of a managing address that wants a token."""
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    security = open_security(SecurityConfig(admin_token_file=str(file)))
    with (
        Following(LiveReleases(opened.open), registry, look_every_s=0.005),
        running_server(_managing(create_admin_app(registry, security=security), registry)) as told,
        running_server(create_console_app(Server(told, told), hosts={"127.0.0.1"})) as url,
        httpx.Client(
            base_url=url, headers={"Origin": url}, trust_env=False, timeout=SOON_S
        ) as client,
    ):
        yield client


def _managing(admin: Starlette, registry: Path) -> Starlette:
    """The admin application, and what the pages here look at beside it."""

    def look() -> dict[str, object]:
        standings = read_standings(registry)
        return {
            "releases": overview(registry),
            "labels": read_labels(registry),
            "servers": read_servers(registry),
            "rollback": {label: one.rollback_version for label, one in standings.items()},
        }

    async def releases(_request: Request) -> Response:
        return json_response(await asyncio.to_thread(look))

    async def journal(_request: Request) -> Response:
        return json_response({"moves": await asyncio.to_thread(read_moves, registry)})

    async def metrics(_request: Request) -> Response:
        return PlainTextResponse("")

    async def ready(_request: Request) -> Response:
        return json_response({"ready": True, "labels": read_labels(registry), "problems": {}})

    looks = {"/insight/v1/releases": releases, "/insight/v1/journal": journal}
    routes = [Route(path, show) for path, show in looks.items()]
    routes += [Route("/metrics", metrics), Route("/readyz", ready)]
    return Starlette(routes=[*routes, Mount("/", admin)])


def _send(visitor: httpx.Client, path: str, end: str, **fields: str) -> str:
    """Posts a form, and the page once what was set in motion ended so."""
    answer = visitor.post(path, data={"token": TOKEN, **fields})
    assert answer.status_code == 303, answer.text
    return until(visitor, answer.headers["location"], f": {end}</strong>")


def test_a_release_is_promoted_and_rolled_back(visitor: httpx.Client, registry: Path) -> None:
    path = "/releases/2/promote?label=stable"
    assert "not loaded" in visitor.get(path).text
    point = {"step": "point", "expected_previous": "1", "confirmation": "stable 2"}
    assert visitor.post(path, data={"token": TOKEN, **point}).status_code == 400

    page = _send(visitor, path, "done", step="load")
    assert "release 2: every file is as it was published" in page
    assert "Ready in every server process." in page
    assert read_labels(registry) == {"stable": 1}

    page = _send(visitor, path, "done", reason="better", **point)
    assert "label stable: 1 → 2 at " in page
    assert "followed by 1 server(s)" in page
    assert "stable stands at release 2." in page
    assert read_labels(registry) == {"stable": 2}

    back = {"from": "2", "to": "1", "confirmation": "stable 1", "reason": "not so"}
    page = _send(visitor, "/rollback?label=stable", "done", **back)
    assert "label stable: 2 → 1 at " in page
    assert read_labels(registry) == {"stable": 1}
    told = [(move.kind, move.to_version, move.reason) for move in read_moves(registry)]
    assert told == [("move", 1, ""), ("move", 2, "better"), ("rollback", 1, "not so")]
    assert "not so" in visitor.get("/journal").text


def test_who_was_overtaken_is_told(visitor: httpx.Client, registry: Path) -> None:
    path = "/releases/2/promote?label=stable"
    _send(visitor, path, "done", step="load")
    append_move(registry, "stable", 3, actor="ada")
    point = {"step": "point", "expected_previous": "1", "confirmation": "stable 2"}
    page = _send(visitor, path, "failed", **point)
    assert "label stable: expected version 1, got version 3." in page
    assert read_labels(registry) == {"stable": 3}


def test_a_wrong_token_moves_nothing(visitor: httpx.Client, registry: Path) -> None:
    path = "/releases/2/promote?label=stable"
    page = _send(visitor, path, "failed", step="load", token="a-guess")
    assert "token" in page
    assert "a-guess" not in page
    assert "not loaded" in page
    assert read_labels(registry) == {"stable": 1}


def test_a_release_that_cannot_be_opened_is_told(
    visitor: httpx.Client, opened: FakeReleases, registry: Path
) -> None:
    def fail() -> None:
        raise RuntimeError("broken on <purpose>")

    opened.on_open[4] = fail
    page = _send(visitor, "/releases/4/promote", "failed", step="load")
    assert "broken on &lt;purpose&gt;" in page
    assert '<fieldset class="bar" disabled>' in page
    (registry / "releases/3/a.txt").chmod(0o644)
    (registry / "releases/3/a.txt").write_text("x")
    page = _send(visitor, "/releases/3/promote", "failed", step="load")
    assert "a.txt" in page
    assert "a.txt" in visitor.get("/releases").text
