"""Training runs and their curves, as `REGISTRY/training/<run>/<part>/curves.jsonl` tells them.

A line is a report of a step, or an epoch, or says that the run went on from a checkpoint. A run
writes them while it learns, so the last line may be half written.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from upnext.errors import ReleaseError
from upnext.metric_names import goodness
from upnext.registry.detail import config_of
from upnext.registry.evaluations import STAGES
from upnext.registry.release import Release, list_releases
from upnext.registry.remembered import Seen, remembered_release, seen_of

CURVES = "curves.jsonl"
MAX_POINTS = 2_000
"""Points of a curve that are told; of more, some are left out evenly."""
RUNNING_WITHIN_S = 600.0
"""A run that has written nothing for so long is not running. Between two stages nothing is told
for minutes, on large logs."""

INSTEAD_OF_A_GUIDE = "validation_loss"
"""What chooses the epoch where the guide is not defined, as `ranking.step` has it."""

_EPOCH = "epoch/"

MOST_REMEMBERED = 1_024
_CURVES: dict[Path, tuple[Seen, "Curve"]] = {}
"""Curves that were read, by their files, each with what the system told of its file then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """What was reported at a step; None for what was no finite number."""

    step: int
    at_ms: int
    loss: float | None = None
    learning_rate: float | None = None
    examples_per_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveEpoch:
    """The end of an epoch; `metrics` hold its loss, its speed and what validation gave."""

    epoch: int
    step: int
    at_ms: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """The run went on from a checkpoint of this step."""

    step: int
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The curve of a part of a run, such as `chosen/retrieval`.

    `points`: at most `MAX_POINTS` of all `num_points`, first and last among them. `best_epoch`: by
    what guides the choice; None where nothing does, or no release tells what did.
    `num_unreadable`: lines that are none.
    """

    part: str
    points: Sequence[CurvePoint]
    epochs: Sequence[CurveEpoch]
    best_epoch: int | None
    resumes: Sequence[Resume]
    num_points: int
    num_unreadable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveHead:
    """A curve in few words; the last ones of an empty curve are None."""

    part: str
    num_points: int
    num_epochs: int
    num_resumes: int
    best_epoch: int | None
    first_at_ms: int | None
    last_at_ms: int | None
    last_step: int | None
    last_loss: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """One run. `release`: what came of it, the newest one of several; None where nothing has yet.

    `is_running`: it wrote something lately that no release came of.
    """

    training: str
    release: int | None
    is_running: bool
    curves: Sequence[Curve]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingHead:
    """A `TrainingRun` without its points."""

    training: str
    release: int | None
    is_running: bool
    curves: Sequence[CurveHead]


def list_training_runs(registry: Path) -> list[TrainingHead]:
    """Every run, the one that wrote last first."""
    releases = _releases_by_training(registry)
    heads = [
        _head(_run(registry, training, releases.get(training)))
        for training in training_names(registry)
    ]
    return sorted(heads, key=lambda head: -max(one.last_at_ms or 0 for one in head.curves))


def read_training_run(registry: Path, training: str) -> TrainingRun:
    """One run with its curves, parts in the order in which they began.

    Raises: ReleaseError: there is none of this name.
    """
    names = training_names(registry)
    if training not in names:
        expected = f"one of {', '.join(names)}" if names else "a run, and there is none yet"
        raise ReleaseError("training", expected=expected, got=repr(training))
    return _run(registry, training, _releases_by_training(registry).get(training))


def training_names(registry: Path) -> list[str]:
    """The folders of all runs that have told something, in the order of their names."""
    return sorted({path.relative_to(registry / "training").parts[0] for path in _files(registry)})


def _files(registry: Path, training: str = "") -> Iterable[Path]:
    return (registry / "training" / training).rglob(CURVES)


def _releases_by_training(registry: Path) -> dict[str, Release]:
    """What came of each run, by its name; extended releases and damaged ones left out."""
    found = {}
    for version in list_releases(registry):
        try:
            release = remembered_release(registry, version)
        except ReleaseError:
            continue  # the list of releases says so
        training = release.metadata.get("training")
        if isinstance(training, str) and "extended_from" not in release.metadata:
            found[training] = release
    return found


def _run(registry: Path, training: str, release: Release | None) -> TrainingRun:
    directory = registry / "training" / training
    guides = {} if release is None else _guides(release)
    curves = []
    for path in _files(registry, training):
        if (curve := _remembered(path)) is None:
            continue  # removed just now
        part = path.parent.relative_to(directory)
        best_epoch = _best(curve.epochs, guides.get(part.name))
        curves.append(replace(curve, part=part.as_posix(), best_epoch=best_epoch))
    last_ms = max((at_ms for curve in curves for at_ms in _times_ms(curve)), default=0)
    return TrainingRun(
        training=training,
        release=None if release is None else release.version,
        is_running=_is_running(last_ms, release),
        curves=sorted(curves, key=lambda curve: (_times_ms(curve)[:1], curve.part)),
    )


def _head(run: TrainingRun) -> TrainingHead:
    heads = []
    for curve in run.curves:
        times_ms = _times_ms(curve)
        last = curve.points[-1] if curve.points else None
        heads.append(
            CurveHead(
                part=curve.part,
                num_points=curve.num_points,
                num_epochs=len(curve.epochs),
                num_resumes=len(curve.resumes),
                best_epoch=curve.best_epoch,
                first_at_ms=min(times_ms, default=None),
                last_at_ms=max(times_ms, default=None),
                last_step=None if last is None else last.step,
                last_loss=None if last is None else last.loss,
            )
        )
    return TrainingHead(
        training=run.training, release=run.release, is_running=run.is_running, curves=heads
    )


def _times_ms(curve: Curve) -> list[int]:
    """When its first and its last lines were written, of each kind."""
    of_kinds: tuple[Sequence[CurvePoint | CurveEpoch | Resume], ...] = (
        curve.points,
        curve.epochs,
        curve.resumes,
    )
    return sorted(kind[place].at_ms for kind in of_kinds if kind for place in (0, -1))


def _is_running(last_ms: int, release: Release | None) -> bool:
    if last_ms < (time.time() - RUNNING_WITHIN_S) * 1e3:
        return False
    if release is None:
        return True
    # A release tells when it was made in whole seconds.
    return last_ms >= (datetime.fromisoformat(release.created_at).timestamp() + 1) * 1e3


def _guides(release: Release) -> dict[str, str]:
    """By stage, the metric that chose the best epoch."""
    try:
        config = config_of(release)
    except ReleaseError:
        return {}  # the list of releases says so
    sections = ((stage, config.get(stage)) for stage in STAGES)
    return {
        stage: section["guide"]
        for stage, section in sections
        if isinstance(section, dict) and isinstance(section.get("guide"), str)
    }


def _best(epochs: Sequence[CurveEpoch], guide: str | None) -> int | None:
    """The epoch with the best guide, the first of equals; a loss should fall, all else rise.

    Where the guide was never a number, the mean loss is what training went by.
    """
    if guide is None:
        return None
    is_told = any(guide in one.metrics for one in epochs)
    metric = guide if is_told else INSTEAD_OF_A_GUIDE
    told = [one for one in epochs if metric in one.metrics]
    return max(told, key=lambda one: goodness(metric, one.metrics[metric])).epoch if told else None


def _remembered(path: Path) -> Curve | None:
    """A curve grows while its run learns: only as it was last is it kept. None: there is none."""
    seen, kept = seen_of(path), _CURVES.get(path)
    if seen is None:
        return None
    if kept is None or kept[0] != seen:
        try:
            kept = _CURVES[path] = (seen, _read(path))
        except FileNotFoundError:
            return None
        while len(_CURVES) > MOST_REMEMBERED:
            _CURVES.pop(next(iter(_CURVES)), None)
    return kept[1]


def _read(path: Path) -> Curve:
    """A curve but for its part and its best epoch, which other files tell."""
    points: list[CurvePoint] = []
    epochs: list[CurveEpoch] = []
    resumes: list[Resume] = []
    num_unreadable = 0
    content = path.read_bytes()
    for line in content[: content.rfind(b"\n") + 1].splitlines():
        try:
            told = msgspec.json.decode(line, type=dict[str, Any])
            if told.get("resumed"):
                resumes.append(msgspec.convert(told, Resume))
            elif "epoch" in told:
                told["metrics"] = {
                    name.removeprefix(_EPOCH): value
                    for name, value in told.items()
                    if name.startswith(_EPOCH)
                }
                epochs.append(msgspec.convert(told, CurveEpoch))
            else:
                points.append(msgspec.convert(told, CurvePoint))
        except (msgspec.DecodeError, UnicodeDecodeError):  # a disk that was full, or a hand
            num_unreadable += 1
    return Curve(
        part="",
        points=thinned(points, MAX_POINTS),
        epochs=epochs,
        best_epoch=None,
        resumes=resumes,
        num_points=len(points),
        num_unreadable=num_unreadable,
    )


def thinned(points: Sequence[CurvePoint], max_points: int) -> Sequence[CurvePoint]:
    """Not more than so many (two or more), evenly, the first and the last among them."""
    if len(points) <= max_points:
        return points
    stride = (len(points) - 1) / (max_points - 1)
    return [points[round(place * stride)] for place in range(max_points)]
