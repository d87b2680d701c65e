"""From ranks and predictions to the rows of a report."""

import numpy as np
import pytest

from upnext.evaluation import metrics
from upnext.evaluation.compare import Freshness, compare_retrieval, ranking_result
from upnext.evaluation.intervals import bootstrap_interval, sum_by_user
from upnext.evaluation.ranks import RankedTargets

USERS = np.array([4, 4, 4, 9])


def ranked(ranks: list[int]) -> RankedTargets:
    top_rows = np.tile(np.arange(2, 5, dtype=np.int32), (len(ranks), 1))
    return RankedTargets(np.array(ranks), top_rows)


def test_each_system_has_its_means_over_events_and_their_intervals() -> None:
    results, differences = compare_retrieval(
        {"ours": ranked([1, 2, 3, 4])}, USERS, num_rows=8, ks=(1, 3)
    )
    (ours,) = results
    assert ours.metrics["recall_at_1"].value == pytest.approx(1 / 4)
    assert ours.metrics["recall_at_3"].value == pytest.approx(3 / 4)
    assert ours.metrics["average_precision_at_3"].value == pytest.approx((1 + 1 / 2 + 1 / 3) / 4)
    assert ours.metrics["coverage_at_3"].value == pytest.approx(3 / 6)
    by_user = bootstrap_interval(np.array([3, 0]), np.array([3, 1]))
    assert (ours.metrics["recall_at_3"].low, ours.metrics["recall_at_3"].high) == by_user
    assert differences == ()


def test_a_model_is_set_against_the_best_baseline_of_each_metric() -> None:
    systems = {
        "ours": ranked([1, 1, 1, 1]),
        "first often": ranked([1, 1, 9, 9]),
        "always third": ranked([3, 3, 3, 3]),
    }
    results, differences = compare_retrieval(
        systems, USERS, num_rows=8, ks=(1, 3), baseline_names={"first often", "always third"}
    )
    assert [result.is_baseline for result in results] == [False, True, True]
    by_metric = {line.metric: line for line in differences}
    assert {line.system for line in differences} == {"ours"}
    assert by_metric["recall_at_1"].baseline == "first often"
    assert by_metric["recall_at_1"].difference.value == pytest.approx(1 / 2)
    assert by_metric["recall_at_3"].baseline == "always third"
    assert by_metric["recall_at_3"].difference.value == 0
    assert by_metric["recall_at_3"].difference.low == 0


def test_freshness_is_measured_when_asked_for() -> None:
    day = 86_400_000
    published = np.array([-1, -1, 0, 9 * day, 9 * day, -1, -1, -1])
    freshness = Freshness(published_at_ms=published, at_ms=np.full(4, 10 * day), fresh_days=2.0)
    results, _ = compare_retrieval(
        {"ours": ranked([1, 2, 3, 4])}, USERS, num_rows=8, ks=(3,), freshness=freshness
    )
    assert results[0].metrics["fresh_share_at_3"].value == pytest.approx(2 / 3)


def test_longer_lists_than_were_kept_are_refused() -> None:
    with pytest.raises(ValueError, match="3 rows that were kept"):
        compare_retrieval({"ours": ranked([1] * 4)}, USERS, num_rows=8, ks=(10,))


def test_ranking_metrics_are_the_plain_ones_with_intervals_around_them() -> None:
    rng = np.random.default_rng(0)
    users = rng.integers(0, 60, 2000)
    requests = users * 100 + rng.integers(0, 5, 2000)
    watched = rng.random(2000) < 0.3
    watch_time_s = watched * rng.exponential(60, 2000)
    predicted = watch_time_s * 0.2 + rng.exponential(10, 2000)
    result = ranking_result(
        "ranker",
        user_rows=users,
        request_ids=requests,
        watched=watched,
        watch_time_s=watch_time_s,
        scores=predicted,
        scores_are_seconds=True,
    )
    expected = {
        "auc": metrics.auc(watched, predicted),
        "per_user_auc": metrics.per_user_auc(users, watched, predicted),
        "weighted_per_user_loss": metrics.weighted_per_user_loss(
            requests, watched, watch_time_s, predicted
        ),
        "mean_absolute_error_s": metrics.mean_absolute_error_s(predicted, watch_time_s),
        "calibration_ratio": metrics.calibration_ratio(predicted, watch_time_s),
    }
    assert result.metrics.keys() == expected.keys()
    for name, value in expected.items():
        assert result.metrics[name].value == pytest.approx(value)
        assert result.metrics[name].low < value < result.metrics[name].high


def test_scores_that_are_no_seconds_have_no_error_in_seconds() -> None:
    result = ranking_result(
        "popularity",
        user_rows=np.array([1, 1]),
        request_ids=np.array([1, 1]),
        watched=np.array([True, False]),
        watch_time_s=np.array([5.0, 0.0]),
        scores=np.array([2.0, 1.0]),
        scores_are_seconds=False,
        is_baseline=True,
    )
    assert result.metrics.keys() == {"auc", "per_user_auc", "weighted_per_user_loss"}
    assert result.is_baseline


def test_auc_interval_is_that_of_users_drawn_anew() -> None:
    rng = np.random.default_rng(2)
    users = np.repeat(np.arange(150), 20)
    skill = rng.normal(1, 1, 150)[users]
    watched = rng.random(3000) < 0.4
    scores = rng.normal(0, 1, 3000) + skill * watched
    low, high = metrics.auc_interval(users, watched, scores)
    drawn = []
    for _ in range(300):
        lines = (rng.integers(0, 150, 150)[:, None] * 20 + np.arange(20)).ravel()
        drawn.append(metrics.auc(watched[lines], scores[lines]))
    assert high - low == pytest.approx(2 * 1.96 * np.std(drawn), rel=0.2)
    assert sum_by_user(users, np.ones(3000)).tolist() == [20] * 150
    assert np.isnan(metrics.auc_interval(users, np.ones(3000, bool), scores)).all()
