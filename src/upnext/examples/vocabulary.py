"""Ids become dense rows and back: row 0 pads, row 1 is unknown, real ids follow by frequency."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.schema import NUM_RESERVED_ROWS, UNKNOWN_ROW, Id, Rows


@dataclass(frozen=True)
class Vocabulary:
    """The known ids: `ids[r - 2]` stands in row r, `order` sorts them.

    `ids` [N - 2] is int64, or UTF-8 bytes of fixed width. Both are plain arrays, so a release maps
    them into memory and looks an id up by binary search: nothing is built at start-up, and two
    processes share the pages.

    >>> channels = Vocabulary.by_frequency(pl.Series(["b", "a", "b", "c"]))
    >>> channels.rows(["b", "c", "new"]), channels.id(2), channels.num_rows
    (array([2, 4, 1], dtype=int32), 'b', 5)
    """

    ids: NDArray[Any]
    order: NDArray[np.int64]

    @classmethod
    def by_frequency(
        cls, values: pl.Series, *, max_ids: int | None = None, min_count: int = 1
    ) -> "Vocabulary":
        """Keeps the most frequent ids; equally frequent ones stand in the order of their ids."""
        counts = (
            values.rename("id")
            .drop_nulls()
            .value_counts(name="num_seen")
            .filter(pl.col("num_seen") >= min_count)
            .sort(["num_seen", "id"], descending=[True, False])
        )
        ids = _as_keys(counts["id"].head(max_ids if max_ids is not None else counts.height))
        return cls(ids, np.argsort(ids, kind="stable"))

    @property
    def num_rows(self) -> int:
        """N: the real ids and the two reserved rows."""
        return len(self.ids) + NUM_RESERVED_ROWS

    @property
    def ids_are_integers(self) -> bool:
        """Whether the owner's ids are integers; they are strings otherwise."""
        return bool(self.ids.dtype.kind == "i")

    def rows(self, ids: pl.Series | Sequence[Id]) -> Rows:
        """The row of each id, [len(ids)] int32; ids never seen in training, and nulls, get row 1.

        An integer written as text finds the integer, as a URL or a command line gives it.
        """
        if not isinstance(ids, pl.Series):
            return self._find(ids)
        distinct = ids.drop_nulls().unique()
        return (
            ids.replace_strict(
                distinct,
                pl.Series(self._find(distinct.to_list())),
                default=UNKNOWN_ROW,
                return_dtype=pl.Int32,
            )
            .to_numpy()
            .copy()
        )

    def row(self, one_id: Id) -> int:
        """The row of one id, or 1."""
        return int(self._find([one_id])[0])

    def id(self, row: int) -> Id:
        """The owner's id in a row; IndexError for the reserved rows and beyond the end."""
        if not NUM_RESERVED_ROWS <= row < self.num_rows:
            raise IndexError(f"row {row} holds no id; rows 2 to {self.num_rows - 1} do")
        key = self.ids[row - NUM_RESERVED_ROWS]
        return int(key) if self.ids_are_integers else _text(key)

    def series(self) -> pl.Series:
        """All ids in row order, beginning with row 2, in the owner's type."""
        if self.ids_are_integers:
            return pl.Series("id", np.array(self.ids), dtype=pl.Int64)
        return pl.Series("id", [_text(key) for key in self.ids], dtype=pl.String)

    def _find(self, ids: Sequence[Id]) -> Rows:
        rows = np.full(len(ids), UNKNOWN_ROW, np.int32)
        keys = [_integer(i) if self.ids_are_integers else self._text_key(i) for i in ids]
        given = np.array([key is not None for key in keys], bool)
        if len(self.ids) == 0 or not given.any():
            return rows
        wanted = np.array([key for key in keys if key is not None])
        place = np.searchsorted(self.ids, wanted, sorter=self.order)
        place = self.order[np.minimum(place, len(self.ids) - 1)]
        rows[given] = np.where(self.ids[place] == wanted, place + NUM_RESERVED_ROWS, UNKNOWN_ROW)
        return rows

    def _text_key(self, one_id: Id) -> bytes | None:
        """None if too long to be known: one long key would widen a copy of all the others."""
        key = _key(str(one_id))
        return key if len(key) <= self.ids.itemsize else None


def _key(text: str) -> bytes:
    """UTF-8, but U+0000 as two bytes: NumPy drops zero bytes from the end of a key."""
    return text.encode("utf-8", "surrogatepass").replace(b"\0", b"\xc0\x80")


def _text(key: bytes) -> str:
    return bytes(key).replace(b"\xc0\x80", b"\0").decode()


def _integer(one_id: Id) -> int | None:
    try:
        value = int(one_id)
    except ValueError:
        return None
    is_exact = str(value) == str(one_id) and -(2**63) <= value < 2**63
    return value if is_exact else None


def _as_keys(ids: pl.Series) -> NDArray[Any]:
    if ids.dtype.is_integer():
        return ids.cast(pl.Int64).to_numpy()
    encoded = [_key(text) for text in ids.to_list()]
    return np.array(encoded, dtype=f"S{max(map(len, encoded), default=1) or 1}")
