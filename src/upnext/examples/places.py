"""Which candidate of its request each past event is of."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from upnext.compiled import INDICES, INT, ROWS, compiled, table
from upnext.examples.history import Indices
from upnext.schema import UNKNOWN_ROW, Rows

ROW_FACTOR, REQUEST_FACTOR, HASH_BITS = 2_654_435_769, 2_246_822_519, 20
"""Odd and large, so that what is mixed of rows and requests differs in its middle bits."""


class Places(NamedTuple):
    """Which candidate of its request each past event is of, so that nobody compares them all.

    A place is the index in [M] of the first candidate of this request with this item, plus 1; 0
    stands for no candidate, an unknown item or a pad. `history_place` [R, H], `shown_place`
    [R, Hs], `item_place` [M].
    """

    history_place: Indices
    shown_place: Indices
    item_place: Indices


def places_of(
    history_rows: Rows, shown_rows: Rows, item_rows: Rows, request_index: NDArray[Any]
) -> Places:
    """The places of events [R, H], [R, Hs] and candidates [M] of requests request_index [M].

    >>> places_of(np.array([[0, 5, 7]]), np.array([[1, 9]]), np.array([1, 7, 9, 7]),
    ...           np.zeros(4, np.int64))
    Places(history_place=array([[0, 0, 2]]), shown_place=array([[0, 3]]), \
item_place=array([0, 2, 3, 2]))
    """
    return Places(
        *_places(
            np.ascontiguousarray(history_rows, np.int32),
            np.ascontiguousarray(shown_rows, np.int32),
            np.ascontiguousarray(item_rows, np.int32),
            np.ascontiguousarray(request_index, np.int64),
        )
    )


@compiled(INT, INT, INT)
def _first_bucket(request: int, row: int, num_buckets: int) -> int:
    """Where a request's item is looked for first; `num_buckets` is a power of 2."""
    mixed = (np.int64(request) * REQUEST_FACTOR) ^ (np.int64(row) * ROW_FACTOR)
    return int((mixed >> HASH_BITS) & (num_buckets - 1))


@compiled(table(ROWS), table(ROWS), ROWS, INDICES)
def _places(
    history_rows: Rows, shown_rows: Rows, item_rows: Rows, request_index: Indices
) -> tuple[Indices, Indices, Indices]:
    """By buckets that hold a candidate's place each; at least half of them are empty.

    Who finds a bucket taken by another item goes on to the next one.
    """
    num_buckets = 1
    while num_buckets < 2 * len(item_rows):
        num_buckets *= 2
    buckets, last = np.zeros(num_buckets, np.int64), num_buckets - 1
    keys = np.zeros(len(item_rows) + 1, np.int64)  # that of place 0 is no item's
    item_place = np.zeros(len(item_rows), np.int64)
    for candidate, row in enumerate(item_rows):
        if row > UNKNOWN_ROW:
            request = request_index[candidate]
            key = (request << 32) + np.int64(row)
            bucket = _first_bucket(request, row, num_buckets)
            while buckets[bucket] and keys[buckets[bucket]] != key:
                bucket = (bucket + 1) & last
            if not buckets[bucket]:
                buckets[bucket], keys[candidate + 1] = candidate + 1, key
            item_place[candidate] = buckets[bucket]
    history_place = np.zeros(history_rows.shape, np.int64)
    shown_place = np.zeros(shown_rows.shape, np.int64)
    for rows, places in ((history_rows, history_place), (shown_rows, shown_place)):
        for request in range(rows.shape[0]):
            for slot in range(rows.shape[1]):
                row = rows[request, slot]
                if row > UNKNOWN_ROW:
                    key = (request << 32) + np.int64(row)
                    bucket = _first_bucket(request, row, num_buckets)
                    while buckets[bucket] and keys[buckets[bucket]] != key:
                        bucket = (bucket + 1) & last
                    places[request, slot] = buckets[bucket]
    return history_place, shown_place, item_place
