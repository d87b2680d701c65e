"""The curves of a training run as pictures: by step what was reported, by epoch what it gave."""

from collections.abc import Mapping, Sequence
from typing import Any

from upnext.metric_names import LOWER_IS_BETTER, metric_label
from upnext.pictures.numbers import is_number, minute, seconds
from upnext.pictures.picture import Picture
from upnext.pictures.series import Axis, Mark, Series
from upnext.pictures.xy import xy_picture

_BY_STEP = {
    "loss": "loss",
    "examples_per_s": "examples a second",
    "learning_rate": "learning rate",
}
_OF_LEARNING = frozenset({"loss", "examples_per_s"})
"""Of an epoch's numbers, those that no validation gave."""


def curve_pictures(curve: Mapping[str, Any]) -> list[Picture]:
    """Of one part of a run: loss, speed and learning rate by step, then validation by epoch.

    Where the run went on from a checkpoint stands an upright line.
    """
    points, epochs = curve.get("points") or (), curve.get("epochs") or ()
    resumes = curve.get("resumes") or ()
    marks = [Mark(name="resumed", x=resume["step"]) for resume in resumes]
    about = _about(points, epochs, resumes)
    part = curve.get("part", "")
    by_step = [
        _by_step(part, name, points, epochs, marks, about)
        for name in _BY_STEP
        if any(name in point for point in points)
    ]
    names = list(dict.fromkeys(name for epoch in epochs for name in epoch.get("metrics") or ()))
    by_epoch = [
        _by_epoch(part, name, epochs, curve.get("best_epoch"), about)
        for name in names
        if name not in _OF_LEARNING
    ]
    return by_step + by_epoch


def _by_step(
    part: str,
    name: str,
    points: Sequence[Mapping[str, Any]],
    epochs: Sequence[Mapping[str, Any]],
    marks: Sequence[Mark],
    about: str,
) -> Picture:
    label, lowest = _BY_STEP[name], None if name == "loss" else 0.0
    series = [
        Series(
            name="since the last report",
            x=[point["step"] for point in points],
            y=[point.get(name) for point in points],
        )
    ]
    ends = [epoch for epoch in epochs if is_number((epoch.get("metrics") or {}).get(name))]
    if ends:
        series.append(
            Series(
                name="mean of the epoch",
                x=[epoch["step"] for epoch in ends],
                y=[epoch["metrics"][name] for epoch in ends],
                style="dots",
            )
        )
    return xy_picture(
        f"{part}: {label}",
        about,
        x=Axis(name="step", low=0.0, is_whole=True),
        y=Axis(name=label, low=lowest),
        series=series,
        marks=marks,
    )


def _by_epoch(
    part: str,
    name: str,
    epochs: Sequence[Mapping[str, Any]],
    best_epoch: int | None,
    about: str,
) -> Picture:
    label = metric_label(name)
    numbers = [epoch["epoch"] for epoch in epochs]
    marks = {} if best_epoch is None else {best_epoch: "best"}
    if numbers:
        marks[numbers[-1]] = "best, last" if numbers[-1] == best_epoch else "last"
    return xy_picture(
        f"{part}: {label}",
        f"{'Lower' if name in LOWER_IS_BETTER else 'Higher'} is better. {about}",
        x=Axis(name="epoch, from 0", is_whole=True),
        y=Axis(name=label),
        series=[
            Series(
                name=label,
                x=numbers,
                y=[(epoch.get("metrics") or {}).get(name) for epoch in epochs],
                style="line and dots",
            )
        ],
        marks=[Mark(name=text, x=epoch) for epoch, text in marks.items()],
    )


def _about(
    points: Sequence[Mapping[str, Any]],
    epochs: Sequence[Mapping[str, Any]],
    resumes: Sequence[Mapping[str, Any]],
) -> str:
    times_ms = [
        one["at_ms"] for part in (points, epochs, resumes) for one in part if "at_ms" in one
    ]
    if not times_ms:
        return "Nothing was reported yet."
    steps = max((one["step"] for part in (points, epochs) for one in part), default=0)
    first, last = min(times_ms), max(times_ms)
    went_on = f", resumed {len(resumes)} ×" if resumes else ""
    return (
        f"{steps:,} steps, {len(epochs)} epochs in {seconds((last - first) / 1000)} "
        f"from {minute(first)} UTC{went_on}."
    )
