"""The quarantine of watches that were read in pieces: refused rows as they came, file by file."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from upnext.errors import DataError
from upnext.logs.check import CheckedTable, Verdicts, write_quarantine
from upnext.logs.formats import QUARANTINE
from upnext.logs.pieces import WatchLogs
from upnext.logs.report import RefusedRow, first_of_each_reason
from upnext.logs.tally import RefusedRows

FILE = "watches.parquet"


@dataclass(frozen=True, kw_only=True)
class SetAside:
    """Files, in order, with refused rows of a piece; and the first of each reason."""

    paths: tuple[Path, ...]
    examples: tuple[RefusedRow, ...]


def set_aside(logs: WatchLogs, refused: RefusedRows, folder: Path) -> SetAside:
    """Writes refused rows of one piece, which is read again.

    Args:
        folder: a new directory for the files.
    """
    paths, examples, first = list[Path](), tuple[RefusedRow, ...](), 0
    for number, raw in enumerate(logs.read(refused.piece)):
        here = slice(*np.searchsorted(refused.rows, [first, first + raw.frame.height]))
        verdicts = Verdicts(np.zeros(raw.frame.height, np.uint8), refused.verdicts.reasons)
        verdicts.codes[refused.rows[here] - first] = refused.verdicts.codes[here]
        first += raw.frame.height
        table = CheckedTable(name="watches", frame=raw.frame, verdicts=verdicts, files=[raw])
        if table.quarantined():
            part = folder / str(number)
            part.mkdir(parents=True)
            write_quarantine(part, {"watches": table})
            paths.append(part / QUARANTINE / FILE)
            examples = first_of_each_reason([*examples, *table.examples()])
    return SetAside(paths=tuple(paths), examples=examples)


def join_quarantine(directory: Path, paths: Iterable[Path]) -> None:
    """Writes quarantine/watches.parquet of the logs, from all that was set aside, in order.

    Raises:
        DataError: the directory of the logs cannot be written.
    """
    parts = [pl.scan_parquet(path, glob=False) for path in paths]
    if not parts:
        return
    folder = directory / QUARANTINE
    unfinished = folder / f".{FILE}.unfinished"
    try:
        folder.mkdir(exist_ok=True)
        pl.concat(parts, how="diagonal").sink_parquet(unfinished, compression="zstd")
        os.replace(unfinished, folder / FILE)
    except OSError as error:
        raise DataError(
            str(folder),
            expected="a directory that can be written, for the rows that were refused",
            got=str(error),
            hint="make the logs directory writable, or read a copy of it.",
        ) from error
