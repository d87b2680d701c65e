"""From all that is proposed for each request to the k best of it, without what it excludes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.schema import MS_PER_DAY, NUM_RESERVED_ROWS, Floats, Rows, TimesMs

NO_ROW = -1
ROW_BITS = 32

Found = tuple[Rows, Floats]
"""Item rows [B, k] and their scores [B, k], best first; -1 and -inf fill up."""
Places = NDArray[np.int64]
"""Positions in an array, as NumPy gives and takes them."""


def best_first(
    request_index: NDArray[Any],
    item_rows: NDArray[Any],
    scores: Floats,
    k: int,
    *,
    num_requests: int,
    excluded_rows: Sequence[Rows] | None,
) -> Found:
    """The k best proposals of each request, ties to the smaller row.

    A score of 0 is no proposal: the source knows nothing of the item.

    Args:
        request_index: [M] the request that each proposal is for, from 0 to B − 1, in any order.
        item_rows: [M] each at most once a request.
        scores: [M] float32.
        excluded_rows: what each request leaves out, in any order; None leaves nothing out.

    >>> best_first(np.array([0, 0, 1]), np.array([4, 3, 4]), np.float32([0.5, 0.5, 2.0]), 2,
    ...            num_requests=2, excluded_rows=[np.array([], np.int32), np.array([4])])
    (array([[ 3,  4],
           [-1, -1]], dtype=int32), array([[ 0.5,  0.5],
           [-inf, -inf]], dtype=float32))
    """
    kept = np.flatnonzero(scores > 0)
    order = kept[np.argsort(pair_keys(falling(scores[kept]), item_rows[kept]))]
    if num_requests > 1:
        order = order[np.argsort(request_index[order], kind="stable")]
    num_wanted = k + most_excluded(excluded_rows)
    order, requests, place = _first(order, request_index, num_wanted, num_requests)
    if excluded_rows:
        stands = ~_are_excluded(requests, item_rows[order], excluded_rows)
        order, requests, place = _first(order[stands], request_index, k, num_requests)
    rows = np.full((num_requests, k), NO_ROW, np.int32)
    best = np.full((num_requests, k), -np.inf, np.float32)
    rows[requests, place] = item_rows[order]
    best[requests, place] = scores[order]
    return rows, best


def most_excluded(excluded_rows: Sequence[Rows] | None) -> int:
    """How many rows the request with the most exclusions excludes: as many more are proposed."""
    return max((len(rows) for rows in excluded_rows or ()), default=0)


def _first(
    order: Places, request_index: NDArray[Any], k: int, num_requests: int
) -> tuple[Places, NDArray[Any], Places]:
    """The first k of each request's proposals in order: which, whose, and at which place."""
    if num_requests == 1:
        order = order[:k]
        return order, request_index[order], np.arange(len(order))
    requests = request_index[order]
    place = np.arange(len(order)) - np.searchsorted(requests, requests)
    is_first = place < k
    return order[is_first], requests[is_first], place[is_first]


def _are_excluded(
    request_index: NDArray[Any], item_rows: NDArray[Any], excluded_rows: Sequence[Rows]
) -> NDArray[np.bool_]:
    requests = np.repeat(np.arange(len(excluded_rows)), [len(rows) for rows in excluded_rows])
    excluded = np.sort(pair_keys(requests, np.concatenate(list(excluded_rows))))
    return find(excluded, pair_keys(request_index, item_rows))[1]


def pair_keys(first: NDArray[Any], item_rows: NDArray[Any]) -> Places:
    """One whole number for each pair, in the order of pairs, to sort and find pairs by."""
    keys: Places = (np.asarray(first, np.int64) << ROW_BITS) + item_rows
    return keys


def falling(scores: Floats) -> Places:
    """Whole numbers that rise as scores above 0 fall, to sort by score and row at once.

    The bits of such floats are in the order of their values.
    """
    return -scores.view(np.int32).astype(np.int64)


def rising(scores: Floats) -> Places:
    """Whole numbers that rise as scores do, to sort and find scores by, each within its request.

    The bits of floats are in the order of their values, but for those below 0, which run backwards.
    """
    bits = (scores + np.float32(0)).view(np.int32).astype(np.int64)
    return bits ^ ((bits >> 63) & (2**31 - 1))


def rows_of_keys(keys: Places) -> Rows:
    """The rows of `pair_keys`."""
    rows: Rows = (keys & (2**ROW_BITS - 1)).astype(np.int32)
    return rows


def find(keys: Places, wanted: Places) -> tuple[Places, NDArray[np.bool_]]:
    """Where each wanted key stands among ascending keys, and whether it does.

    >>> find(np.array([2, 5, 9]), np.array([5, 6, 10]))
    (array([1, 2, 2]), array([ True, False, False]))
    """
    if not len(keys):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.bool_)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return place, keys[place] == wanted


def ranges(lo: Places, hi: Places) -> tuple[Places, Places]:
    """The numbers in each [lo, hi), one range after the other, and the range of each number.

    >>> ranges(np.array([3, 9, 5]), np.array([5, 9, 6]))
    (array([3, 4, 5]), array([0, 0, 2]))
    """
    sizes = hi - lo
    range_of = np.repeat(np.arange(len(sizes)), sizes)
    before = np.cumsum(sizes) - sizes
    return np.arange(len(range_of)) + (lo - before)[range_of], range_of


def are_items(item_rows: NDArray[Any], num_rows: int) -> NDArray[np.bool_]:
    """Which rows are items of a catalogue of N rows: no padding, not unknown, none added later."""
    return (item_rows >= NUM_RESERVED_ROWS) & (item_rows < num_rows)


def are_late(at_ms: TimesMs, days: float | None, until_ms: int | None) -> NDArray[np.bool_]:
    """Which times are before `until_ms` and, unless `days` is None, in the last days before it.

    `until_ms`: None stands for just after the last of the times.
    """
    end_ms = int(at_ms.max(initial=0)) + 1 if until_ms is None else until_ms
    late: NDArray[np.bool_] = at_ms < end_ms
    return late if days is None else late & (at_ms >= end_ms - days * MS_PER_DAY)
