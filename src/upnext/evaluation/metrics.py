"""Pure functions from arrays to numbers; where a number is not defined the answer is nan.

Ranks count from 1 over the whole catalogue. Per-event values stay apart ([B]), so that they can be
summed by user, as `intervals.py` needs them.
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.evaluation.intervals import Values, sum_by_user
from upnext.schema import MS_PER_DAY, NUM_RESERVED_ROWS, Rows, TimesMs

Flags = NDArray[np.bool_]
Ranks = NDArray[np.int64]


def recall_at_k(ranks: Ranks, k: int) -> Values:
    """Whether the one target of each event is among the first k: 1[rank ≤ k], [B].

    Its mean is HR@k too, as there is one target an event.

    >>> recall_at_k(np.array([1, 3, 4]), 3)
    array([1., 1., 0.])
    """
    return (ranks <= k).astype(np.float64)


def ndcg_at_k(ranks: Ranks, k: int) -> Values:
    """Discounted gain of the one target: 1[rank ≤ k] / log₂(rank + 1), [B]; the ideal gain is 1.

    >>> ndcg_at_k(np.array([1, 3, 4]), 3)
    array([1. , 0.5, 0. ])
    """
    return np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)


def average_precision_at_k(ranks: Ranks, k: int) -> Values:
    """Average precision with one target: 1[rank ≤ k] / rank, [B]; its mean is MAP@k, and MRR@k.

    >>> average_precision_at_k(np.array([1, 4, 5]), 4)
    array([1.  , 0.25, 0.  ])
    """
    return np.where(ranks <= k, 1.0 / ranks, 0.0)


def coverage_at_k(top_rows: Rows, k: int, *, num_rows: int) -> float:
    """Share of the catalogue that is recommended to anyone: |∪ top k| / (N − 2).

    `top_rows` [B, ≥ k]: best first; rows below 2 are empty slots. `num_rows` is N, with the two
    reserved rows. nan for an empty catalogue.

    >>> coverage_at_k(np.array([[2, 3, 5], [3, 2, 4]], np.int32), 2, num_rows=6)
    0.5
    """
    is_shown = np.zeros(max(num_rows, NUM_RESERVED_ROWS), bool)
    is_shown[np.maximum(top_rows[:, :k], 0)] = True
    return _ratio(float(is_shown[NUM_RESERVED_ROWS:].sum()), num_rows - NUM_RESERVED_ROWS)


def fresh_share(
    top_rows: Rows, published_at_ms: TimesMs, at_ms: TimesMs, *, fresh_days: float
) -> Values:
    """Share of each event's filled slots with 0 ≤ at − published ≤ fresh days, [B].

    Args:
        top_rows: [B, K]; rows below 2 are empty slots and count nowhere.
        published_at_ms: [N]; a negative time means that it is not known, and so not fresh.
        at_ms: [B] when each list was asked for.
        fresh_days: how old a fresh item may be.

    Returns: [B]; nan where every slot is empty.

    >>> published_at_ms = np.array([-1, -1, 0, 9 * MS_PER_DAY])
    >>> at_ms = np.array([10 * MS_PER_DAY])
    >>> fresh_share(np.array([[2, 3, -1]]), published_at_ms, at_ms, fresh_days=2)
    array([0.5])
    """
    is_filled = top_rows >= NUM_RESERVED_ROWS
    published = published_at_ms[np.maximum(top_rows, 0)]
    age_ms = at_ms[:, None] - published
    is_fresh = is_filled & (published >= 0) & (age_ms >= 0) & (age_ms <= fresh_days * MS_PER_DAY)
    return _divide(is_fresh.sum(axis=1), is_filled.sum(axis=1))


def auc(watched: Flags, scores: NDArray[np.floating]) -> float:
    """Probability that a watched impression scores above an unwatched one; a tie counts half.

        Σ_{i watched} #(j unwatched, s_j < s_i) + ½ #(s_j = s_i)  /  (#watched · #unwatched)

    nan unless both kinds occur.

    >>> auc(np.array([True, True, False, False]), np.array([0.9, 0.3, 0.5, 0.3]))
    0.625
    """
    won, pairs = _won_pairs(np.zeros(len(watched), np.int64), watched, scores)
    return _ratio(float(won.sum()), float(pairs.sum()))


def auc_interval(
    user_rows: NDArray[Any],
    watched: Flags,
    scores: NDArray[np.floating],
    *,
    level: float = 0.95,
) -> tuple[float, float]:
    """Normal interval of `auc` with users as clusters; nan, nan where it is not defined.

        S_u = Σ_{i watched by u} (V_i − AUC) / #watched + Σ_{j not} (V_j − AUC) / #unwatched
        variance = U / (U − 1) · Σ_u S_u²

    V is the share of impressions of the other kind with which an impression is in the right order.
    An AUC is no ratio of sums over users, so drawing users anew would mean to sort anew each time.

    Source: Obuchowski 1997, "Nonparametric analysis of clustered ROC curve data".

    >>> rng = np.random.default_rng(0)
    >>> users, watched = rng.integers(0, 400, 4000), rng.random(4000) < 0.5
    >>> low, high = auc_interval(users, watched, watched + rng.normal(0, 1, 4000))
    >>> low < 0.76 < high, round(high - low, 2)  # Φ(1 / √2) = 0.76
    (True, 0.03)
    """
    value = auc(watched, scores)
    num_users = len(np.unique(user_rows))
    if np.isnan(value) or num_users < 2:
        return float("nan"), float("nan")
    everyone = np.zeros(len(watched), np.int64)
    won, _ = _won_pairs(everyone, watched, scores)
    also_won, _ = _won_pairs(everyone, ~watched, -np.asarray(scores))
    num_watched, num_unwatched = int(watched.sum()), int((~watched).sum())
    parts = np.where(
        watched,
        (won / num_unwatched - value) / num_watched,
        (also_won / num_watched - value) / num_unwatched,
    )
    variance = num_users / (num_users - 1) * (sum_by_user(user_rows, parts) ** 2).sum()
    margin = NormalDist().inv_cdf((1 + level) / 2) * float(np.sqrt(variance))
    return max(0.0, value - margin), min(1.0, value + margin)


def auc_by_user(
    user_rows: NDArray[Any], watched: Flags, scores: NDArray[np.floating]
) -> tuple[Values, Values]:
    """Parts of `per_user_auc`: (AUC_u · n_u, n_u), each [U], n_u being u's impressions.

    Both parts are 0 for a user whose AUC is not defined. Users stand in ascending order.

    >>> watched = np.array([True, False, True, False, True])
    >>> auc_by_user(np.array([7, 7, 8, 8, 9]), watched, np.array([2.0, 1.0, 3.0, 3.0, 0.0]))
    (array([2., 1., 0.]), array([2., 2., 0.]))
    """
    won, pairs = _won_pairs(user_rows, watched, scores)
    user_pairs = sum_by_user(user_rows, pairs)
    weights = sum_by_user(user_rows, np.ones(len(watched))) * (user_pairs > 0)
    return np.nan_to_num(_divide(sum_by_user(user_rows, won), user_pairs)) * weights, weights


def per_user_auc(user_rows: NDArray[Any], watched: Flags, scores: NDArray[np.floating]) -> float:
    """AUC within each user, averaged with the number of impressions as weight (GAUC).

        Σ_u n_u AUC_u / Σ_u n_u    over users with both kinds of impressions; nan if none has

    Source: Zhou et al. 2018 (DIN), section 5.2.

    >>> watched = np.array([True, False, True, False, True])
    >>> per_user_auc(np.array([7, 7, 8, 8, 9]), watched, np.array([2.0, 1.0, 3.0, 3.0, 0.0]))
    0.75
    """
    numerators, denominators = auc_by_user(user_rows, watched, scores)
    return _ratio(float(numerators.sum()), float(denominators.sum()))


def mispredicted_watch_time(
    request_ids: NDArray[Any],
    watched: Flags,
    watch_time_s: NDArray[np.floating],
    scores: NDArray[np.floating],
) -> tuple[Values, Values]:
    """Parts of `weighted_per_user_loss` for each impression: seconds mispredicted and compared.

    An impression i that was watched for T_i is compared with each unwatched one of its request:

        mispredicted_i = T_i · (#(s_j > s_i) + ½ #(s_j = s_i))      compared_i = T_i · #j

    Both are 0 for unwatched impressions. Sum them by user for an interval.

    >>> request_ids = np.array([1, 1, 1])
    >>> watched, watch_time_s = np.array([True, True, False]), np.array([60.0, 10.0, 0.0])
    >>> mispredicted_watch_time(request_ids, watched, watch_time_s, np.array([0.9, 0.1, 0.5]))
    (array([ 0., 10.,  0.]), array([60., 10.,  0.]))
    """
    won, pairs = _won_pairs(request_ids, watched, scores)
    watch_time = np.asarray(watch_time_s, np.float64)
    return watch_time * (pairs - won), watch_time * pairs


def weighted_per_user_loss(
    request_ids: NDArray[Any],
    watched: Flags,
    watch_time_s: NDArray[np.floating],
    scores: NDArray[np.floating],
) -> float:
    """Share of watch time that was ranked below an unwatched impression of the same request.

        Σ_(i, j) T_i · (1[s_j > s_i] + ½ 1[s_j = s_i])  /  Σ_(i, j) T_i

    over all pairs of a watched i and an unwatched j of one request. 0 is best, ½ is chance. The
    paper does not speak of ties: half of each keeps a constant score at chance. The total is over
    the same pairs, so that a watch with nothing unwatched beside it counts nowhere. nan without
    pairs.

    Source: Covington, Adams, Sargin 2016, section 4.3.

    >>> request_ids = np.array([1, 1, 1])
    >>> watched, watch_time_s = np.array([True, True, False]), np.array([60.0, 20.0, 0.0])
    >>> weighted_per_user_loss(request_ids, watched, watch_time_s, np.array([0.9, 0.1, 0.5]))
    0.25
    """
    mispredicted, compared = mispredicted_watch_time(request_ids, watched, watch_time_s, scores)
    return _ratio(float(mispredicted.sum()), float(compared.sum()))


def mean_absolute_error_s(
    predicted_s: NDArray[np.floating], actual_s: NDArray[np.floating]
) -> float:
    """Σ |predicted − actual| / M, in seconds; nan without impressions.

    >>> mean_absolute_error_s(np.array([10.0, 0.0]), np.array([7.0, 1.0]))
    2.0
    """
    return _ratio(float(np.abs(predicted_s - actual_s).sum(dtype=np.float64)), len(actual_s))


def calibration_ratio(predicted_s: NDArray[np.floating], actual_s: NDArray[np.floating]) -> float:
    """Σ predicted / Σ actual: 1 is calibrated, 2 promises twice what comes; nan for no watch time.

    >>> calibration_ratio(np.array([10.0, 2.0]), np.array([8.0, 0.0]))
    1.5
    """
    return _ratio(float(predicted_s.sum(dtype=np.float64)), float(actual_s.sum(dtype=np.float64)))


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationBin:
    """Impressions with similar predictions: what was promised and what came, seconds each."""

    num_impressions: int
    predicted_s: float
    actual_s: float


def calibration_by_decile(
    predicted_s: NDArray[np.floating], actual_s: NDArray[np.floating], *, num_bins: int = 10
) -> tuple[CalibrationBin, ...]:
    """Mean prediction and mean outcome in bins of equal size, lowest prediction first.

    Bins that would be empty, with fewer impressions than bins, are left out.

    >>> calibration_by_decile(np.array([9.0, 1.0]), np.array([8.0, 0.0]), num_bins=2)[1]
    CalibrationBin(num_impressions=1, predicted_s=9.0, actual_s=8.0)
    """
    parts = np.array_split(np.argsort(predicted_s, kind="stable"), num_bins)
    return tuple(
        CalibrationBin(
            num_impressions=len(part),
            predicted_s=float(predicted_s[part].mean(dtype=np.float64)),
            actual_s=float(actual_s[part].mean(dtype=np.float64)),
        )
        for part in parts
        if len(part)
    )


def _won_pairs(
    groups: NDArray[Any], watched: Flags, scores: NDArray[np.floating]
) -> tuple[Values, Values]:
    """For each watched impression, its pairs with unwatched ones of its group: (won, all).

    One sort and one running count of the unwatched: O(M log M), however long the groups are.
    Unwatched impressions have none.
    """
    if np.isnan(scores).any():
        raise ValueError("scores must be numbers, got nan: a model that predicts nan has no rank")
    if len(scores) == 0:
        return np.zeros(0), np.zeros(0)
    order = np.lexsort((scores, groups))
    group, score, is_watched = groups[order], scores[order], watched[order]
    num_unwatched = np.concatenate([[0], np.cumsum(~is_watched)])
    new_group = group[1:] != group[:-1]
    group_start, group_end = _run_edges(new_group)
    tie_start, tie_end = _run_edges(new_group | (score[1:] != score[:-1]))
    below = num_unwatched[tie_start] - num_unwatched[group_start]
    equal = num_unwatched[tie_end] - num_unwatched[tie_start]
    won, pairs = np.zeros(len(order)), np.zeros(len(order))
    won[order] = (below + 0.5 * equal) * is_watched
    pairs[order] = (num_unwatched[group_end] - num_unwatched[group_start]) * is_watched
    return won, pairs


def _run_edges(begins_run: Flags) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Start and end of each element's run; `begins_run` [M - 1] is about the second and on."""
    num_elements = len(begins_run) + 1
    edges = np.concatenate([[0], np.flatnonzero(begins_run) + 1, [num_elements]])
    lengths = np.diff(edges)
    return np.repeat(edges[:-1], lengths), np.repeat(edges[1:], lengths)


def _divide(numerators: NDArray[Any], denominators: NDArray[Any]) -> Values:
    """Element by element; nan where the denominator is 0."""
    ratios: Values = np.full(len(denominators), np.nan)
    np.divide(numerators, denominators, out=ratios, where=denominators != 0)
    return ratios


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else float("nan")
