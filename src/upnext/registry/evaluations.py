"""What evaluations found: `REGISTRY/evaluations/3/report.json` tells how good release 3 is."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upnext.errors import ReleaseError
from upnext.registry.remembered import remembered_json

STAGES = ("retrieval", "ranking")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A metric and its 95% interval; None for what is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None


Metrics = Mapping[str, Mapping[str, Measured]]
"""By stage, then by metric."""


def evaluation_path(registry: Path, version: int) -> Path:
    """Where the report of a release lies, with its text and its page, once it was evaluated."""
    return registry / "evaluations" / str(version) / "report.json"


def read_evaluation(registry: Path, version: int) -> Mapping[str, Any] | None:
    """The report of a release as plain values; None if it was not evaluated.

    Raises: ReleaseError: it is no report.
    """
    path = evaluation_path(registry, version)
    report = remembered_json(path)
    if report is None or isinstance(report, dict):
        return report
    raise ReleaseError(str(path), expected="an evaluation's report", got=type(report).__name__)


def own_metrics(report: Mapping[str, Any], where: str) -> Metrics:
    """The metrics of the release itself, not of the baselines beside it.

    Raises: ReleaseError: the report is none; `where` names it.
    """
    try:
        return {stage: _own(report.get(stage) or ()) for stage in STAGES}
    except (TypeError, KeyError, AttributeError) as error:
        raise ReleaseError(where, expected="an evaluation's report", got=repr(error)) from None


def _own(systems: Any) -> Mapping[str, Measured]:
    for system in systems:
        if not system["is_baseline"]:
            return {
                name: Measured(value=one["value"], low=one["low"], high=one["high"])
                for name, one in system["metrics"].items()
            }
    return {}
