"""Shares of traffic over HTTP are those of the file; what does not fit changes nothing."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.types import ASGIApp

from upnext.serving.traffic import (
    ShadowConfig,
    Traffic,
    read_traffic,
    traffic_path,
    write_traffic,
)

if TYPE_CHECKING:
    from tests.serving.conftest import Send

GET, PUT = "/insight/v1/traffic", "/admin/v1/traffic"
BEFORE = Traffic(split={"stable": 0.75, "canary": 0.25})


def put(send: Send, app: ASGIApp, body: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return send(app, "PUT", PUT, content, {"Content-Type": "application/json"})


@pytest.mark.parametrize(
    ("body", "traffic"),
    [
        (
            {"split": {"stable": 0.5, "canary": 0.5}, "shadow": {"label": "canary", "share": 0.1}},
            Traffic(
                split={"stable": 0.5, "canary": 0.5},
                shadow=ShadowConfig(label="canary", share=0.1),
            ),
        ),
        ({"split": {"canary": 1}, "shadow": None}, Traffic(split={"canary": 1.0})),
        ({"split": {"stable": 1.0, "canary": 0}}, Traffic(split={"stable": 1.0, "canary": 0.0})),
    ],
)
def test_what_is_put_is_what_servers_read_and_what_is_told(
    app: ASGIApp, send: Send, registry: Path, body: Any, traffic: Traffic
) -> None:
    write_traffic(registry, BEFORE)
    response = put(send, app, body)
    assert response.status_code == 200, response.text
    assert read_traffic(registry) == traffic
    assert send(app, "GET", GET).json() == response.json()
    told = response.json()
    assert told["split"] == traffic.split
    shadow = traffic.shadow
    assert told["shadow"] == (shadow and {"label": shadow.label, "share": shadow.share})


def test_the_gate_is_told_as_this_server_has_it(app: ASGIApp, send: Send) -> None:
    assert send(app, "GET", GET).json() == {
        "split": {"stable": 1.0},
        "shadow": None,
        "gate": {
            "is_on": True,
            "num_answers": 40,
            "max_more_degraded": 0.05,
            "max_times_slower": 3.0,
            "slow_ms": 20.0,
        },
    }


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        ({"split": {"beta": 1.0}}, 409, "body.split"),
        ({"split": {"stable": 0.5, "beta": 0.5}}, 409, "body.split"),
        ({"split": {"stable": 1}, "shadow": {"label": "beta", "share": 1}}, 409, "body.shadow"),
        ({"split": {}}, 400, "body.split"),
        ({"split": {"stable": 0.9}}, 400, "body.split"),
        ({"split": {"stable": 1.5, "canary": -0.5}}, 400, "body.split"),
        ({"split": {"stable": "1"}}, 400, "body.split"),
        ({"split": {"stable": None}}, 400, "body.split"),
        ({"split": {"stable": 1}, "shadow": {"label": "canary", "share": 1.1}}, 400, "body.shadow"),
        ({"split": {"stable": 1}, "shadow": {"label": "canary"}}, 400, "body.shadow"),
        ({"split": {"stable": 1}, "shadow": "canary"}, 400, "body.shadow"),
        ({"split": {"stable": 1}, "actor": "ada"}, 400, "body"),
        ({}, 400, "body"),
        (b'{"split": {"stable": 0.5, "stable": 1}}', 400, "body"),
        (b'{"split": {"stable": NaN}}', 400, "body"),
        (b"", 400, "body"),
        (b"[", 400, "body"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(
    app: ASGIApp, send: Send, registry: Path, body: Any, status: int, where: str
) -> None:
    write_traffic(registry, BEFORE)
    response = put(send, app, body)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["where"].startswith(where)
    if status == 409:
        assert (error["expected"], error["got"]) == ("one of canary, stable", "'beta'")
    assert read_traffic(registry) == BEFORE


def test_without_any_label_nothing_can_be_split(tmp_path: Path, send: Send, app: ASGIApp) -> None:
    (tmp_path / "registry" / "labels.journal.jsonl").unlink()
    response = put(send, app, {"split": {"stable": 1}})
    assert response.status_code == 409
    assert "there is none yet" in response.json()["error"]["expected"]


def test_shares_that_a_hand_has_spoilt_are_told_as_such(
    app: ASGIApp, send: Send, registry: Path
) -> None:
    for spoilt in ('{"split": {"stable": 2}}', "{", '{"splits": {}}'):
        traffic_path(registry).write_text(spoilt, encoding="utf-8")
        response = send(app, "GET", GET)
        assert response.status_code == 409
        assert set(response.json()["error"]) == {"where", "expected", "got", "hint"}
    assert put(send, app, {"split": {"stable": 1}}).status_code == 200
    assert send(app, "GET", GET).status_code == 200


def test_many_who_write_at_once_leave_what_one_of_them_wrote(registry: Path) -> None:
    shares = [Traffic(split={"stable": part / 64, "canary": 1 - part / 64}) for part in range(64)]
    with ThreadPoolExecutor(8) as threads:
        for _ in threads.map(lambda traffic: write_traffic(registry, traffic), shares):
            assert read_traffic(registry) in shares
    assert [path.name for path in registry.glob("*traffic*")] == ["traffic.json"]
    assert list(registry.glob(".traffic*")) == []


def test_shares_move_only_from_where_they_are_said_to_stand(
    app: ASGIApp, send: Send, registry: Path
) -> None:
    write_traffic(registry, BEFORE)
    other = {"split": {"stable": 1.0}, "shadow": None}
    wanted = {"split": {"canary": 1.0}}
    refused = put(send, app, {**wanted, "expected_previous": other})
    assert (refused.status_code, refused.json()["error"]["where"]) == (409, "expected_previous")
    assert read_traffic(registry) == BEFORE
    wrong = put(send, app, {**wanted, "expected_previous": {"split": {"stable": 0.5}}})
    assert (wrong.status_code, wrong.json()["error"]["where"]) == (
        400,
        "body.expected_previous.split",
    )
    assert put(send, app, {**wanted, "expected_previous": {"split": BEFORE.split}}).is_success
    assert read_traffic(registry) == Traffic(split={"canary": 1.0})


def test_of_several_who_saw_the_same_only_one_moves_shares(
    app: ASGIApp, send: Send, registry: Path
) -> None:
    write_traffic(registry, BEFORE)

    def move(part: int) -> int:
        split = {"stable": part / 10, "canary": 1 - part / 10}
        body = {"split": split, "expected_previous": {"split": BEFORE.split}}
        return put(send, app, body).status_code

    with ThreadPoolExecutor(8) as threads:
        statuses = sorted(threads.map(move, range(1, 7)))
    assert statuses == [200, *[409] * 5]
