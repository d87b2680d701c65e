"""Watches too many for memory: read, typed and checked some rows at a time, as `read.py` would.

What is refused, and why, is the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.errors import DataError
from upnext.logs.check import CheckedTable, Verdicts, refuse_longer_than_item
from upnext.logs.formats import EmptyFileError, RawFile
from upnext.logs.id_codes import Codes, IdCodes
from upnext.logs.pieces import Piece, WatchLogs
from upnext.logs.report import UnreadableFile
from upnext.logs.tables import clean_file
from upnext.logs.tally import Places, Tally


@dataclass(frozen=True)
class WatchBatch:
    """The good rows among some that follow one another: [n] each; codes number the ids."""

    places: Places
    user_codes: Codes
    item_codes: Codes
    at_ms: NDArray[np.int64]
    watch_time_s: NDArray[np.float32]


class WatchStream:
    """The watches of some pieces, in their order; `tally` tells what became of their rows.

    Repeated rows, which may lie far apart, are found by whoever sorts them.

    Args:
        catalogue: as `WatchLogs.catalogue`.
    """

    def __init__(
        self, logs: WatchLogs, pieces: Sequence[Piece], catalogue: pl.DataFrame | None
    ) -> None:
        self.users, self.items = IdCodes(), IdCodes()
        self.tally = Tally()
        self._logs, self._pieces, self._catalogue = logs, pieces, catalogue
        if catalogue is not None:
            self.items.codes(catalogue["item_id"])
        self._num_known = len(self.items)

    def __iter__(self) -> Iterator[WatchBatch]:
        """Reads everything, once.

        Raises:
            DataError: a file cannot be read or lacks a column.
        """
        for piece in self._pieces:
            first, num_broken = self.tally.num_read, 0
            try:
                parts = self._logs.read(piece)
            except DataError as error:
                skips = self._logs.config.skip_unreadable_files
                if not isinstance(error, EmptyFileError) and not skips:
                    raise
                self.tally.unreadable.append(UnreadableFile(file=error.where, cause=error.got))
                continue
            for raw in parts:
                self.tally.unused_columns |= set(raw.columns) - self._logs.columns
                num_broken += raw.broken.height
                yield self._checked(raw)
            self.tally.end_piece(piece, first=first, num_broken=num_broken)

    def _checked(self, raw: RawFile) -> WatchBatch:
        config = self._logs.config
        verdicts = Verdicts(np.zeros(raw.frame.height, np.uint8), self.tally.reasons)
        frame = clean_file(raw, "watches", config, self._logs.now_ms, verdicts, self.tally.blanked)
        item_codes = np.full(frame.height, -1, np.int32)
        good = np.flatnonzero(verdicts.codes == 0)
        item_codes[good] = self.items.codes(frame["item_id"].gather(good))
        if self._catalogue is not None:
            verdicts.refuse("unknown item_id", pl.Series(item_codes >= self._num_known))
            if (share := config.max_watch_share) is not None:
                table = CheckedTable(name="watches", frame=frame, verdicts=verdicts, files=[])
                refuse_longer_than_item(table, self._catalogue, share)
        good = np.flatnonzero(verdicts.codes == 0)
        if good.size < frame.height:
            frame, item_codes = frame[good], item_codes[good]
        at_ms = frame["started_at_ms"].to_numpy()
        return WatchBatch(
            places=self.tally.take(verdicts, at_ms),
            user_codes=self.users.codes(frame["user_id"]),
            item_codes=item_codes,
            at_ms=at_ms,
            watch_time_s=frame["watch_time_s"].to_numpy(),
        )
