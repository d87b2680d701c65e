"""Watches too many for memory: read, typed and checked some rows at a time, as `read.py` would.

What is refused, and why, is the same. A row is told by its place among all rows of all files.
"""

import os
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.errors import DataError
from upnext.logs.check import (
    BROKEN_LINE,
    CheckedTable,
    Verdicts,
    as_days,
    refuse_duplicates,
    refuse_longer_than_item,
    rows_by_day,
    write_quarantine,
)
from upnext.logs.formats import QUARANTINE, RawFile, find_files, read_file
from upnext.logs.id_codes import Codes, IdCodes
from upnext.logs.report import RefusedRow, TableReport, UnreadableFile, first_of_each_reason
from upnext.logs.sources import TABLE_COLUMNS, LogsConfig
from upnext.logs.tables import clean_file, nothing_found, read_table, short_name
from upnext.schema import TimesMs

ROWS_AT_ONCE = 1 << 20

Places = NDArray[np.int64]


@dataclass(frozen=True)
class WatchBatch:
    """The good rows among some that follow one another: [n] each; codes number the ids."""

    places: Places
    user_codes: Codes
    item_codes: Codes
    at_ms: NDArray[np.int64]
    watch_time_s: NDArray[np.float32]


@dataclass(frozen=True)
class _FileRows:
    """Where the rows of a file stand among all."""

    path: Path
    name: str
    first: int
    num_rows: int
    num_broken: int


class WatchStream:
    """All watches of a directory, in the order of their files; it remembers what was refused.

    Parquet is read some rows at a time, one row group at least; text a file at a time. Repeated
    rows, which may lie far apart, are found by whoever sorts them and told to `refuse_repeats`.

    Raises:
        DataError: the items, which watches must be of, cannot be read.
    """

    def __init__(self, directory: Path, config: LogsConfig, *, now_ms: int) -> None:
        self.directory, self.config, self.now_ms = directory, config, now_ms
        self.users, self.items = IdCodes(), IdCodes()
        self.unreadable: list[UnreadableFile] = []
        self.num_read = self.num_accepted = 0
        self._catalogue = _checked_items(directory, config, now_ms)
        if self._catalogue is not None:
            self.items.codes(self._catalogue["item_id"])
        self._num_known = len(self.items)
        self._wanted = {config.watches.columns.get(n, n) for n in TABLE_COLUMNS["watches"]}
        self._columns: set[str] = set()
        self._files: list[_FileRows] = []
        self._reasons: list[str] = []
        self._refused: list[tuple[Places, NDArray[np.uint8]]] = []
        self._times_ms: list[int] = []
        self._num_by_day: Counter[int] = Counter()
        self._examples: tuple[RefusedRow, ...] = ()

    def __iter__(self) -> Iterator[WatchBatch]:
        """Reads everything, once.

        Raises:
            DataError: there are no files, or one cannot be read or lacks a column.
        """
        paths = find_files(self.directory, "watches", self.config.watches.files)
        if not paths:
            raise nothing_found(self.directory, "watches", "files of watches")
        for path in paths:
            name, first = short_name(path, self.directory), self.num_read
            num_broken = 0
            for raw in self._batches(path, name):
                num_broken += raw.broken.height
                yield self._checked(raw)
                self.num_read += raw.frame.height
            self._files.append(_FileRows(path, name, first, self.num_read - first, num_broken))

    def refuse_repeats(self, places: Places, at_ms: TimesMs) -> None:
        """Refuses rows, of these times, that were good but for being there already."""
        if places.size:
            verdicts = Verdicts(np.zeros(places.size, np.uint8), self._reasons)
            verdicts.refuse("duplicate", pl.Series(np.ones(places.size, bool)))
            self._refused.append((places, verdicts.codes))
            self.num_accepted -= places.size
            self._num_by_day -= rows_by_day(at_ms)

    def report(self) -> TableReport:
        """What became of the rows; with examples, once the quarantine is written."""
        num_broken = sum(file.num_broken for file in self._files)
        codes = np.bincount(self._all_refused()[1], minlength=1 + len(self._reasons))
        counts = Counter({BROKEN_LINE: num_broken})
        counts.update(dict(zip(self._reasons, codes[1:].tolist(), strict=True)))
        return TableReport(
            num_read=self.num_read + num_broken,
            num_accepted=self.num_accepted,
            quarantined={reason: count for reason, count in counts.most_common() if count},
            blanked={},
            unused_columns=tuple(sorted(self._columns - self._wanted)),
            first_ms=min(self._times_ms, default=None),
            last_ms=max(self._times_ms, default=None),
            per_day=as_days(self._num_by_day),
            examples=self._examples,
        )

    def write_quarantine(self, scratch: Path) -> None:
        """Writes quarantine/watches.parquet; reads the files that refused rows stand in again.

        Args:
            scratch: a new directory, for the parts that it is put together from.

        Raises:
            DataError: the directory of the logs cannot be written.
        """
        parts = []
        for number, table in enumerate(self._refused_tables()):
            parts.append(_quarantined(scratch / str(number), table))
            self._examples = first_of_each_reason([*self._examples, *table.examples()])
        if not parts:
            return
        folder = self.directory / QUARANTINE
        unfinished = folder / ".watches.parquet.unfinished"
        refused = pl.concat([pl.scan_parquet(p, glob=False) for p in parts], how="diagonal")
        try:
            folder.mkdir(exist_ok=True)
            refused.sink_parquet(unfinished, compression="zstd")
            os.replace(unfinished, folder / "watches.parquet")
        except OSError as error:
            raise DataError(
                str(folder),
                expected="a directory that can be written, for the rows that were refused",
                got=str(error),
                hint="make the logs directory writable, or read a copy of it.",
            ) from error

    def _batches(self, path: Path, name: str) -> Iterator[RawFile]:
        """The rows of a file, some at a time; none where it is to be left out."""
        is_parquet = path.name.lower().endswith(".parquet")
        separator = self.config.watches.separator
        try:
            wanted: Collection[str] = () if is_parquet else self._wanted
            file = read_file(path, name, wanted=wanted, separator=separator)
        except DataError as error:
            if not self.config.skip_unreadable_files:
                raise
            self.unreadable.append(UnreadableFile(file=error.where, cause=error.got))
            return
        self._columns |= set(file.columns)
        if is_parquet:
            yield from _parquet_batches(path, file, self._wanted)
        else:
            yield from _slices(file)

    def _checked(self, raw: RawFile) -> WatchBatch:
        verdicts = Verdicts(np.zeros(raw.frame.height, np.uint8), self._reasons)
        frame = clean_file(raw, "watches", self.config, self.now_ms, verdicts, Counter())
        item_codes = np.full(frame.height, -1, np.int32)
        good = np.flatnonzero(verdicts.codes == 0)
        item_codes[good] = self.items.codes(frame["item_id"].gather(good))
        if self._catalogue is not None:
            verdicts.refuse("unknown item_id", pl.Series(item_codes >= self._num_known))
            if (share := self.config.max_watch_share) is not None:
                table = CheckedTable(name="watches", frame=frame, verdicts=verdicts, files=[])
                refuse_longer_than_item(table, self._catalogue, share)
        refused = np.flatnonzero(verdicts.codes)
        if refused.size:
            self._refused.append((self.num_read + refused, verdicts.codes[refused]))
            good = np.flatnonzero(verdicts.codes == 0)
            frame, item_codes = frame[good], item_codes[good]
        at_ms = frame["started_at_ms"].to_numpy()
        if good.size:
            self._times_ms += [int(at_ms.min()), int(at_ms.max())]
            self._num_by_day += rows_by_day(at_ms)
        self.num_accepted += good.size
        return WatchBatch(
            places=self.num_read + good,
            user_codes=self.users.codes(frame["user_id"]),
            item_codes=item_codes,
            at_ms=at_ms,
            watch_time_s=frame["watch_time_s"].to_numpy(),
        )

    def _all_refused(self) -> tuple[Places, NDArray[np.uint8]]:
        """Places in their order, and the reason of each as `Verdicts` has it."""
        nothing = (np.zeros(0, np.int64), np.zeros(0, np.uint8))
        places, codes = map(np.concatenate, zip(nothing, *self._refused, strict=True))
        order = np.argsort(places)
        return places[order], codes[order]

    def _refused_tables(self) -> Iterator[CheckedTable]:
        """Rows as they came, with their verdicts, wherever one of some rows was refused."""
        places, codes = self._all_refused()
        for file in self._files:
            first, end = file.first, file.first + file.num_rows
            if not file.num_broken and not np.any((places >= first) & (places < end)):
                continue
            for raw in self._batches(file.path, file.name):
                here = slice(*np.searchsorted(places, [first, first + raw.frame.height]))
                verdicts = Verdicts(np.zeros(raw.frame.height, np.uint8), self._reasons)
                verdicts.codes[places[here] - first] = codes[here]
                first += raw.frame.height
                table = CheckedTable(
                    name="watches", frame=raw.frame, verdicts=verdicts, files=[raw]
                )
                if table.quarantined():
                    yield table


def _checked_items(directory: Path, config: LogsConfig, now_ms: int) -> pl.DataFrame | None:
    """The items that watches must be of, or None where any will do."""
    table = read_table("items", directory, config, now_ms, [])
    if table is None:
        return None
    refuse_duplicates(table)
    return table.accepted()


def _parquet_batches(path: Path, file: RawFile, wanted: Collection[str]) -> Iterator[RawFile]:
    """The wanted columns of a file that `file` tells the names of."""
    columns = [column for column in file.columns if column in wanted]
    lazy = pl.scan_parquet(path, glob=False).select(columns)
    yield replace(file, frame=lazy.head(0).collect())
    first = 1
    try:
        for frame in lazy.collect_batches(chunk_size=ROWS_AT_ONCE, maintain_order=True):
            numbers = pl.Series(np.arange(first, first + frame.height))
            first += frame.height
            yield replace(file, frame=frame, row_numbers=numbers)
    except pl.exceptions.PolarsError as error:
        raise DataError(
            file.name,
            expected="a Parquet file that can be read to its end",
            got=str(error).splitlines()[0][:200],
            hint="mend or remove it.",
        ) from error


def _slices(file: RawFile) -> Iterator[RawFile]:
    """A text file, which is read already; its broken lines come with the first rows."""
    assert file.row_numbers is not None
    broken = file.broken
    for first in range(0, max(1, file.frame.height), ROWS_AT_ONCE):
        yield replace(
            file,
            frame=file.frame.slice(first, ROWS_AT_ONCE),
            row_numbers=file.row_numbers.slice(first, ROWS_AT_ONCE),
            broken=broken,
        )
        broken = broken.clear()


def _quarantined(folder: Path, table: CheckedTable) -> Path:
    folder.mkdir(parents=True)
    write_quarantine(folder, {"watches": table})
    return folder / QUARANTINE / "watches.parquet"
