"""Metrics against closed forms, a slow count of pairs, and the laws that they must keep."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from upnext.evaluation import metrics

PAGES = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.booleans(),
        st.floats(0, 100, width=32),
        st.sampled_from([-1.0, 0.0, 0.5, 2.0]),
    ),
    max_size=30,
)


def columns(
    page: list[tuple[int, bool, float, float]],
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    return (
        np.array([line[0] for line in page], np.int64),
        np.array([line[1] for line in page], bool),
        np.array([line[2] for line in page], np.float64),
        np.array([line[3] for line in page], np.float64),
    )


def test_target_metrics_are_the_textbook_formulas() -> None:
    ranks = np.array([1, 2, 7, 50, 51])
    assert metrics.recall_at_k(ranks, 50).tolist() == [1, 1, 1, 1, 0]
    assert metrics.ndcg_at_k(ranks, 50) == pytest.approx(
        [1, 1 / np.log2(3), 1 / np.log2(8), 1 / np.log2(51), 0]
    )
    assert metrics.average_precision_at_k(ranks, 50) == pytest.approx([1, 1 / 2, 1 / 7, 1 / 50, 0])


@given(st.lists(st.integers(1, 200), min_size=1), st.integers(1, 100))
def test_a_better_rank_or_a_longer_list_never_scores_less(ranks: list[int], k: int) -> None:
    sorted_ranks = np.sort(np.array(ranks))
    for metric in (metrics.recall_at_k, metrics.ndcg_at_k, metrics.average_precision_at_k):
        values = metric(sorted_ranks, k)
        assert (np.diff(values) <= 0).all()
        assert (metric(sorted_ranks, k + 1) >= values).all()
        assert ((values >= 0) & (values <= 1)).all()


def test_coverage_counts_each_real_item_once_and_no_empty_slot() -> None:
    top_rows = np.array([[2, 3, -1], [3, 2, 4], [1, 0, 2]], np.int32)
    assert metrics.coverage_at_k(top_rows, 3, num_rows=12) == pytest.approx(3 / 10)
    assert metrics.coverage_at_k(top_rows, 1, num_rows=12) == pytest.approx(2 / 10)
    assert np.isnan(metrics.coverage_at_k(top_rows[:0], 3, num_rows=2))


def test_fresh_share_knows_unknown_future_and_empty() -> None:
    day = 86_400_000
    published = np.array([-1, -1, 5 * day, 4 * day, 6 * day, -1], np.int64)
    at_ms = np.array([5 * day + 1, 5 * day, 5 * day], np.int64)
    rows = np.array([[2, 3, -1], [2, 4, 5], [-1, 0, 1]], np.int32)
    shares = metrics.fresh_share(rows, published, at_ms, fresh_days=1.0)
    assert shares[:2] == pytest.approx([1 / 2, 1 / 3])
    assert np.isnan(shares[2])


@given(PAGES)
def test_auc_is_the_share_of_pairs_in_the_right_order(
    page: list[tuple[int, bool, float, float]],
) -> None:
    _, watched, _, scores = columns(page)
    differences = scores[watched][:, None] - scores[~watched][None, :]
    value = metrics.auc(watched, scores)
    if differences.size:
        assert value == pytest.approx((np.sign(differences).mean() + 1) / 2)
        assert metrics.auc(~watched, scores) == pytest.approx(1 - value)
        assert metrics.auc(watched, np.exp(scores)) == pytest.approx(value)
    else:
        assert np.isnan(value)


@given(PAGES)
def test_per_user_auc_is_the_weighted_mean_over_users(
    page: list[tuple[int, bool, float, float]],
) -> None:
    users, watched, _, scores = columns(page)
    aucs, weights = [], []
    for user in np.unique(users):
        own = users == user
        value = metrics.auc(watched[own], scores[own])
        if not np.isnan(value):
            aucs.append(value)
            weights.append(own.sum())
    value = metrics.per_user_auc(users, watched, scores)
    if aucs:
        assert value == pytest.approx(np.average(aucs, weights=weights))
    else:
        assert np.isnan(value)


@given(PAGES)
def test_weighted_per_user_loss_counts_the_pairs_of_each_page(
    page: list[tuple[int, bool, float, float]],
) -> None:
    requests, watched, watch_time_s, scores = columns(page)
    mispredicted = total = 0.0
    for i in np.flatnonzero(watched):
        for j in np.flatnonzero(~watched & (requests == requests[i])):
            total += watch_time_s[i]
            lost = 1.0 if scores[j] > scores[i] else 0.5 if scores[j] == scores[i] else 0.0
            mispredicted += watch_time_s[i] * lost
    value = metrics.weighted_per_user_loss(requests, watched, watch_time_s, scores)
    if total:
        assert value == pytest.approx(mispredicted / total)
        mirrored = metrics.weighted_per_user_loss(requests, watched, watch_time_s, -scores)
        assert mirrored == pytest.approx(1 - value)
    else:
        assert np.isnan(value)


def test_weighted_per_user_loss_takes_any_kind_of_request_id() -> None:
    watched = np.array([True, False, True, False])
    watch_time_s = np.array([30.0, 0.0, 10.0, 0.0])
    scores = np.array([0.1, 0.2, 0.9, 0.8])
    by_text = metrics.weighted_per_user_loss(
        np.array(["a", "a", "b", "b"]), watched, watch_time_s, scores
    )
    assert by_text == pytest.approx(30 / 40)


def test_a_constant_score_is_chance() -> None:
    rng = np.random.default_rng(1)
    requests, watched = rng.integers(0, 50, 500), rng.random(500) < 0.3
    constant = np.full(500, 7.0)
    assert metrics.auc(watched, constant) == pytest.approx(0.5)
    loss = metrics.weighted_per_user_loss(requests, watched, rng.random(500), constant)
    assert loss == pytest.approx(0.5)


def test_scores_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="nan"):
        metrics.auc(np.array([True, False]), np.array([np.nan, 1.0]))


def test_watch_time_errors_by_hand() -> None:
    predicted, actual = np.array([4.0, 0.0, 6.0]), np.array([1.0, 3.0, 6.0])
    assert metrics.mean_absolute_error_s(predicted, actual) == pytest.approx(2.0)
    assert metrics.calibration_ratio(predicted, actual) == pytest.approx(1.0)
    assert np.isnan(metrics.calibration_ratio(predicted, np.zeros(3)))
    assert np.isnan(metrics.mean_absolute_error_s(predicted[:0], actual[:0]))


@given(PAGES)
def test_xauc_is_the_share_of_pairs_with_different_watch_times_in_the_right_order(
    page: list[tuple[int, bool, float, float]],
) -> None:
    users, _, watch_time_s, scores = columns(page)
    pairs = np.sign(watch_time_s[:, None] - watch_time_s[None, :])
    right = np.sign(scores[:, None] - scores[None, :]) * pairs
    value = metrics.xauc(watch_time_s, scores)
    if pairs.any():
        assert value == pytest.approx((right[pairs != 0].mean() + 1) / 2)
        assert metrics.xauc(watch_time_s, -scores) == pytest.approx(1 - value)
        assert metrics.xauc(np.sqrt(watch_time_s), scores) == pytest.approx(value)
        assert metrics.xauc(watch_time_s, watch_time_s) == 1
    else:
        assert np.isnan(value)
    shares = [metrics.xauc(watch_time_s[users == u], scores[users == u]) for u in np.unique(users)]
    sizes = np.unique(users, return_counts=True)[1][~np.isnan(shares)]
    expected = (
        np.average(np.array(shares)[~np.isnan(shares)], weights=sizes) if sizes.size else None
    )
    assert metrics.per_user_xauc(users, watch_time_s, scores) == pytest.approx(
        expected if expected is not None else float("nan"), nan_ok=True
    )


def test_xauc_of_flags_is_auc() -> None:
    rng = np.random.default_rng(3)
    watched, scores = rng.random(400) < 0.2, rng.integers(0, 9, 400).astype(float)
    assert metrics.xauc(60.0 * watched, scores) == metrics.auc(watched, scores)


@given(PAGES)
def test_watch_time_ndcg_is_the_textbook_formula_averaged_over_the_orders_of_ties(
    page: list[tuple[int, bool, float, float]],
) -> None:
    requests, _, watch_time_s, scores = columns(page)
    values = metrics.watch_time_ndcg(requests, watch_time_s, scores)
    assert len(values) == len(np.unique(requests))
    for value, request in zip(values, np.unique(requests), strict=True):
        gains, order = watch_time_s[requests == request], scores[requests == request]
        discounts = 1 / np.log2(np.arange(len(gains)) + 2)
        found = sum(
            gain * discounts[(order > score).sum() : (order >= score).sum()].mean()
            for gain, score in zip(gains, order, strict=True)
        )
        best = (np.sort(gains)[::-1] * discounts).sum()
        assert value == pytest.approx(found / best if best else float("nan"), nan_ok=True)


def test_watch_time_ndcg_is_one_for_the_best_order_alone() -> None:
    rng = np.random.default_rng(5)
    requests, watch_time_s = np.repeat(np.arange(50), 8), rng.exponential(30, 400)
    best = metrics.watch_time_ndcg(requests, watch_time_s, watch_time_s**3)
    assert best == pytest.approx(np.ones(50))
    worse = metrics.watch_time_ndcg(requests, watch_time_s, -watch_time_s)
    constant = metrics.watch_time_ndcg(requests, watch_time_s, np.ones(400))
    assert (worse < constant).all()
    assert (constant < best).all()
