"""Most watched, of late and by segment: the same list for all who share one user feature."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from upnext.best import Found, Places, RowSets, best_first
from upnext.compiled import FLOATS, INDICES, ROWS, compiled, part
from upnext.schema import NUM_RESERVED_ROWS, Floats, Rows, TimesMs
from upnext.sources.pairs import ROW_BITS, are_late, pair_keys, rows_of_keys

EVERYBODY = 0
"""The segment that all users are in. Who is in no other has the segment row 0 or 1."""


@dataclass(frozen=True)
class MostWatched:
    """What share of the watches of each of S segments each item has.

        share_s(i) = (n_s(i) + a · share(i)) / (n_s + a)        share(i) = n(i) / n

    n counts watches, of the item i or of all, in segment s or by everybody; a is the shrinkage, in
    watches, so that a segment with few watches of its own follows everybody: the mean of a
    Dirichlet posterior (Zhai and Lafferty 2004, "A study of smoothing methods for language
    models"). Segment 0 is everybody; users of a segment without a watch are in it too.

    Only what was watched is held: `pairs` [P] int64 are ascending keys of a segment and a row, with
    their `shares` [P]; `by_share` [P] holds the places of each segment's pairs, best first, segment
    s's in starts[s]:starts[s + 1]. `general_weights` [S]: a / (n_s + a), the factor of everybody's
    share where a segment never watched the item.
    """

    pairs: Places
    shares: Floats
    by_share: Places
    starts: Places
    general_weights: Floats

    def candidates(
        self, segment_rows: NDArray[Any], k: int, *, excluded_rows: Sequence[Rows] | None = None
    ) -> Found:
        """The k items with the largest share in each request's segment, ties to the smaller row.

        An item that the segment watched is among the first of its own, and any other
        among the first of everybody's; so the heads of these two lists hold all that is asked
        for.

        Args:
            segment_rows: [B] rows in the vocabulary of the feature; 0 and 1 are everybody.
            excluded_rows: what each request leaves out, such as what its user has watched.

        Returns: rows and scores, [B, k] each; -1 and -inf where too few items were watched.
        """
        excluded = RowSets.of(excluded_rows, len(segment_rows))
        proposed = _proposals(
            np.ascontiguousarray(segment_rows, np.int32),
            k + excluded.sizes,
            self._rows,
            self.shares,
            self.by_share,
            self.starts,
            self.general_weights,
        )
        return best_first(*proposed, k, excluded_rows=excluded)

    def scores(
        self, segment_rows: NDArray[Any], item_rows: NDArray[Any], request_index: NDArray[Any]
    ) -> Floats:
        """share_s(i) of given candidates, [M]; 0 where nobody watched the item.

        Args:
            segment_rows: [B] the segment of each request.
            item_rows: [M] the candidates, of all requests.
            request_index: [M] the request that each is for, from 0 to B − 1.
        """
        return _scores(
            np.ascontiguousarray(item_rows, np.int32),
            np.ascontiguousarray(request_index, np.int64),
            np.ascontiguousarray(segment_rows, np.int32),
            self._rows,
            self.shares,
            self.starts,
            self.general_weights,
            self._everybodys,
        )

    def scores_of_all(self, num_rows: int, *, segment_row: int = EVERYBODY) -> Floats:
        """share_s(i) of every row of a catalogue, [N]."""
        every_row = np.arange(num_rows)
        return self.scores(np.array([segment_row]), every_row, np.zeros_like(every_row))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays by name, for a release."""
        return {name: getattr(self, name) for name in type(self).__annotations__}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The inverse of `to_arrays`."""
        return cls(**{name: arrays[name] for name in cls.__annotations__})

    @cached_property
    def _rows(self) -> Rows:
        """[P] those of the pairs, ascending within a segment."""
        return rows_of_keys(self.pairs)

    @cached_property
    def _everybodys(self) -> Floats:
        """share(i) by row, up to the last one that was watched."""
        rows = self._rows[: self.starts[1]]
        shares = np.zeros(int(rows.max(initial=-1)) + 1, np.float32)
        shares[rows] = self.shares[: self.starts[1]]
        return shares


@part
def _segment(segment_row: int, starts: Places) -> int:
    """The segment of a user with this row; everybody, where it is none that was counted."""
    is_known = NUM_RESERVED_ROWS <= segment_row < len(starts) - 1
    return int(segment_row) if is_known else EVERYBODY


@part
def _place_of(pair_rows: Rows, starts: Places, segment: int, row: int) -> int:
    """Where a row stands among its segment's, or -1."""
    low, end = starts[segment], starts[segment + 1]
    high = end
    while low < high:
        middle = (low + high) // 2
        if pair_rows[middle] < row:
            low = middle + 1
        else:
            high = middle
    return low if low < end and pair_rows[low] == row else -1


@compiled(ROWS, INDICES, ROWS, FLOATS, INDICES, INDICES, FLOATS)
def _proposals(
    segment_rows: Rows,
    counts: Places,
    pair_rows: Rows,
    shares: Floats,
    by_share: Places,
    starts: Places,
    general_weights: Floats,
) -> tuple[Places, Rows, Floats]:
    """The first counts [B] of each request's segment, and of everybody's where it has none there.

    Returns: where each request's proposals start, [B + 1]; their rows and scores.
    """
    ends = np.zeros(len(segment_rows) + 1, np.int64)
    most = 2 * counts.sum()
    rows, scores = np.empty(most, np.int32), np.empty(most, np.float32)
    num_proposed = 0
    for request in range(len(segment_rows)):
        segment = _segment(segment_rows[request], starts)
        first, end = starts[segment], starts[segment + 1]
        for place in by_share[first : min(first + counts[request], end)]:
            rows[num_proposed], scores[num_proposed] = pair_rows[place], shares[place]
            num_proposed += 1
        if segment != EVERYBODY:
            for place in by_share[: min(counts[request], starts[1])]:
                if _place_of(pair_rows, starts, segment, pair_rows[place]) < 0:
                    rows[num_proposed] = pair_rows[place]
                    scores[num_proposed] = general_weights[segment] * shares[place]
                    num_proposed += 1
        ends[request + 1] = num_proposed
    return ends, rows[:num_proposed], scores[:num_proposed]


@compiled(ROWS, INDICES, ROWS, ROWS, FLOATS, INDICES, FLOATS, FLOATS)
def _scores(
    item_rows: Rows,
    request_index: Places,
    segment_rows: Rows,
    pair_rows: Rows,
    shares: Floats,
    starts: Places,
    general_weights: Floats,
    everybodys: Floats,
) -> Floats:
    """Of given candidates, [M]; 0 of what nobody watched."""
    scores = np.zeros(len(item_rows), np.float32)
    for place in range(len(item_rows)):
        row, segment_row = item_rows[place], segment_rows[request_index[place]]
        if 0 <= row < len(everybodys):
            scores[place] = everybodys[row]
            segment = _segment(segment_row, starts)
            if segment != EVERYBODY:
                own = _place_of(pair_rows, starts, segment, row)
                general = general_weights[segment] * everybodys[row]
                scores[place] = general if own < 0 else shares[own]
    return scores


def most_watched(
    item_rows: Rows, segment_rows: Rows | None = None, *, shrinkage: float = 0.0
) -> MostWatched:
    """Counts watches.

    Args:
        item_rows: [E] the items watched; rows 0 and 1 are left away.
        segment_rows: [E] the segments of who watched them; None counts everybody alone.
        shrinkage: a in `MostWatched`'s formula, in watches.

    >>> most_watched(np.array([2, 4, 4, 4, 1])).candidates(np.array([0]), 3)
    (array([[ 4,  2, -1]], dtype=int32), array([[0.75, 0.25, -inf]], dtype=float32))
    """
    is_item = item_rows >= NUM_RESERVED_ROWS
    rows = item_rows[is_item]
    segments = np.zeros(len(rows), np.int64) if segment_rows is None else segment_rows[is_item]
    is_own = segments >= NUM_RESERVED_ROWS
    everybody, everybody_counts = np.unique(rows.astype(np.int64), return_counts=True)
    own, own_counts = np.unique(pair_keys(segments[is_own], rows[is_own]), return_counts=True)
    pairs, counts = np.concatenate([everybody, own]), np.concatenate([everybody_counts, own_counts])
    sizes = np.bincount(pairs >> ROW_BITS, minlength=1)
    segment_of = np.repeat(np.arange(len(sizes)), sizes)
    totals = np.bincount(segment_of, weights=counts, minlength=len(sizes))
    added = np.where(np.arange(len(sizes)) == EVERYBODY, 0.0, shrinkage)
    general = everybody_counts[np.searchsorted(everybody, rows_of_keys(pairs))] / max(1, len(rows))
    smoothed = (counts + added[segment_of] * general) / (totals + added)[segment_of]
    shares = smoothed.astype(np.float32)
    weights = np.divide(added, totals + added, out=np.ones(len(sizes)), where=totals > 0)
    return MostWatched(
        pairs=pairs,
        shares=shares,
        by_share=np.lexsort((pairs, -shares, segment_of)),
        starts=np.concatenate([[0], np.cumsum(sizes)]),
        general_weights=weights.astype(np.float32),
    )


def most_watched_lately(
    item_rows: Rows,
    at_ms: TimesMs,
    segment_rows: Rows | None = None,
    *,
    days: float = 7.0,
    until_ms: int | None = None,
    shrinkage: float = 0.0,
) -> MostWatched:
    """Counts the watches in the last `days` before `until_ms`.

    On news a few hours are far better than a week; try some windows on validation. `until_ms`:
    the time before which watches count; just after the last one, unless given.

    >>> at_ms = 86_400_000 * np.array([0, 5, 6])
    >>> most_watched_lately(np.array([2, 2, 3]), at_ms, days=3).scores_of_all(4)
    array([0. , 0. , 0.5, 0.5], dtype=float32)
    """
    late = are_late(at_ms, days, until_ms)
    segments = None if segment_rows is None else segment_rows[late]
    return most_watched(item_rows[late], segments, shrinkage=shrinkage)
