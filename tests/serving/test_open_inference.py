"""The Open Inference Protocol: tensors in JSON and in binary."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from upnext.schema import PastWatch, RecommendationRequest
from upnext.serving.app import create_app
from upnext.serving.asked import Asked
from upnext.serving.releases import LiveReleases

if TYPE_CHECKING:
    from tests.serving.conftest import FakeAnswering, FakeReleases, Send

MODEL = "/v2/models/recommend"
LENGTH = "Inference-Header-Content-Length"
USERS = {"name": "user_id", "shape": [2], "datatype": "BYTES", "data": ["u1", "u2"]}


@pytest.fixture
def app(answering: FakeAnswering) -> Starlette:
    return create_app(answering)


def _infer(
    app: Starlette, send: Send, body: object, path: str = MODEL, binary: bytes = b""
) -> httpx.Response:
    content = json.dumps(body).encode()
    headers = {LENGTH: str(len(content))} if binary else {}
    return send(app, "POST", f"{path}/infer", content + binary, headers)


def _texts(*texts: str) -> bytes:
    encoded = [text.encode() for text in texts]
    return b"".join(struct.pack("<I", len(text)) + text for text in encoded)


def _error(response: httpx.Response) -> str:
    assert list(response.json()) == ["error"]
    error = response.json()["error"]
    assert isinstance(error, str)
    return error


def test_server_and_models_tell_about_themselves(app: Starlette, send: Send) -> None:
    server = send(app, "GET", "/v2").json()
    assert (server["name"], server["extensions"]) == ("upnext", ["binary_tensor_data"])
    model = send(app, "GET", MODEL).json()
    assert (model["name"], model["versions"], model["platform"]) == (
        "recommend",
        ["1", "2"],
        "upnext",
    )
    assert {"name": "k", "datatype": "INT64", "shape": [-1]} in model["inputs"]
    assert {"name": "item_ids", "datatype": "BYTES", "shape": [-1, -1]} in model["outputs"]


def test_health_is_told_by_status(
    app: Starlette, send: Send, answering: FakeAnswering, fakes: FakeReleases
) -> None:
    paths = ("/v2/health/live", "/v2/health/ready", f"{MODEL}/ready", f"{MODEL}/versions/2/ready")
    assert [send(app, "GET", path).status_code for path in paths] == [200] * 4
    assert send(app, "GET", f"{MODEL}/versions/9/ready").status_code == 404
    assert send(app, "GET", "/v2/models/half/ready").status_code == 404
    answering.live = LiveReleases(fakes.open)
    assert [send(app, "GET", path).status_code for path in paths] == [200, 503, 503, 503]


def test_tensors_become_requests_and_answers_tensors(
    app: Starlette, send: Send, answering: FakeAnswering
) -> None:
    body = {
        "id": "my own",
        "inputs": [
            USERS,
            {"name": "history", "shape": [2, 2], "datatype": "BYTES", "data": ["a", "b", "c", ""]},
            {"name": "k", "shape": [2, 1], "datatype": "INT64", "data": [2, 1]},
            {"name": "exclude_watched", "shape": [2], "datatype": "BOOL", "data": [True, False]},
        ],
        "parameters": {"label": "canary", "deadline_ms": 20, "is_logged": False},
    }
    response = _infer(app, send, body)
    assert response.status_code == 200
    how: dict[str, Any] = {"label": "canary", "deadline_ms": 20.0, "is_logged": False}
    histories = [[PastWatch(item_id="a"), PastWatch(item_id="b")], [PastWatch(item_id="c")]]
    first = RecommendationRequest(user_id="u1", history=histories[0], k=2)
    second = RecommendationRequest(user_id="u2", history=histories[1], k=1, exclude_watched=False)
    assert answering.asked == [Asked(request=first, **how), Asked(request=second, **how)]
    answer = response.json()
    outputs = {output.pop("name"): output for output in answer.pop("outputs")}
    assert answer == {"model_name": "recommend", "model_version": "2", "id": "my own"}
    assert outputs == {
        "item_ids": {"datatype": "BYTES", "shape": [2, 2], "data": ["v0", "v1", "v0", ""]},
        "expected_watch_time_s": {
            "datatype": "FP32",
            "shape": [2, 2],
            "data": [60.0, 59.0, 60.0, 0.0],
        },
        "retrieval_scores": {"datatype": "FP32", "shape": [2, 2], "data": [2.0, 2.0, 2.0, 0.0]},
        "request_ids": {"datatype": "BYTES", "shape": [2], "data": ["made up 1", "made up 2"]},
    }


def test_data_may_be_nested_and_ids_be_integers(
    app: Starlette, send: Send, answering: FakeAnswering
) -> None:
    inputs = [
        {"name": "user_id", "shape": [1, 1], "datatype": "INT64", "data": [[7]]},
        {"name": "item_ids", "shape": [1, 2], "datatype": "INT64", "data": [[3, 4]]},
    ]
    answer = _infer(app, send, {"inputs": inputs}, "/v2/models/rank/versions/2").json()
    assert answer["outputs"] == [
        {
            "name": "expected_watch_time_s",
            "datatype": "FP32",
            "shape": [1, 2],
            "data": [3.0, 4.0],
        }
    ]
    assert answering.asked == [Asked(request=RecommendationRequest(user_id=7), version=2)]


def test_binary_tensors_come_and_go_behind_the_json(
    app: Starlette, send: Send, answering: FakeAnswering
) -> None:
    users, numbers = _texts("é", "u2"), np.array([2, 2], "<i8").tobytes()
    flags = b"\1\0"
    inputs = [
        {"name": name, "shape": [2], "datatype": datatype, "parameters": {"binary_data_size": size}}
        for name, datatype, size in (
            ("user_id", "BYTES", len(users)),
            ("k", "INT64", len(numbers)),
            ("exclude_watched", "BOOL", len(flags)),
        )
    ]
    outputs = [
        {"name": "item_ids", "parameters": {"binary_data": True}},
        {"name": "request_ids", "parameters": {"binary_data": False}},
        {"name": "expected_watch_time_s"},
    ]
    body = {"inputs": inputs, "outputs": outputs, "parameters": {"binary_data_output": True}}
    response = _infer(app, send, body, binary=users + numbers + flags)
    assert [one.request.user_id for one in answering.asked] == ["é", "u2"]
    assert [one.request.exclude_watched for one in answering.asked] == [True, False]
    assert response.headers["content-type"] == "application/octet-stream"
    num_bytes = int(response.headers[LENGTH])
    told = json.loads(response.content[:num_bytes])["outputs"]
    binary = response.content[num_bytes:]
    items, seconds = _texts("v0", "v1", "v0", "v1"), np.array([60, 59] * 2, "<f4").tobytes()
    assert binary == items + seconds
    assert [one.get("parameters") for one in told] == [
        {"binary_data_size": len(items)},
        None,
        {"binary_data_size": len(seconds)},
    ]


def _tensor(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{**USERS, **changes}]}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (_tensor(shape=[3]), "3 values"),
        (_tensor(shape=[2**31]), "int <= 2147483647"),
        (_tensor(shape=[101], data=["u"] * 101), "up to 100 rows"),
        (_tensor(shape=[100, 2**31 - 1], data=[]), "values, as the shape says"),
        (_tensor(shape=[1, 2]), "one value a row"),
        (_tensor(shape=[]), "body.inputs[0].shape"),
        (_tensor(shape=[1, 1, 2]), "body.inputs[0].shape"),
        (_tensor(datatype="INT64"), "body.inputs[0].data[0]"),
        (_tensor(datatype="FP16"), "one of BOOL, BYTES, FP32, INT64"),
        (_tensor(data=None), "data or binary_data_size"),
        (_tensor(parameters={"binary_data_size": 2}), "data or binary_data_size"),
        (_tensor(parameters={"binary": 2}), "binary_data_size"),
        (_tensor(name="user"), "unknown input 'user'"),
        ({"inputs": [USERS, USERS]}, "each input once"),
        ({"inputs": [USERS], "outputs": [{"name": "scores"}]}, "one of item_ids"),
        ({"inputs": [USERS], "parameters": {"priority": 1}}, "unknown field 'priority'"),
        ({"inputs": []}, None),
        ({}, "a field inputs"),
    ],
)
def test_a_wrong_body_is_told(app: Starlette, send: Send, body: object, told: str | None) -> None:
    response = _infer(app, send, body)
    if told is None:
        assert response.status_code == 200  # nobody in particular asks
    else:
        assert response.status_code == 400
        assert told in _error(response)


def test_a_label_does_not_go_with_a_version(app: Starlette, send: Send) -> None:
    body = {"inputs": [USERS], "parameters": {"label": "canary"}}
    response = _infer(app, send, body, f"{MODEL}/versions/1")
    assert (response.status_code, _error(response)) == (
        400,
        "body.parameters.label: expected a label or a version, got both.",
    )


@pytest.mark.parametrize("length", ["0", "-1", "x", "1000000", "9" * 5_000, "+1", "1_0", ""])
def test_a_wrong_length_of_the_json_is_told(app: Starlette, send: Send, length: str) -> None:
    response = send(app, "POST", f"{MODEL}/infer", b'{"inputs": []}', {LENGTH: length})
    assert response.status_code == 400
    assert LENGTH in _error(response)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    datatype=st.sampled_from(["BYTES", "INT64", "FP32", "BOOL"]),
    num_bytes=st.integers(0, 40),
    binary=st.binary(min_size=1, max_size=40),
)
def test_no_binary_tensor_makes_the_server_fail(
    app: Starlette, send: Send, datatype: str, num_bytes: int, binary: bytes
) -> None:
    parameters = {"binary_data_size": num_bytes}
    tensor = {"name": "user_id", "shape": [1], "datatype": datatype, "parameters": parameters}
    response = _infer(app, send, {"inputs": [tensor]}, binary=binary)
    assert response.status_code in (200, 400)
