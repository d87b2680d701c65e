"""The files of one table, whatever their format, become one typed table with a verdict per row."""

import dataclasses
import difflib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl

from upnext.errors import DataError
from upnext.logs.cells import Cells, clean_cells, clean_feature
from upnext.logs.check import CheckedTable, Verdicts
from upnext.logs.formats import EmptyFileError, RawFile, find_files, read_file
from upnext.logs.report import UnreadableFile
from upnext.logs.sources import (
    TABLE_COLUMNS,
    TABLES_WITH_FEATURES,
    LogsConfig,
    TableName,
    TableSource,
)
from upnext.schema import KIND_DTYPES, Column

ASSUMED = {
    "request_id": "what a user is shown at one time is one request",
    "position": "every position is 0",
}
"""What holds of impressions whose files lack a column that they can do without."""
OTHER_SEPARATORS = ",;\t|"
"""Marks that may stand between fields where the header was not taken apart."""


def read_table(
    name: TableName,
    directory: Path,
    config: LogsConfig,
    now_ms: int,
    unreadable: list[UnreadableFile],
) -> CheckedTable | None:
    """All files of a table, typed; None where it has no files and need not have any.

    Args:
        unreadable: takes on the files that were left out.
    """
    files = _read_files(name, directory, config, unreadable)
    if not files:
        return None
    _refuse_map_to_nowhere(files, name, config.source(name))
    reasons: list[str] = []
    blanked: Counter[str] = Counter()
    frames, codes = [], []
    for file in files:
        verdicts = Verdicts(np.zeros(file.frame.height, np.uint8), reasons)
        frames.append(clean_file(file, name, config, now_ms, verdicts, blanked))
        codes.append(verdicts.codes)
    table = CheckedTable(
        name=name,
        frame=_stacked(frames, name),
        verdicts=Verdicts(np.concatenate(codes), reasons),
        files=files,
        blanked=blanked,
        unused_columns=_unused_columns(files, name, config.source(name)),
    )
    for column, what in TABLE_COLUMNS[name].items():
        # Some files may lack an optional column that others have, which leaves nulls.
        if not (what.required or what.nullable) and column in table.frame.columns:
            table.verdicts.refuse(f"null {column}", table.frame[column].is_null())
    return table


def _refuse_map_to_nowhere(files: list[RawFile], table: TableName, source: TableSource) -> None:
    """A column may be absent, but not if it was said where it is: that is a slip of the pen."""
    for name, name_in_files in source.columns.items():
        is_ours = name in TABLE_COLUMNS[table]
        if is_ours and not any(name_in_files in file.columns for file in files):
            raise _missing_column(files[0], table, name, name_in_files)


def _read_files(
    name: TableName, directory: Path, config: LogsConfig, unreadable: list[UnreadableFile]
) -> list[RawFile]:
    source = config.source(name)
    paths = find_files(directory, name, source.files)
    if not paths and source.files is not None:
        raise nothing_found(directory, name, f"files that match {source.files!r}")
    wanted = None
    if name not in TABLES_WITH_FEATURES:
        wanted = {source.columns.get(column, column) for column in TABLE_COLUMNS[name]}
    files, num_empty = [], 0
    for path in paths:
        name_there = short_name(path, directory)
        try:
            files.append(read_file(path, name_there, wanted=wanted, separator=source.separator))
        except DataError as error:
            num_empty += isinstance(error, EmptyFileError)
            if not isinstance(error, EmptyFileError) and not config.skip_unreadable_files:
                raise
            unreadable.append(UnreadableFile(file=error.where, cause=error.got))
    if not files and num_empty < len(paths):
        raise nothing_found(directory, name, "at least one readable file")
    return files


def clean_file(
    raw: RawFile,
    table: TableName,
    config: LogsConfig,
    now_ms: int,
    verdicts: Verdicts,
    blanked: Counter[str],
) -> pl.DataFrame:
    """The columns of one file under our names and in our types; bad cells go on record."""
    source = config.source(table)
    cleaned: dict[str, pl.Series] = {}
    for name, column in TABLE_COLUMNS[table].items():
        if source.columns.get(name, name) in raw.frame.columns:
            cells = _clean_column(raw, name, column, source, config)
        elif (assumed := _assumed(raw, table, name, config)) is not None:
            cells = assumed
        elif column.required and not column.nullable:
            raise _missing_column(raw, table, name, source.columns.get(name, name))
        else:
            if column.required:
                cleaned[name] = all_null(name, column, raw.frame.height)
            continue
        if name == "watch_time_s":
            cells = _told_otherwise(cells, cleaned.get("watched"), config, blanked)
        cleaned[name] = cells.values
        if column.nullable:
            blanked.update({reason: mask.sum() for reason, mask in cells.faults})
        else:
            _refuse_bad_cells(verdicts, cells, column, config, now_ms)
    for name, raw_name in _feature_names(raw, table, source).items():
        cells = clean_feature(raw.frame[raw_name].alias(name), is_text=raw.is_text)
        cleaned[name] = cells.values
        blanked.update({reason: mask.sum() for reason, mask in cells.faults})
    return pl.DataFrame(cleaned)


def _clean_column(
    raw: RawFile, name: str, column: Column, source: TableSource, config: LogsConfig
) -> Cells:
    raw_name = source.columns.get(name, name)
    return clean_cells(
        raw.frame[raw_name].alias(name),
        column.kind,
        where=f"{raw.name}, {raw_name}",
        source=source,
        ids_max_bytes=config.ids_max_bytes,
    )


def _refuse_bad_cells(
    verdicts: Verdicts, cells: Cells, column: Column, config: LogsConfig, now_ms: int
) -> None:
    name = cells.values.name
    verdicts.refuse(f"null {name}", cells.missing)
    for reason, mask in cells.faults:
        verdicts.refuse(reason, mask)
    if name == "watch_time_s":
        limit_s = config.max_watch_time_s
        verdicts.refuse(f"watch_time_s above {limit_s:.15g}", cells.values > limit_s)
    if column.kind == "time_ms":
        verdicts.refuse("time before 1970", cells.values < 0)
        verdicts.refuse("time in the future", cells.values > now_ms)


def _told_otherwise(
    cells: Cells, watched: pl.Series | None, config: LogsConfig, blanked: Counter[str]
) -> Cells:
    """Watch times that are missing: 0 where nobody watched, and else what the config says."""
    if watched is not None:
        cells = _filled(cells, (~watched).fill_null(False), 0.0)
    missing_s = config.missing_watch_time_s
    if missing_s is None or not (num_missing := int(cells.missing.sum())):
        return cells
    blanked[f"no watch_time_s, taken for {missing_s:g}"] += num_missing
    return _filled(cells, cells.missing, missing_s)


def _filled(cells: Cells, where: pl.Series, value: float) -> Cells:
    """Missing cells of some rows hold a value."""
    is_filled = cells.missing & where
    told = pl.when(is_filled).then(pl.lit(value, pl.Float32)).otherwise(cells.values)
    values = pl.select(told).to_series().alias(cells.values.name)
    return dataclasses.replace(cells, values=values, missing=cells.missing & ~is_filled)


def _assumed(raw: RawFile, table: TableName, name: str, config: LogsConfig) -> Cells | None:
    """Cells of a column that a file lacks and can do without; None where it cannot."""
    source, length = config.source(table), raw.frame.height
    if name in source.columns:
        return None
    told = pl.Series([False]).new_from_index(0, length)
    if name == "watch_time_s" and config.missing_watch_time_s is not None:
        nothing = all_null(name, TABLE_COLUMNS[table][name], length)
        return Cells(values=nothing, missing=~told, faults=())
    if table != "impressions" or name not in ASSUMED:
        return None
    if name == "position":
        if source.columns.get("propensity", "propensity") in raw.frame.columns:
            return None  # it tells what a slot's choice was worth: all would count as first slots
        zeros = pl.Series(name, [0], pl.Int32).new_from_index(0, length)
        return Cells(values=zeros, missing=told, faults=())
    column = TABLE_COLUMNS[table]["shown_at_ms"]
    if source.columns.get("shown_at_ms", "shown_at_ms") not in raw.frame.columns:
        return None
    times = _clean_column(raw, "shown_at_ms", column, source, config).values
    return Cells(values=times.alias(name), missing=told, faults=())


def _feature_names(raw: RawFile, table: TableName, source: TableSource) -> dict[str, str]:
    """Our name → the file's name of each column that is a declared feature."""
    if table not in TABLES_WITH_FEATURES:
        return {}
    ours = TABLE_COLUMNS[table]
    renamed = {new: old for new, old in source.columns.items() if new not in ours}
    missing = [old for old in renamed.values() if old not in raw.columns]
    if missing:
        raise _missing_column(raw, table, missing[0], missing[0])
    taken = set(ours) | set(source.columns.values()) | set(renamed)
    return renamed | {name: name for name in raw.frame.columns if name not in taken}


def _unused_columns(files: list[RawFile], table: TableName, source: TableSource) -> tuple[str, ...]:
    ours = {source.columns.get(name, name) for name in TABLE_COLUMNS[table]}
    unused = {
        column
        for file in files
        for column in set(file.columns) - ours - set(_feature_names(file, table, source).values())
    }
    return tuple(sorted(unused))


def _stacked(frames: list[pl.DataFrame], table: str) -> pl.DataFrame:
    """The files of a table as one; ids of mixed types become strings."""
    if len(frames) == 1:
        return frames[0]
    try:
        return pl.concat(frames, how="diagonal_relaxed", rechunk=False)
    except pl.exceptions.PolarsError as error:
        raise DataError(
            table,
            expected="columns of like types in all files",
            got=str(error).splitlines()[0],
        ) from error


def all_null(name: str, column: Column, length: int) -> pl.Series:
    """A column of which nothing is known."""
    dtype = KIND_DTYPES[column.kind][-1]
    return pl.Series(name, [None], dtype=dtype).new_from_index(0, length)


def nothing_found(directory: Path, table: str, expected: str) -> DataError:
    """The error for a table whose files are not there."""
    if not directory.is_dir():
        return DataError(str(directory), expected="a directory of logs", got="no such directory")
    present = ", ".join(sorted(p.name for p in directory.iterdir()))
    return DataError(
        str(directory),
        expected=expected,
        got=present or "nothing",
        hint=f"[logs.{table}] files = '...' says where they are: a file, a directory or a glob.",
    )


def _missing_column(raw: RawFile, table: str, name: str, raw_name: str) -> DataError:
    if len(raw.columns) == 1 and (marks := set(OTHER_SEPARATORS) & set(raw.columns[0])):
        mark = max(marks, key=raw.columns[0].count)
        return DataError(
            raw.name,
            expected=f"a column {raw_name}",
            got=f"only one, {raw.columns[0]!r}",
            hint=f"[logs.{table}] separator = {json.dumps(mark)} takes it apart.",
        )
    without = " Without any, [logs] missing_watch_time_s = 1 counts each watch alike."
    near = difflib.get_close_matches(raw_name, raw.columns, n=1)
    suggestion = near[0] if near else "the name in the file"
    return DataError(
        raw.name,
        expected=f"a column {raw_name}",
        got=", ".join(raw.columns) or "no columns",
        hint=f"did you mean {suggestion!r}? "
        * bool(near)
        + f"The column map gives it another name: [logs.{table}] columns = "
        f"{{ {name} = {suggestion!r} }}." + without * (name == "watch_time_s"),
    )


def short_name(path: Path, directory: Path) -> str:
    """How reports call a file: from the directory of the logs on, or whole if it lies elsewhere."""
    is_inside = path.is_relative_to(directory)
    return path.relative_to(directory).as_posix() if is_inside else str(path)
