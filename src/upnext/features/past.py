"""What the user did before with each candidate and with its likes, counted; compiled."""

import numpy as np
from numpy.typing import NDArray

from upnext.compiled import FLOATS, INDICES, ROWS, compiled, cube, part, table
from upnext.schema import UNKNOWN_ROW, Floats, Rows

NEVER_S = np.float32(1e9)
"""Seconds since something that never happened."""
WATCHES, SHARES, SECONDS, IMPRESSIONS, WATCHED_AGO_S = 0, 1, 2, 3, 4
"""Columns of what is counted: watches, shares of items that they were, seconds; impressions; the
seconds since the last watch."""
SINCE, SHOWN_AGO_S = 5, 6
"""Of an item alone: impressions since its last watch, and seconds since the last of all."""
FIRST_WATCHES, FIRST_IMPRESSIONS = 5, 6
"""Of several ids: watches and impressions of the first alone."""
NUM_COUNTED = 7

Indices = NDArray[np.int64]


@compiled(
    *(table(FLOATS), table(FLOATS), table(FLOATS), table(INDICES)),
    *(table(FLOATS), table(INDICES), INDICES),
)
def with_items(
    watched_share: Floats,
    watched_s: Floats,
    watched_age_s: Floats,
    watched_place: Indices,
    shown_age_s: Floats,
    shown_place: Indices,
    item_place: Indices,
) -> Floats:
    """[M, 7] of the candidates' own items, of watches [R, H] and impressions [R, Hs].

    Places are those of `examples.impressions.Places`: whatever is at a candidate's place is of its
    request and its item; nothing is at place 0.
    """
    at_places = np.zeros((len(item_place) + 1, NUM_COUNTED), np.float32)
    at_places[:, WATCHED_AGO_S] = NEVER_S
    at_places[:, SHOWN_AGO_S] = NEVER_S
    for request in range(watched_place.shape[0]):
        for slot in range(watched_place.shape[1]):
            place = watched_place[request, slot]
            if place > 0:
                counted = at_places[place]
                counted[WATCHES] += 1
                counted[SHARES] += watched_share[request, slot]
                counted[SECONDS] += watched_s[request, slot]
                counted[WATCHED_AGO_S] = min(counted[WATCHED_AGO_S], watched_age_s[request, slot])
        for slot in range(shown_place.shape[1]):
            place = shown_place[request, slot]
            if place > 0:
                counted = at_places[place]
                counted[IMPRESSIONS] += 1
                counted[SINCE] += shown_age_s[request, slot] < counted[WATCHED_AGO_S]
                counted[SHOWN_AGO_S] = min(counted[SHOWN_AGO_S], shown_age_s[request, slot])
    counted_of = np.empty((len(item_place), NUM_COUNTED), np.float32)
    for candidate, place in enumerate(item_place):
        counted_of[candidate] = at_places[place]
    return counted_of


@part
def _give_lines(lines: Rows, sums: Floats, ids: Rows, mine: Indices) -> None:
    """Each known id of these candidates a line, empty so far."""
    num_lines = 0
    for candidate in mine:
        for one in ids[candidate]:
            if one > UNKNOWN_ROW and lines[one] == 0:
                num_lines += 1
                lines[one] = num_lines
                sums[num_lines] = 0
                sums[num_lines, WATCHED_AGO_S] = NEVER_S


@part
def _look_up(counted: Floats, lines: Rows, sums: Floats, ids: Rows, mine: Indices) -> None:
    """Adds up what is in the lines of each candidate's ids, and takes the lines back."""
    for candidate in mine:
        of_all = counted[candidate]
        of_all[WATCHED_AGO_S] = NEVER_S
        for place, one in enumerate(ids[candidate]):
            if one > UNKNOWN_ROW:
                line = sums[lines[one]]
                for column in (WATCHES, SHARES, SECONDS, IMPRESSIONS):
                    of_all[column] += line[column]
                of_all[WATCHED_AGO_S] = min(of_all[WATCHED_AGO_S], line[WATCHED_AGO_S])
                if place == 0:
                    of_all[FIRST_WATCHES] = line[WATCHES]
                    of_all[FIRST_IMPRESSIONS] = line[IMPRESSIONS]
    for candidate in mine:
        for one in ids[candidate]:
            lines[one] = 0


@compiled(
    *(cube(ROWS), table(FLOATS), table(FLOATS), table(FLOATS), cube(ROWS)),
    *(INDICES, INDICES, table(ROWS)),
)
def with_ids(
    watched_ids: Rows,
    watched_share: Floats,
    watched_s: Floats,
    watched_age_s: Floats,
    shown_ids: Rows,
    order: Indices,
    starts: Indices,
    ids: Rows,
) -> Floats:
    """[M, 7] of the ids [M, T] that candidates have: their channels, or their tags.

    Of watches [R, H, T] and impressions [R, Hs, T]; an event counts once for each known id that it
    shares with the candidate. The candidates of request r are order[starts[r] : starts[r + 1]].
    """
    counted = np.zeros((len(ids), NUM_COUNTED), np.float32)
    # Only ids of a request's candidates are added up, each in a line of its own, from 1 on.
    lines = np.zeros(ids.max() + 1 if ids.size else 1, np.int32)
    sums = np.empty((ids.size + 1, WATCHED_AGO_S + 1), np.float32)
    for request in range(len(starts) - 1):
        mine = order[starts[request] : starts[request + 1]]
        _give_lines(lines, sums, ids, mine)
        for slot in range(watched_ids.shape[1]):
            share, seconds = watched_share[request, slot], watched_s[request, slot]
            age_s = watched_age_s[request, slot]
            for one in watched_ids[request, slot]:
                if UNKNOWN_ROW < one < len(lines) and lines[one]:
                    line = sums[lines[one]]
                    line[WATCHES] += 1
                    line[SHARES] += share
                    line[SECONDS] += seconds
                    line[WATCHED_AGO_S] = min(line[WATCHED_AGO_S], age_s)
        for slot in range(shown_ids.shape[1]):
            for one in shown_ids[request, slot]:
                if UNKNOWN_ROW < one < len(lines) and lines[one]:
                    sums[lines[one], IMPRESSIONS] += 1
        _look_up(counted, lines, sums, ids, mine)
    return counted


@compiled(table(ROWS), table(FLOATS), table(FLOATS), table(FLOATS), table(ROWS))
def in_all(
    watched_rows: Rows,
    watched_share: Floats,
    watched_s: Floats,
    watched_age_s: Floats,
    shown_rows: Rows,
) -> Floats:
    """[R, 7] of all watches [R, H] and impressions [R, Hs], known or not; the last two are 0."""
    counted = np.zeros((len(watched_rows), NUM_COUNTED), np.float32)
    for request in range(len(watched_rows)):
        of_all = counted[request]
        of_all[WATCHED_AGO_S] = NEVER_S
        for slot in range(watched_rows.shape[1]):
            if watched_rows[request, slot] > 0:
                of_all[WATCHES] += 1
                of_all[SHARES] += watched_share[request, slot]
                of_all[SECONDS] += watched_s[request, slot]
                of_all[WATCHED_AGO_S] = min(of_all[WATCHED_AGO_S], watched_age_s[request, slot])
        for row in shown_rows[request]:
            of_all[IMPRESSIONS] += row > 0
    return counted
