"""The curves of a run: a line of JSON a report, and the same scalars for TensorBoard."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path

from upnext.training.events import EventFile
from upnext.training.logbook import Epoch, Progress


class Curves:
    """Writes `curves.jsonl` and TensorBoard's event files into a folder; `tensorboard --logdir` it.

    A line is one report, or one epoch, by the step at which it was made. Loss and speed of a report
    are those since the last one; the scalars of epoch number `epoch` begin with `epoch/`. A line
    with `resumed` tells from which step a run went on after it was cut short.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "curves.jsonl"
        self._events: EventFile | None = None
        self._first_step = 0

    def rewind(self, *, step: int, num_epochs: int) -> None:
        """Forgets what was told beyond so many steps and epochs, and lines that were cut short."""
        self._first_step = step
        if self.path.exists():
            lines = self.path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if _told_within(line, step, num_epochs)]
            rewound = self.path.with_suffix(".partial")
            rewound.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
            rewound.replace(self.path)

    def add_progress(self, progress: Progress) -> None:
        """The scalars of a report."""
        scalars = {
            "loss": progress.loss,
            "learning_rate": progress.learning_rate,
            "examples_per_s": progress.examples_per_s,
        }
        self._add(progress.step, scalars)

    def add_epoch(self, epoch: Epoch, step: int) -> None:
        """The scalars of an epoch that ends with a step."""
        scalars = {"loss": epoch.loss, "examples_per_s": epoch.examples_per_s, **epoch.metrics}
        named = {f"epoch/{name}": value for name, value in scalars.items()}
        self._add(step, named, epoch=epoch.epoch)

    def add_resumption(self, step: int) -> None:
        """That a run goes on from the checkpoint of a step; TensorBoard has no place for it."""
        self._write({"resumed": True, "step": step, "at_ms": round(time.time() * 1000)})

    def _add(self, step: int, scalars: Mapping[str, float], **place: int) -> None:
        at_s = time.time()
        told = {name: value for name, value in scalars.items() if math.isfinite(value)}
        self._write({"step": step, **place, "at_ms": round(at_s * 1000), **told})
        if self._events is None:
            self._events = EventFile(self.path.parent, first_step=self._first_step + 1, at_s=at_s)
        self._events.add(step, scalars, at_s=at_s)

    def _write(self, line: Mapping[str, float]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(line)}\n")


def _told_within(line: str, step: int, num_epochs: int) -> bool:
    """Whether a line is whole and tells of nothing beyond so many steps and epochs."""
    try:
        told = json.loads(line)
    except ValueError:
        return False
    return bool(told["step"] <= step and told.get("epoch", -1) < num_epochs)
