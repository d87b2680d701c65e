import json
import math
import signal
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from upnext.errors import ConfigError, DataError
from upnext.training.checkpoint import CheckpointFolder
from upnext.training.group import ALONE
from upnext.training.logbook import Epoch, Logbook, Progress
from upnext.training.loop import Fitted, TrainingError, fit
from upnext.training.schedule import LearningRate
from upnext.training.state import (
    Arrays,
    generator_array,
    load_generator,
    load_optimizer,
    optimizer_arrays,
)
from upnext.training.task import Batch, Plan

NUM_EXAMPLES, BATCH_SIZE, NUM_BATCHES = 22, 4, 6
PLAN = Plan(num_epochs=3, patience=99, learning_rate=LearningRate(peak=0.1))
NUM_STEPS = PLAN.num_epochs * NUM_BATCHES
GUIDES = [0.3, 0.4, 0.1]


class LineTask:
    """A line through noisy points, with dropout; `guides` are what validation will say."""

    stage = "line"
    guide = "score"
    group = ALONE

    def __init__(self, *, guides: Sequence[float] = (), greater_is_better: bool = True) -> None:
        torch.manual_seed(3)
        self.guides, self.greater_is_better = guides, greater_is_better
        self.told = {"config": {"rate": {"peak": 0.1}}, "data": "first"}
        self.model = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(3, 1))
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.noise = np.random.default_rng(5)
        rng = np.random.default_rng(4)
        self.inputs = rng.standard_normal((NUM_EXAMPLES, 3)).astype(np.float32)
        self.targets = self.inputs.sum(axis=1, keepdims=True)
        self.epoch = 0
        self.steps: list[tuple[int, list[int], float]] = []
        self.losses: list[float] = []

    def identity(self) -> Mapping[str, Any]:
        return self.told

    def sharded(self) -> Collection[str]:
        return ()

    def batches(self, epoch: int) -> Sequence[Batch]:
        self.epoch = epoch
        order = np.random.default_rng((7, epoch)).permutation(NUM_EXAMPLES)
        return [order[start : start + BATCH_SIZE] for start in range(0, NUM_EXAMPLES, BATCH_SIZE)]

    def num_examples(self, batch: Batch) -> int:
        return len(batch)

    def step(self, batch: Batch, *, learning_rate: float) -> torch.Tensor:
        self.optimizer.param_groups[0]["lr"] = learning_rate
        noise = self.noise.standard_normal((len(batch), 3)).astype(np.float32)
        found = self.model(torch.from_numpy(self.inputs[batch] + noise))
        loss = torch.nn.functional.mse_loss(found, torch.from_numpy(self.targets[batch]))
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.steps.append((self.epoch, batch.tolist(), learning_rate))
        self.losses.append(loss.item())
        return loss

    def validate(self) -> Mapping[str, float]:
        return {"other": 0.0, "score": self.guides[self.epoch]} if self.guides else {}

    def state(self) -> Arrays:
        return {**optimizer_arrays(self.optimizer), "noise": generator_array(self.noise)}

    def load_state(self, state: Arrays) -> None:
        load_generator(self.noise, state["noise"])
        load_optimizer(self.optimizer, {k: v for k, v in state.items() if k != "noise"})


def everything(task: LineTask) -> dict[str, bytes]:
    """Weights and state, bit for bit."""
    weights = {name: value.numpy() for name, value in task.model.state_dict().items()}
    return {name: array.tobytes() for name, array in {**weights, **task.state()}.items()}


@dataclass
class Clock:
    """A second later each time it is asked."""

    now_s: float = 0.0

    def __call__(self) -> float:
        self.now_s += 1.0
        return self.now_s


class CrashError(Exception):
    """Ends a run at some step."""


def crash_at(step: int) -> Callable[[Progress], None]:
    def crash(progress: Progress) -> None:
        if progress.step == step:
            raise CrashError

    return crash


def saving(directory: Path, every_steps: float = math.inf) -> Logbook:
    """Reports each step."""
    every_s = 0.0 if every_steps == 1 else 5.0 * every_steps
    return Logbook(
        directory=directory, checkpoint_every_s=every_s, progress_every_s=0.0, clock=Clock()
    )


def test_an_epoch_takes_each_batch_once_at_a_falling_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = LineTask()
    fitted = fit(task, PLAN)
    assert list(tmp_path.iterdir()) == []
    assert [epoch for epoch, _, _ in task.steps] == [0] * 6 + [1] * 6 + [2] * 6
    expected = [batch.tolist() for epoch in range(3) for batch in LineTask().batches(epoch)]
    assert [batch for _, batch, _ in task.steps] == expected
    rates = [rate for _, _, rate in task.steps]
    np.testing.assert_allclose(rates, 0.1 * (1 - np.arange(NUM_STEPS) / NUM_STEPS), rtol=1e-12)
    assert [epoch.epoch for epoch in fitted.epochs] == [0, 1, 2]


def test_an_epochs_loss_is_the_mean_over_its_examples() -> None:
    task = LineTask()
    fitted = fit(task, PLAN)
    sizes = [len(batch) for _, batch, _ in task.steps[:NUM_BATCHES]]
    assert sizes == [4, 4, 4, 4, 4, 2]
    for epoch in fitted.epochs:
        losses = task.losses[epoch.epoch * NUM_BATCHES :][:NUM_BATCHES]
        assert epoch.loss == pytest.approx(np.average(losses, weights=sizes), rel=1e-6)


def test_without_validation_the_last_epoch_is_kept() -> None:
    task = LineTask()
    told: list[Epoch] = []
    fitted = fit(task, replace(PLAN, patience=1), on_epoch=told.append)
    assert fitted == Fitted(tuple(told), best_epoch=2)
    last = LineTask()
    for epoch, batch, rate in task.steps:
        last.epoch = epoch
        last.step(np.array(batch), learning_rate=rate)
    assert everything(task) == everything(last)


@pytest.mark.parametrize(
    ("guides", "greater_is_better", "patience", "best", "num_epochs"),
    [
        ([0.1, 0.3, 0.2, 0.25, 0.9], True, 2, 1, 4),
        ([0.1, 0.3, 0.2, 0.25, 0.9], True, 3, 4, 5),
        ([0.5, 0.4, 0.4, 0.6, 0.1], False, 2, 1, 4),
        ([0.5, 0.5, 0.5], True, 9, 0, 3),
        ([0.5, math.nan, math.nan], True, 2, 0, 3),
        ([math.nan, 0.2, 0.1], True, 1, 1, 3),
        ([math.nan, math.nan, math.nan], True, 1, 2, 3),
        ([-math.inf, 0.0, math.inf], True, 9, 2, 3),
    ],
)
def test_the_guide_chooses_and_patience_ends(
    guides: list[float], greater_is_better: bool, patience: int, best: int, num_epochs: int
) -> None:
    plan = replace(PLAN, num_epochs=len(guides), patience=patience)
    task = LineTask(guides=guides, greater_is_better=greater_is_better)
    fitted = fit(task, plan)
    assert (fitted.best_epoch, len(fitted.epochs)) == (best, num_epochs)
    until_best = LineTask()
    fit(until_best, replace(plan, stop_after=best + 1))
    assert task.model.state_dict().keys() == until_best.model.state_dict().keys()
    for name, kept in task.model.state_dict().items():
        assert kept.equal(until_best.model.state_dict()[name])


def test_a_refit_stops_early_and_learns_as_fast() -> None:
    whole, part = LineTask(), LineTask()
    fit(whole, PLAN)
    fitted = fit(part, replace(PLAN, stop_after=2))
    assert len(fitted.epochs) == 2
    assert part.steps == whole.steps[: 2 * NUM_BATCHES]


class RunsAway(LineTask):
    """`at` says which step's loss is no number."""

    def __init__(self, at: int, value: float) -> None:
        super().__init__()
        self.at, self.value = at, value

    def step(self, batch: Batch, *, learning_rate: float) -> torch.Tensor:
        loss = super().step(batch, learning_rate=learning_rate)
        return loss * self.value if len(self.steps) == self.at else loss


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_ends_training_and_says_where(value: float) -> None:
    task = RunsAway(at=NUM_BATCHES + 3, value=value)
    with pytest.raises(TrainingError) as caught:
        fit(task, PLAN)
    example = LineTask().batches(1)[2][0]
    assert str(caught.value) == (
        f"line epoch 1, batch 2, which begins with example {example}, loss: expected a finite "
        f"number, got {value}.\nHint: a lower [line] learning_rate usually helps."
    )
    assert len(task.steps) == NUM_BATCHES + 3


def test_a_loss_that_is_no_number_is_never_saved(tmp_path: Path) -> None:
    task = RunsAway(at=4, value=math.nan)
    with pytest.raises(TrainingError):
        fit(task, PLAN, logbook=saving(tmp_path, every_steps=1))
    newest = max((tmp_path / "line").glob("checkpoint-*.npz"))
    assert newest.name == "checkpoint-000000000003.npz"


def test_reports_tell_where_the_run_stands() -> None:
    clock, at_s, told, task = Clock(), list[float](), list[Progress](), LineTask()

    def note(progress: Progress) -> None:
        at_s.append(clock.now_s)
        told.append(progress)

    fit(task, PLAN, logbook=Logbook(on_progress=note, progress_every_s=0.0, clock=clock))
    assert [progress.step for progress in told] == list(range(1, NUM_STEPS + 1))
    assert [progress.epoch for progress in told] == [epoch for epoch, _, _ in task.steps]
    assert [progress.learning_rate for progress in told] == [rate for _, _, rate in task.steps]
    assert [progress.loss for progress in told] == pytest.approx(task.losses, rel=1e-5)
    shares = [progress.done_share for progress in told]
    np.testing.assert_allclose(shares, np.arange(1, NUM_STEPS + 1) / NUM_STEPS)
    assert {progress.stage for progress in told} == {"line"}
    left_s = [progress.remaining_s for progress in told]
    assert left_s[-1] == 0
    np.testing.assert_allclose(left_s, at_s[-1] - np.array(at_s), atol=0.3 * at_s[-1])


def test_reports_come_at_most_as_often_as_asked() -> None:
    clock, at_s, told = Clock(), list[float](), list[Progress]()

    def note(progress: Progress) -> None:
        at_s.append(clock.now_s)
        told.append(progress)

    fit(LineTask(), PLAN, logbook=Logbook(on_progress=note, progress_every_s=9.0, clock=clock))
    assert 3 < len(told) < NUM_STEPS / 2
    assert min(np.diff(at_s)) >= 9.0
    silent: list[Progress] = []
    fit(LineTask(), PLAN, logbook=Logbook(on_progress=silent.append, progress_every_s=1e9))
    assert silent == []


def test_speed_counts_examples_by_the_clock() -> None:
    """At each step the clock is asked a few times, that many seconds pass, and four are learned."""
    told: list[Progress] = []
    logbook = Logbook(on_progress=told.append, progress_every_s=0.0, clock=Clock())
    fitted = fit(LineTask(), replace(PLAN, num_epochs=1), logbook=logbook)
    speeds = {progress.examples_per_s for progress in told[1:-1]}
    [speed] = speeds
    assert 4 / 5 < speed < 4
    assert fitted.epochs[0].examples_per_s == pytest.approx(speed, rel=0.2)


@pytest.mark.parametrize("every_steps", [1, 2.5, math.inf])
@pytest.mark.parametrize("guides", [[], GUIDES])
def test_a_run_that_was_cut_short_ends_with_the_same_bits(
    tmp_path: Path, every_steps: float, guides: list[float]
) -> None:
    """Wherever it was cut: dropout, Adam's moments, generators and the best epoch's weights."""
    unbroken = LineTask(guides=guides)
    expected = fit(unbroken, PLAN)
    for step in (1, 5, 6, 7, 14, NUM_STEPS):
        logbook = saving(tmp_path / str(step), every_steps)
        with pytest.raises(CrashError):
            fit(LineTask(guides=guides), PLAN, logbook=replace(logbook, on_progress=crash_at(step)))
        torch.rand(step)
        resumed = LineTask(guides=guides)
        found = fit(resumed, PLAN, logbook=logbook)
        assert everything(resumed) == everything(unbroken)
        assert found.best_epoch == expected.best_epoch
        assert [epoch.loss for epoch in found.epochs] == [epoch.loss for epoch in expected.epochs]
        assert [epoch.metrics for epoch in found.epochs] == [e.metrics for e in expected.epochs]


def test_it_goes_on_from_the_checkpoint_and_says_so(tmp_path: Path) -> None:
    logbook = saving(tmp_path)
    with pytest.raises(CrashError):
        fit(LineTask(), PLAN, logbook=replace(logbook, on_progress=crash_at(NUM_BATCHES + 2)))
    said, told = list[str](), list[Epoch]()
    resumed = LineTask()
    fit(resumed, PLAN, on_epoch=told.append, logbook=replace(logbook, say=said.append))
    assert [epoch for epoch, _, _ in resumed.steps] == [1] * 6 + [2] * 6
    assert [epoch.epoch for epoch in told] == [1, 2]
    assert said == ["line: going on from a checkpoint, epoch 1, batch 0"]


def test_dear_checkpoints_are_rarer_but_the_last_one_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes about as long as an epoch, so one in twenty epochs has one."""
    clock, saved = Clock(), list[int]()
    truly = CheckpointFolder.save

    def slow(self: CheckpointFolder, step: int, *rest: Any, **shard: Any) -> None:
        clock.now_s += 20.0
        saved.append(step // NUM_BATCHES)
        truly(self, step, *rest, **shard)

    monkeypatch.setattr(CheckpointFolder, "save", slow)
    plan = replace(PLAN, num_epochs=50)
    fit(LineTask(), plan, logbook=replace(saving(tmp_path), progress_every_s=1e9, clock=clock))
    assert saved[0] == 1
    assert saved[-1] == 50
    assert 3 <= len(saved) <= 6
    again = LineTask()
    fit(again, plan, logbook=saving(tmp_path))
    assert again.steps == []


def test_a_run_that_had_ended_learns_nothing_more(tmp_path: Path) -> None:
    first, again = LineTask(guides=GUIDES), LineTask(guides=GUIDES)
    expected = fit(first, PLAN, logbook=saving(tmp_path))
    assert fit(again, PLAN, logbook=saving(tmp_path)) == expected
    assert again.steps == []
    assert everything(again) == everything(first)


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ({"config": {"rate": {"peak": 0.2}}, "data": "first"}, ConfigError),
        ({"config": {"rate": {"peak": 0.1}}, "data": "second"}, DataError),
    ],
)
def test_another_runs_checkpoint_is_refused(
    tmp_path: Path, told: dict[str, Any], error: type[Exception]
) -> None:
    fit(LineTask(), PLAN, logbook=saving(tmp_path))
    other = LineTask()
    other.told = told
    with pytest.raises(error, match="another run left this checkpoint"):
        fit(other, PLAN, logbook=saving(tmp_path))


class Interrupted(LineTask):
    """Ctrl-C is pressed in the middle of a step."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def step(self, batch: Batch, *, learning_rate: float) -> torch.Tensor:
        if len(self.steps) + 1 == self.at:
            signal.raise_signal(signal.SIGINT)
        return super().step(batch, learning_rate=learning_rate)


def test_ctrl_c_leaves_a_checkpoint_after_the_step(tmp_path: Path) -> None:
    unbroken = LineTask()
    fit(unbroken, PLAN)
    cut = Interrupted(at=9)
    with pytest.raises(KeyboardInterrupt):
        fit(cut, PLAN, logbook=saving(tmp_path))
    assert len(cut.steps) == 9
    resumed = LineTask()
    fit(resumed, PLAN, logbook=saving(tmp_path))
    assert cut.steps + resumed.steps == unbroken.steps
    assert everything(resumed) == everything(unbroken)


def test_ctrl_c_ends_at_once_where_nothing_is_kept() -> None:
    cut = Interrupted(at=9)
    with pytest.raises(KeyboardInterrupt):
        fit(cut, PLAN)
    assert len(cut.steps) == 8


def test_a_folder_holds_curves_of_the_whole_run(tmp_path: Path) -> None:
    logbook = saving(tmp_path, every_steps=3)
    with pytest.raises(CrashError):
        fit(LineTask(guides=GUIDES), PLAN, logbook=replace(logbook, on_progress=crash_at(8)))
    fit(LineTask(guides=GUIDES), PLAN, logbook=logbook)
    lines = curves_in(tmp_path)
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps == list(range(1, NUM_STEPS + 1))
    assert [line["epoch/score"] for line in lines if "epoch/score" in line] == GUIDES


def curves_in(directory: Path) -> list[dict[str, Any]]:
    text = (directory / "line" / "curves.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def resumptions_in(directory: Path) -> list[int]:
    return [line["step"] for line in curves_in(directory) if line.get("resumed")]


def test_where_a_run_went_on_is_marked(tmp_path: Path) -> None:
    unbroken, logbook = LineTask(guides=GUIDES), saving(tmp_path, every_steps=3)
    fit(unbroken, PLAN)
    began_at = []
    for crash in (8, 14, None):
        task = LineTask(guides=GUIDES)
        with nullcontext() if crash is None else pytest.raises(CrashError):
            fit(task, PLAN, logbook=replace(logbook, on_progress=crash_at(crash or -1)))
        began_at.append(unbroken.steps.index(task.steps[0]))
    assert began_at[0] == 0
    assert resumptions_in(tmp_path) == began_at[1:]
    assert 0 < began_at[1] < began_at[2]


def test_runs_that_began_anew_or_had_ended_are_not_marked_as_resumed(tmp_path: Path) -> None:
    with pytest.raises(CrashError):
        fit(LineTask(), PLAN, logbook=replace(saving(tmp_path), on_progress=crash_at(1)))
    for _ in range(2):
        fit(LineTask(), PLAN, logbook=saving(tmp_path))
        assert resumptions_in(tmp_path) == []
