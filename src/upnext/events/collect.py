"""The way back: what the live store holds becomes logs, a file a day, for the next training.

A day is written anew at every run, so that what came late has its place; the same store and the
same `until_ms` give the same bytes. Only a user at a time, and a day at a time, is in memory.
"""

import os
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import polars as pl

from upnext.errors import DataError
from upnext.events.crediting import credit, longest_watches, shown_items
from upnext.events.event import UserEvents
from upnext.events.store import EventStore
from upnext.schema import MS_PER_DAY

TableName = Literal["watches", "impressions", "searches"]
Table = tuple[TableName, int]
"""A table and the day, in days since 1970."""
Line = tuple[Any, ...]

ROWS_IN_MEMORY = 500_000
WATCHED_WITHIN_MS = 6 * 3_600_000

_SCHEMAS: dict[TableName, dict[str, Any]] = {
    "watches": {
        "user_id": pl.String,
        "item_id": pl.String,
        "started_at_ms": pl.Int64,
        "watch_time_s": pl.Float32,
    },
    "impressions": {
        "request_id": pl.String,
        "user_id": pl.String,
        "item_id": pl.String,
        "shown_at_ms": pl.Int64,
        "position": pl.Int32,
        "watched": pl.Boolean,
        "watch_time_s": pl.Float32,
        "source": pl.String,
        "propensity": pl.Float32,
    },
    "searches": {"user_id": pl.String, "searched_at_ms": pl.Int64, "query": pl.String},
}
_TIME_AND_KEY: dict[TableName, tuple[str, list[str]]] = {
    "watches": ("started_at_ms", ["user_id", "item_id"]),
    "impressions": ("shown_at_ms", ["user_id", "request_id", "position", "item_id"]),
    "searches": ("searched_at_ms", ["user_id", "query"]),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What was written, and what was not.

    `num_repeats`: watches, impressions and searches that were told more than once. `num_waiting`:
    impressions that may still be watched. `num_left_alone`: what happened on days before those
    that were written, because the caller asked so or because part of them is forgotten already.
    """

    num_watches: int
    num_impressions: int
    num_searches: int
    num_files: int
    num_repeats: int
    num_waiting: int
    num_left_alone: int

    def to_dict(self) -> dict[str, int]:
        """Plain values, ready for JSON."""
        return asdict(self)

    def to_text(self) -> str:
        """A sentence or two for a person.

        >>> print(Collected(num_watches=1_200, num_impressions=9_000, num_searches=30, num_files=6,
        ...                 num_repeats=0, num_waiting=40, num_left_alone=0).to_text())
        1,200 watches, 9,000 impressions and 30 searches in 6 files
        40 impressions wait for a later run, as they may still be watched
        """
        lines = [
            f"{self.num_watches:,} watches, {self.num_impressions:,} impressions and "
            f"{self.num_searches:,} searches in {self.num_files:,} files"
        ]
        if self.num_waiting:
            what = "impressions wait for a later run, as they may still be watched"
            lines.append(f"{self.num_waiting:,} {what}")
        if self.num_repeats:
            lines.append(f"{self.num_repeats:,} events were told more than once")
        if self.num_left_alone:
            lines.append(f"{self.num_left_alone:,} rows are of earlier days, which were left alone")
        return "\n".join(lines)


def collect(
    store: EventStore,
    logs: Path,
    *,
    until_ms: int,
    since_ms: int = 0,
    watched_within_ms: int = WATCHED_WITHIN_MS,
) -> Collected:
    """Writes LOGS/watches/live-2026-11-25.parquet and so on, one file a table and UTC day.

    The last day may be a part of one; a later run completes it. Days of which something may be
    forgotten are left as they are.

    Args:
        until_ms: what happened then or later is left for a later run; now at the latest, as what
            is not watched yet would count as never watched.
        since_ms: only the day that this is in, and later ones.
        watched_within_ms: how long after it was shown an item may be watched because of that, if
            the watch names no request. An impression is written once that time is over.

    Raises:
        DataError: the directory cannot be written.
        StoreError: the store cannot be read. Whole files are all that was written.
    """
    try:
        logs.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".collect-", dir=logs) as scratch:
            days = _Days(Path(scratch), max(0, since_ms) // MS_PER_DAY)
            for user in store.users():
                days.add(user, until_ms, watched_within_ms)
            kept_since_ms = store.kept_since_ms()
            if kept_since_ms is not None:
                # Impressions of the first minutes of a day may be of a page of the day before.
                days.leave_alone(1 + kept_since_ms // MS_PER_DAY)
            return days.write(logs)
    except OSError as error:
        raise DataError(
            str(logs), expected="a directory that can be written", got=str(error)
        ) from error


class _Days:
    """Rows by table and day; those that memory shall not hold lie in parts below `scratch`."""

    def __init__(self, scratch: Path, first_day: int) -> None:
        self._scratch, self._first_day = scratch, first_day
        self._lines: dict[Table, list[Line]] = {}
        self._parts: dict[Table, list[Path]] = {}
        self._num_lines = 0
        self._counts: Counter[str] = Counter()

    def add(self, user: UserEvents, until_ms: int, within_ms: int) -> None:
        """Takes on what a user did before `until_ms`."""
        user_id = str(user.user_id)
        told = [watch for watch in user.watches if watch.started_at_ms < until_ms]
        watches = longest_watches(told)
        self._counts["repeats"] += len(told) - len(watches)
        for watch in watches:
            line = (user_id, str(watch.item_id), watch.started_at_ms, watch.watch_time_s)
            self._add("watches", watch.started_at_ms, line)
        for one in credit(shown_items(user), watches, within_ms=within_ms):
            if one.shown_at_ms + within_ms > until_ms:
                self._counts["waiting"] += one.shown_at_ms < until_ms
                continue
            what = (one.request_id, user_id, one.item_id, one.shown_at_ms, one.position)
            outcome = (one.watch_time_s is not None, one.watch_time_s or 0.0)
            why = (one.source, one.propensity)
            self._add("impressions", one.shown_at_ms, (*what, *outcome, *why))
        for search in user.searches:
            if search.searched_at_ms < until_ms:
                asked = (user_id, search.searched_at_ms, search.query)
                self._add("searches", search.searched_at_ms, asked)

    def leave_alone(self, before_day: int) -> None:
        """Lets go of all days before this one."""
        self._spill()
        for table, day in [one for one in self._parts if one[1] < before_day]:
            parts = self._parts.pop((table, day))
            self._counts["left alone"] += sum(map(_num_rows, parts))

    def write(self, logs: Path) -> Collected:
        """Every day's file, each in one step."""
        self._spill()
        for table, day in sorted(self._parts):
            frame = pl.concat([pl.read_parquet(part) for part in self._parts[table, day]])
            time, key = _TIME_AND_KEY[table]
            others = [name for name in frame.columns if name not in (time, *key)]
            # Of an integer and a text id that write alike, the longer watch counts.
            ordered = frame.sort(time, *key, *others)
            once = ordered.unique([time, *key], keep="last", maintain_order=True)
            self._counts["repeats"] += frame.height - once.height
            self._counts[table] += once.height
            date = datetime.fromtimestamp(day * MS_PER_DAY / 1_000, UTC).date()
            _write(once, logs / table / f"live-{date.isoformat()}.parquet")
        counts = self._counts
        return Collected(
            num_watches=counts["watches"],
            num_impressions=counts["impressions"],
            num_searches=counts["searches"],
            num_files=len(self._parts),
            num_repeats=counts["repeats"],
            num_waiting=counts["waiting"],
            num_left_alone=counts["left alone"],
        )

    def _add(self, table: TableName, at_ms: int, line: Line) -> None:
        day = at_ms // MS_PER_DAY
        if day < self._first_day:
            self._counts["left alone"] += 1
            return
        self._lines.setdefault((table, day), []).append(line)
        self._num_lines += 1
        if self._num_lines >= ROWS_IN_MEMORY:
            self._spill()

    def _spill(self) -> None:
        for (table, day), lines in self._lines.items():
            parts = self._parts.setdefault((table, day), [])
            part = self._scratch / f"{table}-{day}-{len(parts)}.parquet"
            pl.DataFrame(lines, schema=_SCHEMAS[table], orient="row").write_parquet(part)
            parts.append(part)
        self._lines.clear()
        self._num_lines = 0


def _num_rows(part: Path) -> int:
    return int(pl.scan_parquet(part, glob=False).select(pl.len()).collect().item())


def _write(frame: pl.DataFrame, path: Path) -> None:
    """Replaces a file; on disk on return, as the store may forget what it holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    frame.write_parquet(unfinished, compression="zstd")
    _force_to_disk(unfinished)
    os.replace(unfinished, path)
    _force_to_disk(path.parent)


def _force_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
