"""Anyone's raw logs become the clean `Logs` of `schema.py`; every time becomes int64 UTC ms here.

TableSource → formats (files to columns) → cells (columns to types) → check (rows) → Logs
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from upnext.errors import DataError
from upnext.logs.cells import are_integers
from upnext.logs.check import (
    CheckedTable,
    refuse_duplicates,
    refuse_longer_than_item,
    refuse_unknown_items,
    write_quarantine,
)
from upnext.logs.formats import QUARANTINE, find_files
from upnext.logs.report import CheckReport, TableReport, UnreadableFile
from upnext.logs.sources import TABLE_COLUMNS, LogsConfig, TableName, TableSource
from upnext.logs.tables import ASSUMED, all_null, nothing_found, read_table
from upnext.schema import ITEM_COLUMNS, Impressions, Items, Logs, Searches, Users, Watches

__all__ = ["LogsConfig", "TableSource", "check_logs", "read_logs", "write_logs"]

DEFAULT_CONFIG = LogsConfig()

Frames = dict[TableName, pl.DataFrame]


def read_logs(
    directory: Path, config: LogsConfig = DEFAULT_CONFIG, *, now_ms: int | None = None
) -> tuple[Logs, CheckReport]:
    """Reads, types and checks all tables; what is refused lies in `quarantine/` afterwards.

    Ids are int64 if every one of their kind in all tables is an integer, else strings. Without a
    table of watches, the watched impressions are the watches; without items, the ids that occur
    are the items. Of items and users all other columns are kept as declared features. An
    impression that was not watched may leave watch_time_s empty; it becomes 0.

    Args:
        now_ms: a later event is in the future and refused; now, unless given.

    Raises:
        DataError: files or columns are missing, of an impossible type or unreadable, or a table
            has no good row.
    """
    now_ms = round(time.time() * 1_000) if now_ms is None else now_ms
    tables, unreadable = _read_tables(directory, config, now_ms)
    if "watches" not in tables and "impressions" not in tables:
        raise nothing_found(
            directory, "watches", "watches/ or impressions/ with files that are not empty"
        )
    _check_rows_together(tables, config)
    write_quarantine(directory, tables)
    assumed = _assumptions(tables, config)
    reports: dict[str, TableReport] = {name: table.report() for name, table in tables.items()}
    _refuse_if_nothing_left(directory, tables)
    # One table at a time lets go of its raw columns as soon as its good rows are out.
    frames = {name: tables.pop(name).accepted() for name in list(tables)}
    frames = _agree_on_ids({name: frame for name, frame in frames.items() if frame.height})
    derived = assumed + _derive_absent(frames)
    report = CheckReport(tables=reports, unreadable_files=unreadable, derived=derived)
    return _as_logs(frames), report


def check_logs(
    directory: Path, config: LogsConfig = DEFAULT_CONFIG, *, now_ms: int | None = None
) -> CheckReport:
    """What `read_logs` would accept and refuse, and why; it fills the quarantine as well."""
    return read_logs(directory, config, now_ms=now_ms)[1]


def write_logs(logs: Logs, directory: Path) -> None:
    """Writes the canonical layout that `read_logs` reads by default; same logs, same bytes.

    Raises:
        DataError: a table of this directory has other files already; they would mix.
    """
    places = {
        directory / "watches" / "all.parquet": logs.watches,
        directory / "impressions" / "all.parquet": logs.impressions,
        directory / "searches" / "all.parquet": logs.searches,
        directory / "items.parquet": logs.items,
        directory / "users.parquet": logs.users,
    }
    for name in TABLE_COLUMNS:
        if others := [p for p in find_files(directory, name, None) if p not in places]:
            raise DataError(
                str(others[0]),
                expected=f"no other files of {name}",
                got=f"{len(others)}",
                hint="write to a new directory.",
            )
    for path, table in places.items():
        if table is None:
            path.unlink(missing_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.unfinished")
        table.frame.write_parquet(unfinished, compression="zstd")
        os.replace(unfinished, path)


def _read_tables(
    directory: Path, config: LogsConfig, now_ms: int
) -> tuple[dict[TableName, CheckedTable], list[UnreadableFile]]:
    unreadable: list[UnreadableFile] = []
    found = {n: read_table(n, directory, config, now_ms, unreadable) for n in TABLE_COLUMNS}
    return {name: table for name, table in found.items() if table is not None}, unreadable


def _check_rows_together(tables: Mapping[TableName, CheckedTable], config: LogsConfig) -> None:
    """The checks that need more than one row or table."""
    for name in ("items", "users"):
        if name in tables:
            refuse_duplicates(tables[name])
    events = [tables[name] for name in ("watches", "impressions") if name in tables]
    if "items" in tables:
        items = tables["items"].accepted()
        for table in events:
            refuse_unknown_items(table, items)
            if config.max_watch_share is not None:
                refuse_longer_than_item(table, items, config.max_watch_share)
    for table in [*events, *(t for name, t in tables.items() if name == "searches")]:
        refuse_duplicates(table)


def _assumptions(tables: Mapping[TableName, CheckedTable], config: LogsConfig) -> tuple[str, ...]:
    """A sentence for each column that impressions do without."""
    if "impressions" not in tables:
        return ()
    files, source = tables["impressions"].files, config.impressions
    return tuple(
        f"impressions: {what}; {name} is in no column."
        for name, what in ASSUMED.items()
        if any(source.columns.get(name, name) not in file.columns for file in files)
    )


def _agree_on_ids(frames: Frames) -> Frames:
    """One type for each kind of id in all tables: int64 where every value is an integer."""
    for name in ("item_id", "user_id", "request_id", "channel_id"):
        holders = {table: f for table, f in frames.items() if name in TABLE_COLUMNS[table]}
        columns = [frame[name] for frame in holders.values()]
        dtype = pl.Int64 if all(map(are_integers, columns)) else pl.String
        if all(column.null_count() == column.len() for column in columns):
            dtype = pl.String
        frames |= {t: frame.with_columns(pl.col(name).cast(dtype)) for t, frame in holders.items()}
    return frames


def _derive_absent(frames: Frames) -> tuple[str, ...]:
    """Adds watches and items where they had no files; says so."""
    derived = []
    if "watches" not in frames:
        frames["watches"] = (
            frames["impressions"]
            .filter("watched")
            .select(
                "user_id", "item_id", pl.col("shown_at_ms").alias("started_at_ms"), "watch_time_s"
            )
        )
        derived.append("watches: the impressions that were watched; they have no files.")
        if frames["watches"].is_empty():
            raise DataError("impressions", expected="a watched impression", got="none")
    if "items" not in frames:
        seen = [frames[name]["item_id"] for name in ("watches", "impressions") if name in frames]
        ids = pl.concat(seen).unique().sort()
        nulls = (all_null(n, c, ids.len()) for n, c in ITEM_COLUMNS.items() if n != "item_id")
        frames["items"] = pl.DataFrame([ids, *nulls])
        derived.append("items: the ids that occur, nothing else known; they have no files.")
    return tuple(derived)


def _as_logs(frames: Frames) -> Logs:
    return Logs(
        watches=Watches(frames["watches"]),
        items=Items(frames["items"]),
        impressions=Impressions(frames["impressions"]) if "impressions" in frames else None,
        searches=Searches(frames["searches"]) if "searches" in frames else None,
        users=Users(frames["users"]) if "users" in frames else None,
    )


def _refuse_if_nothing_left(directory: Path, tables: Mapping[TableName, CheckedTable]) -> None:
    for table in tables.values():
        quarantined = table.quarantined()
        is_ordinary = not quarantined and table.name in ("impressions", "searches", "users")
        if is_ordinary or np.any(table.verdicts.codes == 0):
            continue
        reason = next(iter(quarantined), "")
        hint = ""
        if quarantined:
            hint = f"see {directory / QUARANTINE / table.name}.parquet."
        if reason.startswith(("unparsable", "time in")):
            hint += f" Does [logs.{table.name}] time_unit fit the files?"
        raise DataError(
            f"{table.name} ({', '.join(file.name for file in table.files[:3])})",
            expected="at least one good row",
            got=f"{sum(quarantined.values())} bad ones, most often: {reason}" if reason else "none",
            hint=hint,
        )
