"""Embedding tables, and the update that touches only the rows that a step has read."""

import torch
from torch import nn

from upnext.schema import NUM_RESERVED_ROWS
from upnext.training.group import ALONE, Group
from upnext.training.sharded import ShardedTable


class EmbeddingTable(nn.Module):
    """[N, E] vectors by row; the reserved rows are zero and are never to be read.

    A dense table is a parameter like any other. Of a row-sparse one autograd sees only the rows
    read, each read a small tensor of its own: a step then costs what it touches, however many rows
    there are. Every worker of the group has a copy.
    """

    def __init__(
        self,
        num_rows: int,
        size: int,
        *,
        is_sparse: bool,
        deviation: float = 0.0,
        group: Group = ALONE,
    ) -> None:
        """With normal entries of that standard deviation; 0 stands for 1 / √E."""
        super().__init__()
        self.num_rows, self.group = num_rows, group
        weight = torch.randn(num_rows, size) * (deviation or size**-0.5)
        weight[:NUM_RESERVED_ROWS] = 0.0
        self.is_sparse = is_sparse
        self.weight = nn.Parameter(weight, requires_grad=not is_sparse)
        self._reads: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows [R] → vectors [R, E]."""
        if not self.is_sparse or not torch.is_grad_enabled():
            return self.weight.index_select(0, rows)
        rows = rows.to(torch.int64)
        read = self.weight.detach().index_select(0, rows).requires_grad_()
        self._reads.append((rows, read))
        return read

    def take_gradient(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows read since the last call, each once, and the gradient of each: [R], [R, E].

        Those that any worker of the group has read, and what they add up to.
        """
        return self.group.add_up_rows(*self._own_gradient())

    def _own_gradient(self) -> tuple[torch.Tensor, torch.Tensor]:
        reads = [(rows, read.grad) for rows, read in self._reads if read.grad is not None]
        self._reads.clear()
        if not reads:
            nothing = torch.zeros(0, dtype=torch.int64, device=self.weight.device)
            return nothing, self.weight.new_zeros(0, self.weight.shape[1])
        rows, place = torch.unique(torch.cat([rows for rows, _ in reads]), return_inverse=True)
        gradient = self.weight.new_zeros(len(rows), self.weight.shape[1])
        gradient.index_add_(0, place, torch.cat([grad for _, grad in reads]))
        return rows, gradient


Table = EmbeddingTable | ShardedTable
"""They read alike, and each has `num_rows`, `weight`, `is_sparse` and `take_gradient`."""


def new_table(
    num_rows: int, size: int, *, is_sparse: bool, group: Group, deviation: float = 0.0
) -> Table:
    """A table with a copy at every worker, or sharded where the group wants one so large to be."""
    limit = group.shard_above_rows
    if is_sparse and group.size > 1 and limit is not None and num_rows > limit:
        return ShardedTable(num_rows, size, group=group, deviation=deviation)
    return EmbeddingTable(num_rows, size, is_sparse=is_sparse, deviation=deviation, group=group)


class RowAdam:
    """Adam on the rows that a step touched, with one adaptive step size a row, whatever N.

        m ← β₁ m + (1 − β₁) g        v ← β₂ v + (1 − β₂) mean(g²)
        w ← (1 − η λ) w − η m̂ / (√v̂ + ε)

    m̂ and v̂ are corrected by the row's own number of steps. Rows at rest keep their moments as they
    were; decay is decoupled and reaches touched rows alone. Beside the table it holds m, and two
    numbers a row.

    Source: Kingma and Ba 2015; one second moment a row as in FBGEMM's partial row-wise Adam.
    """

    def __init__(
        self,
        table: Table,
        *,
        weight_decay: float,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        self.table, self.weight_decay = table, weight_decay
        self.betas, self.epsilon = betas, epsilon
        self.first = torch.zeros_like(table.weight)
        self.second = torch.zeros(len(table.weight), device=table.weight.device)
        self.num_steps = torch.zeros_like(self.second)

    @classmethod
    def of_each_table(cls, network: nn.Module, *, weight_decay: float) -> "dict[str, RowAdam]":
        """One for each row-sparse table of a network, by its name there."""
        return {
            name: cls(table, weight_decay=weight_decay)
            for name, table in network.named_modules()
            if isinstance(table, EmbeddingTable | ShardedTable) and table.is_sparse
        }

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Moves the rows read since the last step against their gradients.

        Rows are gathered whole, by `index_select`: fancy indexing goes through them number by
        number and is many times slower on rows that are not in the cache.
        """
        rows, gradient = self.table.take_gradient()
        if not len(rows):
            return
        decay_first, decay_second = self.betas
        steps = self.num_steps.index_select(0, rows) + 1
        first = torch.lerp(gradient, self.first.index_select(0, rows), decay_first)
        square = gradient.square().mean(dim=1)
        second = torch.lerp(square, self.second.index_select(0, rows), decay_second)
        self.first.index_copy_(0, rows, first)
        self.second.index_copy_(0, rows, second)
        self.num_steps.index_copy_(0, rows, steps)
        root = (second / (1 - decay_second**steps)).sqrt() + self.epsilon
        change = first * (learning_rate / ((1 - decay_first**steps) * root))[:, None]
        weight = self.table.weight
        kept = weight.index_select(0, rows).mul_(1 - learning_rate * self.weight_decay)
        weight.index_copy_(0, rows, kept.sub_(change))

    def state(self) -> dict[str, torch.Tensor]:
        """All that a resumed training needs."""
        return {"first": self.first, "second": self.second, "num_steps": self.num_steps}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """The inverse of `state`."""
        for name, value in self.state().items():
            value.copy_(state[name])
