"""The k best of what is proposed for each request, whoever proposes it: an index or a count.

A score and a row make one whole number, the score above and upside down, so that one sort of plain
numbers orders by both. Only what comes first is then looked at for whether it is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Self, overload

import numpy as np
from numpy.typing import NDArray

from upnext.compiled import FLOAT, FLOATS, INDICES, INT, ROWS, compiled
from upnext.schema import NO_ROW, NUM_RESERVED_ROWS, Floats, Rows

Found = tuple[Rows, Floats]
"""Item rows [B, k] and their scores [B, k], best first; -1 and -inf fill up."""
Places = NDArray[np.int64]
"""Positions in an array, as NumPy gives and takes them."""


@dataclass(frozen=True, slots=True, eq=False)
class RowSets(Sequence[Rows]):
    """A set of rows for each of B requests, such as what its user has watched.

    Set b is rows[starts[b] : starts[b + 1]], ascending, each row once. It is a sequence of arrays
    like any other, so that whoever is handed one need not know; who looks rows up makes sure with
    `of` that it is one of these, which costs once what a request would pay for at each step.
    """

    starts: Places
    rows: Rows

    @classmethod
    def of(cls, lists: Sequence[Rows] | None, num_requests: int) -> Self:
        """The rows of each list, which may be in any order; None for no rows.

        Raises: ValueError: there are more lists than requests, or fewer, but some.
        """
        if isinstance(lists, cls) and len(lists) == num_requests:
            return lists
        if not lists:
            return cls(np.zeros(num_requests + 1, np.int64), np.zeros(0, np.int32))
        if len(lists) != num_requests:
            raise ValueError(f"expected a list for each of {num_requests}, got {len(lists)}")
        starts = np.array([0, *accumulate(map(len, lists))], np.int64)
        ascending = np.concatenate([np.sort(rows) for rows in lists], dtype=np.int32)
        return cls(*_each_once(starts, ascending))

    @property
    def sizes(self) -> Places:
        """[B]."""
        return self.starts[1:] - self.starts[:-1]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, place: int) -> Rows: ...
    @overload
    def __getitem__(self, place: slice) -> "RowSets": ...
    def __getitem__(self, place: int | slice) -> "Rows | RowSets":
        if isinstance(place, slice):
            first, end, _ = place.indices(len(self))
            return RowSets(self.starts[first : max(first, end) + 1], self.rows)
        at = range(len(self))[place]
        return self.rows[self.starts[at] : self.starts[at + 1]]

    def take(self, places: Places) -> "RowSets":
        """The sets of some of the requests, in the order given."""
        if places.tolist() == list(range(len(self))):
            return self
        return RowSets.of([self[place] for place in places.tolist()], len(places))


_ROW_BITS, _ROW_MASK = 32, 2**32 - 1
_ALL_BUT_THE_SIGN = 2**31 - 1
_NO_PROPOSAL = 2**63 - 1
_BITS_OF_NO_SCORE = int(np.array(-np.inf, np.float32).view(np.int32))


def best_first(
    starts: Places,
    item_rows: Rows,
    scores: Floats,
    k: int,
    *,
    excluded_rows: Sequence[Rows] | None = None,
    above: float = 0.0,
) -> Found:
    """The k best proposals of each request, ties to the smaller row.

    Args:
        starts: [B + 1] int64; request b's proposals are those in [starts[b], starts[b + 1]).
        item_rows: [M] int32, each at most once a request. Reserved rows and -1 propose nothing.
        scores: [M] float32.
        excluded_rows: what each request leaves out, in any order; None leaves nothing out.
        above: what scores so much or less is no proposal. Of what counts know nothing they score 0.

    >>> starts, rows = np.array([0, 2, 3]), np.array([4, 3, 4], np.int32)
    >>> scores = np.array([0.5, 0.5, 2.0], np.float32)
    >>> best_first(starts, rows, scores, 2, excluded_rows=[rows[:0], rows[:1]])
    (array([[ 3,  4],
           [-1, -1]], dtype=int32), array([[ 0.5,  0.5],
           [-inf, -inf]], dtype=float32))
    """
    keys = _keys(item_rows, scores, above)
    for first, end in pairwise(starts.tolist()):
        keys[first:end].sort()
    excluded = RowSets.of(excluded_rows, len(starts) - 1)
    rows, bits = _first(keys, starts, k, excluded.starts, excluded.rows)
    return rows, bits.view(np.float32)


@compiled(INDICES, ROWS)
def _each_once(starts: Places, ascending: Rows) -> tuple[Places, Rows]:
    """As `RowSets` has them, of lists that are ascending each."""
    firsts, rows, count = np.zeros(len(starts), np.int64), np.empty(len(ascending), np.int32), 0
    for request in range(len(starts) - 1):
        for place in range(starts[request], starts[request + 1]):
            if place == starts[request] or ascending[place] != ascending[place - 1]:
                rows[count] = ascending[place]
                count += 1
        firsts[request + 1] = count
    return firsts, rows[:count]


@compiled(ROWS, FLOATS, FLOAT)
def _keys(item_rows: Rows, scores: Floats, above: float) -> Places:
    """Whole numbers that rise as scores fall, and then with the row; the last for no proposal.

    The bits of floats are in the order of their values, but for those below 0, which run backwards.
    """
    bits = (scores + np.float32(0)).view(np.int32)  # of two zeros one is below the other
    keys = np.full(len(scores), _NO_PROPOSAL)
    for place in range(len(scores)):
        if scores[place] > above and item_rows[place] >= NUM_RESERVED_ROWS:
            ascending = np.int64(bits[place])
            if ascending < 0:
                ascending ^= _ALL_BUT_THE_SIGN
            keys[place] = (~ascending << _ROW_BITS) | np.int64(item_rows[place])
    return keys


@compiled(INDICES, INDICES, INT, INDICES, ROWS)
def _first(
    keys: Places, starts: Places, k: int, excluded_starts: Places, excluded_rows: Rows
) -> tuple[Rows, Rows]:
    """Rows and bits of scores [B, k] of the first keys of each request that are not excluded."""
    num_requests = len(starts) - 1
    rows = np.full((num_requests, k), NO_ROW, np.int32)
    bits = np.full((num_requests, k), _BITS_OF_NO_SCORE, np.int32)
    for request in range(num_requests):
        place, end = 0, excluded_starts[request + 1]
        for key in keys[starts[request] : starts[request + 1]]:
            if place == k or key == _NO_PROPOSAL:
                break
            row = key & _ROW_MASK
            low, high = excluded_starts[request], end
            while low < high:
                middle = (low + high) // 2
                if excluded_rows[middle] < row:
                    low = middle + 1
                else:
                    high = middle
            if low < end and excluded_rows[low] == row:
                continue
            ascending = ~(key >> _ROW_BITS)
            rows[request, place] = row
            bits[request, place] = ascending if ascending >= 0 else ascending ^ _ALL_BUT_THE_SIGN
            place += 1
    return rows, bits
