"""Averages of embeddings over windows of history, each event of which is read once."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

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
    events, local_lo, local_hi = covering_events(lo, hi)
    rows = log.rows[events].astype(np.int64)
    known = rows > UNKNOWN_ROW
    counts = np.concatenate([[0], np.cumsum(known)])
    embedded = embed(torch.from_numpy(rows[known]).to(device))
    prefix = nn.functional.pad(embedded.cumsum(dim=0, dtype=torch.float64), (0, 0, 1, 0))
    end = counts[local_hi]
    summed = prefix[torch.from_numpy(end).to(device)]
    means = []
    for length in lengths:
        first = counts[np.maximum(local_lo, local_hi - length)]
        size = torch.from_numpy(np.maximum(end - first, 1).astype(np.float32)).to(device)
        difference = summed - prefix[torch.from_numpy(first).to(device)]
        means.append(difference.to(embedded.dtype) / size[:, None])
    return torch.cat(means, dim=1)


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
