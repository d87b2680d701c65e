"""The description of the HTTP interface that machines read: OpenAPI 3.1, made from the routes."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from upnext.serving.endpoints import Endpoint, tells_errors_as_text
from upnext.serving.examples import ANSWERS, BODIES, EXAMPLE_ERROR, EXAMPLE_TEXT_ERROR
from upnext.serving.models import MODELS
from upnext.serving.wire import (
    AnswerBody,
    BatchAnswerBody,
    BatchBody,
    ErrorBody,
    RefusalBody,
    RequestBody,
    TextErrorBody,
)

REF = "#/components/schemas/{name}"

FAILURES: Mapping[int, str] = {
    400: "Something in the request is wrong, or the server is called by a foreign name.",
    401: "The token is missing or wrong.",
    403: "A web page of a site that is not allowed made the request.",
    404: "There is no such release, model or item.",
    408: "The body came too slowly.",
    409: "It was refused as things stand, and nothing has changed.",
    413: "The body is over 1 MiB.",
    415: "The body is compressed, or not declared as JSON where that is required.",
    429: "More requests wait than can be answered in time; Retry-After says when to come back.",
    500: "The server failed; its log says why.",
    501: "The server runs without a live store.",
    503: "No release is loaded yet, or the live store failed; Retry-After says when to come back.",
    504: "A label has moved, and a server is behind.",
}
OF_EVERY_ROUTE = (400, 500)
OF_EVERY_BODY = (403, 408, 413, 415)
PATH_PARTS: Mapping[str, Mapping[str, Any]] = {
    "item_id": {"type": "string", "minLength": 1, "examples": ["v00312"]},
    "model": {"type": "string", "enum": list(MODELS), "examples": ["recommend"]},
    "version": {"type": "integer", "minimum": 1, "examples": [1]},
    "label": {"type": "string", "minLength": 1, "examples": ["stable"]},
    "training": {
        "type": "string",
        "minLength": 1,
        "examples": ["ba306cb931d2bf9e"],
    },
}


def openapi_document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """Every route, what it needs, what it takes and what it answers, with examples."""
    types = {t for e in endpoints for t in (e.takes, e.query, e.answers) if t not in (None, str)}
    by_type, schemas = _schemas(types)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        operation = _operation(endpoint, by_type, schemas)
        paths.setdefault(endpoint.shown_path, {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "upnext", "version": "1"},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _schemas(types: set[Any]) -> tuple[Mapping[Any, Any], dict[str, Any]]:
    """A reference to each type, and what these lead to, by name."""
    has_batches = BatchBody in types
    types = types | {ErrorBody, TextErrorBody}
    if has_batches:
        types |= {RequestBody, AnswerBody, RefusalBody}
    ordered = sorted(types, key=lambda one: one.__name__)
    references, schemas = msgspec.json.schema_components(ordered, ref_template=REF)
    by_type = dict(zip(ordered, references, strict=True))
    if has_batches:
        # Each request is decoded and answered by itself, so the structs do not say as what.
        schemas[BatchBody.__name__]["properties"]["requests"]["items"] = by_type[RequestBody]
        schemas[BatchAnswerBody.__name__]["properties"]["answers"]["items"] = {
            "anyOf": [by_type[AnswerBody], by_type[RefusalBody]]
        }
    return by_type, schemas


def _operation(
    endpoint: Endpoint, by_type: Mapping[Any, Any], schemas: Mapping[str, Any]
) -> dict[str, Any]:
    name = endpoint.handler.__name__
    parts = re.findall(r"{(\w+)}", endpoint.shown_path)
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "operationId": "_of_".join([name, *(part for part in parts if part in _NAMES_A_RELEASE)]),
        "parameters": [
            {"name": part, "in": "path", "required": True, "schema": PATH_PARTS[part]}
            for part in parts
        ],
        "responses": _responses(endpoint, by_type),
    }
    if endpoint.query is not None:
        query = schemas[endpoint.query.__name__]
        operation["parameters"] += [
            {
                "name": field,
                "in": "query",
                "required": field in query.get("required", ()),
                "schema": schema,
            }
            for field, schema in query["properties"].items()
        ]
    if endpoint.takes is not None:
        content = _json(by_type[endpoint.takes], BODIES.get(name))
        operation["requestBody"] = {"required": True, "content": content}
    if endpoint.needs != "public":
        operation["security"] = [{"token": []}, {}]  # whether one is needed is the owner's choice
    return operation


def _responses(endpoint: Endpoint, by_type: Mapping[Any, Any]) -> dict[str, Any]:
    answer = by_type.get(endpoint.answers, {"type": "object"})
    content = _json(answer, ANSWERS.get(endpoint.handler.__name__))
    if endpoint.answers is str:
        content = {"text/plain": {"schema": {"type": "string"}}}
    if endpoint.may_be_binary:
        content["application/octet-stream"] = {}
    responses = {"200": {"description": "The answer.", "content": content}}
    statuses = {*OF_EVERY_ROUTE, *endpoint.failures}
    if endpoint.method != "GET":
        statuses |= set(OF_EVERY_BODY)
    if endpoint.needs != "public":
        statuses.add(401)
    is_text = tells_errors_as_text(endpoint.shown_path)
    error = _json(
        by_type[TextErrorBody if is_text else ErrorBody],
        EXAMPLE_TEXT_ERROR if is_text else EXAMPLE_ERROR,
    )
    if endpoint.method == "GET" and endpoint.needs == "public" and 503 in statuses:
        # Not ready is an answer like ready.
        statuses.remove(503)
        responses["503"] = {"description": FAILURES[503], "content": content}
    for status in sorted(statuses):
        responses[str(status)] = {"description": FAILURES[status], "content": error}
    return responses


def _json(schema: Mapping[str, Any], example: Mapping[str, Any] | None) -> dict[str, Any]:
    content = {"schema": schema} if example is None else {"schema": schema, "example": example}
    return {"application/json": content}


_NAMES_A_RELEASE = ("version", "label")
