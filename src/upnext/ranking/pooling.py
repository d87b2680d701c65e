"""Sums of the vectors of several rows."""

import numpy as np
import torch

from upnext.schema import NUM_RESERVED_ROWS, UNKNOWN_ROW, Rows
from upnext.training.bags import bag_starts, bag_sums


def pooled(vectors: torch.Tensor, rows: Rows) -> torch.Tensor:
    """[R, E] the sum of the vectors [N, E] of the n known rows of each line [R, H], over √n.

    A mean over n would shrink as they grow more, and be learned from ever more slowly.
    """
    num_known = (rows > UNKNOWN_ROW).sum(axis=1, keepdims=True)
    scale = torch.from_numpy(np.maximum(num_known, 1).astype(np.float32) ** -0.5)
    return sums_of_lines(vectors, rows) * scale.to(vectors.device)


def sums_of_lines(vectors: torch.Tensor, rows: Rows) -> torch.Tensor:
    """[R, E] the sum of the vectors [N, E] of the rows of each line [R, H].

    The vectors of the reserved rows must be zero; their gradient is.
    """
    starts = bag_starts(np.full(len(rows), rows.shape[1]))
    return bag_sums(vectors, rows.ravel(), starts, num_reserved=NUM_RESERVED_ROWS)
