"""Sums of the vectors in a bag, whose gradient is such a sum too."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch.nn.functional import embedding_bag

Places = NDArray[np.int32]
"""Among what one call holds: half as long as places in a log, which may be of any length."""


def bag_sums(
    vectors: torch.Tensor, members: Places, starts: Places, *, num_reserved: int = 0
) -> torch.Tensor:
    """[M, E] of each bag b the sum of vectors [N, E] members[starts[b]] … members[starts[b+1] − 1].

    Args:
        starts: [M + 1] where each bag begins, and where the last one ends.
        num_reserved: the first so many vectors get no gradient; they should be zero.
    """
    summed: torch.Tensor = _Sums.apply(  # type: ignore[no-untyped-call]
        vectors, members, starts, num_reserved
    )
    return summed


def bag_starts(sizes: NDArray[Any]) -> Places:
    """Where each of the bags begins that have so many members, and where the last one ends.

    >>> bag_starts(np.array([2, 0, 1])).tolist()
    [0, 2, 2, 3]
    """
    starts = np.zeros(len(sizes) + 1, np.int32)
    np.cumsum(sizes, out=starts[1:])
    return starts


class _Sums(torch.autograd.Function):
    """The gradient of a vector is the sum of those of the bags that it lies in.

    These are sums again, once it is known which bags they are, and many times quicker than to
    scatter the gradient of every member.
    """

    @staticmethod
    def forward(
        ctx: Any, vectors: torch.Tensor, members: Places, starts: Places, num_reserved: int
    ) -> torch.Tensor:
        ctx.members, ctx.starts = members, starts
        ctx.num_vectors, ctx.num_reserved = len(vectors), num_reserved
        return _sums(vectors, members, starts)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        is_member, shape = np.ones(len(ctx.members), bool), (len(ctx.starts) - 1, ctx.num_vectors)
        by_vector = csr_array((is_member, ctx.members, ctx.starts), shape=shape).tocsc()
        first = by_vector.indptr[ctx.num_reserved]
        starts = np.maximum(by_vector.indptr - first, 0)
        return _sums(gradient, by_vector.indices[first:], starts), None, None, None


def _sums(vectors: torch.Tensor, members: Places, starts: Places) -> torch.Tensor:
    places, offsets = (torch.from_numpy(array).to(vectors.device) for array in (members, starts))
    return embedding_bag(
        places, vectors.contiguous(), offsets, mode="sum", include_last_offset=True
    )
