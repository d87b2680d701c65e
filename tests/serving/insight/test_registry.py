"""The managing address answers as its description says, whatever it is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.types import ASGIApp

from upnext.serving.examples import BODIES
from upnext.serving.insight.registry import REGISTRY_INSIGHT_ENDPOINTS
from upnext.serving.managing import MANAGING_ENDPOINTS
from upnext.serving.openapi import openapi_document
from upnext.serving.server import running_server
from upnext.serving.splitting import SPLIT_TRAFFIC

OURS = {endpoint.shown_path for endpoint in (*REGISTRY_INSIGHT_ENDPOINTS, SPLIT_TRAFFIC)}


@pytest.fixture
def url(app: ASGIApp) -> Iterator[str]:
    with running_server(app) as url:
        yield url


def test_every_route_that_tells_needs_the_token_that_reads() -> None:
    assert {endpoint.needs for endpoint in REGISTRY_INSIGHT_ENDPOINTS} == {"read"}
    assert {endpoint.method for endpoint in REGISTRY_INSIGHT_ENDPOINTS} == {"GET"}
    operations = [
        operation["operationId"]
        for path in openapi_document(MANAGING_ENDPOINTS)["paths"].values()
        for operation in path.values()
    ]
    assert len(set(operations)) == len(operations)


def test_the_example_of_a_split_is_one() -> None:
    document = json.loads(msgspec.json.encode(openapi_document(MANAGING_ENDPOINTS)))
    operation = document["paths"]["/admin/v1/traffic"]["put"]
    content = operation["requestBody"]["content"]["application/json"]
    assert content["example"] == BODIES["split_traffic"]
    whole = {**content["schema"], "components": document["components"]}
    jsonschema_rs.Draft202012Validator(whole).validate(content["example"])


@pytest.mark.parametrize("mode", GenerationMode, ids=lambda mode: mode.value)
def test_the_description_holds_whatever_is_sent(
    url: str, registry: Path, mode: GenerationMode
) -> None:
    """Statuses, types and schemas of all answers are those of the description."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    asked = set()
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        has_input = operation.body or operation.query
        if operation.path in OURS and (mode is GenerationMode.POSITIVE or has_input):
            _ask_whatever(operation, mode)
            asked.add(operation.path)
    positive = mode is GenerationMode.POSITIVE
    assert asked == (OURS if positive else {"/insight/v1/journal", "/admin/v1/traffic"})


def _ask_whatever(operation: Any, mode: GenerationMode) -> None:
    @settings(
        max_examples=10, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    ask()


@pytest.mark.parametrize("path", ["/releases", "/releases/2", "/training/a1", "/data/2"])
def test_what_is_answered_is_described(app: ASGIApp, send: Any, path: str) -> None:
    document = json.loads(msgspec.json.encode(openapi_document(MANAGING_ENDPOINTS)))
    described = path.replace("/2", "/{version}").replace("/a1", "/{training}")
    answers = document["paths"][f"/insight/v1{described}"]["get"]["responses"]["200"]
    schema = answers["content"]["application/json"]["schema"]
    whole = {**schema, "components": document["components"]}
    answer = send(app, "GET", f"/insight/v1{path}")
    jsonschema_rs.Draft202012Validator(whole).validate(answer.json())
