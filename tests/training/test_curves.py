import json
import math
from pathlib import Path
from typing import Any

import pytest

from upnext.training.curves import Curves
from upnext.training.logbook import Epoch, Progress


def progress(step: int, loss: float = 0.5) -> Progress:
    return Progress(
        stage="ranking",
        epoch=0,
        step=step,
        loss=loss,
        learning_rate=0.01,
        examples_per_s=200.0,
        done_share=0.5,
        remaining_s=3.0,
    )


def lines(directory: Path) -> list[dict[str, Any]]:
    text = (directory / "curves.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_a_report_and_an_epoch_are_a_line_each(tmp_path: Path) -> None:
    curves = Curves(tmp_path / "ranking")
    curves.add_progress(progress(7))
    metrics = {"validation_loss": 0.75, "recall": math.nan}
    curves.add_epoch(Epoch(epoch=0, loss=0.25, examples_per_s=100.0, metrics=metrics), step=9)
    report, epoch = lines(tmp_path / "ranking")
    assert report.pop("at_ms") <= epoch.pop("at_ms")
    assert report == {"step": 7, "loss": 0.5, "learning_rate": 0.01, "examples_per_s": 200.0}
    assert epoch == {
        "step": 9,
        "epoch": 0,
        "epoch/loss": 0.25,
        "epoch/examples_per_s": 100.0,
        "epoch/validation_loss": 0.75,
    }


def test_a_run_that_goes_on_tells_nothing_twice(tmp_path: Path) -> None:
    before = Curves(tmp_path)
    for step in (1, 5, 9):
        before.add_progress(progress(step))
    with before.path.open("a", encoding="utf-8") as file:
        file.write('{"step": 4, "lo')
    after = Curves(tmp_path)
    after.rewind(step=5, num_epochs=1)
    after.add_progress(progress(8, loss=0.125))
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [
        (1, 0.5),
        (5, 0.5),
        (8, 0.125),
    ]


def test_an_epoch_that_ends_once_more_is_told_once(tmp_path: Path) -> None:
    """The checkpoint was made after its last step, before validation."""
    before, after = Curves(tmp_path), Curves(tmp_path)
    before.add_progress(progress(4))
    for number, step in ((0, 2), (1, 4)):
        before.add_epoch(Epoch(epoch=number, loss=0.5, examples_per_s=1.0), step)
    after.rewind(step=4, num_epochs=1)
    after.add_epoch(Epoch(epoch=1, loss=0.5, examples_per_s=1.0), step=4)
    assert [(line["step"], line.get("epoch")) for line in lines(tmp_path)] == [
        (4, None),
        (2, 0),
        (4, 1),
    ]


def test_each_resumption_is_marked_and_kept_as_far_as_the_run_got(tmp_path: Path) -> None:
    before = Curves(tmp_path)
    for step in (1, 5, 9):
        before.add_progress(progress(step))
    for step in (5, 7, 6):
        again = Curves(tmp_path)
        again.rewind(step=step, num_epochs=1)
        again.add_resumption(step)
    marks = [line for line in lines(tmp_path) if "resumed" in line]
    assert [(line["resumed"], line["step"]) for line in marks] == [(True, 5), (True, 6)]
    assert all(line.keys() == {"resumed", "step", "at_ms"} for line in marks)
    assert [line["step"] for line in lines(tmp_path) if "loss" in line] == [1, 5]


def test_a_run_from_the_start_begins_anew(tmp_path: Path) -> None:
    Curves(tmp_path).add_progress(progress(3))
    anew = Curves(tmp_path)
    anew.rewind(step=0, num_epochs=0)
    anew.add_progress(progress(1))
    assert [line["step"] for line in lines(tmp_path)] == [1]


def test_nothing_told_leaves_no_file(tmp_path: Path) -> None:
    Curves(tmp_path / "run").rewind(step=0, num_epochs=0)
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_shows_the_same_scalars(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install tensorboard, which reads these files")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    before, after = Curves(tmp_path), Curves(tmp_path)
    for step in (1, 5, 9):
        before.add_progress(progress(step))
    after.rewind(step=5, num_epochs=1)
    after.add_progress(progress(8, loss=0.125))
    after.add_epoch(Epoch(epoch=0, loss=0.25, examples_per_s=1.0, metrics={"recall": 0.5}), step=8)
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    for tag in read.Tags()["scalars"]:
        shown = {point.step: point.value for point in read.Scalars(tag)}
        told = {line["step"]: line[tag] for line in lines(tmp_path) if tag in line}
        assert shown == pytest.approx(told)
    assert {"loss", "learning_rate", "epoch/recall"} <= set(read.Tags()["scalars"])
