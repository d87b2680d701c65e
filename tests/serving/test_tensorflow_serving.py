"""TensorFlow Serving's REST interface, as its `api_rest.md` tells it, over our answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.applications import Starlette

from upnext.schema import PastWatch, RecommendationRequest
from upnext.serving.app import create_app
from upnext.serving.asked import Asked
from upnext.serving.batching import OverloadedError
from upnext.serving.releases import LiveReleases

if TYPE_CHECKING:
    from tests.serving.conftest import FakeAnswering, FakeReleases, Send

MODEL = "/v1/models/recommend"


@pytest.fixture
def app(answering: FakeAnswering) -> Starlette:
    return create_app(answering)


def _predict(app: Starlette, send: Send, body: object, path: str = MODEL) -> httpx.Response:
    return send(app, "POST", f"{path}:predict", json.dumps(body).encode())


def _error(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["error"]
    error = response.json()["error"]
    assert isinstance(error, str)
    return error


def _version(version: str) -> dict[str, Any]:
    status = {"error_code": "OK", "error_message": ""}
    return {"version": version, "state": "AVAILABLE", "status": status}


def test_the_status_is_that_of_all_versions_or_of_one(app: Starlette, send: Send) -> None:
    def versions(path: str) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = send(app, "GET", path).json()["model_version_status"]
        return told

    assert versions(MODEL) == [_version("2"), _version("1")]
    assert versions(f"{MODEL}/versions/1") == [_version("1")]
    assert versions(f"{MODEL}/labels/canary") == [_version("2")]


def test_a_release_that_does_not_load_has_ended(
    app: Starlette, send: Send, answering: FakeAnswering, fakes: FakeReleases
) -> None:
    def fail() -> None:
        raise RuntimeError("broken on purpose")

    fakes.on_open[3] = fail
    with pytest.raises(RuntimeError):
        answering.live.load(3)
    newest = send(app, "GET", MODEL).json()["model_version_status"][0]
    assert (newest["version"], newest["state"]) == ("3", "END")
    assert newest["status"]["error_code"] == "UNKNOWN"
    assert send(app, "GET", f"{MODEL}/versions/3").json()["model_version_status"] == [newest]
    assert send(app, "GET", f"{MODEL}/versions/3/metadata").status_code == 404


@pytest.mark.parametrize("what", ["", "/metadata", ":predict"])
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/models/half", 404),
        (f"{MODEL}/versions/9", 404),
        (f"{MODEL}/labels/beta", 404),
        (f"{MODEL}/versions/one", 400),
    ],
)
def test_what_is_not_there_is_told_in_one_text(
    app: Starlette, send: Send, path: str, what: str, status: int
) -> None:
    method = "POST" if what == ":predict" else "GET"
    body = b'{"instances": [{}]}' if method == "POST" else None
    response = send(app, method, path + what, body)
    assert response.status_code == status
    assert _error(response)


def test_the_metadata_is_a_signature(app: Starlette, send: Send) -> None:
    told = send(app, "GET", f"{MODEL}/labels/canary/metadata").json()
    assert told["model_spec"] == {"name": "recommend", "signature_name": "", "version": "2"}
    signature = told["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["history"] == {
        "dtype": "DT_STRING",
        "tensor_shape": {
            "dim": [{"size": "-1", "name": ""}, {"size": "-1", "name": ""}],
            "unknown_rank": False,
        },
        "name": "history:0",
    }
    assert signature["outputs"]["expected_watch_time_s"]["dtype"] == "DT_FLOAT"
    assert send(app, "GET", f"{MODEL}/metadata").json()["model_spec"]["version"] == "1"


def test_rows_are_answered_by_rows(app: Starlette, send: Send, answering: FakeAnswering) -> None:
    rows = [{"user_id": "u1", "history": ["v1", 2], "k": 2}, {"user_id": 7, "k": 1}]
    response = _predict(app, send, {"signature_name": "serving_default", "instances": rows})
    assert response.status_code == 200
    assert response.json() == {
        "predictions": [
            {
                "item_ids": ["v0", "v1"],
                "expected_watch_time_s": [60.0, 59.0],
                "retrieval_scores": [2.0, 2.0],
                "request_ids": "made up 1",
            },
            {
                "item_ids": ["v0"],
                "expected_watch_time_s": [60.0],
                "retrieval_scores": [2.0],
                "request_ids": "made up 2",
            },
        ]
    }
    assert response.headers["x-upnext-release"] == "1"
    history = [PastWatch(item_id="v1"), PastWatch(item_id=2)]
    first = RecommendationRequest(user_id="u1", history=history, k=2)
    second = RecommendationRequest(user_id=7, k=1)
    assert answering.asked == [Asked(request=first), Asked(request=second)]


def test_columns_say_the_same_as_rows(app: Starlette, send: Send, answering: FakeAnswering) -> None:
    rows = [{"user_id": "u1", "history": ["v1"], "k": 2}, {"user_id": "u2", "history": [], "k": 2}]
    columns = {"user_id": ["u1", "u2"], "history": [["v1"], []], "k": 2}
    by_rows = _predict(app, send, {"instances": rows}).json()["predictions"]
    asked = answering.asked[:]
    answering.asked.clear()
    by_columns = _predict(app, send, {"inputs": columns}).json()["outputs"]
    assert answering.asked == asked
    assert by_columns == {name: [row[name] for row in by_rows] for name in by_rows[0]}


def test_a_model_of_one_output_leaves_its_name_out(app: Starlette, send: Send) -> None:
    rank, vector = "/v1/models/rank", "/v1/models/user_vector"
    rows = [{"user_id": "u1", "item_ids": ["v3", 4]}, {"item_ids": ["v5"]}]
    assert _predict(app, send, {"instances": rows}, rank).json() == {
        "predictions": [[3.0, 4.0], [5.0]]
    }
    columns = {"item_ids": [["v3", "v4"]]}
    assert _predict(app, send, {"inputs": columns}, rank).json() == {"outputs": [[3.0, 4.0]]}
    rows = [{"user_id": "four", "history": [1, 2]}]
    assert _predict(app, send, {"instances": rows}, vector).json() == {"predictions": [[4.0, 2.0]]}


@pytest.mark.parametrize(
    ("path", "how"),
    [(f"{MODEL}/versions/2", {"version": 2}), (f"{MODEL}/labels/canary", {"label": "canary"})],
)
def test_the_url_names_the_release(
    app: Starlette, send: Send, answering: FakeAnswering, path: str, how: dict[str, Any]
) -> None:
    response = _predict(app, send, {"instances": [{}]}, path)
    assert response.headers["x-upnext-release"] == "2"
    assert answering.asked == [Asked(request=RecommendationRequest(), **how)]


def test_texts_may_come_as_base64(app: Starlette, send: Send, answering: FakeAnswering) -> None:
    row = {"user_id": {"b64": "w6k="}, "history": [{"b64": "dg=="}, "w"]}
    _predict(app, send, {"instances": [row]})
    _predict(app, send, {"inputs": {name: [value] for name, value in row.items()}})
    first, second = answering.asked
    assert first.request == second.request
    assert first.request.user_id == "é"
    assert first.request.history == [PastWatch(item_id="v"), PastWatch(item_id="w")]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "instances or inputs"),
        ({"instances": [{}], "inputs": {}}, "instances or inputs"),
        ({"instances": []}, "length >= 1"),
        ({"instances": [{}] * 101}, "length <= 100"),
        ({"inputs": {"user_id": ["u"] * 101}}, "1 to 100 rows"),
        ({"instances": ["u1"]}, "body.instances[0]"),
        ({"instances": [{"k": 0}]}, "body.instances[0].k"),
        ({"instances": [{}, {"user": 1}]}, "body.instances[1]"),
        ({"instances": [{"page": {}}]}, "unknown input 'page'"),
        ({"instances": [{"item_ids": ["v1"]}]}, "unknown input 'item_ids'"),
        ({"inputs": {"user_id": ["a", "b"], "k": [1]}}, "as many rows in each input"),
        ({"inputs": {"history": ["v1"]}}, "body.inputs[0].history"),
        ({"instances": [{"user_id": {"b64": "?"}}]}, "base64 of UTF-8"),
        ({"instances": [{"user_id": {"b64": "/w=="}}]}, "base64 of UTF-8"),
        ({"instances": [{"user_id": {"b64": "dg==", "c": 1}}]}, "user_id"),
        ({"signature_name": "classify", "instances": [{}]}, "serving_default"),
        ({"instances": [{}], "examples": []}, "unknown field 'examples'"),
    ],
)
def test_a_wrong_body_is_told(app: Starlette, send: Send, body: object, told: str) -> None:
    response = _predict(app, send, body)
    assert response.status_code == 400
    assert told in _error(response)


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [{"k": NaN}]}',
        b'{"instances": [{"user_id": ' + b"[" * 400 + b"]" * 400 + b"}]}",
        b'{"instances": [{"user_id": ' + b'{"b64":' * 400 + b'""' + b"}" * 400 + b"}]}",
    ],
)
def test_what_is_no_value_is_refused(app: Starlette, send: Send, body: bytes) -> None:
    assert send(app, "POST", f"{MODEL}:predict", body).status_code == 400


def test_other_troubles_are_told_in_one_text_too(
    send: Send, app: Starlette, answering: FakeAnswering, fakes: FakeReleases
) -> None:
    for failure, status in (
        (OverloadedError("queue", expected="room", got="none"), 429),
        (RuntimeError("a secret"), 500),
    ):
        answering.failure = failure
        response = _predict(app, send, {"instances": [{}]})
        assert response.status_code == status
        assert "secret" not in _error(response)
    answering.live = LiveReleases(fakes.open)
    assert send(app, "GET", f"{MODEL}/metadata").status_code == 503
    assert send(app, "GET", MODEL).json() == {"model_version_status": []}
    assert _error(send(app, "DELETE", MODEL))
