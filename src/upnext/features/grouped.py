"""Candidates by request; compiled."""

import numpy as np
from numpy.typing import NDArray

from upnext.compiled import INDICES, INT, compiled

Indices = NDArray[np.int64]


@compiled(INDICES, INT)
def grouped(request_index: Indices, num_requests: int) -> tuple[Indices, Indices]:
    """order [M], starts [R + 1]: request r's are order[starts[r] : starts[r + 1]], as they came."""
    starts = np.zeros(num_requests + 1, np.int64)
    for request in request_index:
        starts[request + 1] += 1
    for request in range(num_requests):
        starts[request + 1] += starts[request]
    order, ends = np.empty(len(request_index), np.int64), starts.copy()
    for candidate, request in enumerate(request_index):
        order[ends[request]] = candidate
        ends[request] += 1
    return order, starts
