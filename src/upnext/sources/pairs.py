"""Pairs of a segment, a row or a score with a row, in order; and what of a log counts."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.best import Places
from upnext.schema import MS_PER_DAY, NUM_RESERVED_ROWS, Floats, Rows, TimesMs

ROW_BITS = 32


def pair_keys(first: NDArray[Any], item_rows: NDArray[Any]) -> Places:
    """One whole number for each pair, in the order of pairs, to sort and find pairs by."""
    keys: Places = (np.asarray(first, np.int64) << ROW_BITS) + item_rows
    return keys


def falling(scores: Floats) -> Places:
    """Whole numbers that rise as scores above 0 fall, to sort by score and row at once.

    The bits of such floats are in the order of their values.
    """
    return -scores.view(np.int32).astype(np.int64)


def rows_of_keys(keys: Places) -> Rows:
    """The rows of `pair_keys`."""
    rows: Rows = (keys & (2**ROW_BITS - 1)).astype(np.int32)
    return rows


def are_items(item_rows: NDArray[Any], num_rows: int) -> NDArray[np.bool_]:
    """Which rows are items of a catalogue of N rows: no padding, not unknown, none added later."""
    return (item_rows >= NUM_RESERVED_ROWS) & (item_rows < num_rows)


def are_late(at_ms: TimesMs, days: float | None, until_ms: int | None) -> NDArray[np.bool_]:
    """Which times are before `until_ms` and, unless `days` is None, in the last days before it.

    `until_ms`: None stands for just after the last of the times.
    """
    end_ms = int(at_ms.max(initial=0)) + 1 if until_ms is None else until_ms
    late: NDArray[np.bool_] = at_ms < end_ms
    return late if days is None else late & (at_ms >= end_ms - days * MS_PER_DAY)
