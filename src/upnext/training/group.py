"""The workers that take each step of a training together, as one of them sees it.

All of them see the same batches, negatives and skipped watches, drawn from the same seeds; each
works on its own contiguous share of every batch. Gradients are added up with the weights that make
their sum the gradient of the whole batch's mean loss, so that the number of workers changes nothing
but the order in which numbers are added.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

LARGEST_SEED = 2**62


@dataclass(frozen=True)
class Share:
    """Which part of a batch a worker works on, and what its mean weighs in the mean of all."""

    part: slice
    weight: float


@dataclass(frozen=True)
class Group:
    """Worker `rank` of `size`; more than one meet in `torch.distributed`'s default process group.

    What adds up, exchanges, gathers, asks or waits is collective: all workers call it, in the same
    order. Of one worker alone it gives back what it was given. Everything added up has the same
    bits everywhere, on an accelerator too, so that copies of a table stay copies.
    """

    rank: int = 0
    size: int = 1
    shard_above_rows: int | None = None
    """Row-sparse tables of more rows are sharded: their rows are dealt out over the workers."""

    @property
    def is_first(self) -> bool:
        """Whether this is the worker that writes and tells."""
        return self.rank == 0

    def share(self, number: int) -> Share:
        """This worker's share of so many examples.

        Never an empty one, as every worker must take part in every exchange: where there are fewer
        examples than workers, some repeat the first one, with weight 0.

        >>> [Group(rank, 3).share(8).part for rank in range(3)]
        [slice(0, 2, None), slice(2, 5, None), slice(5, 8, None)]
        >>> Group(0, 3).share(2)
        Share(part=slice(0, 1, None), weight=0.0)
        """
        begin, end = (number * place // self.size for place in (self.rank, self.rank + 1))
        if begin == end:
            return Share(slice(0, 1), 0.0)
        return Share(slice(begin, end), (end - begin) / number)

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replaces each tensor by its sum over the workers; all float32, one exchange."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        with torch.no_grad():
            parts = torch.split(flat, [tensor.numel() for tensor in tensors])
            for tensor, part in zip(tensors, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def exchange(
        self, parts: Sequence[torch.Tensor], lengths: Sequence[int] | None = None
    ) -> list[torch.Tensor]:
        """Gives `parts[w]` to each worker w, and what each of them has for this one.

        Parts [n_w, …] differ in their first dimension only. `lengths`: those of what will come,
        where they are known; it saves an exchange.
        """
        if self.size == 1:
            return list(parts)
        sent = [len(part) for part in parts]
        if lengths is None:
            theirs = torch.empty(self.size, dtype=torch.int64)
            distributed.all_to_all_single(theirs, torch.tensor(sent))
            lengths = theirs.tolist()
        together = torch.cat(list(parts)).contiguous()
        received = together.new_empty(sum(lengths), *together.shape[1:])
        distributed.all_to_all_single(received, together, list(lengths), sent)
        return list(torch.split(received, list(lengths)))

    def add_up_rows(
        self, rows: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Distinct rows [R] and a vector for each → those of all workers, each once, added up."""
        if self.size == 1:
            return rows, values
        theirs = self.exchange([rows] * self.size)
        their_values = self.exchange([values] * self.size, [len(one) for one in theirs])
        return add_up_by_row(theirs, their_values)

    def gather(self, array: NDArray[Any]) -> NDArray[Any]:
        """What all workers have, one after another."""
        if self.size == 1:
            return array
        parts = self.exchange([torch.from_numpy(np.ascontiguousarray(array))] * self.size)
        gathered: NDArray[Any] = torch.cat(parts).numpy()
        return gathered

    def as_first_says(self, *answers: bool) -> tuple[bool, ...]:
        """The first worker's answers, wherever clocks and keyboards may differ."""
        if self.size == 1:
            return answers
        told = torch.tensor(answers, dtype=torch.uint8)
        distributed.broadcast(told, src=0)
        return tuple(bool(answer) for answer in told)

    def wait(self) -> None:
        """Until all workers are here."""
        if self.size > 1:  # a barrier would want to know of accelerators, of which this needs none
            distributed.all_reduce(torch.zeros(1))

    @contextmanager
    def own_draws(self, seed: int | None = None) -> Iterator[None]:
        """Draws of torch's own generators differ between workers inside, and agree again after.

        `seed`: which all workers have in common; by default drawn from those very generators.
        """
        if self.size == 1:
            yield
            return
        seed = int(torch.randint(LARGEST_SEED, ())) if seed is None else seed
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed + self.rank)
            yield


def add_up_by_row(
    rows: Sequence[torch.Tensor], values: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Several lists of distinct rows with a vector for each → all rows, each once, and their sums.

    List by list, as no two additions of one list meet in a row: an accelerator, too, then adds in
    this very order.
    """
    distinct, place = torch.unique(torch.cat(list(rows)), return_inverse=True)
    total = values[0].new_zeros(len(distinct), *values[0].shape[1:])
    for where, part in zip(torch.split(place, [len(one) for one in rows]), values, strict=True):
        total.index_add_(0, where, part)
    return distinct, total


ALONE = Group()
"""One worker; its steps are those of a program that knows of no others."""
