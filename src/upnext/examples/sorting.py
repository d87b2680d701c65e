"""Any number of watches sorted by user and time on disk, within a fixed amount of memory.

Records in the order of the logs → buckets of neighbouring users → each bucket sorted by itself.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from upnext.examples.history import Indices
from upnext.schema import Rows

WATCH_RECORD = np.dtype(
    [
        ("user", np.int32),
        ("item", np.int32),
        ("at_ms", np.int64),
        ("watch_time_s", np.float32),
        ("place", np.int64),
    ]
)
"""One watch: numbers of its user and item, and the place of its row in the logs."""

RECORDS_AT_ONCE = 1 << 22
USERS_PER_BUCKET = 1 << 16
"""So that a user's place in its bucket has 16 bits, which NumPy sorts in linear time."""

Records = NDArray[np.void]


class ArrayFile:
    """A .npy file of one dimension that is written piece by piece.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.npy"
    >>> with ArrayFile(path, np.int64) as file:
    ...     file.append(np.arange(3))
    ...     file.append(np.arange(2))
    >>> np.load(path)
    array([0, 1, 2, 0, 1])
    """

    def __init__(self, path: Path, dtype: type[np.generic]) -> None:
        self._dtype = np.dtype(dtype)
        self._file = path.open("wb")
        self._length = 0
        self._write_header()

    def append(self, values: NDArray[Any]) -> None:
        """Writes more values, as the file's type."""
        # Of a record's field NumPy would write one value at a time.
        np.ascontiguousarray(values, self._dtype).tofile(self._file)
        self._length += len(values)

    def __enter__(self) -> "ArrayFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.seek(0)
        self._write_header()  # of the same size: NumPy leaves room for the length to grow
        self._file.close()

    def _write_header(self) -> None:
        header = np.lib.format.header_data_from_array_1_0(np.empty(0, self._dtype))
        np.lib.format.write_array_header_1_0(self._file, header | {"shape": (self._length,)})


@dataclass(frozen=True, kw_only=True)
class Numbering:
    """What takes the place of a record's numbers: the row of each user, the code of each item."""

    user_rows: Rows
    item_codes: Rows


def sort_watches(records: Path, folder: Path, numbering: Numbering, num_events: Indices) -> Records:
    """Writes starts, item_codes, at_ms, watch_time_s and places: user by user, in order of time.

    Watches of one user at one time keep the order that they have in the logs, and of several of
    one item then the first stays. Holds a bucket and copies of it, some 500 MB, whatever the number
    of watches, unless one user has more.

    Args:
        records: a file of `WATCH_RECORD`s in the order of the logs.
        folder: takes on the arrays; what is in between lies there too, without a name.
        num_events: [U] records of each user row.

    Returns: the records that repeat an earlier one, in no order; their users are rows.
    """
    bounds = fitting_buckets(num_events)
    ends = np.concatenate([[0], np.cumsum(num_events)])[bounds]
    with tempfile.TemporaryFile(dir=folder) as buckets:
        firsts = ends[:-1].copy()
        for part, sizes in deal(records, numbering, bounds):
            _put(part, sizes, buckets, firsts)
            firsts += sizes
        return write_watches(
            map(sorted_bucket, _each_bucket(buckets, np.diff(ends))), folder, num_events
        )


def deal(records: Path, numbering: Numbering, bounds: Indices) -> Iterator[tuple[Records, Indices]]:
    """Parts of a file of records, each ordered by bucket, and how many of each bucket it has.

    Of one bucket they keep their order. Users are now rows, and items codes.

    Args:
        bounds: [buckets + 1] as `bucket_bounds`.
    """
    num_buckets = len(bounds) - 1
    numbers = np.arange(num_buckets, dtype=np.min_scalar_type(num_buckets))
    bucket_of_row = np.repeat(numbers, np.diff(bounds))
    with records.open("rb") as file:
        while len(part := np.fromfile(file, WATCH_RECORD, RECORDS_AT_ONCE)):
            part["user"] = numbering.user_rows[part["user"]]
            part["item"] = numbering.item_codes[part["item"]]
            bucket = bucket_of_row[part["user"]]
            yield (
                part[np.argsort(bucket, kind="stable")],
                np.bincount(bucket, minlength=num_buckets),
            )


def sorted_bucket(bucket: Records) -> tuple[Records, Records]:
    """Records of neighbouring users, in the order of the logs: those that stay, sorted by user and
    time, and those that repeat one of them."""
    watches = _sorted(bucket)
    is_repeat = _repeats(watches)
    return watches[~is_repeat], watches[is_repeat]


def write_watches(
    buckets: Iterable[tuple[Records, Records]], folder: Path, num_events: Indices
) -> Records:
    """Writes the arrays that `sort_watches` tells of, from all buckets in their order.

    Args:
        buckets: each as `sorted_bucket` gives it.
        num_events: [U] records of each user row, repeats too.

    Returns: all repeats.
    """
    repeated: list[Records] = [np.zeros(0, WATCH_RECORD)]
    with (
        ArrayFile(folder / "item_codes.npy", np.int32) as items,
        ArrayFile(folder / "at_ms.npy", np.int64) as at_ms,
        ArrayFile(folder / "watch_time_s.npy", np.float32) as watch_time_s,
        ArrayFile(folder / "places.npy", np.int64) as places,
    ):
        for watches, repeats in buckets:
            repeated.append(repeats)
            items.append(watches["item"])
            at_ms.append(watches["at_ms"])
            watch_time_s.append(watches["watch_time_s"])
            places.append(watches["place"])
    repeats = np.concatenate(repeated)
    kept = num_events - np.bincount(repeats["user"], minlength=len(num_events))
    np.save(folder / "starts.npy", np.concatenate([[0], np.cumsum(kept)]), allow_pickle=False)
    return repeats


def fitting_buckets(num_events: Indices) -> Indices:
    """`bucket_bounds` of buckets that are sorted within some 500 MB."""
    return bucket_bounds(num_events, max_users=USERS_PER_BUCKET, max_events=RECORDS_AT_ONCE)


def bucket_bounds(num_events: Indices, *, max_users: int, max_events: int) -> Indices:
    """User rows at which buckets begin, and the end: at most so many users and events each.

    A user with more events than that has a bucket alone.

    >>> bucket_bounds(np.array([0, 3, 1, 9, 1]), max_users=3, max_events=4).tolist()
    [0, 3, 4, 5]
    """
    ends = np.cumsum(num_events)
    bounds = [0]
    while (first := bounds[-1]) < len(num_events):
        before = ends[first] - num_events[first]
        fits = int(np.searchsorted(ends, before + max_events, side="right"))
        bounds.append(min(max(fits, first + 1), first + max_users, len(num_events)))
    return np.array(bounds)


def _put(part: Records, sizes: Indices, buckets: BinaryIO, firsts: Indices) -> None:
    """Writes the records of each bucket behind those that came before them, at `firsts`."""
    stops = np.cumsum(sizes)
    for one in np.flatnonzero(sizes):
        piece = part[stops[one] - sizes[one] : stops[one]]
        os.pwrite(buckets.fileno(), piece.tobytes(), firsts[one] * WATCH_RECORD.itemsize)


def _each_bucket(buckets: BinaryIO, sizes: Indices) -> Iterator[Records]:
    buckets.seek(0)
    for size in sizes:
        yield np.fromfile(buckets, WATCH_RECORD, int(size))


def _sorted(bucket: Records) -> Records:
    """By user, then by time; else in the order they have."""
    if not len(bucket):
        return bucket
    users = bucket["user"]
    in_bucket = (users - users.min()).astype(np.uint16)
    return bucket[np.lexsort((bucket["at_ms"], in_bucket))]


def _repeats(watches: Records) -> NDArray[np.bool_]:
    """Which of sorted watches have user, item and time of one before them."""
    is_repeat = np.zeros(len(watches), bool)
    follows = (np.diff(watches["user"]) == 0) & (np.diff(watches["at_ms"]) == 0)
    tied = np.flatnonzero(np.append(follows, False) | np.append(False, follows))
    tied = tied[np.lexsort([watches[key][tied] for key in ("item", "at_ms", "user")])]
    ours = watches[["user", "item", "at_ms"]][tied]
    is_repeat[tied[1:][ours[1:] == ours[:-1]]] = True
    return is_repeat
