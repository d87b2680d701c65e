"""Raw features: what the user did before with each candidate and its likes, counted; compiled.

Each feature is a line, so that what is compared with the same bounds lies side by side.
"""

import math

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
NUM_CANDIDATE, NUM_QUERY = 35, 6
"""Lines of `CANDIDATE_FEATURES` and of `QUERY_FEATURES`."""

UNSEEN_WATCHES, UNSEEN_IMPRESSIONS = np.float32(0.5), np.float32(5.0)
USUAL_SHARE = np.float32(0.5)
"""Counted beside what there was, so that a share of watched among few impressions says little."""
ONE, LEAST = np.float32(1), np.float32(1e-6)

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

    Places are those of `examples.places.Places`: whatever is at a candidate's place is of its
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


@part
def _by_impression(watches: float, shown: float) -> np.float32:
    """The log of the share watched."""
    return np.float32(math.log((watches + UNSEEN_WATCHES) / (shown + UNSEEN_IMPRESSIONS)))


@part
def _of_past(features: Floats, m: int, item: Floats, channel: Floats, tags: Floats) -> None:
    """The user's past with the item, on its channel and with its tags."""
    for place, counted in enumerate((item, channel, tags)):
        features[place, m] = counted[WATCHES]
        features[3 + place, m] = counted[SHARES] / max(counted[WATCHES], LEAST)
        features[6 + place, m] = counted[SECONDS]
        features[9 + place, m] = counted[IMPRESSIONS]
        features[13 + place, m] = counted[WATCHED_AGO_S]
    features[12, m] = item[SINCE]
    features[16, m] = item[SHOWN_AGO_S]
    features[17, m] = tags[FIRST_WATCHES]
    features[18, m] = tags[FIRST_IMPRESSIONS]
    features[19, m] = _by_impression(channel[WATCHES], channel[IMPRESSIONS])
    features[20, m] = _by_impression(tags[WATCHES], tags[IMPRESSIONS])
    features[21, m] = _by_impression(tags[FIRST_WATCHES], tags[FIRST_IMPRESSIONS])


@part
def _of_everybody(features: Floats, m: int, of_item: Floats, of_channel: Floats) -> None:
    """What everybody did with the item and on its channel."""
    for place, (shown, watches, seconds, shares) in enumerate((of_item, of_channel)):
        features[22 + place, m] = _by_impression(watches, shown)
        features[24 + place, m] = shown
        features[26 + place, m] = watches
        features[28 + place, m] = seconds / max(watches, ONE)
        share = (shares + UNSEEN_WATCHES * USUAL_SHARE) / (watches + UNSEEN_WATCHES)
        features[30 + place, m] = share


@compiled(
    *(table(FLOATS), table(FLOATS), table(FLOATS), table(FLOATS), table(FLOATS)),
    *(ROWS, FLOATS, FLOATS, FLOATS, table(FLOATS), table(FLOATS)),
)
def of_candidates(
    items: Floats,
    channels: Floats,
    tags: Floats,
    item_counts: Floats,
    channel_counts: Floats,
    item_rows: Rows,
    item_age_days: Floats,
    duration_s: Floats,
    position: Floats,
    source_scores: Floats,
    likings: Floats,
) -> Floats:
    """[F + S + L, M]: `CANDIDATE_FEATURES`, scores of sources [M, S], likings [M, L].

    Of what is counted of the user's past with items, channels and tags [M, 7], and by everybody of
    items and channels [M, 4]. What is not known of a candidate is nan.

    Source: Covington, Adams, Sargin 2016, section 4.1: the most important signals describe the
    user's previous interaction with the item itself and similar ones, earlier impressions that
    came to nothing, and which sources nominated the item with which score.
    """
    num_sources, num_likings = source_scores.shape[1], likings.shape[1]
    features = np.empty((NUM_CANDIDATE + num_sources + num_likings, len(item_rows)), np.float32)
    for m in range(len(item_rows)):
        _of_past(features, m, items[m], channels[m], tags[m])
        _of_everybody(features, m, item_counts[m], channel_counts[m])
        features[32, m] = item_age_days[m] if item_rows[m] > UNKNOWN_ROW else np.nan
        features[33, m] = duration_s[m] if duration_s[m] > 0 else np.nan
        features[34, m] = position[m]
        for source in range(num_sources):
            features[NUM_CANDIDATE + source, m] = source_scores[m, source]
        for liking in range(num_likings):
            features[NUM_CANDIDATE + num_sources + liking, m] = likings[m, liking]
    return features


@compiled(table(FLOATS))
def of_queries(past: Floats) -> Floats:
    """[Fq, R] as `QUERY_FEATURES` names them, of what is counted of all the past [R, 7]."""
    features = np.empty((NUM_QUERY, len(past)), np.float32)
    for r in range(len(past)):
        counted = past[r]
        features[0, r] = counted[WATCHES]
        features[1, r] = counted[SHARES] / max(counted[WATCHES], LEAST)
        features[2, r] = counted[SECONDS] / max(counted[WATCHES], LEAST)
        features[3, r] = counted[WATCHED_AGO_S]
        features[4, r] = counted[IMPRESSIONS]
        features[5, r] = _by_impression(counted[WATCHES], counted[IMPRESSIONS])
    return features
