"""What a user likes beyond what was counted: how he takes to channels' manners, and to tags."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from upnext.compiled import (
    DOUBLE,
    DOUBLES,
    FLOATS,
    INDICES,
    INT,
    ROWS,
    compiled,
    cube,
    part,
    table,
)
from upnext.schema import UNKNOWN_ROW, Floats, Rows

Indices = NDArray[np.int64]
Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]

MOST_IDS = 4_096
"""Rows of channels, and of tags, that can be liked: those of the most frequent ones."""
UNMOVED = 1e300
"""Precision of a liking that no past can move from 0."""
SMALL_LOG_ODDS = 1e-4
"""Closer to 0, w is a quarter to eight digits, and a quotient of two small numbers."""
GRID = 2.0**-20
"""Likings are multiples of it, so that what is nothing but for rounding is nothing everywhere:
quantiles jump at 0, where many likings are."""


@dataclass(frozen=True, kw_only=True)
class Manners:
    """What is known of C channels, and how far likings spread; D manners and a 1 behind them.

    log_odds [C] that a usual user watches what he is shown of the channel; vectors [C, D + 1] its
    manner; moments [C, D + 1, D + 1] the expected product of this vector with itself, which is
    larger the less is known. precision [D + 1] of a user's liking of each, and of his eagerness, a
    priori; tag_precision [1] of his liking of a tag, of which the first num_tags [1] can be liked.
    """

    log_odds: Numbers
    vectors: Numbers
    moments: Numbers
    precision: Numbers
    tag_precision: Numbers
    num_tags: Indices

    @property
    def size(self) -> int:
        """D, numbers that tell a manner."""
        return int(self.vectors.shape[1]) - 1

    @classmethod
    def unlearned(cls, size: int, *, num_channels: int, num_tags: int) -> Self:
        """As if nobody liked anything."""
        num_channels, width = min(num_channels, MOST_IDS), size + 1
        return cls(
            log_odds=np.zeros(num_channels),
            vectors=np.zeros((num_channels, width)),
            moments=np.zeros((num_channels, width, width)),
            precision=np.ones(width),
            tag_precision=np.full(1, UNMOVED),
            num_tags=np.full(1, min(num_tags, MOST_IDS)),
        )


@part
def sigmoid(log_odds: float) -> float:
    """σ(η)."""
    return 1.0 / (1.0 + math.exp(-log_odds))


@part
def curved(log_odds: float) -> float:
    """σ(η) (1 − σ(η)), by which −log σ curves at η itself: Newton's own."""
    probability = sigmoid(log_odds)
    return probability * (1.0 - probability)


@part
def most_curved(log_odds: float) -> float:
    """w(η) = (σ(η) − ½) / η, by which a parabola stays below log σ everywhere."""
    if abs(log_odds) < SMALL_LOG_ODDS:
        return 0.25
    return (sigmoid(log_odds) - 0.5) / log_odds


@part
def solve(matrix: Numbers, towards: Numbers) -> None:
    """x of A x = b in place of b, A being symmetric and positive definite; uses A's lower half.

    Cholesky's A = L Lᵀ, in place of A, then L y = b and Lᵀ x = y.
    """
    size = len(towards)
    for i in range(size):
        for j in range(i + 1):
            left = matrix[i, j]
            for k in range(j):
                left -= matrix[i, k] * matrix[j, k]
            matrix[i, j] = math.sqrt(left) if i == j else left / matrix[j, j]
    for i in range(size):
        for k in range(i):
            towards[i] -= matrix[i, k] * towards[k]
        towards[i] /= matrix[i, i]
    for i in range(size - 1, -1, -1):
        for k in range(i + 1, size):
            towards[i] -= matrix[k, i] * towards[k]
        towards[i] /= matrix[i, i]


@part
def _share(tags: Rows, num_tags: int) -> float:
    """How much of an item each of its known tags is: together 1."""
    known = 0
    for tag in tags:
        known += UNKNOWN_ROW < tag < num_tags
    return 1.0 / max(known, 1)


@part
def _of_tags(liking: Numbers, tags: Rows) -> float:
    """What likings of tags make of an item with these."""
    liked, share = 0.0, _share(tags, len(liking))
    for tag in tags:
        if UNKNOWN_ROW < tag < len(liking):
            liked += share * liking[tag]
    return liked


@part
def _step_of_tags(
    liking: Numbers,
    of_all: Numbers,
    is_careful: bool,
    shown_tags: Rows,
    is_judged: Flags,
    watched_tags: Rows,
    is_told: Flags,
    precision: float,
) -> None:
    """Moves t of each tag, η of impressions being `of_all`."""
    num_tags = len(liking)
    surprise, certainty = np.zeros(num_tags), np.zeros(num_tags)
    for slot in range(len(is_judged)):
        if is_judged[slot]:
            share, log_odds = _share(shown_tags[slot], num_tags), of_all[slot]
            weight = most_curved(log_odds) if is_careful else curved(log_odds)
            for tag in shown_tags[slot]:
                if UNKNOWN_ROW < tag < num_tags:
                    surprise[tag] -= share * sigmoid(log_odds)
                    certainty[tag] += share * weight
    for slot in range(len(is_told)):
        if is_told[slot]:
            share = _share(watched_tags[slot], num_tags)
            for tag in watched_tags[slot]:
                if UNKNOWN_ROW < tag < num_tags:
                    surprise[tag] += share
    for tag in range(num_tags):
        moved = surprise[tag] - liking[tag] * precision
        liking[tag] += moved / (certainty[tag] + precision)


@part
def _step_of_manners(
    z: Numbers,
    of_all: Numbers,
    own: Numbers,
    is_careful: bool,
    shown: Rows,
    is_judged: Flags,
    watched: Rows,
    is_told: Flags,
    vectors: Numbers,
    moments: Numbers,
    precision: Numbers,
) -> None:
    """Moves z, η of impressions being `of_all`, of which z so far makes `own`."""
    size = len(z)
    information = np.diag(precision)
    z[:] = 0
    for slot in range(len(shown)):
        if is_judged[slot]:
            log_odds, channel = of_all[slot], shown[slot]
            weight = most_curved(log_odds) if is_careful else curved(log_odds)
            score = weight * own[slot] - sigmoid(log_odds)
            for i in range(size):
                z[i] += score * vectors[channel, i]
                for j in range(i + 1):
                    information[i, j] += weight * moments[channel, i, j]
    for slot in range(len(watched)):
        if is_told[slot]:
            for i in range(size):
                z[i] += vectors[watched[slot], i]
    solve(information, z)


@part
def _likings(
    z: Numbers,
    liking: Numbers,
    shown: Rows,
    shown_tags: Rows,
    is_judged: Flags,
    watched: Rows,
    watched_tags: Rows,
    is_told: Flags,
    log_odds: Numbers,
    vectors: Numbers,
    moments: Numbers,
    precision: Numbers,
    tag_precision: float,
) -> None:
    """z [D + 1] and t [tags] of one request, in two steps from 0."""
    num_shown = len(shown)
    own, of_all = np.zeros(num_shown), np.zeros(num_shown)
    for slot in range(num_shown):
        of_all[slot] = log_odds[shown[slot]] if is_judged[slot] else 0.0
    for is_careful in (True, False):
        _step_of_tags(
            *(liking, of_all, is_careful, shown_tags, is_judged),
            *(watched_tags, is_told, tag_precision),
        )
        for slot in range(num_shown):
            if is_judged[slot]:
                by_tags = _of_tags(liking, shown_tags[slot])
                of_all[slot] = log_odds[shown[slot]] + own[slot] + by_tags
        _step_of_manners(
            *(z, of_all, own, is_careful, shown, is_judged, watched, is_told),
            *(vectors, moments, precision),
        )
        for slot in range(num_shown):
            if is_judged[slot]:
                before = own[slot]
                own[slot] = np.sum(vectors[shown[slot]] * z)
                of_all[slot] += own[slot] - before


@part
def _chosen(
    is_judged: Flags,
    is_told: Flags,
    shown: Rows,
    shown_age_s: Floats,
    watched: Rows,
    watched_age_s: Floats,
    watched_rows: Rows,
    num_channels: int,
) -> None:
    """Which impressions count, and which watches."""
    # Newest last: only where all slots are filled is there a watch in the first.
    is_full = len(watched_rows) > 0 and watched_rows[0] > 0
    oldest_s = np.float32(0)
    for slot in range(len(shown)):
        is_since = not is_full or shown_age_s[slot] <= watched_age_s[0]
        is_judged[slot] = is_since and UNKNOWN_ROW < shown[slot] < num_channels
        if is_since:
            oldest_s = max(oldest_s, shown_age_s[slot])
    for slot in range(len(watched)):
        is_known = UNKNOWN_ROW < watched[slot] < num_channels
        is_told[slot] = is_known and watched_age_s[slot] <= oldest_s


@compiled(
    *(table(ROWS), cube(ROWS), table(FLOATS), table(ROWS), table(ROWS), cube(ROWS), table(FLOATS)),
    *(INDICES, INDICES, ROWS, table(ROWS)),
    *(DOUBLES, table(DOUBLES), cube(DOUBLES), DOUBLES, DOUBLE, INT),
)
def likings(
    shown: Rows,
    shown_tags: Rows,
    shown_age_s: Floats,
    watched_rows: Rows,
    watched: Rows,
    watched_tags: Rows,
    watched_age_s: Floats,
    order: Indices,
    starts: Indices,
    channels: Rows,
    tags: Rows,
    log_odds: Numbers,
    vectors: Numbers,
    moments: Numbers,
    precision: Numbers,
    tag_precision: float,
    num_tags: int,
) -> Floats:
    """[M, 2] as `LIKING_FEATURES` names them: the log-odds that a candidate gains by what is liked.

    The posterior under the model of `ranking.manners`, of this user's past alone and in closed
    form: no weight is learned of a user, so that it holds of one who came after training. Each step
    moves

        t by (Σ share (watched − p) − precision t) / (Σ share w + precision)   of each tag
        z to (Σ w E[s s'] + precision)⁻¹ Σ (watched − p + w z s) s             of manners

    from 0 on. Sums are over the impressions that are told, p = σ(η) being the probability of a
    watch by the channel's log-odds and the likings so far. In the first of two steps w is that of
    `most_curved`, which goes no further than is sure to be better; by then p is about right, and
    the second goes by p (1 − p) to where more steps would lead. Watches count if no older than the
    oldest of these impressions, for what else was shown before is not known; if nothing was shown,
    none does. Where watches fill all their slots, impressions count if no older than the oldest of
    these, for what came of those before is not known.

    Of channels [R, Hs] and tags shown, watches [R, H] with their channels and tags, and candidates
    [M], of which those of request r are order[starts[r] : starts[r + 1]].
    """
    liked = np.zeros((len(channels), 2), np.float32)
    num_channels, size = vectors.shape
    z, liking = np.zeros(size), np.zeros(num_tags)
    is_judged, is_told = np.zeros(shown.shape[1], np.bool_), np.zeros(watched.shape[1], np.bool_)
    for r in range(len(starts) - 1):
        _chosen(
            *(is_judged, is_told, shown[r], shown_age_s[r]),
            *(watched[r], watched_age_s[r], watched_rows[r], num_channels),
        )
        liking[:] = 0
        _likings(
            *(z, liking, shown[r], shown_tags[r], is_judged, watched[r], watched_tags[r], is_told),
            *(log_odds, vectors, moments, precision, tag_precision),
        )
        for m in order[starts[r] : starts[r + 1]]:
            if UNKNOWN_ROW < channels[m] < num_channels:
                manner = np.sum(vectors[channels[m], : size - 1] * z[: size - 1])
                liked[m, 0] = np.round(manner / GRID) * GRID
            liked[m, 1] = np.round(_of_tags(liking, tags[m]) / GRID) * GRID
    return liked
