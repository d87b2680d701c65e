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

Told = Mapping[str, Any]
Curve = Told
"""An object of JSON, as `/insight/v1/training/{training}` has one for each part."""


def curve_pictures(curve: Curve) -> list[Picture]:
    """Of one part of a run: loss, speed and learning rate by step, then validation by epoch.

    Where the run went on from a checkpoint stands an upright line. Epochs count from 0.
    """
    names = list(dict.fromkeys(name for one in _part(curve, "epochs") for name in _metrics(one)))
    by_step = [_by_step(curve, name) for name in _BY_STEP]
    by_epoch = [_by_epoch(curve, name) for name in names if name not in _BY_STEP]
    return [picture for picture in (*by_step, *by_epoch) if picture is not None]


def _by_step(curve: Curve, name: str) -> Picture | None:
    """None where no step and no epoch tells it, as on a run that took a second."""
    points = [one for one in _part(curve, "points") if is_number(one.get(name))]
    epochs = [one for one in _part(curve, "epochs") if is_number(_metrics(one).get(name))]
    reported = Series(
        name="since the last report",
        x=[point["step"] for point in points],
        y=[point[name] for point in points],
    )
    means = Series(
        name="mean of the epoch",
        x=[epoch["step"] for epoch in epochs],
        y=[_metrics(epoch)[name] for epoch in epochs],
        style="dots",
        tone="tone-1",
    )
    series = [one for one in (reported, means) if one.x]
    if not series:
        return None
    label = _BY_STEP[name]
    return xy_picture(
        f"{curve.get('part', '')}: {label}",
        _about(curve),
        x=Axis(name="step", low=0.0, is_whole=True),
        y=Axis(name=label, low=None if name == "loss" else 0.0),
        series=series,
        marks=[Mark(name="resumed", x=one["step"]) for one in _part(curve, "resumes")],
    )


def _by_epoch(curve: Curve, name: str) -> Picture:
    epochs, best, label = _part(curve, "epochs"), curve.get("best_epoch"), metric_label(name)
    last = epochs[-1]["epoch"]
    marks = {} if best is None else {best: "best"}
    marks[last] = "best, last" if last == best else "last"
    return xy_picture(
        f"{curve.get('part', '')}: {label}",
        f"{'Lower' if name in LOWER_IS_BETTER else 'Higher'} is better. {_about(curve)}",
        x=Axis(name="epoch", is_whole=True),
        y=Axis(name=label),
        series=[
            Series(
                name=label,
                x=[epoch["epoch"] for epoch in epochs],
                y=[_metrics(epoch).get(name) for epoch in epochs],
                style="line and dots",
            )
        ],
        marks=[Mark(name=text, x=epoch) for epoch, text in marks.items()],
    )


def _about(curve: Curve) -> str:
    """Steps, epochs and when; after that how often the run was resumed."""
    points, epochs, resumes = (_part(curve, name) for name in ("points", "epochs", "resumes"))
    steps = max((one["step"] for one in (*points, *epochs)), default=0)
    times_ms = [one.get("at_ms") for one in (*points, *epochs, *resumes)]
    told_ms = [at_ms for at_ms in times_ms if is_number(at_ms)]
    when = ""
    if told_ms:
        took_s = (max(told_ms) - min(told_ms)) / 1000
        when = f" in {seconds(took_s)} from {minute(min(told_ms))} UTC"
    went_on = f", resumed {len(resumes)} ×" if resumes else ""
    return f"{steps:,} steps, {len(epochs)} epochs{when}{went_on}."


def _part(curve: Curve, name: str) -> Sequence[Told]:
    found: Sequence[Told] = curve.get(name) or ()
    return found


def _metrics(epoch: Told) -> Told:
    found: Told = epoch.get("metrics") or {}
    return found
