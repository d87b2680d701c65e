"""What a stage and the loop promise each other."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from upnext.training.group import Group
from upnext.training.schedule import LearningRate, ScheduleName
from upnext.training.state import Arrays

Batch = NDArray[np.int64]
"""Indices of examples."""


class Task(Protocol):
    """What a stage gives the loop: its model, its batches, a step, and how to judge the outcome."""

    @property
    def stage(self) -> str:
        """Its name, that of its section in run.toml."""

    @property
    def model(self) -> torch.nn.Module:
        """All that is learned and kept; the best epoch's weights end in it."""

    @property
    def guide(self) -> str:
        """The metric of `validate` that chooses the epoch."""

    @property
    def greater_is_better(self) -> bool:
        """Whether the guide should rise."""

    @property
    def group(self) -> Group:
        """The workers that take each step together; all hold the same task."""

    def identity(self) -> Mapping[str, Any]:
        """Config and data as plain values; a checkpoint with another identity is refused."""

    def batches(self, epoch: int) -> Sequence[Batch]:
        """The epoch's batches: the same ones whenever and however often they are asked for."""

    def num_examples(self, batch: Batch) -> int:
        """By how much a batch counts in the mean loss and in examples/s, whoever works on it."""

    def step(self, batch: Batch, *, learning_rate: float) -> torch.Tensor:
        """One step of gradient descent, on this worker's share of the batch.

        Returns the whole batch's mean loss before it, a scalar and the same at every worker.
        """

    def validate(self) -> Mapping[str, float]:
        """Metrics by name, the same at every worker; none without anything to validate on."""

    def state(self) -> Arrays:
        """What lies outside the model: optimisers' moments, generators, counts of samplers."""

    def sharded(self) -> Collection[str]:
        """Beginnings of names in the model's state and in `state` of arrays of own rows only."""

    def load_state(self, state: Arrays) -> None:
        """Takes back what `state` gave."""


class Pace(Protocol):
    """What the config of each stage says of how long and how fast to learn."""

    @property
    def num_epochs(self) -> int:
        """Passes over the examples at most."""

    @property
    def patience(self) -> int:
        """Epochs without a better guide after which training stops."""

    @property
    def learning_rate(self) -> float:
        """The greatest step size."""

    @property
    def learning_rate_schedule(self) -> ScheduleName:
        """How it falls."""

    @property
    def warmup_share(self) -> float:
        """Share of all steps in which it first rises."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how fast to learn."""

    num_epochs: int
    """Passes over the examples at most; the learning rate is spread over all of them."""
    patience: int
    """Epochs without a better guide after which training stops."""
    learning_rate: LearningRate
    """By the share of all planned steps that lies behind."""
    stop_after: int | None = None
    """Epochs after which to end all the same, as a refit does."""

    @classmethod
    def of(cls, config: Pace, *, stop_after: int | None) -> "Plan":
        """As a stage's config has it."""
        return cls(
            num_epochs=config.num_epochs,
            patience=config.patience,
            learning_rate=LearningRate(
                peak=config.learning_rate,
                schedule=config.learning_rate_schedule,
                warmup_share=config.warmup_share,
            ),
            stop_after=stop_after,
        )

    @property
    def num_possible_epochs(self) -> int:
        """Epochs that there will be unless patience ends."""
        return len(range(self.num_epochs)[: self.stop_after])
