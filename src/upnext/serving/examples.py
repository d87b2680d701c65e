"""One example of each body that is sent or answered, for the description of the interface."""

from collections.abc import Mapping
from typing import Any

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
    "deadline_ms": 200,
    "request_id": "4be0a6c4f2",
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
    "request_id": "4be0a6c4f2",
}
EXAMPLE_ERROR: Mapping[str, Any] = {
    "error": {
        "where": "body",
        "expected": "one of user_id, history, searches, user_features, k, at_ms, "
        "exclude_watched, page, rules, num_reasons, label, version, deadline_ms, request_id, "
        "is_logged",
        "got": "the unknown field 'user'",
        "hint": "did you mean 'user_id'?",
    }
}
EXAMPLE_TEXT_ERROR: Mapping[str, Any] = {
    "error": "model: expected one of recommend, rank, user_vector, got 'half'."
}

BODIES: Mapping[str, Mapping[str, Any]] = {
    "recommend": EXAMPLE_REQUEST,
    "recommend_batch": {"requests": [{"user_id": "u00017", "k": 2}, {"label": "beta"}]},
    "collect": {
        "events": [
            {
                "kind": "watch",
                "event_id": "w-1",
                "user_id": "u00017",
                "item_id": "v00312",
                "started_at_ms": 1_785_700_000_000,
                "watch_time_s": 87.5,
                "request_id": "4be0a6c4f2",
            },
            {
                "kind": "impression",
                "event_id": "i-1",
                "user_id": "u00017",
                "item_id": "v00312",
                "shown_at_ms": 1_785_699_990_000,
                "position": 0,
                "request_id": "4be0a6c4f2",
            },
            {
                "kind": "search",
                "event_id": "s-1",
                "user_id": "u00017",
                "searched_at_ms": 1_785_699_900_000,
                "query": "slow ramen",
            },
        ]
    },
    "predict": {
        "instances": [
            {"user_id": "u00017", "history": ["v00421", "v00007"], "k": 2},
            {"user_id": {"b64": "dTAwMDE4"}, "k": 2},
        ]
    },
    "infer": {
        "id": "1",
        "inputs": [
            {"name": "user_id", "shape": [2], "datatype": "BYTES", "data": ["u00017", "u00018"]},
            {
                "name": "history",
                "shape": [2, 2],
                "datatype": "BYTES",
                "data": ["v00421", "v00007", "v00312", ""],
            },
            {"name": "k", "shape": [2], "datatype": "INT64", "data": [2, 2]},
        ],
        "outputs": [{"name": "item_ids"}, {"name": "expected_watch_time_s"}],
        "parameters": {"deadline_ms": 200},
    },
    "split_traffic": {
        "split": {"stable": 0.95, "canary": 0.05},
        "shadow": {"label": "canary", "share": 0.1},
    },
}
"""What may be sent, by the handler's name; those of the models are for `recommend`."""
ANSWERS: Mapping[str, Mapping[str, Any]] = {
    "recommend": EXAMPLE_ANSWER,
    "recommend_batch": {
        "answers": [
            EXAMPLE_ANSWER,
            {
                "error": {
                    "where": "label",
                    "expected": "a loaded release",
                    "got": "'beta'",
                    "hint": "",
                },
                "status": 404,
            },
        ]
    },
    "collect": {"num_accepted": 3, "num_duplicates": 0},
    "similar": {**EXAMPLE_ANSWER, "timings_ms": {"total": 0.4}},
    "predict": {
        "predictions": [
            {
                "item_ids": ["v00312", "v01101"],
                "expected_watch_time_s": [87.2, 61.0],
                "retrieval_scores": [5.31, 1.02],
                "request_ids": "4be0a6c4f2",
            },
            {
                "item_ids": ["v01101", "v00007"],
                "expected_watch_time_s": [64.0, 32.1],
                "retrieval_scores": [1.02, 0.97],
                "request_ids": "91c35bb02a",
            },
        ]
    },
    "status": {
        "model_version_status": [
            {
                "version": "8",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    },
    "infer": {
        "model_name": "recommend",
        "model_version": "8",
        "id": "1",
        "outputs": [
            {
                "name": "item_ids",
                "datatype": "BYTES",
                "shape": [2, 2],
                "data": ["v00312", "v01101", "v01101", "v00007"],
            },
            {
                "name": "expected_watch_time_s",
                "datatype": "FP32",
                "shape": [2, 2],
                "data": [87.2, 61.0, 64.0, 32.1],
            },
        ],
    },
    "server_metadata": {
        "name": "upnext",
        "version": "0.1.0",
        "extensions": ["binary_tensor_data"],
    },
    "model_ready": {"name": "recommend", "ready": True},
    "live": {"live": True},
    "ready": {"ready": True},
    "healthz": {"alive": True},
    "readyz": {
        "ready": True,
        "labels": {"stable": 8, "canary": 9},
        "releases": [8, 9],
        "problems": {},
    },
}
"""What is answered, by the handler's name."""
