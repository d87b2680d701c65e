"""Which rows may a search return? What was not removed, and of that what one call allows."""

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from upnext.schema import NUM_RESERVED_ROWS, Rows

Mask = NDArray[np.bool_]
"""[N]: whether a row may be returned."""


def no_rows() -> Rows:
    """An empty array of rows."""
    return np.zeros(0, np.int32)


def allowed_mask(
    num_rows: int, removed_rows: Rows, allowed_rows: Rows | None = None
) -> Mask | None:
    """The rows that may be returned, or None where that is every item.

    Args:
        num_rows: N, the reserved rows counted.
        removed_rows: never returned.
        allowed_rows: None allows all others; reserved rows and -1 are left away.

    Raises: ValueError: a row that the catalogue does not have.

    >>> allowed_mask(6, np.array([3]), np.array([1, 3, 5]))
    array([False, False, False, False, False,  True])
    """
    if allowed_rows is None and not len(removed_rows):
        return None
    mask = np.full(num_rows, allowed_rows is None)
    if allowed_rows is not None:
        mask[named_items(allowed_rows, num_rows, "allowed_rows")] = True
    mask[removed_rows] = False
    mask[:NUM_RESERVED_ROWS] = False
    return mask


def joined_rows(removed_rows: Rows, rows: Rows, num_rows: int) -> Rows:
    """The removed rows and those to be removed now, each once and in order.

    Raises: ValueError: a row that the catalogue does not have.
    """
    return np.union1d(removed_rows, named_items(rows, num_rows, "rows")).astype(np.int32)


def row_selector(allowed: Mask | None) -> Any:
    """The same for faiss, which counts items from 0 and wants bits; None allows all there too."""
    if allowed is None:
        return None
    selector: Any = faiss.IDSelectorBitmap
    return selector(np.packbits(allowed[NUM_RESERVED_ROWS:], bitorder="little"))


def named_items(rows: Rows, num_rows: int, name: str) -> Rows:
    """Those of the rows that are items; reserved rows and -1 are left away.

    Raises: ValueError: a row that the catalogue does not have; the error says `name`.
    """
    rows = np.asarray(rows)
    if rows.size and rows.max() >= num_rows:
        raise ValueError(f"{name}: expected rows below {num_rows}, got {rows.max()}")
    return rows[rows >= NUM_RESERVED_ROWS]
