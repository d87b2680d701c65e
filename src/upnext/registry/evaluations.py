"""What evaluations found: `REGISTRY/evaluations/3/report.json` tells how good release 3 is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from upnext.errors import ReleaseError
from upnext.metric_names import goodness
from upnext.registry.remembered import remembered_json

STAGES = ("retrieval", "ranking")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A metric and its 95% interval; None for what is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _System:
    """What was measured of the release, or of a baseline."""

    name: str
    metrics: Mapping[str, Measured]
    is_baseline: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BestBaseline:
    """The baseline that is best at a metric, and its value there."""

    name: str
    value: float


Baselines = Mapping[str, Mapping[str, BestBaseline]]
"""By stage, then by metric."""
Metrics = Mapping[str, Mapping[str, Measured]]
"""By stage, then by metric."""


def evaluation_path(registry: Path, version: int) -> Path:
    """Where the report of a release lies, with its text and its plots, once it was evaluated."""
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
    return {
        stage: next((one.metrics for one in systems if not one.is_baseline), {})
        for stage, systems in _systems(report, where).items()
    }


def best_baselines(report: Mapping[str, Any], where: str) -> Baselines:
    """Of each metric that a baseline was measured by, the best of them.

    Raises: ReleaseError: the report is none; `where` names it.
    """
    return {stage: _best(systems) for stage, systems in _systems(report, where).items()}


def _best(systems: Sequence[_System]) -> dict[str, BestBaseline]:
    found: dict[str, BestBaseline] = {}
    for one in systems:
        for metric, measured in one.metrics.items() if one.is_baseline else ():
            if measured.value is None:
                continue
            best, value = found.get(metric), goodness(metric, measured.value)
            if best is None or value > goodness(metric, best.value):
                found[metric] = BestBaseline(name=one.name, value=measured.value)
    return found


def _systems(report: Mapping[str, Any], where: str) -> dict[str, list[_System]]:
    """By stage, whoever was measured."""
    found = {}
    for stage in STAGES:
        try:
            found[stage] = msgspec.convert(report.get(stage, ()), list[_System])
        except msgspec.ValidationError as error:
            raise ReleaseError(f"{where}, {stage}", expected="systems", got=str(error)) from None
    return found
