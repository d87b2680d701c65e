"""Of two impressions, does the one that turned out better score higher? All pairs, counted exactly.

An outcome may be a flag (watched or not), then a share of pairs is an AUC, or a number such as the
watch time; pairs of equal outcomes have no right order and count nowhere.
"""

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.evaluation.intervals import Values, ratio_of_sums, sum_by_user

Places = NDArray[np.intp]


def won_pairs(
    groups: NDArray[Any], outcomes: NDArray[Any], scores: NDArray[np.floating]
) -> tuple[Values, Values]:
    """For each impression, its pairs with those of its group that turned out worse: (won, all).

        won_i = Σ_{j: y_j < y_i} 1[s_j < s_i] + ½ 1[s_j = s_i]        all_i = #{j: y_j < y_i}

    Two outcomes, numbered in rising order, part at the first binary digit in which they differ. So
    a group, sorted by score, is split by the first digit, the halves by the second, and so on; at
    each split a running count of the zeros before a one is its pairs: O(M log M) for watch times,
    and one pass for a flag.

    Args:
        groups: [M] only impressions of one group make a pair.
        outcomes: [M] flags or numbers y; greater is better.
        scores: [M] numbers s.

    Returns: 2 × [M] float64.
    Raises: ValueError: a score is nan.

    >>> won_pairs(np.zeros(3), np.array([60.0, 10.0, 0.0]), np.array([0.9, 0.1, 0.5]))
    (array([2., 0., 0.]), array([2., 1., 0.]))
    """
    if np.isnan(scores).any():
        raise ValueError("scores must be numbers, got nan: a model that predicts nan has no rank")
    won, pairs = np.zeros(len(scores)), np.zeros(len(scores))
    order, places = np.lexsort((scores, groups)), np.arange(len(scores))
    number = np.unique(outcomes, return_inverse=True)[1]
    part = np.unique(groups, return_inverse=True)[1]
    for digit in reversed(range(int(number.max(initial=0)).bit_length())):
        is_one = (number >> digit & 1).astype(bool)
        one, score, new_part = is_one[order], scores[order], np.diff(part[order]) != 0
        part_start, part_end = run_edges(new_part)
        tie_start, tie_end = run_edges(new_part | (score[1:] != score[:-1]))
        num_zeros = np.concatenate([[0], np.cumsum(~one)])
        below = num_zeros[tie_start] - num_zeros[part_start]
        equal = num_zeros[tie_end] - num_zeros[tie_start]
        in_part = num_zeros[part_end] - num_zeros[part_start]
        won[order] += (below + 0.5 * equal) * one
        pairs[order] += in_part * one
        before = num_zeros[:-1] - num_zeros[part_start]
        split = np.where(one, places + in_part - before, part_start + before)
        order[split] = order.copy()
        part = 2 * part + is_one
    return won, pairs


def share_of_pairs(outcomes: NDArray[Any], scores: NDArray[np.floating]) -> float:
    """Share of all pairs in which the better outcome has the higher score; a tie counts half.

    nan without pairs, that is where all outcomes are equal.

    >>> share_of_pairs(np.array([60.0, 10.0, 0.0]), np.array([0.9, 0.1, 0.5])) * 3
    2.0
    """
    return ratio_of_sums(*won_pairs(np.zeros(len(scores)), outcomes, scores))


def share_of_pairs_by_user(
    user_rows: NDArray[Any], outcomes: NDArray[Any], scores: NDArray[np.floating]
) -> tuple[Values, Values]:
    """Parts of the mean over users of each one's own share: (share_u · n_u, n_u), each [U].

    n_u is u's impressions; both parts are 0 for a user without pairs. Users in ascending order.

    >>> watched = np.array([True, False, True, False, True])
    >>> scores = np.array([2.0, 1.0, 3.0, 3.0, 0.0])
    >>> share_of_pairs_by_user(np.array([7, 7, 8, 8, 9]), watched, scores)
    (array([2., 1., 0.]), array([2., 2., 0.]))
    """
    won, pairs = (sum_by_user(user_rows, part) for part in won_pairs(user_rows, outcomes, scores))
    num_impressions = sum_by_user(user_rows, np.ones(len(scores)))
    has_pairs = pairs > 0
    shares = np.divide(won, pairs, out=np.zeros(len(won)), where=has_pairs)
    return shares * num_impressions, has_pairs * num_impressions


def share_of_pairs_interval(
    user_rows: NDArray[Any],
    outcomes: NDArray[Any],
    scores: NDArray[np.floating],
    *,
    level: float = 0.95,
) -> tuple[float, float]:
    """Normal interval of `share_of_pairs` with users as clusters; nan, nan where not defined.

        S_u = Σ_{i of u} (won_i − share · all_i) / P        variance = U / (U − 1) · Σ_u S_u²

    Here each pair counts for both of its impressions; P is the number of pairs. A share of pairs is
    no ratio of sums over users, so drawing users anew would mean to sort anew each time.

    Source: Obuchowski 1997, "Nonparametric analysis of clustered ROC curve data", for flags; the
    same linear term of a ratio of two U-statistics for other outcomes.

    >>> rng = np.random.default_rng(0)
    >>> users, watched = rng.integers(0, 400, 4000), rng.random(4000) < 0.5
    >>> low, high = share_of_pairs_interval(users, watched, watched + rng.normal(0, 1, 4000))
    >>> low < 0.76 < high, round(high - low, 2)  # Φ(1 / √2) = 0.76
    (True, 0.03)
    """
    everyone, num_users = np.zeros(len(scores)), len(np.unique(user_rows))
    won, pairs = won_pairs(everyone, outcomes, scores)
    share = ratio_of_sums(won, pairs)
    if np.isnan(share) or num_users < 2:
        return float("nan"), float("nan")
    worse = np.unique(outcomes, return_inverse=True)[1]
    also_won, also_pairs = won_pairs(everyone, -worse, -np.asarray(scores))
    parts = (won + also_won - share * (pairs + also_pairs)) / pairs.sum()
    variance = num_users / (num_users - 1) * (sum_by_user(user_rows, parts) ** 2).sum()
    margin = NormalDist().inv_cdf((1 + level) / 2) * float(np.sqrt(variance))
    return max(0.0, share - margin), min(1.0, share + margin)


def run_edges(begins_run: NDArray[np.bool_]) -> tuple[Places, Places]:
    """Start and end of each element's run; `begins_run` [M - 1] is about the second and on.

    >>> run_edges(np.array([False, True]))
    (array([0, 0, 2]), array([2, 2, 3]))
    """
    num_elements = len(begins_run) + 1
    edges = np.concatenate([[0], np.flatnonzero(begins_run) + 1, [num_elements]])
    lengths = np.diff(edges)
    return np.repeat(edges[:-1], lengths), np.repeat(edges[1:], lengths)
