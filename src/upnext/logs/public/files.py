"""Finds the files of an official download and reads the columns that a loader asks for."""

import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from upnext.errors import DataError

DEEPEST_FOLDER = 2
"""Archives unpack into a folder of their own, and some hold a folder for each part."""


def find_files(path: Path, *patterns: str) -> list[Path]:
    """The files of the first pattern that has any, in the least deep folder that has any.

    Args:
        path: a folder, or any file in it.
        patterns: file names, with `*` where they vary; `.gz` may follow.

    Returns: the files, sorted; empty when there are none. Where a file lies there both plain
        and as `.gz`, the plain one counts.
    """
    folder = path.parent if path.is_file() else path
    for pattern in patterns:
        for depth in range(DEEPEST_FOLDER + 1):
            nested = "*/" * depth + pattern
            plain, packed = sorted(folder.glob(nested)), sorted(folder.glob(f"{nested}.gz"))
            if found := [*plain, *(f for f in packed if f.with_suffix("") not in plain)]:
                return found
    return []


def find_file(path: Path, *names: str) -> Path | None:
    """The file of the first name that is there; None when none is."""
    return next(iter(find_files(path, *names)), None)


def require_files(path: Path, *patterns: str, home: str) -> list[Path]:
    """Like `find_files`, for files that the set cannot do without.

    Args:
        home: where the set is published, in words.

    Raises: DataError: there are none.
    """
    if found := find_files(path, *patterns):
        return found
    names = " or ".join(patterns)
    raise DataError(
        str(path),
        expected=f"{names}, plain or as .gz, here or up to {DEEPEST_FOLDER} folders down",
        got="no such file" if path.exists() else "no such folder",
        hint=f"the official download is on {home}.",
    )


def require_file(path: Path, *names: str, home: str) -> Path:
    """Like `find_file`, for a file that the set cannot do without.

    Raises: DataError: there is none.
    """
    return require_files(path, *names, home=home)[0]


def read_delimited(
    path: Path,
    columns: pl.Schema,
    *,
    separator: str = ",",
    has_header: bool = True,
    quote: str | None = '"',
    encoding: str = "utf-8",
) -> pl.DataFrame:
    """Reads columns of a CSV-like file, plain or `.gz`, in the types asked for.

    Args:
        columns: with a header, the columns wanted, by name; without one, all columns in order.

    Raises: DataError: a column is missing, or a cell is not of its type.
    """
    source = path if encoding == "utf-8" else io.BytesIO(read_text(path, encoding).encode())
    with _reading(path):
        return pl.read_csv(
            source,
            separator=separator,
            quote_char=quote,
            has_header=has_header,
            columns=list(columns) if has_header else None,
            new_columns=None if has_header else list(columns),
            schema_overrides=columns,
        )


def read_double_colon(path: Path, columns: pl.Schema) -> pl.DataFrame:
    """Reads a file of MovieLens 1M: fields parted by `::`, ISO-8859-1, no header.

    Raises: DataError: a line has too few fields, or a cell is not of its type.
    """
    lines = read_text(path, "iso-8859-1").rstrip("\r\n").split("\n")
    fields = pl.Series("fields", lines).str.strip_chars_end("\r").str.splitn("::", len(columns))
    frame = fields.struct.rename_fields(list(columns)).struct.unnest()
    if len(broken := frame.select(pl.any_horizontal(pl.all().is_null()).arg_true()).to_series()):
        where = f"{path}, row {broken[0] + 1:,}"
        raise DataError(where, expected=f"{len(columns)} fields parted by ::", got="fewer")
    with _reading(path):
        return frame.cast(columns)


def read_parquet(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """Reads columns of a Parquet file.

    Raises: DataError: a column is missing, or the file cannot be read.
    """
    with _reading(path):
        return pl.read_parquet(path, columns=list(columns))


def parquet_columns(path: Path) -> list[str]:
    """The names of the columns of a Parquet file.

    Raises: DataError: the file cannot be read.
    """
    with _reading(path):
        return list(pl.read_parquet_schema(path))


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The text of a file, plain or `.gz`.

    Raises: DataError: the file is cut short or not in this encoding.
    """
    with _reading(path):
        content = path.read_bytes()
        return (gzip.decompress(content) if path.suffix == ".gz" else content).decode(encoding)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (pl.exceptions.PolarsError, OSError, EOFError, zlib.error, UnicodeError) as error:
        other_format = isinstance(error, pl.exceptions.ColumnNotFoundError)
        raise DataError(
            str(path),
            expected="a file of the official download",
            got=str(error).partition("\n")[0],
            hint="is this another version of the set?"
            if other_format
            else "the download may have been cut short; fetch it again.",
        ) from None
