"""Ids and vectors as Parquet, NumPy and word2vec text, written a block at a time."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.io.plugins import register_io_source

from upnext.errors import DataError
from upnext.schema import Floats

LINES_AT_ONCE = 8_192

# Every character that some reader takes for the end of a word, all of them below U+3001.
_ESCAPES = {
    one: quote(one, safe="")
    for one in map(chr, range(0x3001))
    if one.isspace() or one < " " or one == "%"
}


def write_npy(
    path: Path, blocks: Iterable[NDArray[Any]], *, shape: tuple[int, ...], dtype: Any
) -> None:
    """One array of this shape from its lines, block after block; `numpy.load` maps or reads it."""
    layout = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
        "fortran_order": False,
        "shape": shape,
    }
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, layout)
        for block in blocks:
            file.write(np.asarray(block, dtype).tobytes())


def write_ids(path: Path, ids: pl.Series) -> None:
    """Ids as an .npy array: int64, or text of one width.

    Raises: DataError: an id ends in U+0000, which NumPy would drop.
    """
    dtype = np.dtype(np.int64)
    if ids.dtype == pl.String:
        ends_in_null = ids.str.ends_with("\0")
        if ends_in_null.any():
            got = repr(ids.filter(ends_in_null)[0])
            raise DataError(f"an id in {path.name}", expected="no U+0000 at its end", got=got)
        dtype = np.dtype(f"<U{max(1, _longest(ids))}")
    blocks = (ids[part].to_numpy() for part in _blocks_of(len(ids)))
    write_npy(path, blocks, shape=(len(ids),), dtype=dtype)


def write_parquet(path: Path, ids: pl.Series, vectors: Floats) -> None:
    """Columns: the ids under their own name and type, and `vector`, D float32 numbers a line."""
    schema = {ids.name: ids.dtype, "vector": pl.Array(pl.Float32, vectors.shape[1])}

    def blocks(*_: Any) -> Iterator[pl.DataFrame]:
        for part in _blocks_of(len(ids)):
            yield pl.DataFrame({ids.name: ids[part], "vector": vectors[part]}, schema=schema)

    register_io_source(blocks, schema=schema).sink_parquet(path)


def write_word2vec(path: Path, ids: pl.Series, vectors: Floats) -> None:
    """The text format of word2vec: "N D", then a line an id: its word and D numbers.

    Numbers have as many digits as float32 needs to come back bit for bit. For words, see `words`.

    Raises: DataError: an id is empty, and so no word.
    """
    spelt = words(ids)
    if (spelt == "").any():
        raise DataError(f"an id in {path.name}", expected="at least one character", got="''")
    with path.open("wb") as file:
        file.write(f"{len(vectors)} {vectors.shape[1]}\n".encode())
        for part in _blocks_of(len(ids)):
            frame = pl.from_numpy(vectors[part]).insert_column(0, spelt[part].alias("word"))
            frame.write_csv(file, include_header=False, separator=" ", quote_style="never")


def words(ids: pl.Series) -> pl.Series:
    """Ids as words without space: white space, control characters and "%" as in a URL.

    No two ids become one word, and `urllib.parse.unquote` gives each back.

    >>> words(pl.Series("item_id", ["v17", "видео 0", "100%"])).to_list()
    ['v17', 'видео%200', '100%25']
    """
    return ids.cast(pl.String).str.replace_many(list(_ESCAPES), list(_ESCAPES.values()))


def _blocks_of(num_lines: int) -> Iterator[slice]:
    for start in range(0, num_lines, LINES_AT_ONCE):
        yield slice(start, start + LINES_AT_ONCE)


def _longest(ids: pl.Series) -> int:
    return int(ids.str.len_chars().to_numpy().max(initial=0))
