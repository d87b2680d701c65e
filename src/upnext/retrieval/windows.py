"""Averages of embeddings over windows of history, each event of which is read once."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch.nn import functional

from upnext.examples.history import EventLog, Indices
from upnext.schema import UNKNOWN_ROW

Places = NDArray[np.int32]
"""Among what one call holds; half as long as places in a log, which may be of any length."""

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

    Windows of one user overlap almost wholly. Each event's embedding is read once, from wherever
    the table lies, and then added up from a place that fits a cache, window by window. Unknown rows
    count as absent; the mean of nothing is zero. `lo` may not fall from one window to the next.
    """
    if not len(log.rows):
        nothing = embed(torch.zeros(0, dtype=torch.int64, device=device))
        return nothing.new_zeros(len(lo), len(lengths) * nothing.shape[1])
    events, local_lo, local_hi = covering_events(lo, hi)
    rows = log.rows[events].astype(np.int64)
    known = rows > UNKNOWN_ROW
    counts = _starts(known)
    last = counts[np.repeat(local_hi, len(lengths))]
    begin = np.maximum(local_lo[:, None], local_hi[:, None] - np.array(lengths))
    means: torch.Tensor = _Means.apply(  # type: ignore[no-untyped-call]
        embed(torch.from_numpy(rows[known]).to(device)), counts[begin].ravel(), last
    )
    return means.view(len(lo), -1)


class _Means(torch.autograd.Function):
    """[E, D], first [M], last [M] → means of the vectors first … last − 1 of each: [M, D].

    Backwards an event is to its windows what a window is to its events: its gradient is the sum of
    what each of them gives one event.
    """

    @staticmethod
    def forward(ctx: Any, vectors: torch.Tensor, first: Places, last: Places) -> torch.Tensor:
        sizes = last - first
        starts = _starts(sizes)
        events = np.arange(starts[-1], dtype=np.int32) + np.repeat(first - starts[:-1], sizes)
        share = torch.from_numpy(1 / np.maximum(sizes, 1)).to(vectors.device, vectors.dtype)
        ctx.events, ctx.starts, ctx.num_vectors = events, starts, len(vectors)
        ctx.save_for_backward(share := share[:, None])
        return _sums(vectors, events, starts).mul_(share)

    @staticmethod
    def backward(ctx: Any, grad_means: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (share,) = ctx.saved_tensors
        shape = len(ctx.starts) - 1, ctx.num_vectors
        held = sparse.csr_array((np.ones(len(ctx.events), np.int8), ctx.events, ctx.starts), shape)
        by_event = held.tocsc()
        return _sums(grad_means * share, by_event.indices, by_event.indptr), None, None


def _sums(vectors: torch.Tensor, members: Places, starts: Places) -> torch.Tensor:
    """Sum i is that of the vectors members[starts[i]] … members[starts[i + 1] − 1]: [M, D]."""
    places, offsets = (torch.from_numpy(array).to(vectors.device) for array in (members, starts))
    return functional.embedding_bag(places, vectors, offsets, mode="sum", include_last_offset=True)


def _starts(sizes: NDArray[Any]) -> Places:
    """Where each of some stretches begins that lie one after the other, and where the last ends."""
    starts = np.zeros(len(sizes) + 1, np.int32)
    np.cumsum(sizes, out=starts[1:])
    return starts


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
