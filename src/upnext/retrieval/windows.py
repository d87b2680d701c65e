"""Averages of embeddings over windows of history, each event of which is read once."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from upnext.examples.history import EventLog, Indices
from upnext.schema import UNKNOWN_ROW

Embed = Callable[[torch.Tensor], torch.Tensor]
"""Rows [R] → their vectors [R, E]."""


def window_means(
    embed: Embed,
    log: EventLog,
    lo: Indices,
    hi: Indices,
    lengths: Sequence[int],
    *,
    device: torch.device,
) -> torch.Tensor:
    """Mean embeddings of the last `lengths` events of each window [lo, hi): [B, W · E].

    Windows of one user overlap almost wholly. Each event's embedding is read once and prefix sums
    are taken, in float64: they grow with the call, their differences do not. A window's sum is then
    one difference, and its gradient as cheap. Unknown rows count as absent; the mean of nothing is
    zero. `lo` may not fall from one window to the next.
    """
    if not len(log.rows):
        nothing = embed(torch.zeros(0, dtype=torch.int64, device=device))
        return nothing.new_zeros(len(lo), len(lengths) * nothing.shape[1])
    events, local_lo, local_hi = covering_events(lo, hi)
    rows = log.rows[events].astype(np.int64)
    known = rows > UNKNOWN_ROW
    counts = np.concatenate([[0], np.cumsum(known)])
    last = counts[local_hi]
    first = counts[np.maximum(local_lo[:, None], local_hi[:, None] - np.array(lengths))]
    means: torch.Tensor = _Means.apply(  # type: ignore[no-untyped-call]
        embed(torch.from_numpy(rows[known]).to(device)),
        torch.from_numpy(first).to(device),
        torch.from_numpy(last).to(device),
    )
    return means


class _Means(torch.autograd.Function):
    """[E, D], first [B, W], last [B] → means of the vectors first … last − 1 of each: [B, W · D].

    Backwards, a window's gradient goes to each of its vectors: it is added at the window's
    beginning, taken away at its end, and summed along. What is taken away is negated and added
    without a factor, as `index_add_` is several times slower with one.
    """

    @staticmethod
    def forward(
        ctx: Any, vectors: torch.Tensor, first: torch.Tensor, last: torch.Tensor
    ) -> torch.Tensor:
        prefix = vectors.new_zeros(1 + len(vectors), vectors.shape[1], dtype=torch.float64)
        torch.cumsum(vectors, 0, dtype=torch.float64, out=prefix[1:])
        until_last = prefix.index_select(0, last)
        share = 1 / (last[:, None] - first).clamp(min=1).to(vectors.dtype)
        means = vectors.new_empty(*first.shape, vectors.shape[1])
        for place, begin in enumerate(first.T):
            torch.sub(until_last, prefix.index_select(0, begin), out=means[:, place])
        ctx.save_for_backward(first, last, share)
        ctx.num_vectors = len(vectors)
        return means.mul_(share[:, :, None]).flatten(1)

    @staticmethod
    def backward(ctx: Any, grad_means: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        first, last, share = ctx.saved_tensors
        of_each = grad_means.view(*first.shape, -1) * share[:, :, None]
        steps = of_each.new_zeros(1 + ctx.num_vectors, of_each.shape[2])
        steps.index_add_(0, first.flatten(), of_each.flatten(0, 1))
        steps.index_add_(0, last, of_each.sum(dim=1).neg_())
        summed = steps.cumsum(dim=0, dtype=torch.float64)[:-1]
        return summed.to(grad_means.dtype), None, None


def covering_events(lo: Indices, hi: Indices) -> tuple[Indices, Indices, Indices]:
    """The events that any window holds, each once, and the windows as places among them."""
    furthest = np.maximum.accumulate(hi)
    opens = np.ones(len(lo), bool)
    opens[1:] = lo[1:] > furthest[:-1]
    segment = np.cumsum(opens) - 1
    closes = np.append(opens[1:], True)[: len(lo)]
    segment_lo, segment_hi = lo[opens], furthest[closes]
    offsets = np.concatenate([[0], np.cumsum(segment_hi - segment_lo)])
    shift = segment_lo - offsets[:-1]
    events = np.arange(offsets[-1]) + np.repeat(shift, segment_hi - segment_lo)
    return events, lo - shift[segment], hi - shift[segment]
