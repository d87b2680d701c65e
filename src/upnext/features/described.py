"""Features of requests and of candidates, raw: counts, shares, ages and logs; compiled.

Each feature is a line, so that what is compared with the same bounds lies side by side.
"""

import math

import numpy as np

from upnext.compiled import FLOATS, ROWS, compiled, part, table
from upnext.features.names import CANDIDATE_FEATURES, QUERY_FEATURES
from upnext.features.past import (
    FIRST_IMPRESSIONS,
    FIRST_WATCHES,
    IMPRESSIONS,
    SECONDS,
    SHARES,
    SHOWN_AGO_S,
    SINCE,
    WATCHED_AGO_S,
    WATCHES,
)
from upnext.schema import UNKNOWN_ROW, Floats, Rows

UNSEEN_WATCHES, UNSEEN_IMPRESSIONS = np.float32(0.5), np.float32(5.0)
USUAL_SHARE = np.float32(0.5)
"""Counted beside what there was, so that a share of watched among few impressions says little."""
NUM_CANDIDATE, NUM_QUERY = len(CANDIDATE_FEATURES), len(QUERY_FEATURES)
ONE, LEAST = np.float32(1), np.float32(1e-6)


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
