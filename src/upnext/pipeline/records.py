"""Checked watches become records on disk, whose users and items are numbers."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upnext.examples.sorting import WATCH_RECORD, Records
from upnext.logs.stream import WatchBatch, WatchStream

ROWS_PER_LINE = 10_000_000
"""Rows read between two lines of progress."""

Say = Callable[[str], None]
Counts = NDArray[np.int64]


class Progress:
    """Tells now and then how many watches were read."""

    def __init__(self, say: Say) -> None:
        self._say, self._began, self._told = say, time.perf_counter(), 0

    def reached(self, num_read: int) -> None:
        """Says so, if there are many more than when it last did."""
        if num_read - self._told >= ROWS_PER_LINE:
            self._told = num_read
            rows_per_s = num_read / (time.perf_counter() - self._began)
            self._say(f"read {num_read:,} watches, {rows_per_s:,.0f} a second")


def write_records(stream: WatchStream, path: Path, say: Say) -> tuple[Counts, Counts]:
    """Writes all good watches in their order; how many each user number and item number has."""
    num_by_user = num_by_item = np.zeros(0, np.int64)
    progress = Progress(say)
    with path.open("wb") as file:
        for batch in stream:
            _records(batch).tofile(file)
            num_by_user = _counted(num_by_user, batch.user_codes)
            num_by_item = _counted(num_by_item, batch.item_codes)
            progress.reached(stream.tally.num_read)
    return num_by_user, num_by_item


def _records(batch: WatchBatch) -> Records:
    records = np.empty(len(batch.places), WATCH_RECORD)
    records["user"], records["item"] = batch.user_codes, batch.item_codes
    records["at_ms"], records["watch_time_s"] = batch.at_ms, batch.watch_time_s
    records["place"] = batch.places
    return records


def _counted(counts: Counts, codes: NDArray[np.int32]) -> Counts:
    more = np.bincount(codes, minlength=len(counts))
    more[: len(counts)] += counts
    return more
