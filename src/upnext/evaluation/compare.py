"""Ranks and predictions of several systems become the rows of a report, with intervals by user."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.evaluation import metrics
from upnext.evaluation.intervals import (
    MetricValue,
    Values,
    metric_value,
    paired_bootstrap_interval,
    sum_by_user,
)
from upnext.evaluation.pairs import (
    share_of_pairs,
    share_of_pairs_by_user,
    share_of_pairs_interval,
)
from upnext.evaluation.ranks import RankedTargets
from upnext.evaluation.report import Difference, SystemResult
from upnext.schema import TimesMs


@dataclass(frozen=True, kw_only=True, slots=True)
class Freshness:
    """What `fresh_share` needs: `published_at_ms` [N], negative where unknown, `at_ms` [B]."""

    published_at_ms: TimesMs
    at_ms: TimesMs
    fresh_days: float = 7.0


@dataclass(frozen=True, kw_only=True)
class ShownImpressions:
    """M impressions of a test and what came of each; all [M]. A request is one user's."""

    user_rows: NDArray[Any]
    request_ids: NDArray[Any]
    watched: NDArray[np.bool_]
    watch_time_s: NDArray[np.floating]

    def __getitem__(self, chosen: NDArray[np.bool_]) -> "ShownImpressions":
        return ShownImpressions(
            user_rows=self.user_rows[chosen],
            request_ids=self.request_ids[chosen],
            watched=self.watched[chosen],
            watch_time_s=self.watch_time_s[chosen],
        )


def compare_retrieval(
    ranked: Mapping[str, RankedTargets],
    user_rows: NDArray[Any],
    *,
    num_rows: int,
    baseline_names: Collection[str] = (),
    ks: Sequence[int] = (10, 50),
    freshness: Freshness | None = None,
) -> tuple[tuple[SystemResult, ...], tuple[Difference, ...]]:
    """One row a system, and how far each model is above the best baseline of each metric.

    Args:
        ranked: by the name of the system, all on the same events.
        user_rows: [B] whose event it is; any numbers that tell users apart.
        num_rows: N, with the reserved rows; for coverage.
        baseline_names: which of the systems are baselines.
        ks: list lengths for recall; the longest also for NDCG, MAP, coverage and freshness. It may
            not exceed the `top_k` that was kept.
        freshness: also measure the share of fresh items.
    """
    by_event = {name: _event_values(one, ks) for name, one in ranked.items()}
    num_events = sum_by_user(user_rows, np.ones(len(user_rows)))
    sums = {
        name: {metric: sum_by_user(user_rows, values) for metric, values in one.items()}
        for name, one in by_event.items()
    }
    results = []
    for name, one in ranked.items():
        values = {m: metric_value(parts, num_events) for m, parts in sums[name].items()}
        longest = max(ks)
        coverage = metrics.coverage_at_k(one.top_rows, longest, num_rows=num_rows)
        values[f"coverage_at_{longest}"] = MetricValue(coverage)
        if freshness is not None:
            values[f"fresh_share_at_{longest}"] = _fresh_value(one, longest, user_rows, freshness)
        results.append(SystemResult(name=name, metrics=values, is_baseline=name in baseline_names))
    return tuple(results), _differences(results, sums, num_events)


def ranking_metrics(
    shown: ShownImpressions, scores: NDArray[np.floating], *, scores_are_seconds: bool
) -> dict[str, MetricValue]:
    """How well a system's scores [M] order the impressions that were shown: its metrics by name.

    `scores_are_seconds`: whether the scores are expected watch times; only then do their error in
    seconds and their calibration mean anything.
    """
    users, watched, watch_time_s = shown.user_rows, shown.watched, shown.watch_time_s

    def by_user(numerators: NDArray[Any], denominators: NDArray[Any]) -> MetricValue:
        return metric_value(sum_by_user(users, numerators), sum_by_user(users, denominators))

    def of_pairs(outcomes: NDArray[Any]) -> MetricValue:
        interval = share_of_pairs_interval(users, outcomes, scores)
        return MetricValue(share_of_pairs(outcomes, scores), *interval)

    first = np.unique(shown.request_ids, return_index=True)[1]
    page_ndcg = metrics.watch_time_ndcg(shown.request_ids, watch_time_s, scores)
    lost = metrics.mispredicted_watch_time(shown.request_ids, watched, watch_time_s, scores)
    found = {
        "weighted_per_user_loss": by_user(*lost),
        "auc": of_pairs(watched),
        "per_user_auc": metric_value(*share_of_pairs_by_user(users, watched, scores)),
        "watch_time_ndcg": _mean_of_defined(users[first], page_ndcg),
        "xauc": of_pairs(watch_time_s),
        "per_user_xauc": metric_value(*share_of_pairs_by_user(users, watch_time_s, scores)),
    }
    if scores_are_seconds:
        error_s = np.abs(scores - watch_time_s)
        found["mean_absolute_error_s"] = by_user(error_s, np.ones(len(scores)))
        found["calibration_ratio"] = by_user(scores, watch_time_s)
    return found


def _event_values(ranked: RankedTargets, ks: Sequence[int]) -> dict[str, Values]:
    longest = max(ks)
    if longest > ranked.top_rows.shape[1]:
        kept = ranked.top_rows.shape[1]
        raise ValueError(f"ks: expected at most the {kept} rows that were kept, got {longest}")
    values = {f"recall_at_{k}": metrics.recall_at_k(ranked.ranks, k) for k in ks}
    values |= {f"ndcg_at_{k}": metrics.ndcg_at_k(ranked.ranks, k) for k in ks}
    values[f"average_precision_at_{longest}"] = metrics.average_precision_at_k(
        ranked.ranks, longest
    )
    return values


def _fresh_value(
    ranked: RankedTargets, k: int, user_rows: NDArray[Any], freshness: Freshness
) -> MetricValue:
    shares = metrics.fresh_share(
        ranked.top_rows[:, :k],
        freshness.published_at_ms,
        freshness.at_ms,
        fresh_days=freshness.fresh_days,
    )
    return _mean_of_defined(user_rows, shares)


def _mean_of_defined(user_rows: NDArray[Any], values: Values) -> MetricValue:
    """The mean of the values [B] that are not nan, with its interval by user."""
    is_defined = ~np.isnan(values)
    return metric_value(
        sum_by_user(user_rows, np.nan_to_num(values)), sum_by_user(user_rows, is_defined)
    )


def _differences(
    results: Sequence[SystemResult],
    sums: Mapping[str, Mapping[str, Values]],
    num_events: Values,
) -> tuple[Difference, ...]:
    baselines = [result for result in results if result.is_baseline]
    models = [result for result in results if not result.is_baseline]
    differences = []
    for model in models if baselines else ():
        for metric, ours in sums[model.name].items():
            best = max(baselines, key=lambda result: float(sums[result.name][metric].sum()))
            theirs = sums[best.name][metric]
            value = float((ours - theirs).sum() / num_events.sum())
            low, high = paired_bootstrap_interval(ours, theirs, num_events)
            differences.append(
                Difference(
                    system=model.name,
                    baseline=best.name,
                    metric=metric,
                    difference=MetricValue(value, low, high),
                )
            )
    return tuple(differences)
