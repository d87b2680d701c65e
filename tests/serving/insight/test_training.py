"""Training runs over HTTP are those of the files; names lead nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from starlette.types import ASGIApp

from upnext.registry.training_runs import list_training_runs, read_training_run

if TYPE_CHECKING:
    from tests.serving.conftest import Send

TRAINING = "/insight/v1/training"


def test_runs_and_curves_are_those_of_the_files(app: ASGIApp, send: Send, registry: Path) -> None:
    heads = msgspec.to_builtins(list_training_runs(registry))
    assert send(app, "GET", TRAINING).json() == {"runs": heads}
    run = send(app, "GET", f"{TRAINING}/a1").json()
    assert run == msgspec.to_builtins(read_training_run(registry, "a1"))
    assert (run["release"], run["is_running"]) == (2, False)
    (curve,) = run["curves"]
    assert curve["part"] == "chosen/retrieval"
    assert curve["points"] == [
        {"step": 3, "at_ms": 5, "loss": 2.0, "learning_rate": 0.5, "examples_per_s": 9.0}
    ]
    assert curve["epochs"] == [
        {"epoch": 0, "step": 4, "at_ms": 6, "metrics": {"recall_at_50": 0.25}}
    ]
    assert (curve["best_epoch"], curve["resumes"]) == (0, [{"step": 4, "at_ms": 7}])


@pytest.mark.parametrize("name", ["a2", "..", "%2e%2e", "*", "a1%00", "a1%2fchosen", "x" * 5_000])
def test_another_run_is_not_there(app: ASGIApp, send: Send, name: str) -> None:
    response = send(app, "GET", f"{TRAINING}/{name}")
    assert response.status_code == 404
    assert len(response.content) < 3_000
