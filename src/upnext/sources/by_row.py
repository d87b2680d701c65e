"""Few rows of many, each request's apart, and what is to be found by them.

Small hash tables: a request has T slots, T a power of two, and a row the one that its hash names or
the next one that no other row has; 0 pads. So nothing is sorted, and sums are added up in the order
in which they come: they are the same to the bit in whatever batch.
"""

import numpy as np
from numpy.typing import NDArray

from upnext.best import Places
from upnext.compiled import DOUBLE, FLOATS, INDICES, INT, ROWS, compiled, part, table
from upnext.schema import NO_ROW, NUM_RESERVED_ROWS, PAD_ROW, Floats, Rows

_SPREAD = 0x9E3779B1
"""2³² over the golden ratio: of rows side by side it makes numbers that lie far apart."""


@part
def _slot(slots: Rows, first: int, end: int, row: int) -> int:
    """The slot of [first, end) that holds the row, or the free one that would."""
    last = end - first - 1
    place = (int(row) * _SPREAD >> 16) & last
    while slots[first + place] != row and slots[first + place] != PAD_ROW:
        place = (place + 1) & last
    return first + place


@compiled(table(ROWS), INDICES, ROWS, FLOATS, FLOATS, INDICES, DOUBLE)
def heard_rows(
    history_rows: Rows,
    starts: Places,
    neighbour_rows: Rows,
    similarities: Floats,
    loudness: Floats,
    num_watches: Places,
    of_a_watch: float,
) -> tuple[Places, Rows, Floats]:
    """All that stands beside the last watches of each request, with its score.

    The arrays are those of `WatchedTogether`; loudness [P] is that of the last watches, the latest
    first, and `of_a_watch` what an item scores for each of its own watches.

    Returns: where each request's slots start, [B + 1]; rows and scores by slot.
    """
    num_requests, num_rows = len(history_rows), len(num_watches)
    last = np.zeros((num_requests, len(loudness)), np.int32)
    firsts = np.zeros(num_requests + 1, np.int64)
    for request in range(num_requests):
        place, num_spoken = 0, 0
        for watched in history_rows[request, ::-1]:
            if place == len(loudness):
                break
            if watched > PAD_ROW:
                if NUM_RESERVED_ROWS <= watched < num_rows:
                    last[request, place] = watched
                    num_spoken += starts[watched + 1] - starts[watched]
                place += 1
        num_slots = 1
        while num_slots <= 2 * num_spoken:
            num_slots *= 2
        firsts[request + 1] = firsts[request] + num_slots
    slots, scores = np.zeros(firsts[-1], np.int32), np.zeros(firsts[-1], np.float32)
    for request in range(num_requests):
        for place in range(len(loudness)):
            watched = last[request, place]
            if watched == PAD_ROW:
                continue
            for entry in range(starts[watched], starts[watched + 1]):
                row = neighbour_rows[entry]
                if not 0 <= row < num_rows:
                    raise IndexError("a neighbour that is beyond the counted items")
                slot = _slot(slots, firsts[request], firsts[request + 1], row)
                if slots[slot] == PAD_ROW:
                    slots[slot] = row
                    scores[slot] = of_a_watch * num_watches[row]
                scores[slot] += loudness[place] * similarities[entry]
    return firsts, slots, scores


@compiled(INDICES, ROWS, FLOATS, ROWS, INDICES, INDICES, DOUBLE)
def heard_or_popular(
    firsts: Places,
    slots: Rows,
    heard: Floats,
    popular_rows: Rows,
    num_popular: Places,
    num_watches: Places,
    of_a_watch: float,
) -> tuple[Places, Rows, Floats]:
    """To what is heard of each request the first num_popular [B] popular rows, each item once.

    Returns: where each request's proposals start, [B + 1]; their rows and scores.
    """
    num_requests = len(firsts) - 1
    starts = np.zeros(num_requests + 1, np.int64)
    most = len(slots) + num_popular.sum()
    rows, scores = np.empty(most, np.int32), np.empty(most, np.float32)
    count = 0
    for request in range(num_requests):
        first, end = firsts[request], firsts[request + 1]
        for slot in range(first, end):
            if slots[slot] != PAD_ROW:
                rows[count], scores[count] = slots[slot], heard[slot]
                count += 1
        for row in popular_rows[: num_popular[request]]:
            if slots[_slot(slots, first, end, row)] == PAD_ROW:
                rows[count], scores[count] = row, of_a_watch * num_watches[row]
                count += 1
        starts[request + 1] = count
    return starts, rows[:count], scores[:count]


@compiled(INDICES, ROWS, FLOATS, ROWS, INDICES, INDICES, DOUBLE)
def scores_of_rows(
    firsts: Places,
    slots: Rows,
    heard: Floats,
    item_rows: Rows,
    request_index: Places,
    num_watches: Places,
    of_a_watch: float,
) -> Floats:
    """What is heard of given candidates, [M], or else their popularity; 0 of no item."""
    scores = np.zeros(len(item_rows), np.float32)
    for place in range(len(item_rows)):
        row, request = item_rows[place], request_index[place]
        if NUM_RESERVED_ROWS <= row < len(num_watches):
            slot = _slot(slots, firsts[request], firsts[request + 1], row)
            scores[place] = of_a_watch * num_watches[row] if slots[slot] == PAD_ROW else heard[slot]
    return scores


@compiled(table(ROWS), INDICES, INDICES, INT)
def united(
    listed_rows: Rows, order: Places, nominator_of: Places, num_nominators: int
) -> tuple[Rows, NDArray[np.bool_]]:
    """Each item of a line once, in the order of the columns, and who nominated it.

    Args:
        listed_rows: [B, C]; reserved rows and -1 name nothing.
        order: [C] the columns, those that count first before others.
        nominator_of: [C] whose column each is.

    Returns: rows [B, K], -1 pads, and [B, K, num_nominators].
    """
    num_requests, num_columns = listed_rows.shape
    rows = np.full((num_requests, num_columns), NO_ROW, np.int32)
    nominated_by = np.zeros((num_requests, num_columns, num_nominators), np.bool_)
    num_slots = 1
    while num_slots <= 2 * num_columns:
        num_slots *= 2
    place_of, longest = np.empty(num_slots, np.int64), 0
    for request in range(num_requests):
        slots, count = np.zeros(num_slots, np.int32), 0
        for column in order:
            row = listed_rows[request, column]
            if row < NUM_RESERVED_ROWS:
                continue
            slot = _slot(slots, 0, num_slots, row)
            if slots[slot] == PAD_ROW:
                slots[slot], place_of[slot] = row, count
                rows[request, count] = row
                count += 1
            nominated_by[request, place_of[slot], nominator_of[column]] = True
        longest = max(longest, count)
    return rows[:, :longest], nominated_by[:, :longest]
