"""A table whose rows are dealt out over the workers, each of which holds and updates its own.

Row r lies with worker r % W, in place r // W there. In a step only the vectors that a worker's
share reads and their gradients travel, each once for each worker that wants it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from upnext.schema import NUM_RESERVED_ROWS
from upnext.training.group import Group, add_up_by_row

ROWS_DRAWN_AT_ONCE = 65_536


@dataclass(frozen=True)
class _Read:
    """One read of a step: the vectors it got, ordered by worker; and who asked for which of ours.

    `lengths[w]` of `vectors` are of worker w, and `asked[w]` are our places that it read.
    """

    vectors: torch.Tensor
    lengths: list[int]
    asked: list[torch.Tensor]


class ShardedTable(nn.Module):
    """[N, E] vectors by row, of which `weight` holds those of this worker: [N / W, E].

    It reads and begins as an `EmbeddingTable` of the same seed does. Reading is collective.
    """

    is_sparse = True

    def __init__(self, num_rows: int, size: int, *, group: Group, deviation: float = 0.0) -> None:
        """With normal entries of that standard deviation; 0 stands for 1 / √E."""
        super().__init__()
        self.num_rows, self.group = num_rows, group
        weight = torch.empty(num_own_rows(num_rows, group), size)
        # All workers draw all rows, a block at a time: it keeps their generators together.
        for start in range(0, num_rows, ROWS_DRAWN_AT_ONCE):
            block = torch.randn(min(ROWS_DRAWN_AT_ONCE, num_rows - start), size)
            block *= deviation or size**-0.5
            block[: max(0, NUM_RESERVED_ROWS - start)] = 0.0
            own = block[(group.rank - start) % group.size :: group.size]
            first = (start - group.rank + group.size - 1) // group.size
            weight[first : first + len(own)] = own
        self.weight = nn.Parameter(weight, requires_grad=False)
        self._reads: list[_Read] = []

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows [R] → vectors [R, E], from whoever holds them."""
        size = self.group.size
        distinct, place = torch.unique(rows.to(torch.int64), return_inverse=True)
        owner = distinct % size
        order = torch.argsort(owner, stable=True)
        lengths = torch.bincount(owner, minlength=size).tolist()
        wanted = torch.split((distinct // size)[order], lengths)
        asked = self.group.exchange(wanted)
        ours = [self.weight.detach().index_select(0, places) for places in asked]
        vectors = torch.cat(self.group.exchange(ours, lengths))
        if torch.is_grad_enabled():
            vectors.requires_grad_()
            self._reads.append(_Read(vectors, lengths, asked))
        in_order = torch.empty_like(order)
        in_order[order] = torch.arange(len(order), device=order.device)
        return vectors.index_select(0, in_order[place])

    def take_gradient(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Our places read by any worker since the last call, each once, and their gradients."""
        places, gradients = [], []
        for read in self._reads:
            gradient = read.vectors.grad
            if gradient is None:
                gradient = torch.zeros_like(read.vectors)
            sent = torch.split(gradient, read.lengths)
            gradients += self.group.exchange(sent, [len(one) for one in read.asked])
            places += read.asked
        self._reads.clear()
        if not places:
            nothing = torch.zeros(0, dtype=torch.int64, device=self.weight.device)
            return nothing, self.weight.new_zeros(0, self.weight.shape[1])
        return add_up_by_row(places, gradients)


def num_own_rows(num_rows: int, group: Group) -> int:
    """How many of N rows this worker holds."""
    return len(range(group.rank, num_rows, group.size))


def own_rows(shards: Sequence[NDArray[Any]], group: Group) -> NDArray[Any]:
    """This worker's rows of a table that was dealt out over `len(shards)` workers.

    >>> odd_and_even = [np.array([0, 2, 4]), np.array([1, 3])]
    >>> own_rows(odd_and_even, Group(0, 1)).tolist(), own_rows(odd_and_even, Group(2, 3)).tolist()
    ([0, 1, 2, 3, 4], [2])
    """
    num_rows = sum(len(shard) for shard in shards)
    own = np.empty((num_own_rows(num_rows, group), *shards[0].shape[1:]), shards[0].dtype)
    for first, shard in enumerate(shards):
        rows = np.arange(first, num_rows, len(shards))
        is_own = rows % group.size == group.rank
        own[rows[is_own] // group.size] = shard[is_own]
    return own


def sharded_arrays(network: nn.Module) -> Iterator[str]:
    """Beginnings of the names of arrays that hold only own rows, in its state and beside it.

    `item_table.weight` among the weights, and what begins with `item_table/` among the moments.
    """
    for name, table in network.named_modules(remove_duplicate=False):
        if isinstance(table, ShardedTable):
            yield f"{name}.weight"
            yield f"{name}/"
