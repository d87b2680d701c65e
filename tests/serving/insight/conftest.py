"""A small registry, and the managing application over it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp

from upnext.registry.labels import append_move
from upnext.registry.release import publish
from upnext.serving.answering import Answering
from upnext.serving.gate import GateConfig
from upnext.serving.managing import create_managing_app
from upnext.serving.metrics import Metrics
from upnext.serving.releases import LiveReleases, Recommender
from upnext.serving.security import SecurityConfig, open_security

DATA = {
    "tables": {
        "watches": {
            "num_read": 3,
            "num_accepted": 2,
            "quarantined": {"duplicate": 1},
            "blanked": {},
            "unused_columns": [],
            "first_ms": 5,
            "last_ms": 9,
            "per_day": [{"day_ms": 0, "num_rows": 2}],
        }
    },
    "unreadable_files": [{"file": "b.csv", "cause": "not there"}],
    "derived": ["items were made from watches"],
}


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """Two releases, of which `stable` stands at the second and stood at the first; one run."""
    registry = tmp_path / "registry"
    for metadata in ({}, {"training": "a1", "train_until": "2026-02-02T00:00:00", "data": DATA}):

        def write(directory: Path, metadata: Mapping[str, Any] = metadata) -> Mapping[str, Any]:
            (directory / "config.json").write_text('{"retrieval": {"guide": "recall_at_50"}}')
            return metadata

        publish(registry, write)
    append_move(registry, "stable", 1, reason="the first")
    append_move(registry, "canary", 2)
    append_move(registry, "stable", 2, actor="ada")
    curves = registry / "training" / "a1" / "chosen" / "retrieval" / "curves.jsonl"
    curves.parent.mkdir(parents=True)
    lines = [
        {"step": 3, "at_ms": 5, "loss": 2.0, "learning_rate": 0.5, "examples_per_s": 9.0},
        {"step": 4, "epoch": 0, "at_ms": 6, "epoch/recall_at_50": 0.25},
        {"resumed": True, "step": 4, "at_ms": 7},
    ]
    curves.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return registry


def _opens_nothing(version: int) -> Recommender:
    raise AssertionError(version)


@pytest.fixture
def answers_nothing() -> Iterator[Answering]:
    """Has loaded no release."""
    answering = Answering(LiveReleases(_opens_nothing))
    yield answering
    answering.close()


@pytest.fixture
def app(registry: Path, answers_nothing: Answering) -> ASGIApp:
    """Whatever a registry tells, it tells without a release that is loaded."""
    security, gate = open_security(SecurityConfig()), GateConfig(num_answers=40)
    return create_managing_app(registry, security, Metrics(), answers_nothing, gate=gate)
