"""Files of watches that are too large for memory, read as they came, some rows at a time."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from upnext.errors import DataError
from upnext.logs.check import refuse_duplicates
from upnext.logs.formats import RawFile, find_files, read_file
from upnext.logs.sources import TABLE_COLUMNS, LogsConfig
from upnext.logs.tables import nothing_found, read_table, short_name

ROWS_AT_ONCE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A file, or of a Parquet file the `num_rows` rows from `first` on, from 0.

    `path` is absolute; `name` is how reports call the file.
    """

    path: Path
    name: str
    first: int = 0
    num_rows: int | None = None


@dataclass(frozen=True, kw_only=True)
class WatchLogs:
    """Where watches lie and what is a good one; one later than `now_ms` is in the future."""

    directory: Path
    config: LogsConfig
    now_ms: int

    @property
    def columns(self) -> set[str]:
        """The columns that a watch has, as the files name them."""
        names = self.config.watches.columns
        return {names.get(name, name) for name in TABLE_COLUMNS["watches"]}

    def pieces(self, max_rows: int | None = None) -> list[Piece]:
        """All files in their order, Parquet in pieces of so many rows.

        Raises:
            DataError: there are none.
        """
        paths = find_files(self.directory, "watches", self.config.watches.files)
        if not paths:
            raise nothing_found(self.directory, "watches", "files of watches")
        whole = (Piece(path=p.absolute(), name=short_name(p, self.directory)) for p in paths)
        return [piece for file in whole for piece in _cut(file, max_rows)]

    def catalogue(self) -> pl.DataFrame | None:
        """The items that watches must be of, or None where any will do.

        Raises:
            DataError: they cannot be read.
        """
        table = read_table("items", self.directory, self.config, self.now_ms, [])
        if table is None:
            return None
        refuse_duplicates(table)
        return table.accepted()

    def read(self, piece: Piece) -> Iterator[RawFile]:
        """The rows of a piece: of Parquet a row group at least, of text what a file at once gave.

        There is always a first part, even of a file without a row.

        Raises:
            DataError: the file cannot be read; before the first part, if it cannot be opened.
        """
        is_parquet, separator = _is_parquet(piece.path), self.config.watches.separator
        wanted: Collection[str] = () if is_parquet else self.columns
        file = read_file(piece.path, piece.name, wanted=wanted, separator=separator)
        return _parquet_parts(piece, file, self.columns) if is_parquet else _slices(file)


def _is_parquet(path: Path) -> bool:
    return path.name.lower().endswith(".parquet")


def _cut(file: Piece, max_rows: int | None) -> Iterator[Piece]:
    num_rows = _num_rows(file.path) if max_rows is not None and _is_parquet(file.path) else 0
    if max_rows is None or num_rows <= max_rows:
        yield file
        return
    for first in range(0, num_rows, max_rows):
        yield replace(file, first=first, num_rows=max_rows)


def _num_rows(path: Path) -> int:
    """Rows of a Parquet file; none of one that cannot be read, as whoever reads it will tell."""
    try:
        count: int = pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, OSError):
        return 0
    return count


def _parquet_parts(piece: Piece, file: RawFile, wanted: Collection[str]) -> Iterator[RawFile]:
    """The wanted columns of a file that `file` tells the names of."""
    columns = [column for column in file.columns if column in wanted]
    lazy = pl.scan_parquet(piece.path, glob=False).select(columns)
    yield replace(file, frame=lazy.head(0).collect())
    if piece.num_rows is not None:
        lazy = lazy.slice(piece.first, piece.num_rows)
    first = 1 + piece.first
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
