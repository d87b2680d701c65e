"""The description agrees with the application, and its examples with the types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from starlette.routing import Route

from upnext.errors import RequestError
from upnext.recommender import Recommender as ReleaseRecommender
from upnext.schema import RecommendationRequest
from upnext.serving.app import create_app
from upnext.serving.openapi import (
    EXAMPLE_ANSWER,
    EXAMPLE_ERROR,
    EXAMPLE_REQUEST,
    openapi_document,
)
from upnext.serving.releases import LiveReleases, Recommender
from upnext.serving.wire import AnswerBody, ErrorBody, decode_request, encode_error
from upnext.sources import NOMINATORS

if TYPE_CHECKING:
    from tests.conftest import TrainedRelease


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node:
        if isinstance(child, (dict, list)):
            yield from _nodes(child)


def _open(version: int) -> Recommender:
    raise NotImplementedError(version)


def test_every_route_is_described_with_its_method() -> None:
    app = create_app(LiveReleases(_open))
    routes = {
        (route.path, method.lower())
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    paths = openapi_document()["paths"]
    described = {(path, method) for path, methods in paths.items() for method in methods}
    assert described == routes - {("/", "get"), ("/openapi.json", "get")}


def test_every_reference_leads_to_a_schema() -> None:
    document = openapi_document()
    references = [node["$ref"] for node in _nodes(document) if "$ref" in node]
    assert len(references) > 3
    for reference in references:
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
        assert place["type"] == "object"


def test_every_operation_has_what_openapi_3_1_demands() -> None:
    document = json.loads(msgspec.json.encode(openapi_document()))
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
    decode_request(json.dumps(EXAMPLE_REQUEST).encode())
    answer = msgspec.convert(EXAMPLE_ANSWER, AnswerBody)
    assert msgspec.to_builtins(answer) == EXAMPLE_ANSWER
    error = msgspec.convert(EXAMPLE_ERROR, ErrorBody)
    assert msgspec.to_builtins(error) == EXAMPLE_ERROR


def test_the_example_of_an_answer_times_the_stages_that_really_come(
    tiny_release: TrainedRelease,
) -> None:
    recommender = ReleaseRecommender.open(tiny_release.registry, 1)
    answer = recommender.recommend(RecommendationRequest())
    assert list(EXAMPLE_ANSWER["timings_ms"]) == list(answer.timings_ms)


def test_the_example_of_an_error_is_what_really_comes() -> None:
    with pytest.raises(RequestError) as caught:
        decode_request(b'{"user": "u00017"}')
    assert json.loads(encode_error(caught.value)) == EXAMPLE_ERROR


def test_the_limits_of_rules_are_in_the_description() -> None:
    rules = openapi_document()["components"]["schemas"]["RulesBody"]["properties"]
    (names, _nothing) = rules["blocked_items"]["anyOf"]
    assert (names["type"], names["maxItems"]) == ("array", 10_000)


def test_the_limits_of_k_are_in_the_description() -> None:
    k = openapi_document()["components"]["schemas"]["RequestBody"]["properties"]["k"]
    assert (k["minimum"], k["maximum"], k["default"]) == (1, 1000, 10)


def test_the_limits_of_reasons_are_in_the_description() -> None:
    properties = openapi_document()["components"]["schemas"]["RequestBody"]["properties"]
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
