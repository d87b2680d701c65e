"""The description of the HTTP interface that machines read: OpenAPI 3.1, made from the types."""

from collections.abc import Mapping
from typing import Any

import msgspec

from upnext.serving.wire import AnswerBody, ErrorBody, RequestBody

EXAMPLE_REQUEST: Mapping[str, Any] = {
    "user_id": "u00017",
    "history": [{"item_id": "v00421", "watch_time_s": 312.5}, {"item_id": "v00007"}],
    "searches": ["slow ramen"],
    "user_features": {"region": "north"},
    "k": 2,
    "page": {"diversity": 0.2, "max_per_channel": 2, "num_explored": 1},
    "rules": {"blocked_tags": ["clickbait"], "max_duration_s": 1800},
    "num_reasons": 2,
    "label": "stable",
}
EXAMPLE_ANSWER: Mapping[str, Any] = {
    "items": [
        {
            "item_id": "v00312",
            "title": "Slow ramen for beginners, part 3",
            "expected_watch_time_s": 87.2,
            "retrieval_score": 5.31,
            "retrieval_rank": 4,
            "sources": ["retrieval", "together"],
            "reasons": [
                {"about": "watching", "item_id": "v00421", "watch_time_s": 21.4},
                {"about": "how long it is", "item_id": None, "watch_time_s": -3.8},
            ],
            "propensity": 1.0,
            "explored": False,
        },
        {
            "item_id": "v01101",
            "title": None,
            "expected_watch_time_s": 61.0,
            "retrieval_score": 1.02,
            "retrieval_rank": None,
            "sources": ["fresh"],
            "reasons": [
                {"about": "how new it is", "item_id": None, "watch_time_s": 9.6},
                {"about": "all that was watched", "item_id": None, "watch_time_s": 7.1},
            ],
            "propensity": 0.0093,
            "explored": True,
        },
    ],
    "release": "8",
    "num_candidates": 300,
    "timings_ms": {
        "past": 0.1,
        "user_vector": 0.3,
        "candidates": 0.9,
        "ranking": 2.6,
        "reasons": 8.5,
        "page": 0.2,
        "total": 12.6,
    },
    "degraded": [],
    "label": "stable",
}
EXAMPLE_ERROR: Mapping[str, Any] = {
    "error": {
        "where": "body",
        "expected": "one of user_id, history, searches, user_features, k, at_ms, "
        "exclude_watched, page, rules, num_reasons, label",
        "got": "the unknown field 'user'",
        "hint": "did you mean 'user_id'?",
    }
}


def openapi_document() -> dict[str, Any]:
    """Every route, what it takes and what it answers, with an example of each."""
    (request, answer, error), schemas = msgspec.json.schema_components(
        [RequestBody, AnswerBody, ErrorBody], ref_template="#/components/schemas/{name}"
    )
    recommendations = {
        "summary": "Recommends items to a user",
        "operationId": "recommend",
        "requestBody": {"required": True, "content": _json(request, EXAMPLE_REQUEST)},
        "responses": {
            "200": {
                "description": "The items, best first. An unknown user gets them too.",
                "headers": {
                    "X-Upnext-Release": {
                        "description": "The version of the release that answered.",
                        "schema": {"type": "string"},
                    }
                },
                "content": _json(answer, EXAMPLE_ANSWER),
            },
            "400": _failure("The body is no request.", error),
            "404": _failure("No release has this label.", error),
            "413": _failure("The body is over 1 MiB.", error),
            "500": _failure("The server failed; its log says why.", error),
            "503": _failure("No release is loaded yet.", error),
        },
    }
    state = {"type": "object"}
    health = {"200": {"description": "The process lives.", "content": _json(state)}}
    readiness = {
        "200": {"description": "Requests are answered.", "content": _json(state)},
        "503": {"description": "No release is loaded yet.", "content": _json(state)},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "upnext", "version": "1"},
        "paths": {
            "/v1/recommendations": {"post": recommendations},
            "/healthz": {"get": _question("Is the process alive?", "healthz", health)},
            "/readyz": {"get": _question("Which releases answer?", "readyz", readiness)},
        },
        "components": {"schemas": schemas},
    }


def _json(schema: Mapping[str, Any], example: Mapping[str, Any] | None = None) -> dict[str, Any]:
    content = {"schema": schema} if example is None else {"schema": schema, "example": example}
    return {"application/json": content}


def _failure(description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": _json(schema, EXAMPLE_ERROR)}


def _question(summary: str, operation_id: str, responses: Mapping[str, Any]) -> dict[str, Any]:
    return {"summary": summary, "operationId": operation_id, "responses": responses}
