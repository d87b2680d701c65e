"""Operators over HTTP: the same moves as on the command line, and strict about what they say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope
from starlette.types import Send as SendMessage

from upnext.registry.labels import read_labels, read_moves
from upnext.registry.moves import move_label
from upnext.registry.release import publish
from upnext.serving.admin import ADMIN_ENDPOINTS, create_admin_app
from upnext.serving.endpoints import MAX_BODY_BYTES, Endpoint
from upnext.serving.following import Following
from upnext.serving.releases import LiveReleases
from upnext.serving.security import SecurityConfig, open_security

if TYPE_CHECKING:
    from tests.serving.conftest import FakeReleases, Send

JSON = {"Content-Type": "application/json"}
RELEASES, LABELS = "/admin/v1/releases", "/admin/v1/labels"


def _write(directory: Path) -> Mapping[str, Any]:
    (directory / "a.txt").touch()
    return {}


def _break() -> None:
    raise RuntimeError("broken on purpose")


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    for _ in range(3):
        publish(tmp_path, _write)
    return tmp_path


@pytest.fixture
def app(registry: Path) -> Starlette:
    return create_admin_app(registry)


def _put(send: Send, app: ASGIApp, name: str, **body: Any) -> tuple[int, Any]:
    response = send(app, "PUT", f"{LABELS}/{name}", json.dumps(body).encode(), JSON)
    return response.status_code, response.json()


def test_a_label_moves_and_comes_back(app: Starlette, send: Send, registry: Path) -> None:
    for version in (1, 2):
        status, moved = _put(send, app, "stable", version=version, reason="better")
        assert (status, moved["move"]["to_version"]) == (200, version)
        assert moved["steps"][-1]["what"].startswith("label stable: ")
    assert (
        send(app, "POST", f"{LABELS}/stable/rollback", headers=JSON).json()["move"]["to_version"]
        == 1
    )
    journal = send(app, "GET", "/admin/v1/journal").json()["moves"]
    assert [(one["kind"], one["to_version"]) for one in journal] == [
        ("move", 1),
        ("move", 2),
        ("rollback", 1),
    ]
    assert {one.actor for one in read_moves(registry)} == {"admin"}


def test_whoever_wraps_the_application_says_who_asks(
    app: Starlette, send: Send, registry: Path
) -> None:
    async def as_ada(scope: Scope, receive: Receive, send_message: SendMessage) -> None:
        scope["state"] = {"actor": "ada"}
        await app(scope, receive, send_message)

    assert _put(send, as_ada, "stable", version=1)[0] == 200
    assert read_moves(registry)[0].actor == "ada"


def test_a_move_reaches_the_servers_and_the_list_shows_them(
    app: Starlette, send: Send, registry: Path, fakes: FakeReleases
) -> None:
    live = LiveReleases(fakes.open)
    with Following(live, registry, look_every_s=0.005):
        assert _put(send, app, "stable", version=2)[0] == 200
        assert live.state.labels == {"stable": 2}
        assert send(app, "POST", f"{RELEASES}/3/load", headers=JSON).status_code == 200
        listed = send(app, "GET", RELEASES).json()
        states = {
            one["version"]: [s["state"] for s in one["servers"]] for one in listed["releases"]
        }
        assert states == {1: [], 2: ["ready"], 3: ["ready"]}
        assert listed["labels"] == {"stable": 2}
        assert listed["servers"][0]["labels"] == {"stable": 2}
        assert send(app, "POST", f"{RELEASES}/2/unload", headers=JSON).status_code == 409
        assert send(app, "POST", f"{RELEASES}/3/unload", headers=JSON).status_code == 200
        assert list(live.state.loaded) == [2]

        fakes.on_open[1] = _break
        status, told = _put(send, app, "stable", version=1)
        assert (status, "broken on purpose" in told["error"]["got"]) == (409, True)
        assert read_labels(registry) == {"stable": 2}


@pytest.mark.parametrize(
    ("expected", "status"),
    [({}, 200), ({"expected_previous": 1}, 200)]
    + [({"expected_previous": other}, 409) for other in (None, 3)],
)
def test_a_move_happens_only_from_where_it_was_expected(
    app: Starlette, send: Send, registry: Path, expected: dict[str, Any], status: int
) -> None:
    move_label(registry, "stable", 1)
    assert _put(send, app, "stable", version=2, **expected)[0] == status
    assert read_labels(registry) == {"stable": 2 if status == 200 else 1}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", f"{LABELS}/stable", b"", 400),
        ("PUT", f"{LABELS}/stable", b'{"version": "1"}', 400),
        ("PUT", f"{LABELS}/stable", b'{"version": 0}', 400),
        ("PUT", f"{LABELS}/stable", b'{"version": 1, "force": true}', 400),
        ("PUT", f"{LABELS}/Stable", b'{"version": 1}', 400),
        ("PUT", f"{LABELS}/stable%0a", b'{"version": 1}', 400),
        ("PUT", f"{LABELS}/stable", b'{"version": 9}', 404),
        ("PUT", f"{LABELS}/stable", b"[" * MAX_BODY_BYTES, 400),
        ("PUT", f"{LABELS}/stable", b" " * (MAX_BODY_BYTES + 1), 413),
        ("PUT", f"{LABELS}/..%2fjournal", b'{"version": 1}', 404),
        ("POST", f"{LABELS}/canary/rollback", b"", 404),
        ("POST", f"{RELEASES}/9/load", b"", 404),
        ("POST", f"{RELEASES}/..%2f1/load", b"", 404),
        ("POST", f"{RELEASES}/one/load", b"", 400),
        ("POST", f"{RELEASES}/1/load", b'{"now": true}', 400),
        ("GET", f"{RELEASES}/1/load", None, 405),
        ("GET", "/admin/v1/nothing", None, 404),
    ],
)
def test_what_is_wrong_is_told_and_changes_nothing(
    app: Starlette,
    send: Send,
    registry: Path,
    method: str,
    path: str,
    body: bytes | None,
    status: int,
) -> None:
    response = send(app, method, path, body, JSON)
    assert response.status_code == status, response.text
    assert set(response.json()["error"]) == {"where", "expected", "got", "hint"}
    assert read_labels(registry) == {}


def test_a_damaged_release_takes_no_label(app: Starlette, send: Send, registry: Path) -> None:
    path = registry / "releases/1/a.txt"
    path.chmod(0o644)
    path.write_text("x", encoding="utf-8")
    status, told = _put(send, app, "stable", version=1)
    assert (status, "a.txt" in told["error"]["where"]) == (409, True)
    assert send(app, "GET", RELEASES).json()["releases"][0]["problem"] != ""


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
bodies = st.binary(max_size=40) | st.dictionaries(
    st.sampled_from(["version", "expected_previous", "reason", "actor"]), json_values
).map(lambda value: json.dumps(value).encode())


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=bodies, name=st.text(min_size=1, max_size=6))
def test_no_body_makes_it_fail(app: Starlette, send: Send, body: bytes, name: str) -> None:
    from urllib.parse import quote

    for method, path in (
        ("PUT", f"{LABELS}/{quote(name, safe='')}"),
        ("POST", f"{LABELS}/stable/rollback"),
    ):
        assert send(app, method, path, body, JSON).status_code in (200, 400, 404, 405, 409)


@pytest.mark.parametrize("endpoint", ADMIN_ENDPOINTS, ids=lambda one: f"{one.method} {one.path}")
def test_every_route_is_for_who_has_the_token(
    registry: Path, send: Send, tmp_path: Path, endpoint: Endpoint
) -> None:
    token = "the-token-of-the-operators"
    file = tmp_path / "token"
    file.write_text(token)
    file.chmod(0o600)
    security = open_security(SecurityConfig(admin_token_file=str(file)))
    app = create_admin_app(registry, security=security)
    path = endpoint.shown_path.format(version=1, label="stable")

    def asks(**headers: str) -> int:
        body = b"{}" if endpoint.takes else None
        told = send(app, endpoint.method, path, body, {**JSON, **headers})
        assert token not in told.text
        return told.status_code

    right = {"Authorization": f"Bearer {token}"}
    is_public, is_get = endpoint.needs == "public", endpoint.method == "GET"
    assert asks() == (200 if is_public else 401)
    assert asks(Authorization="Bearer wrong") == (200 if is_public else 401)
    assert asks(**right, Host="attacker.example") == 400
    assert asks(**right, Origin="https://attacker.example") == (200 if is_get else 403)
    if not is_get:
        assert asks(**{**right, "Content-Type": "text/plain"}) == 415
    assert asks(**right) in ((200,) if is_get else (200, 400, 404))
