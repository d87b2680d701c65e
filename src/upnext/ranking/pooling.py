"""Sums of the vectors of several rows, whose gradient is such a sum too."""

from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch.nn.functional import embedding_bag

from upnext.schema import NUM_RESERVED_ROWS, UNKNOWN_ROW, Rows


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
    of_lines = torch.from_numpy(rows).to(vectors.device)
    if not (vectors.requires_grad and torch.is_grad_enabled()):
        return embedding_bag(of_lines, vectors, mode="sum")
    of_rows = (one.to(vectors.device) for one in _lines_of_rows(rows, len(vectors)))
    summed: torch.Tensor = _Sums.apply(vectors, of_lines, *of_rows)  # type: ignore[no-untyped-call]
    return summed


class _Sums(torch.autograd.Function):
    """Vectors [N, E] → [R, E] their sums over the rows of each line.

    The gradient of a vector is the sum of those of the lines that it occurs in: sums again, once it
    is known which these are, and many times quicker than to scatter the gradient of every slot.
    """

    @staticmethod
    def forward(
        ctx: Any,
        vectors: torch.Tensor,
        of_lines: torch.Tensor,
        of_rows: torch.Tensor,
        starts: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(of_rows, starts)
        return embedding_bag(of_lines, vectors, mode="sum")

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        of_rows, starts = ctx.saved_tensors
        return embedding_bag(of_rows, gradient.contiguous(), starts, mode="sum"), None, None, None


def _lines_of_rows(rows: Rows, num_rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The lines that each row occurs in, row after row, and where those of each begin, [N].

    Reserved rows occur in none.
    """
    num_lines, num_slots = rows.shape
    starts = np.arange(0, rows.size + 1, max(1, num_slots))
    occurs = np.ones(rows.size, bool)
    by_row = csr_array((occurs, rows.ravel(), starts), shape=(num_lines, num_rows)).tocsc()
    first = by_row.indptr[NUM_RESERVED_ROWS]
    of_rows = by_row.indices[first:].astype(np.int64)
    begins = np.maximum(by_row.indptr[:-1] - first, 0).astype(np.int64)
    return torch.from_numpy(of_rows), torch.from_numpy(begins)
