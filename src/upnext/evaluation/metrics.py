"""Pure functions from arrays to numbers; where a number is not defined the answer is nan.

Ranks count from 1 over the whole catalogue. Per-event values stay apart ([B]), so that they can be
summed by user, as `intervals.py` needs them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.evaluation.intervals import Values, ratio_of_sums, sum_by_user
from upnext.evaluation.pairs import run_edges, share_of_pairs, share_of_pairs_by_user, won_pairs
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
    items = is_shown[NUM_RESERVED_ROWS:]
    return ratio_of_sums(items, np.ones(len(items)))


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
    return share_of_pairs(watched, scores)


def per_user_auc(user_rows: NDArray[Any], watched: Flags, scores: NDArray[np.floating]) -> float:
    """AUC within each user, averaged with the number of impressions as weight (GAUC).

        Σ_u n_u AUC_u / Σ_u n_u    over users with both kinds of impressions; nan if none has

    Source: Zhou et al. 2018 (DIN), section 5.2.

    >>> watched = np.array([True, False, True, False, True])
    >>> per_user_auc(np.array([7, 7, 8, 8, 9]), watched, np.array([2.0, 1.0, 3.0, 3.0, 0.0]))
    0.75
    """
    return ratio_of_sums(*share_of_pairs_by_user(user_rows, watched, scores))


def xauc(watch_time_s: NDArray[np.floating], scores: NDArray[np.floating]) -> float:
    """Probability that of two impressions the one watched longer scores higher; a tie counts half.

        Σ_{i, j: T_j < T_i} 1[s_j < s_i] + ½ 1[s_j = s_i]  /  #{i, j: T_j < T_i}

    AUC for a watch time in place of a flag: two impressions that were watched equally long, or both
    not at all, are no pair. The papers draw pairs at random; here all of them are counted. nan
    where all were watched equally long.

    Source: Zhan et al. 2022 (D2Q), arXiv 2206.06003; Lin et al. 2023 (TPM), arXiv 2306.03392;
    Sun et al. 2024 (CREAD), arXiv 2401.07521.

    >>> xauc(np.array([60.0, 10.0, 0.0, 0.0]), np.array([0.9, 0.1, 0.1, 0.5]))
    0.7
    """
    return share_of_pairs(watch_time_s, scores)


def per_user_xauc(
    user_rows: NDArray[Any], watch_time_s: NDArray[np.floating], scores: NDArray[np.floating]
) -> float:
    """XAUC within each user, averaged with the number of impressions as weight (XGAUC).

        Σ_u n_u XAUC_u / Σ_u n_u    over users with different watch times; nan if none has

    Source: Zhan et al. 2022 (D2Q), arXiv 2206.06003.

    >>> watch_time_s = np.array([9.0, 0.0, 5.0, 2.0, 1.0])
    >>> per_user_xauc(np.array([7, 7, 8, 8, 9]), watch_time_s, np.array([2.0, 1.0, 3.0, 3.0, 0.0]))
    0.75
    """
    return ratio_of_sums(*share_of_pairs_by_user(user_rows, watch_time_s, scores))


def watch_time_ndcg(
    request_ids: NDArray[Any],
    watch_time_s: NDArray[np.floating],
    scores: NDArray[np.floating],
) -> Values:
    """Discounted watch time of each request, as a share of the best order's: [R].

        DCG = Σ_i T_i / log₂(1 + rank_i)        NDCG = DCG / (DCG of the order by T)

    The gain is the watch time itself. Ranks count from 1 down the whole page; equal scores share
    the mean discount of their places, as if in random order. Requests stand in ascending order; nan
    for one without watch time, where every order is as good.

    Source: Järvelin and Kekäläinen 2002, "Cumulated gain-based evaluation of IR techniques"; ties
    as in McSherry and Najork 2008.

    >>> watch_time_s = np.array([30.0, 60.0, 0.0, 0.0])
    >>> scores = np.array([0.9, 0.1, 0.5, 1.0])
    >>> watch_time_ndcg(np.array([4, 4, 4, 5]), watch_time_s, scores).round(2)
    array([0.76,  nan])
    """
    gains = np.asarray(watch_time_s, np.float64)
    found = sum_by_user(request_ids, gains * _discounts(request_ids, scores))
    best = sum_by_user(request_ids, gains * _discounts(request_ids, gains))
    return _divide(found, best)


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
    won, pairs = won_pairs(request_ids, watched, scores)
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
    return ratio_of_sums(mispredicted, compared)


def mean_absolute_error_s(
    predicted_s: NDArray[np.floating], actual_s: NDArray[np.floating]
) -> float:
    """Σ |predicted − actual| / M, in seconds; nan without impressions.

    >>> mean_absolute_error_s(np.array([10.0, 0.0]), np.array([7.0, 1.0]))
    2.0
    """
    return ratio_of_sums(np.abs(predicted_s - actual_s), np.ones(len(actual_s)))


def calibration_ratio(predicted_s: NDArray[np.floating], actual_s: NDArray[np.floating]) -> float:
    """Σ predicted / Σ actual: 1 is calibrated, 2 promises twice what comes; nan for no watch time.

    >>> calibration_ratio(np.array([10.0, 2.0]), np.array([8.0, 0.0]))
    1.5
    """
    return ratio_of_sums(predicted_s, actual_s)


def _discounts(request_ids: NDArray[Any], scores: NDArray[np.floating]) -> Values:
    """1 / log₂(1 + rank) of each impression within its request; the mean of it among equals."""
    if len(scores) == 0:
        return np.zeros(0)
    order = np.lexsort((-np.asarray(scores, np.float64), request_ids))
    request, score = request_ids[order], scores[order]
    new_request = request[1:] != request[:-1]
    start, _ = run_edges(new_request)
    discounts = 1.0 / np.log2(2.0 + np.arange(len(order)) - start)
    tie_start, tie_end = run_edges(new_request | (score[1:] != score[:-1]))
    sums = np.concatenate([[0.0], np.cumsum(discounts)])
    shared = np.empty(len(order))
    shared[order] = (sums[tie_end] - sums[tie_start]) / (tie_end - tie_start)
    return shared


def _divide(numerators: NDArray[Any], denominators: NDArray[Any]) -> Values:
    """Element by element; nan where the denominator is 0."""
    ratios: Values = np.full(len(denominators), np.nan)
    np.divide(numerators, denominators, out=ratios, where=denominators != 0)
    return ratios
