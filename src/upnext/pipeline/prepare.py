"""Logs of any size, sorted on disk once: logs → checked, numbered, sorted → prepared logs."""

import contextlib
import glob
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.errors import DataError
from upnext.examples.encoder import user_vocabulary
from upnext.examples.history import Indices
from upnext.examples.prepared import PreparedLogs, open_prepared, write_tables
from upnext.examples.sorting import Numbering, Records, sort_watches
from upnext.examples.vocabulary import Vocabulary
from upnext.logs.formats import QUARANTINE
from upnext.logs.pieces import WatchLogs
from upnext.logs.read import read_logs
from upnext.logs.refused import SetAside, join_quarantine, set_aside
from upnext.logs.report import CheckReport, TableReport, first_of_each_reason
from upnext.logs.sources import LogsConfig, TableSource
from upnext.logs.stream import WatchStream
from upnext.logs.tally import Tally
from upnext.pipeline.alone import alone_in
from upnext.pipeline.records import Counts, Say, write_records
from upnext.registry.files import force_to_disk, force_tree_to_disk
from upnext.schema import Logs

DEFAULT_CONFIG = LogsConfig()


class Numbered(Protocol):
    """Watches that are checked, and whose users and items have numbers, wherever they lie."""

    @property
    def tally(self) -> Tally:
        """What became of all rows, but for repeats."""
        ...

    @property
    def users(self) -> pl.Series:
        """The id of each user number."""
        ...

    @property
    def items(self) -> pl.Series:
        """The id of each item number; some may have no good watch."""
        ...

    @property
    def num_by_user(self) -> Counts:
        """Good watches of each user number."""
        ...

    @property
    def num_by_item(self) -> Counts:
        """Good watches of each item number."""
        ...

    def set_aside(self) -> Sequence[SetAside]:
        """Writes the rows that `tally` knows as refused, in their order."""
        ...

    def sort(self, numbering: Numbering, num_events: Indices, directory: Path) -> Records:
        """As `sort_watches` does, which tells of arguments, files and result."""
        ...


Number = Callable[[WatchLogs, Path, Say], Numbered]
"""Reads, checks and numbers all watches of logs; the folder, which is empty, is for what is needed
on the way."""


def prepare(
    logs_directory: Path,
    prepared_directory: Path,
    config: LogsConfig = DEFAULT_CONFIG,
    *,
    now_ms: int | None = None,
    say: Say = lambda _: None,
    number: Number | None = None,
) -> PreparedLogs:
    """Checks logs as `read_logs` does and sorts their watches by user and time, on disk.

    Memory grows with the number of users and items, not with that of watches; impressions and
    searches are read whole. The disk holds 24 bytes a watch afterwards and up to 80 on the way.
    The directory appears when all of it is on the disk. What an interrupted run has left behind,
    the next one clears away.

    Args:
        now_ms: a later event is in the future and refused; now, unless given.
        say: told about each step, a line at a time.
        number: who works on the watches; this process, unless given.

    Raises:
        DataError: as `read_logs`; or there are no files of watches, or `prepared_directory` holds
            something already.
    """
    now_ms = round(time.time() * 1_000) if now_ms is None else now_ms
    source = WatchLogs(directory=logs_directory, config=config, now_ms=now_ms)
    with _published(prepared_directory) as directory, _scratch(directory) as scratch:
        numbered = (number or number_here)(source, scratch, say)
        if not numbered.tally.num_accepted:
            raise _nothing_left(source, _refuse(source, numbered))
        logs, report = _tables(source, numbered, scratch / "every-id.parquet")
        users = user_vocabulary(logs)
        say(f"sorting {numbered.tally.num_accepted:,} watches of {len(users.ids):,} users")
        repeats = _sort(logs, users, numbered, directory)
        numbered.tally.refuse_repeats(repeats["place"].copy(), repeats["at_ms"].copy())
        tables = {**report.tables, "watches": _refuse(source, numbered)}
        unreadable = [*report.unreadable_files, *numbered.tally.unreadable]
        report = replace(report, tables=tables, unreadable_files=unreadable)
        write_tables(directory, logs, users, report.to_dict())
    say(report.to_text())
    return open_prepared(prepared_directory)


@dataclass(frozen=True, kw_only=True)
class NumberedHere:
    """`Numbered` by this process, its records in one file in the order of the logs."""

    logs: WatchLogs
    scratch: Path
    tally: Tally
    users: pl.Series
    items: pl.Series
    num_by_user: Counts
    num_by_item: Counts

    def set_aside(self) -> list[SetAside]:
        """As `Numbered`."""
        folder = self.scratch / "refused"
        return [
            set_aside(self.logs, rows, folder / str(number))
            for number, rows in enumerate(self.tally.refused_rows())
        ]

    def sort(self, numbering: Numbering, num_events: Indices, directory: Path) -> Records:
        """As `Numbered`."""
        return sort_watches(self.scratch / "records", directory, numbering, num_events)


def number_here(logs: WatchLogs, scratch: Path, say: Say) -> NumberedHere:
    """Reads, checks and numbers watches one after another."""
    stream = WatchStream(logs, logs.pieces(), logs.catalogue())
    num_by_user, num_by_item = write_records(stream, scratch / "records", say)
    return NumberedHere(
        logs=logs,
        scratch=scratch,
        tally=stream.tally,
        users=stream.users.ids,
        items=stream.items.ids,
        num_by_user=num_by_user,
        num_by_item=num_by_item,
    )


def _refuse(source: WatchLogs, numbered: Numbered) -> TableReport:
    """Writes the quarantine; what became of all watches."""
    aside = numbered.set_aside()
    join_quarantine(source.directory, [path for one in aside for path in one.paths])
    examples = first_of_each_reason(row for one in aside for row in one.examples)
    return numbered.tally.report(examples)


def _tables(source: WatchLogs, numbered: Numbered, path: Path) -> tuple[Logs, CheckReport]:
    """What `read_logs` makes of all tables, given watches that name each user and item once.

    Line i of these names user number i, as long as there is one, and the i-th item number that
    occurs. So ids have the type here that they have in all tables together.
    """
    users, items = numbered.users, numbered.items.gather(_occurring(numbered))
    lines = np.arange(max(len(users), len(items)))
    columns = {
        "user_id": users.gather(lines % len(users)),
        "item_id": items.gather(lines % len(items)),
        "started_at_ms": np.zeros_like(lines),
        "watch_time_s": np.zeros_like(lines),
    }
    pl.DataFrame(columns).write_parquet(path)
    every_id = TableSource(files=glob.escape(str(path.resolve())))
    config = replace(source.config, watches=every_id)
    return read_logs(source.directory, config, now_ms=source.now_ms)


def _sort(logs: Logs, users: Vocabulary, numbered: Numbered, directory: Path) -> Records:
    """Sorts the watches into `directory`; gives those that repeat another."""
    ids, occurring = logs.watches.frame, _occurring(numbered)
    user_rows = users.rows(ids["user_id"].head(len(numbered.num_by_user)))
    num_events = np.zeros(users.num_rows, np.int64)
    num_events[user_rows] = numbered.num_by_user
    item_codes = np.zeros(len(numbered.num_by_item), np.int32)
    order = ids["item_id"].head(len(occurring)).arg_sort().to_numpy()
    item_codes[occurring[order]] = np.arange(len(occurring))
    numbering = Numbering(user_rows=user_rows, item_codes=item_codes)
    return numbered.sort(numbering, num_events, directory)


def _occurring(numbered: Numbered) -> NDArray[np.int64]:
    """Item numbers that a good watch has."""
    return np.flatnonzero(numbered.num_by_item)


def _nothing_left(source: WatchLogs, report: TableReport) -> DataError:
    quarantined = report.quarantined
    where = f"watches in {source.directory}"
    expected = "at least one good row"
    if not quarantined:
        return DataError(where, expected=expected, got="none")
    reason, count = next(iter(quarantined)), sum(quarantined.values())
    got = f"{count} bad ones, most often: {reason}"
    hint = f"see {source.directory / QUARANTINE / 'watches.parquet'}."
    if reason.startswith(("unparsable", "time in")):
        hint += " Does [logs.watches] time_unit fit the files?"
    return DataError(where, expected=expected, got=got, hint=hint)


@contextlib.contextmanager
def _published(directory: Path) -> Iterator[Path]:
    """An empty directory, which takes the name of `directory` when all in it is done."""
    if directory.exists() and any(directory.iterdir()):
        hint = "remove it, or take another name."
        got = "one with files in it"
        raise DataError(str(directory), expected="a new directory", got=got, hint=hint)
    unfinished = directory.with_name(f".{directory.name}.unfinished")
    unfinished.mkdir(parents=True, exist_ok=True)
    with alone_in(unfinished, doing="making it"):
        for left in unfinished.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        try:
            yield unfinished
            force_tree_to_disk(unfinished)
            unfinished.rename(directory)
        except BaseException:
            shutil.rmtree(unfinished)
            raise
        force_to_disk(directory.parent)


@contextlib.contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    """A folder for what is needed only on the way."""
    scratch = directory / "scratch"
    scratch.mkdir()
    yield scratch
    shutil.rmtree(scratch)
