"""Pages of a mapped file, let go of a few at a time."""

import mmap
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

PIECE_BYTES = 4 << 20


def let_go(array: NDArray[Any], *, rest: float) -> None:
    """Takes the pages of a mapped array out of this process; who reads it still gets them back.

    A mapping that ends has all its pages taken out at once: of a gigabyte a core works on that for
    50 ms, beside those who answer. After each piece this rests, `rest` times as long as it took.
    """
    mapping = _mapping(array)
    if mapping is None or not hasattr(mmap, "MADV_DONTNEED"):
        return
    for start in range(0, len(mapping), PIECE_BYTES):
        began_s = time.monotonic()
        mapping.madvise(mmap.MADV_DONTNEED, start, min(PIECE_BYTES, len(mapping) - start))
        time.sleep(rest * (time.monotonic() - began_s))


def _mapping(array: NDArray[Any]) -> mmap.mmap | None:
    """None where the array lies in memory."""
    owner: object = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    return owner if isinstance(owner, mmap.mmap) else None
