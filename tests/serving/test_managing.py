"""The admin port: who may ask what, and all numbers in the form that Prometheus reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import ASGIApp

from upnext.registry.labels import read_labels
from upnext.registry.moves import move_label
from upnext.registry.release import publish
from upnext.schema import Recommendations
from upnext.serving.insight.live import LIVE_INSIGHT_ENDPOINTS
from upnext.serving.managing import MANAGING_ENDPOINTS, METRICS_TYPE, create_managing_app
from upnext.serving.metrics import Metrics
from upnext.serving.security import SecurityConfig, open_security
from upnext.serving.traffic import traffic_path

if TYPE_CHECKING:
    from tests.serving.conftest import FakeAnswering, Send

TOKENS = {name: f"the-token-for-{name}-requests" for name in ("read", "events", "admin")}
JSON = {"Content-Type": "application/json"}
RELEASES, LABELS, INSIGHT = "/admin/v1/releases", "/admin/v1/labels", "/insight/v1"
TRAFFIC = "/admin/v1/traffic"
ROUTES = {
    ("GET", "/metrics"): "read",
    ("GET", RELEASES): "admin",
    ("GET", "/admin/v1/journal"): "admin",
    ("POST", f"{RELEASES}/1/load"): "admin",
    ("POST", f"{RELEASES}/1/unload"): "admin",
    ("PUT", f"{LABELS}/canary"): "admin",
    ("POST", f"{LABELS}/stable/rollback"): "admin",
    ("GET", f"{INSIGHT}/releases"): "read",
    ("GET", f"{INSIGHT}/releases/1"): "read",
    ("GET", f"{INSIGHT}/journal"): "read",
    ("GET", f"{INSIGHT}/training"): "read",
    ("GET", f"{INSIGHT}/training/a1"): "read",
    ("GET", f"{INSIGHT}/data/1"): "read",
    ("GET", f"{INSIGHT}/traffic"): "read",
    ("GET", f"{INSIGHT}/slow"): "read",
    ("PUT", TRAFFIC): "admin",
}
"""What each route needs."""
EVERY_ROUTE = pytest.mark.parametrize(("method", "path"), ROUTES, ids=map(" ".join, ROUTES))


def _write(directory: Path) -> Mapping[str, Any]:
    (directory / "a.txt").touch()
    return {}


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """Label stable stands at release 2, and before at 1; one run has told of itself."""
    registry = tmp_path / "registry"
    (registry / "training/a1/chosen/retrieval").mkdir(parents=True)
    (registry / "training/a1/chosen/retrieval/curves.jsonl").touch()
    for version in (1, 2):
        publish(registry, _write)
        move_label(registry, "stable", version)
    return registry


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def app(registry: Path, metrics: Metrics, answering: FakeAnswering, tmp_path: Path) -> ASGIApp:
    """Every kind of token is configured."""
    files = {}
    for name, token in TOKENS.items():
        path = tmp_path / name
        path.write_text(token)
        path.chmod(0o600)
        files[f"{name}_token_file"] = str(path)
    security = open_security(SecurityConfig(**files), changing=("admin",))  # type: ignore[arg-type]
    return create_managing_app(registry, security, metrics, answering)


def _ask(send: Send, app: ASGIApp, method: str, path: str, **headers: str) -> int:
    put = b'{"split": {"stable": 1}}' if path == TRAFFIC else b'{"version": 1}'
    body = put if method == "PUT" else None
    response = send(app, method, path, body, {**JSON, **headers})
    assert not any(token in response.text for token in TOKENS.values())
    assert ("www-authenticate" in response.headers) == (response.status_code == 401)
    if response.status_code >= 400:
        assert set(response.json()["error"]) == {"where", "expected", "got", "hint"}
    return response.status_code


def _bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[name]}"}


def test_every_route_is_in_the_table_above() -> None:
    parts = {"version": 1, "training": "a1"}
    paths = {
        (one.method, one.shown_path.format(label="*", **parts))
        for one in MANAGING_ENDPOINTS
        if one.needs != "public" and one not in LIVE_INSIGHT_ENDPOINTS  # asked in test_live.py
    }
    asked = {(method, re.sub(f"{LABELS}/[a-z]+", f"{LABELS}/*", path)) for method, path in ROUTES}
    assert paths == asked


@EVERY_ROUTE
def test_the_right_token_opens(app: ASGIApp, send: Send, method: str, path: str) -> None:
    status = _ask(send, app, method, path, **_bearer(ROUTES[method, path]))
    assert status == (409 if path.endswith("unload") else 200)  # a label needs it to roll back


@EVERY_ROUTE
def test_no_token_and_every_other_token_are_refused_and_change_nothing(
    app: ASGIApp, send: Send, registry: Path, method: str, path: str
) -> None:
    wrong = [_bearer(name) for name in TOKENS if name != ROUTES[method, path]]
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic x"}, *wrong):
        assert _ask(send, app, method, path, **headers) == 401
    assert read_labels(registry) == {"stable": 2}
    assert not traffic_path(registry).exists()


@EVERY_ROUTE
def test_a_foreign_host_or_page_is_refused(
    app: ASGIApp, send: Send, registry: Path, method: str, path: str
) -> None:
    right = _bearer(ROUTES[method, path])
    assert _ask(send, app, method, path, **right, Host="attacker.example") == 400
    if method != "GET":
        assert _ask(send, app, method, path, **right, Origin="https://attacker.example") == 403
        assert _ask(send, app, method, path, **{**right, "Content-Type": "text/plain"}) == 415
    assert read_labels(registry) == {"stable": 2}


@pytest.mark.parametrize("path", ["/v1/recommendations", "/v1/events", "/metrics/x", "/readyz"])
def test_nobody_is_recommended_anything_there(app: ASGIApp, send: Send, path: str) -> None:
    assert _ask(send, app, "GET", path) == 404
    assert _ask(send, app, "GET", path, **_bearer("admin")) == 404


def test_without_tokens_it_works_on_loopback(
    registry: Path, metrics: Metrics, answering: FakeAnswering, send: Send
) -> None:
    app = create_managing_app(registry, open_security(SecurityConfig()), metrics, answering)
    assert _ask(send, app, "GET", "/metrics") == 200
    assert _ask(send, app, "PUT", f"{LABELS}/canary") == 200
    assert read_labels(registry) == {"stable": 2, "canary": 1}
    listed = send(app, "GET", RELEASES)
    assert json.loads(listed.content)["labels"] == {"stable": 2, "canary": 1}


def test_prometheus_reads_the_metrics(app: ASGIApp, send: Send, metrics: Metrics) -> None:
    degraded = ["ranking failed (RuntimeError)", "rules leave 3 items"]
    answer = Recommendations(
        items=[], release="2", num_candidates=0, timings_ms={"total": 3.0}, degraded=degraded
    )
    for _ in range(3):
        metrics.answered(answer, "stable")
    metrics.took_events(num_accepted=5, num_duplicates=1)
    response = send(app, "GET", "/metrics", headers=_bearer("read"))
    assert response.headers["content-type"] == METRICS_TYPE
    told = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }
    where = (("label", "stable"), ("release", "2"))
    assert told["upnext_answers_total", *where] == 3
    assert told["upnext_degraded_total", ("cause", "ranking"), *where] == 3
    assert told["upnext_stage_seconds_sum", *where, ("stage", "total")] == pytest.approx(0.009)
    assert told["upnext_events_total", ("outcome", "accepted")] == 5
    assert told["upnext_events_total", ("outcome", "duplicate")] == 1
