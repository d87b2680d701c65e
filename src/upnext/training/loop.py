"""The loop in which every stage learns: epochs, early stopping, reports, checkpoints."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from upnext.errors import UpnextError
from upnext.training.checkpoint import Checkpoint, CheckpointFolder
from upnext.training.curves import Curves
from upnext.training.interrupt import first_interrupt_waits
from upnext.training.logbook import Epoch, Logbook, Progress
from upnext.training.state import (
    array_tensors,
    load_random,
    prefixed,
    random_arrays,
    tensor_arrays,
    under,
)
from upnext.training.task import Batch, Plan, Task

SAVING_SHARE = 0.05
"""Of the time, at most, that checkpoints at the ends of epochs take."""
STEPS_BETWEEN_WORD = 16
"""Several workers ask the first one so rarely whether to save, as each time all wait for it."""


class TrainingError(UpnextError):
    """Training that cannot go on."""


@dataclass(frozen=True)
class Fitted:
    """The epochs, and whose weights were kept: those of the best guide, or else the last's."""

    epochs: tuple[Epoch, ...]
    best_epoch: int


def fit(
    task: Task,
    plan: Plan,
    *,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    logbook: Logbook | None = None,
) -> Fitted:
    """Learns for as many epochs as the plan and validation allow; ends with the best weights.

    Where the logbook has a folder, a run that was cut short, be it by `kill -9`, goes on from its
    newest checkpoint, and on a CPU ends with the very bits of a run that was not. It may go on with
    more workers or fewer: all that changes is the order in which they add up.

    Of a group of workers each calls this. They see one folder, in which the first one writes, and
    the others but their shards of tables. Who is told is the caller's choice.

    Args:
        on_epoch: told of each epoch as it ends, not again of those before a checkpoint.

    Raises:
        TrainingError: the loss is no longer a finite number.
        ConfigError, DataError: the folder holds a checkpoint of a run with another identity.
        KeyboardInterrupt: Ctrl-C; where there is a folder, after the step and with a checkpoint.
    """
    loop = _Loop(task, plan, on_epoch, logbook or Logbook())
    loop.resume()
    with first_interrupt_waits() if loop.folder else nullcontext(lambda: False) as interrupted:
        while not loop.is_over():
            loop.run_epoch(interrupted)
    if loop.best_weights:
        task.model.load_state_dict(loop.best_weights)
    return Fitted(loop.position.epochs, loop.position.best_epoch)


@dataclass(frozen=True)
class _Sums:
    """Of some batches: loss times examples, examples, and the seconds that they took."""

    loss: float = 0.0
    num_examples: int = 0
    elapsed_s: float = 0.0

    def since(self, earlier: "_Sums") -> "_Sums":
        return _Sums(
            self.loss - earlier.loss,
            self.num_examples - earlier.num_examples,
            self.elapsed_s - earlier.elapsed_s,
        )

    @property
    def mean_loss(self) -> float:
        return self.loss / self.num_examples

    @property
    def examples_per_s(self) -> float:
        return self.num_examples / self.elapsed_s if self.elapsed_s > 0 else math.inf


@dataclass
class _Position:
    """Where the run stands: steps in all, batches and sums of this epoch, the epochs before it."""

    step: int = 0
    place: int = 0
    sums: _Sums = _Sums()
    epochs: tuple[Epoch, ...] = ()
    best_epoch: int = 0

    @property
    def epoch(self) -> int:
        return len(self.epochs)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "_Position":
        """The inverse of `dataclasses.asdict`."""
        epochs = tuple(Epoch(**epoch) for epoch in plain["epochs"])
        return cls(**{**plain, "sums": _Sums(**plain["sums"]), "epochs": epochs})


class _Loop:
    """A run under way."""

    def __init__(
        self, task: Task, plan: Plan, on_epoch: Callable[[Epoch], None], logbook: Logbook
    ) -> None:
        self.task, self.plan, self.on_epoch, self.logbook = task, plan, on_epoch, logbook
        self.position = _Position()
        self.best_weights: dict[str, torch.Tensor] = {}
        self.unsettled: list[tuple[Batch, torch.Tensor]] = []
        self.group, self.sharded = task.group, tuple(task.sharded())
        self.folder: CheckpointFolder | None = None
        self.curves: Curves | None = None
        if logbook.directory is not None:
            directory = logbook.directory / task.stage
            self.folder = CheckpointFolder(
                directory=directory, identity=task.identity(), group=self.group
            )
            self.curves = Curves(directory) if self.group.is_first else None

    def resume(self) -> None:
        """Goes to where the newest checkpoint stands, if there is one."""
        found = None
        if self.folder:
            found = self.folder.newest(say=self.logbook.say, is_sharded=self._is_sharded)
        self._check_together(found)
        if found is not None:
            self.position = _Position.from_plain(found.position)
            self.task.model.load_state_dict(array_tensors(under("model/", found.arrays)))
            self.task.load_state(under("task/", found.arrays))
            load_random(under("random/", found.arrays))
            self.best_weights = array_tensors(under("best/", found.arrays))
            self.logbook.say(
                f"{self.task.stage}: going on from a checkpoint, epoch {self.position.epoch}, "
                f"batch {self.position.place}"
            )
        if self.curves:
            self.curves.rewind(step=self.position.step, num_epochs=self.position.epoch)
            if found is not None and not self.is_over():
                self.curves.add_resumption(self.position.step)
        self.first_step, self.began_s = self.position.step, self.logbook.clock()
        self.report_at_s = self.began_s + self.logbook.progress_every_s
        self.saved_at_s, self.saving_s = self.began_s, 0.0

    def _check_together(self, found: Checkpoint | None) -> None:
        """Raises RuntimeError: workers would go on from different steps; another attempt may not.

        A file system may show one of them a name later than the others.
        """
        step = found.position["step"] if found is not None else 0
        steps = self.group.gather(np.array([step]))
        if len(set(steps.tolist())) > 1:
            raise RuntimeError(f"workers see checkpoints of different steps: {steps.tolist()}")

    def is_over(self) -> bool:
        num_epochs, best_epoch = self.position.epoch, self.position.best_epoch
        if num_epochs >= self.plan.num_possible_epochs:
            return True
        return num_epochs - 1 - best_epoch >= self.plan.patience

    def run_epoch(self, interrupted: Callable[[], bool]) -> None:
        """The rest of the epoch, from wherever the run stands in it."""
        position, plan = self.position, self.plan
        batches = self.task.batches(position.epoch)
        self.reported = position.sums
        self.epoch_began_s = self.logbook.clock() - position.sums.elapsed_s
        while position.place < len(batches):
            batch = batches[position.place]
            trained_share = (position.epoch + position.place / len(batches)) / plan.num_epochs
            learning_rate = plan.learning_rate.at(trained_share)
            loss = self.task.step(batch, learning_rate=learning_rate)
            self.unsettled.append((batch, loss.detach()))
            position.step += 1
            position.place += 1
            self._after_step(len(batches), learning_rate, ends=interrupted())
        self._settle()
        self._end_epoch(interrupted)

    def _after_step(self, num_batches: int, learning_rate: float, *, ends: bool) -> None:
        now_s = self.logbook.clock()
        reports = now_s >= self.report_at_s
        unsaved_s = now_s - self.saved_at_s
        saves = bool(self.folder) and (ends or unsaved_s >= self.logbook.checkpoint_every_s)
        settles = reports
        if self.group.size > 1:
            saves, ends, settles = self._as_first_says(saves, ends, reports)
        # Reading a loss waits for an accelerator, which should not wait for us; a CPU has it there.
        # A loss that is no number ends all workers, so all must read it after the same step.
        if settles or saves or not self.unsettled[-1][1].is_cuda:
            self._settle()
        if reports and not self.unsettled:
            self._report(num_batches, learning_rate)
        if saves:
            self._save()
        if ends:
            self._stop()

    def _as_first_says(self, *answers: bool) -> tuple[bool, ...]:
        if self.position.step % STEPS_BETWEEN_WORD:
            return (False,) * len(answers)
        return self.group.as_first_says(*answers)

    def _settle(self) -> None:
        """Counts the losses that have not been looked at."""
        position, sums = self.position, self.position.sums
        losses = (
            torch.stack([loss for _, loss in self.unsettled]).tolist() if self.unsettled else []
        )
        batches = [batch for batch, _ in self.unsettled]
        self.unsettled.clear()
        loss, num_examples = sums.loss, sums.num_examples
        for place, batch in enumerate(batches):
            if not math.isfinite(losses[place]):
                raise self._runs_away(position.place - len(losses) + place, batch, losses[place])
            size = self.task.num_examples(batch)
            loss, num_examples = loss + losses[place] * size, num_examples + size
        position.sums = _Sums(loss, num_examples, self.logbook.clock() - self.epoch_began_s)

    def _runs_away(self, place: int, batch: Batch, loss: float) -> TrainingError:
        stage = self.task.stage
        return TrainingError(
            f"{stage} epoch {self.position.epoch}, batch {place}, which begins with example "
            f"{batch[0]}, loss",
            expected="a finite number",
            got=str(loss),
            hint=f"a lower [{stage}] learning_rate usually helps.",
        )

    def _report(self, num_batches: int, learning_rate: float) -> None:
        position, now_s = self.position, self.logbook.clock()
        lately = position.sums.since(self.reported)
        if not lately.num_examples:
            return
        epochs_left = self.plan.num_possible_epochs - position.epoch
        steps_left = epochs_left * num_batches - position.place
        s_per_step = (now_s - self.began_s) / (position.step - self.first_step)
        progress = Progress(
            stage=self.task.stage,
            epoch=position.epoch,
            step=position.step,
            loss=lately.mean_loss,
            learning_rate=learning_rate,
            examples_per_s=lately.examples_per_s,
            done_share=position.step / (position.step + steps_left),
            remaining_s=steps_left * s_per_step,
        )
        self.reported = position.sums
        self.report_at_s = now_s + self.logbook.progress_every_s
        self.logbook.on_progress(progress)
        if self.curves:
            self.curves.add_progress(progress)

    def _end_epoch(self, interrupted: Callable[[], bool]) -> None:
        position, sums = self.position, self.position.sums
        epoch = Epoch(
            epoch=position.epoch,
            loss=sums.mean_loss,
            examples_per_s=sums.examples_per_s,
            metrics=self._validated(),
        )
        if self._is_best(epoch):
            position.best_epoch = epoch.epoch
            if epoch.metrics:
                weights = self.task.model.state_dict()
                self.best_weights = {name: value.clone() for name, value in weights.items()}
        position.epochs += (epoch,)
        position.place, position.sums = 0, _Sums()
        self.on_epoch(epoch)
        if self.curves:
            self.curves.add_epoch(epoch, position.step)
        ends = interrupted()
        unsaved_s = self.logbook.clock() - self.saved_at_s
        saves = ends or self.is_over() or self.saving_s <= SAVING_SHARE * unsaved_s
        saves, ends = self.group.as_first_says(saves, ends)
        if saves:
            self._save()
        if ends:
            self._stop()

    def _validated(self) -> Mapping[str, float]:
        """The first worker's metrics, as those of another kind of processor may be rounded else."""
        metrics = self.task.validate()
        found = self.group.gather(np.array([*metrics.values()], np.float64))
        return dict(zip(metrics, found.tolist(), strict=False))

    def _stop(self) -> None:
        if self.folder:
            self.logbook.say(f"{self.task.stage}: stopped; the same call goes on from here")
        raise KeyboardInterrupt

    def _is_sharded(self, name: str) -> bool:
        """Of an array of a checkpoint: `model/item_table.weight` and the like."""
        return name.partition("/")[2].startswith(self.sharded)

    def _is_best(self, epoch: Epoch) -> bool:
        """Without a guide the last is; of equal ones the first."""
        if not self.position.epochs or not epoch.metrics:
            return True
        value = epoch.metrics[self.task.guide]
        best = self.position.epochs[self.position.best_epoch].metrics[self.task.guide]
        if math.isnan(best):
            return True
        return value > best if self.task.greater_is_better else value < best

    def _save(self) -> None:
        """Where there is a folder, and this worker has anything that others have not."""
        if self.folder is None or not (self.group.is_first or self.sharded):
            return
        began_s = self.logbook.clock()
        arrays = {
            **prefixed("model/", tensor_arrays(self.task.model.state_dict())),
            **prefixed("task/", self.task.state()),
            **prefixed("random/", random_arrays()),
            **prefixed("best/", tensor_arrays(self.best_weights)),
        }
        shard = {name: arrays.pop(name) for name in [*arrays] if self._is_sharded(name)}
        position = dataclasses.asdict(self.position)
        self.folder.save(self.position.step, position, arrays, shard=shard)
        self.saved_at_s = self.logbook.clock()
        self.saving_s = self.saved_at_s - began_s
