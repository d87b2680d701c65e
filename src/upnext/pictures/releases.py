"""How releases compare: a metric from version to version, beside the best baseline of each."""

from collections.abc import Mapping, Sequence
from typing import Any

from upnext.metric_names import metric_label, metric_meaning
from upnext.pictures.numbers import is_number
from upnext.pictures.picture import Picture
from upnext.pictures.series import Axis, Series
from upnext.pictures.xy import xy_picture


def metrics_over_releases(releases: Sequence[Mapping[str, Any]], stage: str) -> list[str]:
    """The metrics of a stage, `retrieval` or `ranking`, that any release was measured by."""
    return list(dict.fromkeys(name for one in releases for name in _of_stage(one, stage)))


def release_picture(releases: Sequence[Mapping[str, Any]], stage: str, metric: str) -> Picture:
    """One metric of all releases that were evaluated, with intervals.

    Releases tell `version`, `metrics` by stage, and `baselines` by stage if they know them: of each
    metric the best baseline's name and value.
    """
    told = [(one["version"], _of_stage(one, stage).get(metric) or {}) for one in releases]
    told = sorted((version, found) for version, found in told if is_number(found.get("value")))
    versions = [version for version, _ in told]
    best = [_baseline(one, stage, metric) for one in _in_order(releases, versions)]
    series = [
        Series(
            name="release",
            x=versions,
            y=[found.get("value") for _, found in told],
            low=[found.get("low") for _, found in told],
            high=[found.get("high") for _, found in told],
            style="line and dots",
        )
    ]
    if any(is_number(value) for value in best):
        series.append(
            Series(name="best baseline", x=versions, y=best, style="dashed", tone="baseline")
        )
    about = f"{len(told)} of {len(releases)} releases were evaluated, each on the end of its logs. "
    label = metric_label(metric)
    return xy_picture(
        f"{stage.capitalize()}: {label}",
        f"{metric_meaning(metric)} {about}Whiskers: 95%, by user.".lstrip(),
        x=Axis(name="release", is_whole=True),
        y=Axis(name=label),
        series=series,
    )


def _of_stage(one: Mapping[str, Any], stage: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (one.get("metrics") or {}).get(stage) or {}
    return found


def _in_order(
    releases: Sequence[Mapping[str, Any]], versions: Sequence[int]
) -> list[Mapping[str, Any]]:
    by_version = {one["version"]: one for one in releases}
    return [by_version[version] for version in versions]


def _baseline(one: Mapping[str, Any], stage: str, metric: str) -> float | None:
    found = ((one.get("baselines") or {}).get(stage) or {}).get(metric) or {}
    value: float | None = found.get("value")
    return value
