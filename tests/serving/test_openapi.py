"""The description agrees with the application, and its examples with the types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import msgspec
import pytest

from upnext.errors import RequestError
from upnext.recommender import Recommender as ReleaseRecommender
from upnext.schema import RecommendationRequest
from upnext.serving.app import create_app
from upnext.serving.decoding import decode
from upnext.serving.endpoints import Endpoint
from upnext.serving.examples import EXAMPLE_ANSWER, EXAMPLE_ERROR, EXAMPLE_REQUEST
from upnext.serving.openapi import openapi_document
from upnext.serving.routes import ENDPOINTS
from upnext.serving.wire import AnswerBody, ErrorBody, RequestBody, error_detail
from upnext.sources import NOMINATORS

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease
    from tests.serving.conftest import FakeAnswering, FakeStore, Send


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node:
        if isinstance(child, (dict, list)):
            yield from _nodes(child)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(msgspec.json.encode(openapi_document(ENDPOINTS)))
    return document


def test_every_route_is_described_with_its_method(
    document: dict[str, Any], answering: FakeAnswering, send: Send
) -> None:
    described = {(path, method) for path, one in document["paths"].items() for method in one}
    front = send(create_app(answering), "GET", "/").json()["routes"]
    assert described == {(path, m.lower()) for path, methods in front.items() for m in methods}
    assert send(create_app(answering), "GET", "/openapi.json").json() == document


def test_every_reference_leads_to_a_schema(document: dict[str, Any]) -> None:
    references = [node["$ref"] for node in _nodes(document) if "$ref" in node]
    assert len(references) > 3
    for reference in references:
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
        assert place["type"] == "object"


def test_every_operation_has_what_openapi_3_1_demands(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert {"title", "version"} <= set(document["info"])
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        assert operation["responses"]
        for status, response in operation["responses"].items():
            assert status.isdigit()
            assert response["description"]


def test_the_examples_are_of_their_types() -> None:
    answer = msgspec.convert(EXAMPLE_ANSWER, AnswerBody)
    assert msgspec.to_builtins(answer) == EXAMPLE_ANSWER
    error = msgspec.convert(EXAMPLE_ERROR, ErrorBody)
    assert msgspec.to_builtins(error) == EXAMPLE_ERROR


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.path)
def test_the_server_answers_the_examples_as_the_examples_say(
    endpoint: Endpoint,
    document: dict[str, Any],
    answering: FakeAnswering,
    store: FakeStore,
    send: Send,
) -> None:
    """What is sent is taken; what comes is valid, and shaped like the example of an answer."""
    app = create_app(answering, store=store)
    operation = document["paths"][endpoint.shown_path][endpoint.method.lower()]
    parts = {part["name"]: part["schema"] for part in operation["parameters"]}
    path = endpoint.shown_path.format(
        **{name: schema["examples"][0] for name, schema in parts.items() if "examples" in schema}
    )
    body = None
    if endpoint.takes is not None:
        content = operation["requestBody"]["content"]["application/json"]
        _check(content["example"], content["schema"], document)
        body = json.dumps(content["example"]).encode()
    response = send(app, endpoint.method, path, body, {"Content-Type": "application/json"})
    assert response.status_code == 200, response.text
    told = operation["responses"]["200"]["content"]["application/json"]
    _check(response.json(), told["schema"], document)
    if "example" in told:
        _check(told["example"], told["schema"], document)
        assert _shape(response.json()) == _shape(told["example"])


def _check(value: object, schema: dict[str, Any], document: dict[str, Any]) -> None:
    whole = {**schema, "components": document["components"]}
    jsonschema_rs.Draft202012Validator(whole).validate(value)


def _shape(value: object) -> object:
    """The names of all fields; of a list those of its first element."""
    match value:
        case {"labels": _, "problems": _} | {"all": _} | {"total": _}:
            return None  # names of its own
        case dict():
            return {name: _shape(inner) for name, inner in value.items() if name != "reasons"}
        case [dict() as first, *_]:
            return _shape(first)
        case _:
            return None


def test_the_example_of_an_answer_times_the_stages_that_really_come(
    tiny_release: TrainedRelease,
) -> None:
    recommender = ReleaseRecommender.open(tiny_release.registry, 1)
    answer = recommender.recommend(RecommendationRequest())
    assert list(EXAMPLE_ANSWER["timings_ms"]) == list(answer.timings_ms)


def test_the_example_of_an_error_is_what_really_comes() -> None:
    with pytest.raises(RequestError) as caught:
        decode(b'{"user": "u00017"}', RequestBody)
    assert msgspec.to_builtins(error_detail(caught.value)) == EXAMPLE_ERROR["error"]


def test_bytes_in_place_of_json_are_described_where_they_may_be_asked_for(
    document: dict[str, Any],
) -> None:
    paths = {
        path
        for path, operations in document["paths"].items()
        for operation in operations.values()
        if "application/octet-stream" in operation["responses"]["200"]["content"]
    }
    assert paths == {f"/v2/models/{{model}}{one}/infer" for one in ("", "/versions/{version}")}


def test_the_limits_of_rules_are_in_the_description(document: dict[str, Any]) -> None:
    rules = document["components"]["schemas"]["RulesBody"]["properties"]
    (names, _nothing) = rules["blocked_items"]["anyOf"]
    assert (names["type"], names["maxItems"]) == ("array", 10_000)


def test_the_limits_of_k_are_in_the_description(document: dict[str, Any]) -> None:
    k = document["components"]["schemas"]["RequestBody"]["properties"]["k"]
    assert (k["minimum"], k["maximum"], k["default"]) == (1, 1000, 10)


def test_the_limits_of_reasons_are_in_the_description(document: dict[str, Any]) -> None:
    properties = document["components"]["schemas"]["RequestBody"]["properties"]
    reasons = properties["num_reasons"]
    assert (reasons["minimum"], reasons["maximum"], reasons["default"]) == (0, 50, 0)


def test_the_examples_show_who_nominated_an_item_and_why_it_is_there() -> None:
    """As many reasons as the request asks for; no rank where retrieval did not nominate."""
    asked, items = EXAMPLE_REQUEST["num_reasons"], EXAMPLE_ANSWER["items"]
    assert asked > 0
    for item in items:
        assert len(item["reasons"]) == asked
        assert set(item["sources"]) <= set(NOMINATORS)
        assert ("retrieval" in item["sources"]) == (item["retrieval_rank"] is not None)
        sizes = [abs(reason["watch_time_s"]) for reason in item["reasons"]]
        assert sizes == sorted(sizes, reverse=True)
    assert {item["retrieval_rank"] is None for item in items} == {True, False}
