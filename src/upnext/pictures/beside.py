"""Two training runs laid over each other, part by part."""

from collections.abc import Mapping, Sequence
from typing import Any

from upnext.metric_names import LOWER_IS_BETTER, metric_label
from upnext.pictures.numbers import is_number
from upnext.pictures.picture import Picture
from upnext.pictures.series import Axis, Mark, Series, Style
from upnext.pictures.xy import xy_picture

Curve = Mapping[str, Any]
Places = Sequence[tuple[float, float | None]]

_BY_STEP = {
    "loss": "loss",
    "examples_per_s": "examples a second",
    "learning_rate": "learning rate",
}


def beside_pictures(curves: Mapping[str, Curve]) -> list[Picture]:
    """One part of each run, by the run's name: numbers by step, then validation by epoch."""
    part = next(iter(curves.values())).get("part", "")
    names = [name for curve in curves.values() for name in _validated(curve)]
    by_step = [_by_step(part, name, curves) for name in _BY_STEP]
    by_epoch = [_by_epoch(part, name, curves) for name in dict.fromkeys(names)]
    return [picture for picture in (*by_step, *by_epoch) if picture is not None]


def _validated(curve: Curve) -> list[str]:
    """What validation gave, not what was learned from."""
    metrics = [name for epoch in curve.get("epochs") or () for name in epoch.get("metrics") or ()]
    return [name for name in dict.fromkeys(metrics) if name not in _BY_STEP]


def _by_step(part: str, name: str, curves: Mapping[str, Curve]) -> Picture | None:
    marks = [
        Mark(name=f"{run} resumed", x=resume["step"])
        for run, curve in curves.items()
        for resume in curve.get("resumes") or ()
    ]
    series = [_series(run, _reported(curve, name), "line") for run, curve in curves.items()]
    x = Axis(name="step", low=0.0)
    y = Axis(name=_BY_STEP[name], low=None if name == "loss" else 0.0)
    return _drawn(f"{part}: {_BY_STEP[name]}", _about(curves), x, y, series, marks)


def _by_epoch(part: str, name: str, curves: Mapping[str, Curve]) -> Picture | None:
    marks = [
        Mark(name=f"best of {run}", x=curve["best_epoch"])
        for run, curve in curves.items()
        if curve.get("best_epoch") is not None
    ]
    series = [
        _series(run, _of_epochs(curve, name, "epoch"), "line and dots")
        for run, curve in curves.items()
    ]
    better = "Lower" if name in LOWER_IS_BETTER else "Higher"
    x, y = Axis(name="epoch", is_whole=True), Axis(name=metric_label(name))
    about = f"{better} is better. {_about(curves)}"
    return _drawn(f"{part}: {metric_label(name)}", about, x, y, series, marks)


def _reported(curve: Curve, name: str) -> Places:
    """By step; of a run so short that it reported none, the means of its epochs."""
    told = [(one["step"], one.get(name)) for one in curve.get("points") or ()]
    is_there = any(is_number(value) for _, value in told)
    return told if is_there else _of_epochs(curve, name, "step")


def _of_epochs(curve: Curve, name: str, place: str) -> Places:
    epochs = curve.get("epochs") or ()
    return [(one[place], (one.get("metrics") or {}).get(name)) for one in epochs]


def _series(run: str, places: Places, style: Style) -> Series:
    return Series(name=run, x=[x for x, _ in places], y=[y for _, y in places], style=style)


def _drawn(
    title: str, about: str, x: Axis, y: Axis, series: Sequence[Series], marks: Sequence[Mark]
) -> Picture | None:
    if not any(is_number(value) for one in series for value in one.y):
        return None
    return xy_picture(title, about, x=x, y=y, series=series, marks=marks)


def _about(curves: Mapping[str, Curve]) -> str:
    """How far each run is."""
    told = []
    for run, curve in curves.items():
        steps = [one["step"] for kind in ("points", "epochs") for one in curve.get(kind) or ()]
        told.append(
            f"{run}: {max(steps, default=0):,} steps, {len(curve.get('epochs') or ())} epochs"
        )
    return "; ".join(told) + "."
