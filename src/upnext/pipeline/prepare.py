"""Logs of any size, sorted on disk once: logs → checked, numbered, sorted → prepared logs."""

import contextlib
import fcntl
import glob
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.errors import DataError
from upnext.examples.encoder import user_vocabulary
from upnext.examples.prepared import PreparedLogs, open_prepared, write_tables
from upnext.examples.sorting import WATCH_RECORD, Records, sort_watches
from upnext.examples.vocabulary import Vocabulary
from upnext.logs.formats import QUARANTINE
from upnext.logs.read import read_logs
from upnext.logs.report import CheckReport
from upnext.logs.sources import LogsConfig, TableSource
from upnext.logs.stream import Places, WatchBatch, WatchStream
from upnext.registry.files import force_to_disk, force_tree_to_disk
from upnext.schema import Logs, TimesMs

DEFAULT_CONFIG = LogsConfig()
ROWS_PER_LINE = 10_000_000
"""Rows read between two lines of progress."""

Say = Callable[[str], None]
Counts = NDArray[np.int64]


def prepare(
    logs_directory: Path,
    prepared_directory: Path,
    config: LogsConfig = DEFAULT_CONFIG,
    *,
    now_ms: int | None = None,
    say: Say = lambda _: None,
) -> PreparedLogs:
    """Checks logs as `read_logs` does and sorts their watches by user and time, on disk.

    Memory grows with the number of users and items, not with that of watches; impressions and
    searches are read whole. The disk holds 24 bytes a watch afterwards and up to 80 on the way.
    The directory appears when all of it is on the disk. What an interrupted run has left behind,
    the next one clears away.

    Args:
        now_ms: a later event is in the future and refused; now, unless given.
        say: told about each step, a line at a time.

    Raises:
        DataError: as `read_logs`; or there are no files of watches, or `prepared_directory` holds
            something already.
    """
    now_ms = round(time.time() * 1_000) if now_ms is None else now_ms
    with _published(prepared_directory) as directory, _scratch(directory) as scratch:
        stream = WatchStream(logs_directory, config, now_ms=now_ms)
        numbered = _write_records(stream, scratch / "records", say)
        if not stream.num_accepted:
            stream.write_quarantine(scratch / "refused")
            raise _nothing_left(stream)
        logs, report = _tables(stream, numbered, scratch / "every-id.parquet")
        users = user_vocabulary(logs)
        say(f"sorting {stream.num_accepted:,} watches of {len(users.ids):,} users")
        stream.refuse_repeats(*_sort(logs, users, numbered, directory))
        stream.write_quarantine(scratch / "refused")
        tables = {**report.tables, "watches": stream.report()}
        unreadable = [*report.unreadable_files, *stream.unreadable]
        report = replace(report, tables=tables, unreadable_files=unreadable)
        write_tables(directory, logs, users, report.to_dict())
    say(report.to_text())
    return open_prepared(prepared_directory)


@dataclass(frozen=True)
class _Numbered:
    """Good watches in the order of the logs; how many each user number and item number has."""

    records: Path
    num_by_user: Counts
    num_by_item: Counts

    @property
    def occurring(self) -> NDArray[np.int64]:
        """Item numbers that a good watch has."""
        return np.flatnonzero(self.num_by_item)


def _write_records(stream: WatchStream, path: Path, say: Say) -> _Numbered:
    num_by_user = num_by_item = np.zeros(0, np.int64)
    began, told = time.perf_counter(), 0
    with path.open("wb") as file:
        for batch in stream:
            _records(batch).tofile(file)
            num_by_user = _counted(num_by_user, batch.user_codes)
            num_by_item = _counted(num_by_item, batch.item_codes)
            if stream.num_read - told >= ROWS_PER_LINE:
                told = stream.num_read
                rows_per_s = told / (time.perf_counter() - began)
                say(f"read {told:,} watches, {rows_per_s:,.0f} a second")
    return _Numbered(path, num_by_user, num_by_item)


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


def _tables(stream: WatchStream, numbered: _Numbered, path: Path) -> tuple[Logs, CheckReport]:
    """What `read_logs` makes of all tables, given watches that name each user and item once.

    Line i of these names user number i, as long as there is one, and the i-th item number that
    occurs. So ids have the type here that they have in all tables together.
    """
    users, items = stream.users.ids, stream.items.ids.gather(numbered.occurring)
    lines = np.arange(max(len(users), len(items)))
    columns = {
        "user_id": users.gather(lines % len(users)),
        "item_id": items.gather(lines % len(items)),
        "started_at_ms": np.zeros_like(lines),
        "watch_time_s": np.zeros_like(lines),
    }
    pl.DataFrame(columns).write_parquet(path)
    source = TableSource(files=glob.escape(str(path.resolve())))
    config = replace(stream.config, watches=source)
    return read_logs(stream.directory, config, now_ms=stream.now_ms)


def _sort(
    logs: Logs, users: Vocabulary, numbered: _Numbered, directory: Path
) -> tuple[Places, TimesMs]:
    """Sorts the watches into `directory`; places and times of those that repeat another."""
    ids, occurring = logs.watches.frame, numbered.occurring
    user_rows = users.rows(ids["user_id"].head(len(numbered.num_by_user)))
    num_events = np.zeros(users.num_rows, np.int64)
    num_events[user_rows] = numbered.num_by_user
    item_codes = np.zeros(len(numbered.num_by_item), np.int32)
    order = ids["item_id"].head(len(occurring)).arg_sort().to_numpy()
    item_codes[occurring[order]] = np.arange(len(occurring))
    repeats = sort_watches(
        numbered.records,
        directory,
        user_rows=user_rows,
        item_codes=item_codes,
        num_events=num_events,
    )
    return repeats["place"].copy(), repeats["at_ms"].copy()


def _nothing_left(stream: WatchStream) -> DataError:
    quarantined = stream.report().quarantined
    where = f"watches in {stream.directory}"
    expected = "at least one good row"
    if not quarantined:
        return DataError(where, expected=expected, got="none")
    reason, count = next(iter(quarantined)), sum(quarantined.values())
    got = f"{count} bad ones, most often: {reason}"
    hint = f"see {stream.directory / QUARANTINE / 'watches.parquet'}."
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
    with _locked(unfinished):
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
def _locked(directory: Path) -> Iterator[None]:
    """Keeps another process from making the same directory; a killed one keeps no lock."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            where, got = str(directory), "another process that is making it"
            raise DataError(where, expected="nobody at work in it", got=got) from None
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    """A folder for what is needed only on the way."""
    scratch = directory / "scratch"
    scratch.mkdir()
    yield scratch
    shutil.rmtree(scratch)
