"""Any file of logs (Parquet, CSV, JSON lines) becomes columns with row numbers.

Columns of text files are all text, so that one bad cell costs one row and not the file; a line
that cannot be taken apart is set aside as broken.
"""

import codecs
import glob
import gzip
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from upnext.errors import DataError
from upnext.logs.delimited import Fields, read_delimited

QUARANTINE = "quarantine"
TEXT_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
SUFFIXES = (".parquet", *TEXT_SUFFIXES, *(f"{suffix}.gz" for suffix in TEXT_SUFFIXES))

_JSON_KEY = r'"((?:[^"\\]|\\.)*)"\s*:'


class EmptyFileError(DataError):
    """A text file without a line, as an hour leaves in which nothing happened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawFile:
    """One file as its owner wrote it.

    `frame`: the wanted columns under the file's own names. `columns`: the names of all columns.
    `row_numbers`: the row of the file, from 1, that each line of `frame` came from; for text, the
    line of the file; None where it is simply 1, 2, 3. `broken`: `row` and `line` of what could not
    be taken apart. `is_text`: all columns are strings because the format knows no types.
    """

    name: str
    frame: pl.DataFrame
    columns: tuple[str, ...]
    row_numbers: pl.Series | None
    broken: pl.DataFrame
    is_text: bool


def find_files(directory: Path, table: str, files: str | None) -> list[Path]:
    """The files of a table in a steady order; none at all is an empty list.

    Names that begin with a dot or an underscore are markers of other programs, never logs, and
    what lies in the quarantine is not read again.

    Args:
        files: a file, a directory or a glob relative to `directory`; None: `table/` and
            `table.<suffix>`, where they are.
    """
    if files is None:
        found = [path for path in directory.glob(f"{table}.*") if _has_known_suffix(path)]
        found += (directory / table).rglob("*")
    elif (directory / files).is_dir():
        found = list((directory / files).rglob("*"))
    else:
        found = [directory / n for n in glob.glob(files, root_dir=directory, recursive=True)]
    quarantine = directory / QUARANTINE
    return sorted(
        path
        for path in set(found)
        if path.is_file() and path.name[0] not in "._" and quarantine not in path.parents
    )


def read_file(
    path: Path, name: str, *, wanted: Collection[str] | None, separator: str | None
) -> RawFile:
    """Reads one file; of columns only the wanted ones, or all of them where `wanted` is None.

    Raises:
        EmptyFileError: it is text, and there is none.
        DataError: the file cannot be read at all.
    """
    if not _has_known_suffix(path):
        raise DataError(
            name,
            expected=f"a file that ends in {', '.join(SUFFIXES)}",
            got=path.name,
            hint="`files` in the table's section may be a glob that leaves it out.",
        )
    try:
        return _read_known(path, name, wanted, separator)
    except (pl.exceptions.PolarsError, OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(
            name,
            expected=f"a readable {path.suffix} file",
            got=(str(error).splitlines() or [type(error).__name__])[0][:200],
            hint="mend or remove it, or set [logs] skip_unreadable_files = true to leave it out "
            "and have it reported.",
        ) from error


def _has_known_suffix(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def _read_known(
    path: Path, name: str, wanted: Collection[str] | None, separator: str | None
) -> RawFile:
    format_name = path.name.lower().removesuffix(".gz")
    if format_name.endswith(".parquet"):
        return _read_parquet(path, name, wanted)
    lines = _read_lines(path)
    if lines.is_empty():
        raise EmptyFileError(name, expected="a line at least", got="an empty file")
    if format_name.endswith((".jsonl", ".ndjson")):
        columns, fields = _read_json_lines(lines, wanted)
    else:
        separator = separator or ("\t" if format_name.endswith(".tsv") else ",")
        columns, fields = read_delimited(lines, separator, wanted)
    return RawFile(
        name=name,
        frame=fields.frame,
        columns=columns,
        row_numbers=fields.row_numbers,
        broken=fields.broken,
        is_text=True,
    )


def _read_parquet(path: Path, name: str, wanted: Collection[str] | None) -> RawFile:
    lazy = pl.scan_parquet(path, glob=False)
    columns = tuple(lazy.collect_schema().names())
    return RawFile(
        name=name,
        frame=lazy.select([c for c in columns if wanted is None or c in wanted]).collect(),
        columns=columns,
        row_numbers=None,
        broken=pl.DataFrame(schema={"row": pl.Int64, "line": pl.String}),
        is_text=False,
    )


def _read_lines(path: Path) -> pl.Series:
    """The lines of a text file; a byte that is not UTF-8 becomes U+FFFD, to be found later."""
    data = path.read_bytes()
    if path.name.lower().endswith(".gz"):
        data = gzip.decompress(data)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError("text in UTF-16; it must be UTF-8")
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        lines = pl.read_lines(data)
    except pl.exceptions.ComputeError:
        lines = pl.read_lines(data.decode("utf-8", errors="replace").encode())
    return lines["line"].str.strip_suffix("\r")


def _read_json_lines(
    lines: pl.Series, wanted: Collection[str] | None
) -> tuple[tuple[str, ...], Fields]:
    """Each line an object; its values as text, nested ones as JSON."""
    table = pl.DataFrame({"line": lines}).with_row_index("row", offset=1)
    table = table.cast({"row": pl.Int64}).filter(pl.col("line").str.strip_chars() != "")
    line = pl.col("line")
    is_object = line.str.strip_chars().str.starts_with("{") & (
        line.str.json_path_match("$").is_not_null()
    )
    table = table.with_columns(is_object=is_object)
    good, broken = table.filter("is_object"), table.filter(~pl.col("is_object"))
    # The pattern also finds keys of nested objects; those match nothing at the top level.
    keys = good["line"].str.extract_all(_JSON_KEY).explode().drop_nulls()
    names = keys.unique(maintain_order=True).str.extract(_JSON_KEY).unique(maintain_order=True)
    columns = tuple(names.to_list())
    frame = good.select(
        line.str.json_path_match("$['" + column.replace("'", "\\'") + "']").alias(column)
        for column in columns
        if wanted is None or column in wanted
    )
    if wanted is None:
        frame = frame.select(c for c in frame if c.null_count() < frame.height)
        columns = tuple(frame.columns)
    return columns, Fields(frame, good["row"], broken.select("row", "line"))
