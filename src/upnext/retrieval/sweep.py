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

CHUNK_LOGITS = 2**21
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

    def by_block(
        self, num_examples: int, block_size: int, num_draws: int
    ) -> Sequence[torch.Tensor]:
        """Flat places among the logits [n, m] of each block of `block_size` examples."""
        starts = range(0, max(num_examples, 1) + block_size, block_size)
        ends = torch.searchsorted(self.examples, self.examples.new_tensor(starts)).tolist()
        places = self.examples.remainder(block_size).mul_(num_draws).add_(self.draws)
        return torch.split(places, [last - first for first, last in pairwise(ends)])


def accidental_hits(positive_rows: torch.Tensor, negative_rows: torch.Tensor) -> Hits:
    """Found by search in the sorted draws: to compare [B, S] would cost more than to multiply."""
    in_order, draws = torch.sort(negative_rows)
    first = torch.searchsorted(in_order, positive_rows)
    num_hits = torch.searchsorted(in_order, positive_rows, right=True) - first
    examples = torch.repeat_interleave(num_hits)
    shift = first - num_hits.cumsum(0) + num_hits
    nth = torch.arange(len(examples), device=examples.device)
    return Hits(examples, draws[nth.add_(shift[examples])])


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


class _Block(NamedTuple):
    """Some of the examples, as views of what the sweep holds of all of them.

    Users [n, D], beside them ones and −shift [n, D + 4], and their gradient [n, D]; [n] the
    positive's odds, the sum over all draws, and the scale that makes a weight a gradient.
    """

    users: torch.Tensor
    extended: torch.Tensor
    grad_users: torch.Tensor
    positive_odds: torch.Tensor
    sums: torch.Tensor
    scale: torch.Tensor


class _Tile(NamedTuple):
    """Some of the draws: vectors [m, D], beside them −log E and ones [m, D + 4], the gradient.

    `hits[b]`: flat places of hits among the logits [n, m] of block b of the examples.
    """

    vectors: torch.Tensor
    extended: torch.Tensor
    grad_draws: torch.Tensor
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
        self.link, self.positive_logits, self.dtype = link, positive_logits, dtype
        is_softmax = link == "softmax"
        self.shift = positive_logits.clone() if is_softmax else torch.zeros_like(positive_logits)
        beside = [users.new_ones(len(users), 2, dtype=dtype), _with_remainder(-self.shift, dtype)]
        self.extended = torch.cat([users.to(dtype), *beside], dim=1)
        self.positive_odds = torch.ones_like(self.shift)
        self.sums, self.scale = torch.empty_like(self.shift), torch.ones_like(self.shift)
        self.grad_users, self.grad_draws = torch.zeros_like(users), torch.zeros_like(draws.vectors)
        of_all = _Block(
            users, self.extended, self.grad_users, self.positive_odds, self.sums, self.scale
        )
        parts = zip(*(torch.split(whole, num_examples) for whole in of_all), strict=True)
        self.blocks = [_Block(*part) for part in parts]
        self.tiles = _tiles(draws, self.grad_draws, len(users), num_examples, num_draws, dtype)
        self.buffer = users.new_empty(num_examples * num_draws, dtype=dtype)

    def run(self) -> None:
        """Sees all draws. Odds are counted from the positive, which costs no pass for a maximum.

        Where one of them runs over, all is done again, counted from the likeliest.
        """
        self.see_all()
        if self.link == "softmax" and not bool((self.sums < LARGEST_ODDS).all()):
            self.count_from_likeliest()
            for gradient in (self.grad_users, self.grad_draws):
                gradient.zero_()
            self.see_all()
        self.grad_users *= self.scale[:, None]

    def see_all(self) -> None:
        """One pass: sums, scale, and gradients, of which those of users are still unscaled."""
        for number, block in enumerate(self.blocks):
            weights = self.weigh_all(number)
            if self.link == "softmax":
                torch.add(block.sums, block.positive_odds, out=block.scale).reciprocal_()
            self.add_gradients(number, weights)

    def cost_and_slope(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Of each example in nats, and its gradient by the positive's logit: both [B]."""
        if self.link == "logistic":
            return self.sums, torch.zeros_like(self.sums)
        log_odds = self.sums.log() + self.shift - self.positive_logits
        return softplus(log_odds), -log_odds.sigmoid()

    def weigh_all(self, number: int) -> torch.Tensor:
        """Of a block the last tile's weights [n, m]; its sums are those over all tiles."""
        weights, sums = self.weigh(number, self.tiles[0])
        for tile in self.tiles[1:]:
            weights, part = self.weigh(number, tile)
            sums = sums + part
        self.blocks[number].sums.copy_(sums)
        return weights

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
        users = self.blocks[number].extended
        shape = len(users), len(tile.extended)
        flat = self.buffer[: shape[0] * shape[1]]
        logits = torch.mm(users, tile.extended.T, out=flat.view(shape))
        flat.index_fill_(0, tile.hits[number], -torch.inf)
        return logits

    def count_from_likeliest(self) -> None:
        """Shifts all logits so that none is far above 0."""
        for number, block in enumerate(self.blocks):
            tops = [self.logits(number, tile).amax(dim=1) for tile in self.tiles]
            block.sums.copy_(torch.stack(tops).amax(dim=0).clamp(min=0))
        self.shift += self.sums
        self.extended[:, -2:] = _with_remainder(-self.shift, self.dtype)
        torch.exp(self.positive_logits - self.shift, out=self.positive_odds)

    def add_gradients(self, number: int, weights: torch.Tensor) -> None:
        """Of a block whose last tile's weights are in the buffer; those of users still unscaled."""
        block = self.blocks[number]
        scaled = (block.users * block.scale[:, None]).to(self.dtype)
        for tile in reversed(self.tiles):
            if tile is not self.tiles[-1]:
                weights, _ = self.weigh(number, tile)
            block.grad_users.add_(weights @ tile.vectors)
            tile.grad_draws.add_(weights.T @ scaled)


def _tiles(
    draws: Draws,
    grad_draws: torch.Tensor,
    num_examples: int,
    block_size: int,
    num_draws: int,
    dtype: torch.dtype,
) -> Sequence[_Tile]:
    """Of `num_draws` each, for blocks of `block_size` examples; gradients are views."""
    vectors, hits = draws.vectors.detach().to(dtype), draws.hits
    beside = [_with_remainder(-draws.log_expected, dtype), vectors.new_ones(len(vectors), 2)]
    extended = torch.cat([vectors, *beside], dim=1)
    parts = zip(
        *(torch.split(whole, num_draws) for whole in (vectors, extended, grad_draws)), strict=True
    )
    tiles = []
    for number, (of_draws, beside_log, gradient) in enumerate(parts):
        of_tile, first = hits, number * num_draws
        if num_draws < len(vectors):
            inside = (hits.draws >= first) & (hits.draws < first + num_draws)
            of_tile = Hits(hits.examples[inside], hits.draws[inside] - first)
        places = of_tile.by_block(num_examples, block_size, len(of_draws))
        tiles.append(_Tile(of_draws, beside_log, gradient, places))
    return tiles


def _with_remainder(column: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """[n, 2]: a column, and what rounding took from it."""
    rounded = column.to(dtype)
    return torch.stack([rounded, (column - rounded).to(dtype)], dim=1)


def _chunk_shape(num_users: int, num_draws: int, device: torch.device) -> tuple[int, int]:
    """Examples and draws of a chunk: all draws at once, unless that left too few examples.

    Examples fall into blocks of about one size, as a matrix product of each new one is prepared.
    """
    num_logits = CHUNK_LOGITS * (1 if device.type == "cpu" else ACCELERATOR_CHUNKS)
    side = isqrt(num_logits)
    num_examples = num_logits // max(num_draws, 1)
    if num_examples < side // 16:
        num_examples = side // 2
    num_examples = max(1, min(num_examples, num_users))
    num_blocks = max(1, -(-num_users // num_examples))
    num_examples = max(1, -(-num_users // num_blocks))
    return num_examples, max(1, min(num_draws, num_logits // num_examples))
