"""Sampled losses' sum over the draws and its gradient: one pass over chunks of logits."""

from collections.abc import Sequence
from itertools import pairwise
from math import isqrt
from typing import Any, Literal, NamedTuple

import torch
from torch.nn import functional

Link = Literal["softmax", "logistic"]
"""How draws enter an objective: together, under one logarithm, or each for itself."""

Precision = Literal["float32", "bfloat16"]
"""Of matrix products and logits. `float32` leaves the vectors as they are, be they float64."""

CHUNK_LOGITS = 2**20
"""Logits held at once, on a CPU about as many as its caches hold."""

ACCELERATOR_CHUNKS = 64
"""How many times as many an accelerator holds."""

LARGEST_ODDS = 1e30
"""Odds against the watched item whose products with vectors surely stay finite in float32."""


def softplus(logits: torch.Tensor) -> torch.Tensor:
    """log(1 + e^x); torch's own threshold of 20 would be seen in float64."""
    return functional.softplus(logits, threshold=40)


class Hits(NamedTuple):
    """Which draw is the positive of which example: both [h], int64, ascending by example."""

    examples: torch.Tensor
    draws: torch.Tensor

    def by_block(self, starts: Sequence[int], num_draws: int) -> Sequence[torch.Tensor]:
        """Flat places among the logits [n, m] of each block [starts[b], starts[b + 1])."""
        ends = torch.searchsorted(self.examples, self.examples.new_tensor(starts)).tolist()
        return [
            (self.examples[first:last] - start).mul_(num_draws).add_(self.draws[first:last])
            for start, (first, last) in zip(starts, pairwise(ends), strict=False)
        ]


def accidental_hits(positive_rows: torch.Tensor, negative_rows: torch.Tensor) -> Hits:
    """Found by search in the sorted draws: to compare [B, S] would cost more than to multiply."""
    in_order, draws = torch.sort(negative_rows)
    first = torch.searchsorted(in_order, positive_rows)
    num_hits = torch.searchsorted(in_order, positive_rows, right=True) - first
    examples = torch.repeat_interleave(num_hits)
    num_before = (num_hits.cumsum(0) - num_hits)[examples]
    nth = torch.arange(len(examples), device=examples.device) - num_before
    return Hits(examples, draws[first[examples] + nth])


class Draws(NamedTuple):
    """Item vectors [S, D], log E [S], and the hits."""

    vectors: torch.Tensor
    log_expected: torch.Tensor
    hits: Hits


def drawn_part(
    link: Link,
    users: torch.Tensor,
    positive_logits: torch.Tensor,
    draws: Draws,
    precision: Precision,
) -> torch.Tensor:
    """What the draws cost, mean over examples, with z_j = u · v_j − log E_j, −inf for a hit.

    softmax:  log( 1 + Σ_j e^{z_j − s_0} )        logistic:  Σ_j log( 1 + e^{z_j} )
    """
    dtype = torch.bfloat16 if precision == "bfloat16" else users.dtype
    loss: torch.Tensor = _DrawnPart.apply(  # type: ignore[no-untyped-call]
        users, draws.vectors, positive_logits, draws, link, dtype
    )
    return loss


class _DrawnPart(torch.autograd.Function):
    """The mean cost of the draws, and in the same pass over chunks of logits its gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        users: torch.Tensor,
        negatives: torch.Tensor,
        positive_logits: torch.Tensor,
        draws: Draws,
        link: Link,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        sweep = _Sweep(link, users, positive_logits, draws._replace(vectors=negatives), dtype)
        sweep.run()
        cost, grad_logits = sweep.cost_and_slope()
        ctx.save_for_backward(sweep.grad_users, sweep.grad_draws, grad_logits)
        return cost.mean()

    @staticmethod
    def backward(ctx: Any, grad_loss: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        scale = grad_loss / len(ctx.saved_tensors[0])
        return *(gradient * scale for gradient in ctx.saved_tensors), None, None, None


class _Tile(NamedTuple):
    """Some of the draws: vectors [m, D], and beside them −log E and ones [m, D + 4].

    `hits[b]`: flat places of hits among the logits [n, m] of block b of the examples.
    """

    place: slice
    vectors: torch.Tensor
    extended: torch.Tensor
    hits: Sequence[torch.Tensor]


class _Sweep:
    """All examples against all draws: the former a block, the latter a tile at a time.

    Logits are u · v − log E − shift. One matrix product adds all three up, before anything is
    rounded: ones and −shift stand beside the users, −log E and ones beside the draws.
    """

    def __init__(
        self,
        link: Link,
        users: torch.Tensor,
        positive_logits: torch.Tensor,
        draws: Draws,
        dtype: torch.dtype,
    ) -> None:
        num_examples, num_draws = _chunk_shape(len(users), len(draws.vectors), users.device)
        starts = [*range(0, len(users), num_examples), len(users)]
        self.link, self.users, self.positive_logits, self.dtype = (
            link,
            users,
            positive_logits,
            dtype,
        )
        self.blocks = [slice(*ends) for ends in pairwise(starts)]
        self.tiles = _tiles(draws, starts, num_draws, dtype)
        self.shift = (
            positive_logits.clone() if link == "softmax" else torch.zeros_like(positive_logits)
        )
        beside = [users.new_ones(len(users), 2, dtype=dtype), _with_remainder(-self.shift, dtype)]
        self.extended = torch.cat([users.to(dtype), *beside], dim=1)
        self.buffer = users.new_empty(num_examples * num_draws, dtype=dtype)
        self.sums, self.scale = torch.empty_like(self.shift), torch.ones_like(self.shift)
        self.grad_users, self.grad_draws = torch.empty_like(users), torch.zeros_like(draws.vectors)

    def run(self) -> None:
        """Sees all draws. Odds are counted from the positive, which costs no pass for a maximum."""
        for number, block in enumerate(self.blocks):
            weights, self.sums[block] = self.weigh_all(number)
            if self.link == "softmax":
                if not bool((self.sums[block] < LARGEST_ODDS).all()):
                    self.count_from_likeliest(number)
                    weights, self.sums[block] = self.weigh_all(number)
                positive_odds = (self.positive_logits[block] - self.shift[block]).exp_()
                self.scale[block] = 1 / (self.sums[block] + positive_odds)
            self.add_gradients(number, weights)
        self.grad_users *= self.scale[:, None]

    def cost_and_slope(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Of each example in nats, and its gradient by the positive's logit: both [B]."""
        if self.link == "logistic":
            return self.sums, torch.zeros_like(self.sums)
        log_odds = self.sums.log() + self.shift - self.positive_logits
        return torch.logaddexp(log_odds, torch.zeros_like(log_odds)), -log_odds.sigmoid()

    def weigh_all(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Of a block the last tile's weights [n, m], and sums over all tiles [n]."""
        weights, sums = self.weigh(number, self.tiles[0])
        for tile in self.tiles[1:]:
            weights, part = self.weigh(number, tile)
            sums = sums + part
        return weights, sums

    def weigh(self, number: int, tile: _Tile) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights of the draws [n, m], in the buffer, and their sums, or those of their cost [n].

        Times `scale`, a weight is the gradient by that logit. Sums are made in float32; in bfloat16
        only the result is rounded.
        """
        logits = self.logits(number, tile)
        match self.link:
            case "softmax":
                odds = logits.exp_()
                return odds, odds.sum(dim=1)
            case "logistic":
                cost = softplus(logits).sum(dim=1)
                return logits.sigmoid_(), cost

    def logits(self, number: int, tile: _Tile) -> torch.Tensor:
        """u · v − log E − shift [n, m], −inf for hits, in the buffer."""
        users = self.extended[self.blocks[number]]
        shape = len(users), len(tile.extended)
        logits = self.buffer[: shape[0] * shape[1]].view(shape)
        torch.mm(users, tile.extended.T, out=logits)
        logits.view(-1).index_fill_(0, tile.hits[number], -torch.inf)
        return logits

    def count_from_likeliest(self, number: int) -> None:
        """Shifts the logits of a block so that none is far above 0."""
        block = self.blocks[number]
        tops = [self.logits(number, tile).amax(dim=1) for tile in self.tiles]
        self.shift[block] += torch.stack(tops).amax(dim=0).clamp(min=0)
        self.extended[block, -2:] = _with_remainder(-self.shift[block], self.dtype)

    def add_gradients(self, number: int, weights: torch.Tensor) -> None:
        """Of a block whose last tile's weights are in the buffer; those of users still unscaled."""
        block = self.blocks[number]
        scaled = (self.users[block] * self.scale[block, None]).to(self.dtype)
        grad_users = self.grad_users[block].zero_()
        for tile in reversed(self.tiles):
            if tile is not self.tiles[-1]:
                weights, _ = self.weigh(number, tile)
            grad_users += weights @ tile.vectors
            self.grad_draws[tile.place] += weights.T @ scaled


def _tiles(
    draws: Draws, starts: Sequence[int], num_draws: int, dtype: torch.dtype
) -> Sequence[_Tile]:
    """Of so many draws each; blocks of examples begin and end at `starts`."""
    vectors, hits = draws.vectors.detach().to(dtype), draws.hits
    beside = [_with_remainder(-draws.log_expected, dtype), vectors.new_ones(len(vectors), 2)]
    extended = torch.cat([vectors, *beside], dim=1)
    tiles = []
    for first in range(0, max(len(vectors), 1), num_draws):
        place = slice(first, first + num_draws)
        of_tile = hits
        if num_draws < len(vectors):
            inside = (hits.draws >= place.start) & (hits.draws < place.stop)
            of_tile = Hits(hits.examples[inside], hits.draws[inside] - first)
        part = extended[place]
        tiles.append(_Tile(place, vectors[place], part, of_tile.by_block(starts, len(part))))
    return tiles


def _with_remainder(column: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """[n, 2]: a column, and what rounding took from it."""
    rounded = column.to(dtype)
    return torch.stack([rounded, (column - rounded).to(dtype)], dim=1)


def _chunk_shape(num_users: int, num_draws: int, device: torch.device) -> tuple[int, int]:
    """Examples and draws of a chunk: all draws at once, unless that left too few examples."""
    num_logits = CHUNK_LOGITS * (1 if device.type == "cpu" else ACCELERATOR_CHUNKS)
    side = isqrt(num_logits)
    num_examples = num_logits // max(num_draws, 1)
    if num_examples < side // 16:
        num_examples = side // 2
    num_examples = max(1, min(num_examples, num_users))
    return num_examples, max(1, min(num_draws, num_logits // num_examples))
