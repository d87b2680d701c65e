"""What a run tells while it learns, and where it keeps what it would not like to lose."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from time import perf_counter


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one pass over the examples gave: mean loss per example, and validation's metrics.

    `examples_per_s` leaves validation out.
    """

    epoch: int
    loss: float
    examples_per_s: float
    metrics: Mapping[str, float] = field(default_factory=dict)

    def to_text(self, stage: str) -> str:
        """One line for a person.

        >>> epoch = Epoch(epoch=2, loss=4.12345, examples_per_s=54_321.0, metrics={"auc": 0.68421})
        >>> print(epoch.to_text("ranking"))
        ranking epoch 2: loss 4.1235, auc 0.6842, 54,321 examples/s
        """
        told = [
            f"{name} {value:.4f}" for name, value in {"loss": self.loss, **self.metrics}.items()
        ]
        return (
            f"{stage} epoch {self.epoch}: {', '.join(told)}, {self.examples_per_s:,.0f} examples/s"
        )


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands. Loss and speed are means over what was learned since the last report.

    `done_share` and `remaining_s` reckon with all planned epochs; early stopping may end sooner.
    """

    stage: str
    epoch: int
    step: int
    loss: float
    learning_rate: float
    examples_per_s: float
    done_share: float
    remaining_s: float

    def to_text(self) -> str:
        """One line for a person.

        >>> print(Progress(stage="ranking", epoch=1, step=120, loss=4.12345, learning_rate=0.001,
        ...                examples_per_s=54_321.0, done_share=0.4, remaining_s=130.2).to_text())
        ranking epoch 1: 40% done, loss 4.1235, 54,321 examples/s, 0:02:10 left
        """
        left = timedelta(seconds=round(self.remaining_s))
        return (
            f"{self.stage} epoch {self.epoch}: {self.done_share:.0%} done, loss {self.loss:.4f}, "
            f"{self.examples_per_s:,.0f} examples/s, {left} left"
        )


@dataclass(frozen=True, kw_only=True)
class Logbook:
    """Who is told of a run, and the folder that keeps its checkpoints and curves.

    The default keeps nothing and tells nobody. One run at a time writes into a folder.
    """

    directory: Path | None = None
    """Each stage has a folder of its own in it; None keeps nothing."""
    checkpoint_every_s: float = 600.0
    """Seconds between checkpoints inside an epoch. Each epoch ends with one too, unless they would
    take more than a twentieth of the time."""
    progress_every_s: float = 1.0
    """Seconds between reports, at least."""
    on_progress: Callable[[Progress], None] = lambda _: None
    """Told where the run stands."""
    say: Callable[[str], None] = lambda _: None
    """Told in words when a run goes on from a checkpoint."""
    clock: Callable[[], float] = perf_counter
    """Seconds since whenever."""
