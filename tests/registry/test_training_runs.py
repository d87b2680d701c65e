"""Curves are told as training has written them, thinned where they are long, while they grow."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upnext.errors import ReleaseError
from upnext.ranking.config import Guide as RankingGuide
from upnext.ranking.step import RankingTask
from upnext.registry import training_runs
from upnext.registry.release import publish
from upnext.registry.training_runs import (
    MAX_POINTS,
    CurveEpoch,
    CurvePoint,
    list_training_runs,
    read_training_run,
    thinned,
    training_names,
)
from upnext.retrieval.config import Guide as RetrievalGuide
from upnext.retrieval.step import RetrievalTask
from upnext.training.curves import Curves
from upnext.training.logbook import Epoch, Progress

CONFIG = {
    "retrieval": {"guide": "recall_at_50"},
    "ranking": {"guide": "validation_weighted_per_user_loss"},
}


def _publish(registry: Path, *, at: datetime | None = None, **metadata: Any) -> int:
    def write(directory: Path) -> Mapping[str, Any]:
        (directory / "config.json").write_text(json.dumps(CONFIG))
        return metadata

    return publish(registry, write, created_at=at).version


def _curve(registry: Path, *lines: Mapping[str, Any], part: str = "chosen/retrieval") -> Path:
    path = registry / "training" / "a1" / part / "curves.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


def _epoch(number: int, **metrics: float) -> dict[str, Any]:
    told = {f"epoch/{name}": value for name, value in metrics.items()}
    return {"step": 10 * number + 10, "epoch": number, "at_ms": 1_000 + number, **told}


def test_what_training_writes_is_what_is_told(tmp_path: Path) -> None:
    curves = Curves(tmp_path / "training" / "a1" / "chosen" / "retrieval")
    for step in (1, 2):
        curves.add_progress(
            Progress(
                stage="retrieval",
                epoch=0,
                step=step,
                loss=8.5 / step if step == 1 else float("nan"),
                learning_rate=0.5,
                examples_per_s=100.0,
                done_share=0.5,
                remaining_s=1.0,
            )
        )
    epoch = Epoch(epoch=0, loss=8.0, examples_per_s=90.0, metrics={"recall_at_50": 0.25})
    curves.add_epoch(epoch, step=2)
    run = read_training_run(tmp_path, "a1")
    assert (run.training, run.release, run.is_running) == ("a1", None, True)
    (curve,) = run.curves
    first, second = curve.points
    assert (first.step, first.loss, first.learning_rate) == (1, 8.5, 0.5)
    assert (second.loss, second.examples_per_s) == (None, 100.0)
    assert curve.epochs[0].metrics == {"loss": 8.0, "examples_per_s": 90.0, "recall_at_50": 0.25}
    assert (curve.part, curve.best_epoch, curve.num_unreadable) == ("chosen/retrieval", None, 0)


def test_a_resume_is_told_and_lines_that_are_none_are_counted(tmp_path: Path) -> None:
    path = _curve(
        tmp_path,
        {"step": 1, "at_ms": 5, "loss": 1.0},
        {"resumed": True, "step": 1, "at_ms": 9},
        {"step": 2, "at_ms": 10, "loss": 0.5},
        {"step": "two", "at_ms": 11},
        {"at_ms": 12},
    )
    with path.open("ab") as file:
        file.write(b'\xff\n[1]\n{"step": 3, "at_')  # the last one is being written
    (curve,) = read_training_run(tmp_path, "a1").curves
    assert [(one.step, one.at_ms) for one in curve.resumes] == [(1, 9)]
    assert [one.step for one in curve.points] == [1, 2]
    assert (curve.num_points, curve.num_unreadable) == (2, 4)
    with path.open("ab") as file:
        file.write(b'ms": 13}\n')
    (curve,) = read_training_run(tmp_path, "a1").curves
    assert [one.step for one in curve.points] == [1, 2, 3]


@settings(max_examples=60)
@given(num_points=st.integers(0, 5_000), max_points=st.integers(2, 300))
def test_a_thinned_curve_keeps_its_ends_and_leaves_out_evenly(
    num_points: int, max_points: int
) -> None:
    points = [CurvePoint(step=step, at_ms=step) for step in range(num_points)]
    kept = [one.step for one in thinned(points, max_points)]
    assert len(kept) == min(num_points, max_points)
    assert kept[:1] + kept[-1:] == [one.step for one in points[:1] + points[-1:]]
    gaps = [later - earlier for earlier, later in pairwise(kept)]
    assert not gaps or (min(gaps) >= 1 and max(gaps) - min(gaps) <= 1)


def test_a_long_curve_is_thinned_and_every_epoch_is_told(tmp_path: Path) -> None:
    points = [{"step": step, "at_ms": step, "loss": 1.0} for step in range(MAX_POINTS + 700)]
    epochs = [_epoch(number, loss=1.0) for number in range(40)]
    _curve(tmp_path, *points, *epochs)
    (curve,) = read_training_run(tmp_path, "a1").curves
    assert (len(curve.points), curve.num_points) == (MAX_POINTS, MAX_POINTS + 700)
    assert (curve.points[0].step, curve.points[-1].step) == (0, MAX_POINTS + 699)
    assert [one.epoch for one in curve.epochs] == list(range(40))


def test_the_best_epoch_is_by_what_guided_the_choice(tmp_path: Path) -> None:
    recalls = [_epoch(n, recall_at_50=value) for n, value in enumerate((0.1, 0.3, 0.3, 0.2))]
    losses = [
        _epoch(n, validation_weighted_per_user_loss=value)
        for n, value in enumerate((2.0, 3.0, 1.0))
    ]
    _curve(tmp_path, *recalls)
    _curve(tmp_path, *losses, part="chosen/ranking")
    _curve(tmp_path, _epoch(0, loss=1.0), part="chosen/part-2/retrieval")
    assert {one.best_epoch for one in read_training_run(tmp_path, "a1").curves} == {None}
    _publish(tmp_path, training="a1")
    best = {one.part: one.best_epoch for one in read_training_run(tmp_path, "a1").curves}
    assert best == {"chosen/retrieval": 1, "chosen/ranking": 2, "chosen/part-2/retrieval": None}
    (head,) = list_training_runs(tmp_path)
    assert {one.part: one.best_epoch for one in head.curves} == best


def test_where_the_guide_is_not_defined_the_loss_chose(tmp_path: Path) -> None:
    """As ranking's is not on pages of one slot: curves leave out what is no number."""
    losses = [_epoch(n, validation_loss=value) for n, value in enumerate((3.0, 1.0, 2.0))]
    _curve(tmp_path, *losses, part="chosen/ranking")
    _publish(tmp_path, training="a1")
    assert [one.best_epoch for one in read_training_run(tmp_path, "a1").curves] == [1]


def test_only_of_losses_less_is_better() -> None:
    """What tells here which way a guide should go says what training says."""
    for guides, task in ((RetrievalGuide, RetrievalTask), (RankingGuide, RankingTask)):
        for guide in get_args(guides):
            assert guide.endswith("_loss") is not task.greater_is_better


def test_a_run_belongs_to_the_newest_release_that_came_of_it(tmp_path: Path) -> None:
    _curve(tmp_path, {"step": 1, "at_ms": 5})
    assert read_training_run(tmp_path, "a1").release is None
    first = _publish(tmp_path, training="a1")
    _publish(tmp_path, training="b2")
    _publish(tmp_path, training="a1", extended_from=first)
    assert read_training_run(tmp_path, "a1").release == first
    newest = _publish(tmp_path, training="a1")
    assert read_training_run(tmp_path, "a1").release == newest
    manifest = tmp_path / "releases" / str(newest) / "manifest.json"
    manifest.chmod(0o644)
    manifest.write_text("{", encoding="utf-8")
    assert read_training_run(tmp_path, "a1").release == first


def test_a_run_is_running_while_it_writes_what_no_release_came_of(tmp_path: Path) -> None:
    now = datetime.now(UTC)

    def writes(ago: timedelta) -> bool:
        at_ms = int((now - ago).timestamp() * 1e3)
        _curve(tmp_path, {"step": 1, "at_ms": 7}, {"step": 2, "at_ms": at_ms})
        (head,) = list_training_runs(tmp_path)
        assert head.is_running == read_training_run(tmp_path, "a1").is_running
        return head.is_running

    assert writes(timedelta(minutes=5))
    assert not writes(timedelta(minutes=11))
    _publish(tmp_path, at=now - timedelta(minutes=6), training="a1")
    assert not writes(timedelta(minutes=7))
    assert writes(timedelta(minutes=5))  # the same run once more


def test_heads_tell_in_few_words_what_the_curves_tell(tmp_path: Path) -> None:
    _curve(
        tmp_path,
        {"step": 1, "at_ms": 5, "loss": 2.0},
        {"resumed": True, "step": 1, "at_ms": 6},
        {"step": 10, "at_ms": 7, "loss": 1.5},
        _epoch(0, loss=1.75),
    )
    _curve(tmp_path, part="chosen/ranking")
    (head,) = list_training_runs(tmp_path)
    empty, one = head.curves
    assert (empty.part, empty.last_step, empty.first_at_ms) == ("chosen/ranking", None, None)
    assert (one.num_points, one.num_epochs, one.num_resumes) == (2, 1, 1)
    assert (one.first_at_ms, one.last_at_ms, one.last_step, one.last_loss) == (5, 1_000, 10, 1.5)


def test_runs_are_listed_the_latest_first_and_another_is_refused(tmp_path: Path) -> None:
    assert list_training_runs(tmp_path) == []
    for name, at_ms in (("old", 1), ("newest", 9), ("new", 5)):
        path = tmp_path / "training" / name / "chosen" / "curves.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text(f'{{"step": 1, "at_ms": {at_ms}}}\n', encoding="utf-8")
    assert [head.training for head in list_training_runs(tmp_path)] == ["newest", "new", "old"]
    assert training_names(tmp_path) == ["new", "newest", "old"]
    for name in ("other", "..", "*", ""):
        with pytest.raises(ReleaseError, match="one of new, newest, old"):
            read_training_run(tmp_path, name)


def test_epochs_are_what_the_lines_say(tmp_path: Path) -> None:
    _curve(tmp_path, _epoch(3, auc=0.5))
    (curve,) = read_training_run(tmp_path, "a1").curves
    assert curve.epochs == [CurveEpoch(epoch=3, step=40, at_ms=1_003, metrics={"auc": 0.5})]


def test_a_curve_that_grows_is_kept_once(tmp_path: Path) -> None:
    lines = [
        {"step": step, "at_ms": step, "loss": 1.0, "learning_rate": 0.1, "examples_per_s": 5.0}
        for step in range(1, 12)
    ]
    before = len(training_runs._CURVES)
    for num_told in range(1, len(lines) + 1):
        _curve(tmp_path, *lines[:num_told])
        assert read_training_run(tmp_path, "a1").curves[0].num_points == num_told
    assert len(training_runs._CURVES) == before + 1


def test_a_run_may_be_called_like_a_pattern(tmp_path: Path) -> None:
    _curve(tmp_path, {"step": 1, "at_ms": 1, "loss": 1.0})
    (tmp_path / "training" / "a1").rename(tmp_path / "training" / "a[1]")
    _curve(tmp_path, {"step": 1, "at_ms": 1, "loss": 1.0})
    assert {run.training for run in list_training_runs(tmp_path)} == {"a1", "a[1]"}
