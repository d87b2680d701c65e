"""From ranks and predictions to the rows of a report."""

import numpy as np
import pytest

from upnext.evaluation import metrics
from upnext.evaluation.compare import (
    Freshness,
    ShownImpressions,
    compare_retrieval,
    ranking_metrics,
)
from upnext.evaluation.intervals import bootstrap_interval
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
    shown = ShownImpressions(
        user_rows=users, request_ids=requests, watched=watched, watch_time_s=watch_time_s
    )
    found = ranking_metrics(shown, predicted, scores_are_seconds=True)
    ndcg = metrics.watch_time_ndcg(requests, watch_time_s, predicted)
    expected: dict[str, float] = {
        "auc": metrics.auc(watched, predicted),
        "per_user_auc": metrics.per_user_auc(users, watched, predicted),
        "xauc": metrics.xauc(watch_time_s, predicted),
        "per_user_xauc": metrics.per_user_xauc(users, watch_time_s, predicted),
        "watch_time_ndcg": float(np.nanmean(ndcg)),
        "weighted_per_user_loss": metrics.weighted_per_user_loss(
            requests, watched, watch_time_s, predicted
        ),
        "mean_absolute_error_s": metrics.mean_absolute_error_s(predicted, watch_time_s),
        "calibration_ratio": metrics.calibration_ratio(predicted, watch_time_s),
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value)
        assert found[name].low < value < found[name].high


def test_scores_that_are_no_seconds_have_no_error_in_seconds() -> None:
    shown = ShownImpressions(
        user_rows=np.array([1, 1]),
        request_ids=np.array([1, 1]),
        watched=np.array([True, False]),
        watch_time_s=np.array([5.0, 0.0]),
    )
    found = ranking_metrics(shown, np.array([2.0, 1.0]), scores_are_seconds=False)
    assert {name for name in found if name.endswith("_s")} == set()
    assert "calibration_ratio" not in found
    assert found["xauc"].value == found["watch_time_ndcg"].value == 1.0


def test_of_no_impressions_nothing_is_known() -> None:
    nothing = np.zeros(0)
    shown = ShownImpressions(
        user_rows=nothing, request_ids=nothing, watched=nothing.astype(bool), watch_time_s=nothing
    )
    found = ranking_metrics(shown, nothing, scores_are_seconds=True)
    assert [name for name, value in found.items() if not np.isnan(value.value)] == []
