"""Ids become dense rows and back: row 0 pads, row 1 is unknown, real ids follow by frequency."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from upnext.examples.once import once
from upnext.schema import NO_ROW, NUM_RESERVED_ROWS, UNKNOWN_ROW, Id, Rows

MOST_FOUND_LATELY = 1 << 15
"""Ids whose rows are remembered; then all of them are forgotten. None that is longer than all known
ones is: whoever asks chooses how much memory it takes."""
_NULL_BYTE = b"\xc0\x80"
"""What stands for U+0000 in a key: NumPy drops zero bytes from the end of one."""


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
        distinct = ids.drop_nulls().unique().sort()
        return (
            ids.replace_strict(
                distinct,
                pl.Series(self._find_all(distinct)),
                default=UNKNOWN_ROW,
                return_dtype=pl.Int32,
            )
            .to_numpy()
            .copy()
        )

    def row(self, one_id: Id) -> int:
        """The row of one id, or 1."""
        key = self._key(one_id)
        if key is None or len(self.ids) == 0:
            return UNKNOWN_ROW
        place = int(np.searchsorted(self.ids, key, sorter=self.order))
        place = int(self.order[min(place, len(self.ids) - 1)])
        return place + NUM_RESERVED_ROWS if self.ids[place] == key else UNKNOWN_ROW

    def id(self, row: int) -> Id:
        """The owner's id in a row; IndexError for the reserved rows and beyond the end."""
        if not NUM_RESERVED_ROWS <= row < self.num_rows:
            raise IndexError(f"row {row} holds no id; rows 2 to {self.num_rows - 1} do")
        key = self.ids[row - NUM_RESERVED_ROWS]
        return int(key) if self.ids_are_integers else _text(key)

    def ids_in(self, rows: Rows) -> list[Id]:
        """The owner's id in each row, as `id`, in much less time than one after the other."""
        places = [row - NUM_RESERVED_ROWS for row in rows.tolist()]
        if places and not 0 <= min(places) <= max(places) < len(self.ids):
            raise IndexError(f"not all of {len(rows)} rows hold an id")
        keys: list[Any] = self.ids[places].tolist()
        return keys if self.ids_are_integers else [_text(key) for key in keys]

    def rows_beginning(self, text: str) -> Rows:
        """Rows of all ids that begin with a text, ascending; integers as they are written."""
        if not text:
            return np.arange(NUM_RESERVED_ROWS, self.num_rows, dtype=np.int32)
        spans = _integers_beginning(text) if self.ids_are_integers else self._keys_beginning(text)
        lowest, highest = (np.array(bounds, self.ids.dtype) for bounds in zip(*spans, strict=True))
        first = np.searchsorted(self.ids, lowest, sorter=self.order)
        end = np.searchsorted(self.ids, highest, side="right", sorter=self.order)
        places = [self.order[lo:hi] for lo, hi in zip(first, end, strict=True)]
        rows = np.concatenate(places).astype(np.int32) + np.int32(NUM_RESERVED_ROWS)
        return np.sort(rows)

    def as_owned(self, one_id: Id) -> Id:
        """An id in the owner's type: the integer that a text writes, where ids are integers."""
        value = _integer(one_id) if self.ids_are_integers else str(one_id)
        return one_id if value is None else value

    def series(self) -> pl.Series:
        """All ids in row order, beginning with row 2, in the owner's type."""
        if self.ids_are_integers:
            return pl.Series("id", np.array(self.ids), dtype=pl.Int64)
        keys = self.ids.tolist()
        if any(_NULL_BYTE in key for key in keys):
            keys = [_text(key).encode() for key in keys]
        return pl.Series("id", keys, dtype=pl.Binary).cast(pl.String)

    def _keys_beginning(self, text: str) -> list[tuple[bytes, bytes]]:
        key, width = _key(text), self.ids.itemsize
        # What is longer than all ids begins none: a span that ends before it starts.
        return [(key, key.ljust(width, b"\xff"))] if len(key) <= width else [(b"\xff", b"")]

    def _find(self, ids: Sequence[Id]) -> Rows:
        """What is asked for is asked for again: a user's last events come with each request."""
        found = self._found_lately
        rows = [found.get(one_id, NO_ROW) for one_id in ids]
        if NO_ROW in rows:
            keys = [self._key(one_id) for one_id in ids]
            is_given = np.array([key is not None for key in keys], bool)
            wanted = np.array([key for key in keys if key is not None])
            rows = self._rows_of(is_given, wanted).tolist()
            if len(found) + len(rows) > MOST_FOUND_LATELY:
                found.clear()
            if len(rows) <= MOST_FOUND_LATELY:
                told = zip(ids, rows, keys, strict=True)
                found.update((one_id, row) for one_id, row, key in told if key is not None)
        return np.array(rows, np.int32)

    @once
    def _found_lately(self) -> dict[Id, int]:
        return {}

    def _find_all(self, ids: pl.Series) -> Rows:
        """`_find` for a column without nulls, which in the order of the ids is fastest."""
        text = ids.cast(pl.String)
        if self.ids_are_integers:
            keys = ids.cast(pl.Int64, strict=False)
            is_given = (keys.cast(pl.String) == text).fill_null(False)
        else:
            # One long key would widen a copy of all the others.
            keys, is_given = text, text.str.len_bytes() <= self.ids.itemsize
        return self._rows_of(is_given.to_numpy(), _as_keys(keys.filter(is_given)))

    def _rows_of(self, is_given: NDArray[np.bool_], wanted: NDArray[Any]) -> Rows:
        """Rows of the ids that are given, whose keys are `wanted`; row 1 for the others."""
        rows = np.full(len(is_given), UNKNOWN_ROW, np.int32)
        if len(self.ids) == 0 or len(wanted) == 0:
            return rows
        place = np.searchsorted(self.ids, wanted, sorter=self.order)
        place = self.order[np.minimum(place, len(self.ids) - 1)]
        rows[is_given] = np.where(self.ids[place] == wanted, place + NUM_RESERVED_ROWS, UNKNOWN_ROW)
        return rows

    def _key(self, one_id: Id) -> int | bytes | None:
        """None if it cannot be known: a text too long would widen a copy of all the others."""
        if self.ids_are_integers:
            return _integer(one_id)
        key = _key(str(one_id))
        return key if len(key) <= self.ids.itemsize else None


def _key(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass").replace(b"\0", _NULL_BYTE)


def _text(key: bytes) -> str:
    return bytes(key).replace(_NULL_BYTE, b"\0").decode()


def _integer(one_id: Id) -> int | None:
    try:
        value = int(one_id)
    except ValueError:
        return None
    is_exact = str(value) == str(one_id) and -(2**63) <= value < 2**63
    return value if is_exact else None


def _integers_beginning(text: str) -> list[tuple[int, int]]:
    """Spans of the integers whose decimal digits begin with a text.

    >>> _integers_beginning("12")[:3], _integers_beginning("-0")
    ([(12, 12), (120, 129), (1200, 1299)], [(1, 0)])
    """
    least, most = -(2**63), 2**63 - 1
    if text == "-":
        return [(least, -1)]
    digits = text.removeprefix("-")
    if not re.fullmatch("[1-9][0-9]{0,18}", digits):
        return [(0, 0)] if text == "0" else [(1, 0)]
    scales = [10**power for power in range(20 - len(digits))]
    spans = [(int(digits) * scale, (int(digits) + 1) * scale - 1) for scale in scales]
    if text != digits:
        spans = [(-high, -low) for low, high in spans]
    return [
        (max(low, least), min(high, most)) for low, high in spans if low <= most and high >= least
    ]


def _as_keys(ids: pl.Series) -> NDArray[Any]:
    if ids.dtype.is_integer():
        return ids.cast(pl.Int64).to_numpy()
    has_null_bytes = ids.str.contains("\0", literal=True).any()
    encoded = [_key(text) for text in ids] if has_null_bytes else ids.cast(pl.Binary).to_list()
    return np.array(encoded, dtype=f"S{max(map(len, encoded), default=1) or 1}")
