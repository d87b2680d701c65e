"""A step of gradient descent on everything that a stage learns, taken by all workers together."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from upnext.training.group import Group
from upnext.training.state import (
    Arrays,
    array_tensors,
    load_optimizer,
    optimizer_arrays,
    prefixed,
    tensor_arrays,
    under,
)
from upnext.training.tables import RowAdam

SCHEDULED = "adam"
"""The optimiser whose rate the schedule sets; RowAdam's is the same, others keep their own."""


@dataclass(frozen=True)
class Descent:
    """`optimizers` by name, among them `adam`; and one by the name of each row-sparse table."""

    optimizers: Mapping[str, torch.optim.Optimizer]
    tables: Mapping[str, RowAdam]
    group: Group

    def step(self, loss: torch.Tensor, weight: float, *, learning_rate: float) -> torch.Tensor:
        """Moves all weights against the gradient of the batch's mean loss, which it returns.

        Where there are several workers, a weight that no example reached has gradient 0, not none.

        Args:
            loss: the mean over this worker's share.
            weight: of that mean in the mean of the whole batch.
        """
        for parameter in self._parameters():
            parameter.grad = None
        weighted = loss if weight == 1.0 else loss * weight
        weighted.backward()  # type: ignore[no-untyped-call]
        mean = weighted.detach()
        if self.group.size > 1:
            self.group.add_up([mean, *self._gradients()])
        for weights in self.optimizers[SCHEDULED].param_groups:
            weights["lr"] = learning_rate
        for optimizer in self.optimizers.values():
            optimizer.step()
        for table in self.tables.values():
            table.step(learning_rate)
        return mean

    def state(self) -> dict[str, NDArray[Any]]:
        """Moments of all optimisers, as `adam/0.exp_avg` and `item_table/first`."""
        parts = [
            prefixed(f"{name}/", optimizer_arrays(one)) for name, one in self.optimizers.items()
        ]
        parts += [
            prefixed(f"{name}/", tensor_arrays(one.state())) for name, one in self.tables.items()
        ]
        return {name: array for part in parts for name, array in part.items()}

    def load_state(self, state: Arrays) -> None:
        """The inverse of `state`."""
        for name, optimizer in self.optimizers.items():
            load_optimizer(optimizer, under(f"{name}/", state))
        for name, table in self.tables.items():
            table.load_state(array_tensors(under(f"{name}/", state)))

    def _gradients(self) -> list[torch.Tensor]:
        """Of every weight, as what one worker's share does not reach another's may."""
        gradients = []
        for parameter in self._parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        return gradients

    def _parameters(self) -> Iterator[nn.Parameter]:
        for optimizer in self.optimizers.values():
            for weights in optimizer.param_groups:
                yield from weights["params"]
