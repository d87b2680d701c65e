"""Averages of embeddings over windows of history, each event of which is read once."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from upnext.examples.history import EventLog, Indices
from upnext.schema import UNKNOWN_ROW
from upnext.training.bags import bag_starts, bag_sums

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
    the table lies; what was read fits a cache, from which adding up window by window costs less
    than prefix sums would. Unknown rows count as absent; the mean of nothing is zero. `lo` may not
    fall from one window to the next.
    """
    if not len(log.rows):
        nothing = embed(torch.zeros(0, dtype=torch.int64, device=device))
        return nothing.new_zeros(len(lo), len(lengths) * nothing.shape[1])
    events, local_lo, local_hi = covering_events(lo, hi)
    rows = log.rows[events].astype(np.int64)
    known = rows > UNKNOWN_ROW
    counts = bag_starts(known)
    begin = np.maximum(local_lo[:, None], local_hi[:, None] - np.array(lengths))
    first = counts[begin].ravel()
    sizes = counts[np.repeat(local_hi, len(lengths))] - first
    starts = bag_starts(sizes)
    members = np.arange(starts[-1], dtype=np.int32) + np.repeat(first - starts[:-1], sizes)
    vectors = embed(torch.from_numpy(rows[known]).to(device))
    share = torch.from_numpy(1 / np.maximum(sizes, 1)).to(vectors.device, vectors.dtype)
    means = bag_sums(vectors, members, starts) * share[:, None]
    return means.view(len(lo), len(lengths) * means.shape[1])


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
