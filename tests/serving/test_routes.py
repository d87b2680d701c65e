"""Every route of the table × who asks and how: what its row says it needs is what is checked."""

from __future__ import annotations

import json
import re
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Match, Route

from upnext.serving.app import create_app
from upnext.serving.endpoints import Endpoint, Routes
from upnext.serving.examples import BODIES
from upnext.serving.managing import MANAGING_ENDPOINTS
from upnext.serving.routes import ENDPOINTS
from upnext.serving.security import RefusedError, SecurityConfig, open_security

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.serving.conftest import FakeAnswering, FakeStore, Send

TOKENS = {name: f"the-token-for-{name}-requests" for name in ("read", "events", "admin")}
EVERY_ENDPOINT = pytest.mark.parametrize(
    "endpoint", ENDPOINTS, ids=lambda endpoint: f"{endpoint.method} {endpoint.path}"
)


@pytest.fixture
def app(answering: FakeAnswering, store: FakeStore, tmp_path: Path) -> Starlette:
    """Every kind of token is configured, and one site may call."""
    files = {}
    for name, token in TOKENS.items():
        path = tmp_path / name
        path.write_text(token)
        path.chmod(0o600)
        files[f"{name}_token_file"] = str(path)
    config = SecurityConfig(**files, allowed_origins=("https://console.example",))  # type: ignore[arg-type]
    return create_app(answering, store=store, security=open_security(config))


def _ask(app: Starlette, send: Send, endpoint: Endpoint, **headers: str) -> int:
    path = endpoint.shown_path.format(model="recommend", version=1, label="stable", item_id="v1")
    body = None
    if endpoint.takes is not None:
        body = json.dumps(BODIES[endpoint.handler.__name__]).encode()
        headers.setdefault("Content-Type", "application/json")
    response = send(app, endpoint.method, path, body, headers)
    assert not any(token in response.text for token in TOKENS.values())
    assert response.headers.get("access-control-allow-origin") in (None, "https://console.example")
    assert ("www-authenticate" in response.headers) == (response.status_code == 401)
    return response.status_code


def _right(endpoint: Endpoint) -> dict[str, str]:
    if endpoint.needs == "public":
        return {}
    return {"Authorization": f"Bearer {TOKENS[endpoint.needs]}"}


@EVERY_ENDPOINT
def test_the_right_token_opens(app: Starlette, send: Send, endpoint: Endpoint) -> None:
    assert _ask(app, send, endpoint, **_right(endpoint)) == 200


@EVERY_ENDPOINT
def test_no_token_and_every_other_token_are_refused(
    app: Starlette, send: Send, endpoint: Endpoint
) -> None:
    others = [token for name, token in TOKENS.items() if name != endpoint.needs]
    wrong = [{"Authorization": f"Bearer {token}"} for token in (*others, "", "nonsense")]
    expected = 200 if endpoint.needs == "public" else 401
    for headers in ({}, {"Authorization": "Basic dTpw"}, *wrong):
        assert _ask(app, send, endpoint, **headers) == expected


@EVERY_ENDPOINT
def test_a_foreign_host_is_refused(app: Starlette, send: Send, endpoint: Endpoint) -> None:
    headers = {**_right(endpoint), "Host": "attacker.example"}
    assert _ask(app, send, endpoint, **headers) == 400


@EVERY_ENDPOINT
def test_pages_of_foreign_sites_may_only_get(
    app: Starlette, send: Send, endpoint: Endpoint
) -> None:
    for origin in ("https://attacker.example", "null"):
        status = _ask(app, send, endpoint, **_right(endpoint), Origin=origin)
        assert status == (403 if endpoint.method == "POST" else 200)
    allowed = _ask(app, send, endpoint, **_right(endpoint), Origin="https://console.example")
    assert allowed == 200


@EVERY_ENDPOINT
def test_what_changes_something_is_told_in_json(
    app: Starlette, send: Send, endpoint: Endpoint
) -> None:
    if endpoint.method == "GET":
        assert endpoint.needs in ("public", "read")  # a link or an image can make a browser get
        return
    for content_type in ("application/x-www-form-urlencoded", "text/plain"):
        headers = {**_right(endpoint), "Content-Type": content_type}
        status = _ask(app, send, endpoint, **headers)
        assert status == (415 if endpoint.needs in ("events", "admin") else 200)


@EVERY_ENDPOINT
def test_without_tokens_loopback_is_open(
    answering: FakeAnswering, store: FakeStore, send: Send, endpoint: Endpoint
) -> None:
    app = create_app(answering, store=store)
    assert _ask(app, send, endpoint) == 200


@pytest.mark.parametrize("endpoints", [ENDPOINTS, MANAGING_ENDPOINTS])
def test_a_row_is_found_as_the_first_that_starlette_would_find(
    endpoints: Sequence[Endpoint],
) -> None:
    routes = Routes(endpoints)
    theirs = [Route(one.path, one.handler, methods=[one.method]) for one in endpoints]
    paths = {"", "/", "*", "/v1", *(one.path for one in endpoints)}
    for part in ("v1", "1", "a/b", "", "{model}", "x:predict", "\n", "é"):
        whole = {re.sub("{[^}]*}", part, one.path) for one in endpoints}
        paths |= whole | {f"{path}/" for path in whole} | {f"/{path}" for path in whole}
    for path, method in product(paths, ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")):
        scope: dict[str, Any] = {"type": "http", "method": method, "path": path}
        matches = [(one, *one.matches(scope)) for one in theirs]
        fitting = [(one, kind, told) for one, kind, told in matches if kind != Match.NONE]
        right = [told for _, kind, told in fitting if kind == Match.FULL]
        if right:
            found = routes.find(scope)
            assert method in found.methods
            assert found.handler is scope["endpoint"] is right[0]["endpoint"]
            assert scope["path_params"] == right[0]["path_params"]
            continue
        with pytest.raises(RefusedError) as refused:
            routes.find(scope)
        assert refused.value.status == (405 if fitting else 404)
        if fitting:
            methods = {name for one, *_ in fitting for name in one.methods or ()}
            assert refused.value.headers["Allow"] == ", ".join(sorted(methods))


def test_no_site_is_told_anything_where_none_is_allowed(
    answering: FakeAnswering, send: Send
) -> None:
    response = send(create_app(answering), "GET", "/", headers={"Origin": "https://a.example"})
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_a_browser_may_ask_beforehand_where_a_site_is_allowed(app: Starlette, send: Send) -> None:
    def asks(origin: str) -> int:
        headers = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        return send(app, "OPTIONS", "/v1/events", headers=headers).status_code

    assert (asks("https://console.example"), asks("https://attacker.example")) == (200, 400)
